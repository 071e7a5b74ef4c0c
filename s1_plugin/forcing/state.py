"""The state machine of budget forcing, token by token, without any framework.

A driver asks before each token: is one `due`? must thinking `not end` here? Then it draws, and
`push`es what it drew; `push` returns the token that really comes next. The rules are those of
the paper's budget forcing (https://arxiv.org/abs/2501.19393, section 3.1) with one budget over
all rounds; forced tokens are counted in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal

from s1_plugin.forcing.budget import Plan

Ended = Literal["natural", "cap", "context"]


class Thinking:
    """One trajectory from the end of the thinking prefix to the first token of the answer.

    Args:
        plan: the budget in token ids.
        ends_with_newline: whether the text of a token id ends with a newline.

    Attributes:
        thinking_tokens: tokens counted as thinking so far (forced Waits included, the newline
            and delimiters put in at the end not).
        forced: positions, from the end of the thinking prefix, of tokens the model did not draw.
        waits: how many natural ends have been replaced so far.
        natural_ends: thinking tokens at each natural end the model drew.
        draws: every token the model drew while thinking, ends included: what `replay` needs.
        ended: how thinking ended, None while it goes on.
        answer_at: position of the first token the model draws for the answer, None until known.
        delimiter_end: position right after the answer delimiter (a forced ``Final Answer:``
            stands between it and ``answer_at``); meaningful once thinking has ended.
    """

    def __init__(self, plan: Plan, ends_with_newline: Callable[[int], bool]) -> None:
        self.plan = plan
        self._ends_with_newline = ends_with_newline
        self._queue: deque[int] = deque()
        self._last: int | None = None
        self.position = 0
        self.thinking_tokens = 0
        self.forced: list[int] = []
        self.waits = 0
        self.natural_ends: list[int] = []
        self.draws: list[int] = []
        self.ended: Ended | None = None
        self.answer_at: int | None = None
        self.delimiter_end = 0
        self._waiting = False  # the tokens of a Wait are being put in
        self._after_wait = False
        if plan.cap == 0:
            self._close_at_cap()

    @property
    def answering(self) -> bool:
        """Thinking and its closing delimiter are over; the driver need not ask any more."""
        return self.ended is not None and not self._queue

    @property
    def watching(self) -> bool:
        """The next token is drawn by the model, and an end token in it matters."""
        return self.ended is None and not self._queue

    def due(self) -> int | None:
        """The token that must come next, None if the model draws it."""
        return self._queue[0] if self._queue else None

    @property
    def queued(self) -> tuple[int, ...]:
        """All tokens that are due, the next one first."""
        return tuple(self._queue)

    def must_not_end(self) -> bool:
        """End tokens are banned for the next draw: it is the first one after a Wait."""
        return self._after_wait and self.watching

    def push(self, token: int) -> int | None:
        """Takes the token that was drawn at this position, returns the one that stands there.

        A due token stands whatever was drawn. Tokens of the answer are returned as they are.
        None means: draw again, without the end tokens (an empty Wait string drops the end and
        puts nothing in its place).

        Raises:
            ValueError: if an end token was drawn where `must_not_end` holds.
        """
        if self.watching:
            self.draws.append(token)
        if self.watching and token in self.plan.end_ids:
            if self._after_wait:
                raise ValueError("an end token was drawn right after a Wait; the driver bans it")
            self._natural_end()
            if self.watching:
                return None
        if self._queue:
            token = self._queue.popleft()
            self.forced.append(self.position)
        self.position += 1
        self._last = token
        if self.ended is None:
            self.thinking_tokens += 1
            self._after_wait = self._waiting and not self._queue
            self._waiting = self._waiting and bool(self._queue)
            if not self._queue and self.thinking_tokens >= self.plan.cap:
                self._close_at_cap()
        elif not self._queue and self.answer_at is None:
            self.answer_at = self.position
        return token

    def _natural_end(self) -> None:
        self.natural_ends.append(self.thinking_tokens)
        wait = self.plan.wait_ids[self.waits % len(self.plan.wait_ids)]
        if self.waits >= self.plan.waits and self.thinking_tokens >= self.plan.min_thinking:
            self.ended = "natural"
            self._queue.extend(self.plan.natural_end)
            self.delimiter_end = self.position + len(self._queue)
        elif self.thinking_tokens + len(wait) > self.plan.cap:
            self._close_at_cap()  # a Wait that does not fit whole is not begun
        else:
            self.waits += 1
            self._waiting = bool(wait)
            self._after_wait = not wait
            self._queue.extend(wait)

    def _close_at_cap(self) -> None:
        self.ended = "context" if self.plan.context_bound else "cap"
        if self._last is None or not self._ends_with_newline(self._last):
            self._queue.extend(self.plan.newline)
        self.delimiter_end = self.position + len(self._queue) + len(self.plan.natural_end)
        self._queue.extend(self.plan.capped_end)


def replay(
    plan: Plan, ends_with_newline: Callable[[int], bool], draws: Iterable[int]
) -> tuple[Thinking, list[int]]:
    """The thinking under ``plan`` of a model that draws as it did under a larger budget.

    The thinking under a budget is a prefix of that under any larger one (more tokens, more Waits,
    the same Wait strings), so nothing has to be generated again.

    Args:
        draws: `Thinking.draws` of the larger budget's trajectory.

    Returns:
        The state, about to answer, and the tokens up to there, closing delimiter included.

    Raises:
        ValueError: if the draws end before the thinking does: their budget was not larger.
    """
    state, tokens, drawn = Thinking(plan, ends_with_newline), [], iter(draws)
    while not state.answering:
        token = state.due()
        if token is None:
            token = next(drawn, None)
            if token is None:
                raise ValueError("the trajectory is shorter than the budget asked of it")
        stands = state.push(token)
        if stands is not None:
            tokens.append(stands)
    return state, tokens
