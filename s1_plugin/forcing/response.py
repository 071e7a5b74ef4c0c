"""What one forced generation produced, with what was forced in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from s1_plugin.forcing.state import Thinking


@dataclass(frozen=True)
class Response:
    """One generation from the thinking prefix on.

    Attributes:
        text: everything, the thinking prefix and all delimiters included.
        thinking: the text of the thinking, forced Waits included, delimiters not.
        answer: the text after the answer delimiter; None if there is none.
        thinking_tokens: tokens counted as thinking (forced Waits included).
        answer_tokens: tokens after the delimiter that the model drew (a forced ``Final
            Answer:`` and the stop token not counted).
        waits: natural ends that were replaced.
        ended: how thinking ended: natural, cap, context; "open" if it never did.
        finished: how the answer ended: "stop", or "length" if it was cut.
        forced: positions, from the end of the thinking prefix, of tokens put in by force.
        natural_ends: thinking tokens at each natural end.
        token_ids: ids of everything after the thinking prefix, the stop token not included.
    """

    text: str
    thinking: str
    answer: str | None
    thinking_tokens: int
    answer_tokens: int
    waits: int
    ended: str
    finished: str
    forced: list[int]
    natural_ends: list[int]
    token_ids: list[int]

    @classmethod
    def from_tokens(
        cls,
        tokens: Sequence[int],
        state: Thinking,
        *,
        decode: Callable[[Sequence[int]], str],
        think_start: str,
        finished: str,
    ) -> Response:
        """The response whose tokens ``state`` has watched."""
        tokens = list(tokens)
        answer, answer_tokens = None, 0
        if state.ended is not None and state.answer_at is not None:
            # After the delimiter; a forced "Final Answer:" belongs to the answer's text.
            start = state.delimiter_end
            answer = decode(tokens[start:])
            answer_tokens = len(tokens) - state.answer_at
        return cls(
            text=think_start + decode(tokens),
            thinking=decode(tokens[: state.thinking_tokens]),
            answer=answer,
            thinking_tokens=state.thinking_tokens,
            answer_tokens=answer_tokens,
            waits=state.waits,
            ended=state.ended or "open",
            finished=finished,
            forced=list(state.forced),
            natural_ends=list(state.natural_ends),
            token_ids=tokens,
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)
