"""What one forced generation produced, with what was forced in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
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
        ended: how thinking ended: natural, cap, context; "open" if it never did; "failed" if the
            request failed for good, and then there is no answer to be graded.
        finished: how the answer ended: "stop", or "length" if it was cut.
        forced: positions, from the end of the thinking prefix, of tokens put in by force.
        forced_spans: the same as characters of ``text``, ``[start, end]`` for each stretch of
            `forced_runs`; empty if the stretches decode differently on their own.
        natural_ends: thinking tokens at each natural end.
        token_ids: ids of everything after the thinking prefix, the stop token not included.
        error: why the request failed; empty if it did not.
        tries: how often it was sampled until it fitted (rejection sampling; else 1).
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
    forced_spans: list[list[int]]
    natural_ends: list[int]
    token_ids: list[int]
    error: str = ""
    tries: int = 1

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
        written = decode(tokens)
        return cls(
            text=think_start + written,
            thinking=decode(tokens[: state.thinking_tokens]),
            answer=answer,
            thinking_tokens=state.thinking_tokens,
            answer_tokens=answer_tokens,
            waits=state.waits,
            ended=state.ended or "open",
            finished=finished,
            forced=list(state.forced),
            forced_spans=_spans(
                tokens,
                forced_runs(state.forced, state.thinking_tokens),
                written,
                decode,
                len(think_start),
            ),
            natural_ends=list(state.natural_ends),
            token_ids=tokens,
        )

    def failed(self, error: str) -> Response:
        """The same, as far as it came, of a request that failed for good."""
        return replace(self, ended="failed", answer=None, answer_tokens=0, error=error)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def forced_runs(forced: Sequence[int], thinking_tokens: int) -> list[tuple[int, int]]:
    """Stretches ``[start, end)`` of consecutive positions in ``forced``, cut where thinking ends:
    each Wait, then the tokens put in at the end."""
    runs: list[tuple[int, int]] = []
    for position in forced:
        if runs and runs[-1][1] == position != thinking_tokens:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs


def _spans(
    tokens: Sequence[int],
    runs: Sequence[tuple[int, int]],
    written: str,
    decode: Callable[[Sequence[int]], str],
    offset: int,
) -> list[list[int]]:
    # Decoded piece by piece, so that the work stays linear in the length.
    cuts = [0, *(cut for run in runs for cut in run), len(tokens)]
    pieces = [decode(tokens[a:b]) if a < b else "" for a, b in pairwise(cuts)]
    if "".join(pieces) != written:
        return []
    ends = [offset + end for end in accumulate(map(len, pieces))]
    return [[ends[i], ends[i + 1]] for i in range(0, len(ends) - 1, 2)]
