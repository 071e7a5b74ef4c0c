"""Counts what a rank trains on: the losses of thinking and answer apart, tokens, and rows.

Sums stay on the device until `take`, so that counting never waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from s1_plugin.encoding import TextEncoder
from s1_plugin.formats import TraceFormat

_IGNORED = -100


@dataclass(frozen=True)
class Totals:
    """What one rank has trained on since it was last asked. Losses are sums in nats."""

    thinking_loss_sum: float
    thinking_tokens: int
    answer_loss_sum: float
    answer_tokens: int
    #: Of every sequence, packed or not, prompt and all; padding is not counted.
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Input tokens, prompts among them."""
        return sum(self.lengths)

    @property
    def rows(self) -> int:
        """Sequences."""
        return len(self.lengths)


class Meter:
    """The running sums of this rank. Whoever computes the loss calls `add`, outside of what is
    computed again in the backward pass, and while training only."""

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None
        self._rows: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, losses: torch.Tensor, answer: torch.Tensor) -> None:
        """Adds learned tokens.

        Args:
            losses: (tokens,), cross entropy of each in nats, unweighted.
            answer: (tokens,), bool: those of the answer (see `answer_mask`).
        """
        losses = losses.detach().double()
        of_answer = answer.double()
        sums = torch.stack(
            [
                (losses * (1 - of_answer)).sum(),
                (1 - of_answer).sum(),
                (losses * of_answer).sum(),
                of_answer.sum(),
            ]
        )
        self._sums = sums if self._sums is None else self._sums + sums

    def add_rows(self, begins: torch.Tensor, real: torch.Tensor) -> None:
        """Adds the sequences of a micro-batch.

        Args:
            begins: (rows, positions), bool: where a sequence begins.
            real: the same shape, bool: not padding.
        """
        self._rows.append((begins, real))

    def take(self) -> Totals:
        """The sums since the last call; they begin anew."""
        sums = [0.0] * 4 if self._sums is None else self._sums.tolist()
        rows, self._sums, self._rows = self._rows, None, []
        lengths = tuple(n for begins, real in rows for n in _lengths(begins, real))
        return Totals(sums[0], round(sums[1]), sums[2], round(sums[3]), lengths)


def _lengths(begins: torch.Tensor, real: torch.Tensor) -> list[int]:
    """Real positions of each sequence; one that is all padding is none."""
    begins = begins.clone()
    begins[:, 0] = True
    number = begins.flatten().long().cumsum(0) - 1
    counts = torch.bincount(number, weights=real.flatten().double())
    return [round(n) for n in counts.tolist() if n]


def delimiter(tokenizer: Any, fmt: TraceFormat) -> list[int]:
    """The token ids with which an answer begins in training text: ``<|im_start|>answer``, say."""
    return TextEncoder(tokenizer).scaffold_ids(fmt.answer_start)


def answer_mask(
    labels: torch.Tensor, position_ids: torch.Tensor | None, delimiter: Sequence[int]
) -> torch.Tensor:
    """Which learned tokens belong to the answer: the delimiter (it ends the thinking, but is the
    first thing that is not thinking) and all after it.

    Text of the data holds no control tokens, so in a sequence's learned part the delimiter stands
    once.

    Args:
        labels: (rows, positions), whole sequences, -100 where nothing is learned.
        position_ids: the same shape, 0 where a packed sequence begins; None if none is packed.
        delimiter: its token ids (see `delimiter`).

    Returns:
        bool, the shape of ``labels``; entry t is about the token at t (which t - 1 predicts).
    """
    width = labels.shape[1]
    found = torch.zeros_like(labels, dtype=torch.bool)
    if width >= len(delimiter):
        last = width - len(delimiter) + 1
        hits = [labels[:, i : last + i] == token for i, token in enumerate(delimiter)]
        found[:, :last] = torch.stack(hits).all(0)
    seen = found.long().cumsum(1)
    if position_ids is not None:
        # What was seen before the sequence began does not count in it.
        before = torch.where(position_ids == 0, seen - found.long(), 0)
        seen = seen - before.cummax(1).values
    return (seen > 0) & (labels != _IGNORED)
