"""One request in an engine that keeps its own list of tokens.

An engine may ask for the same position several times (chunked prefill), take tokens back, or put
a request out of its batch and in again. So a lane decides from positions: it follows the tokens
that the engine has, its state never runs ahead of them, and what cannot be read off the tokens
is kept by position: which end token was drawn where another token stands (a model may write
"Wait" by itself, too).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from s1_plugin.forcing.budget import Plan
from s1_plugin.forcing.state import Thinking

#: Told of (position, end token drawn there or None: none was, after all).
Recorder = Callable[[int, int | None], None]


class ForeignTokenError(RuntimeError):
    """A token stands where forcing had put another one."""

    @classmethod
    def at(cls, position: int) -> ForeignTokenError:
        """At an output position."""
        return cls(
            f"another token stands at output position {position} than budget forcing put there: "
            "another logits processor or stop rule changes forced requests; remove it"
        )


class Lane:
    """The thinking of one request.

    Args:
        plan: the budget in token ids.
        ends_with_newline: whether the text of a token id ends with a newline.
        prefix: what the prompt lacks of the thinking prefix; it is forced first.
        events: end tokens drawn, by output position, of a lane that is taken up again.
        record: told of events as they come.

    Attributes:
        known: output tokens followed so far.
    """

    def __init__(
        self,
        plan: Plan,
        ends_with_newline: Callable[[int], bool],
        prefix: Sequence[int] = (),
        events: dict[int, int] | None = None,
        record: Recorder | None = None,
    ) -> None:
        self.plan, self.ends_with_newline = plan, ends_with_newline
        self.prefix = tuple(prefix)
        self.events = {} if events is None else events
        self.record = record
        self._restart()

    def _restart(self) -> None:
        self.known = 0
        self.state = Thinking(self.plan, self.ends_with_newline)

    @property
    def answering(self) -> bool:
        """Nothing is decided here any more."""
        return self.state.answering and self.known >= len(self.prefix)

    def follow(self, tokens: Sequence[int]) -> None:
        """Brings the state up to ``tokens``, all output tokens so far.

        Raises:
            ForeignTokenError: if they are not what forcing decided.
        """
        if len(tokens) < self.known:
            self._restart()
        while self.known < len(tokens):
            if self.answering:
                self.known = len(tokens)
                return
            token = tokens[self.known]
            if self.known < len(self.prefix):
                stands: int | None = self.prefix[self.known]
            else:
                try:
                    stands = self.state.push(self.events.get(self.known, token))
                    if stands is None:
                        stands = self.state.push(token)
                except ValueError:  # an end where forcing had banned it
                    stands = None
            if stands != token:
                raise ForeignTokenError.at(self.known)
            self.known += 1

    def due(self) -> int | None:
        """The token that must come next, None if the model draws it."""
        return self.prefix[self.known] if self.known < len(self.prefix) else self.state.due()

    def must_not_end(self) -> bool:
        """End tokens are banned for the next draw."""
        return self.known >= len(self.prefix) and self.state.must_not_end()

    def decide(self, drawn: int | None) -> int | None:
        """What stands at the next position if an end token is drawn for it, else None.

        Args:
            drawn: the end token, None if the draw is something else.

        Returns:
            The token to force; None: draw again without the end tokens (an empty Wait string), or
            nothing to do.
        """
        if drawn is None:
            if self.events.pop(self.known, None) is not None and self.record:
                self.record(self.known, None)
            return None
        if self.events.get(self.known) != drawn:
            self.events[self.known] = drawn
            if self.record:
                self.record(self.known, drawn)
        return self._fork_state().push(drawn)

    def _fork_state(self) -> Thinking:
        shared = (self.plan, self.ends_with_newline)
        memo: dict[int, object] = {id(thing): thing for thing in shared}
        memo[id(self.state.draws)] = []  # as long as the thinking, and not needed to decide
        return copy.deepcopy(self.state, memo)
