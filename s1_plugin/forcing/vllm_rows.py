"""Rows of logits under forcing: what is masked, what is drawn, what is forced."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

from s1_plugin.forcing.draw import draw, uniform
from s1_plugin.forcing.lane import Lane

if TYPE_CHECKING:
    from s1_plugin.forcing.board import Warpers

_GREEDY = 1e-5  # vLLM's own limit: temperatures below are greedy


@dataclass
class Sampling:
    """How a request draws; ``stream`` names its random numbers."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    stream: str

    @classmethod
    def of(cls, params: Any, seed: int, stream: str) -> Sampling:
        """From vLLM's ``SamplingParams``; ``seed`` stands in where they have none."""
        return cls(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=max(params.top_k, 0),
            min_p=params.min_p,
            seed=seed if params.seed is None else params.seed,
            stream=stream,
        )

    def warpers(self) -> Warpers:
        """The same for the board."""
        from s1_plugin.forcing.board import Warpers, stream_key

        return Warpers(
            0.0 if self.greedy else self.temperature,
            self.top_p,
            self.top_k,
            self.min_p,
            stream_key(self.seed, self.stream),
        )

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self.temperature < _GREEDY


@dataclass
class Row:
    """One row of logits of a forced request. Without a lane nothing is decided: the request is
    ended by the token ``refused``, or left alone if that is None."""

    index: int
    lane: Lane | None
    sampling: Sampling
    refused: int | None = None


def force(logits: torch.Tensor, rows: Sequence[Row], vocabulary: int) -> None:
    """Changes ``logits`` in place, for the rows given.

    Args:
        logits: (rows, vocabulary) float32, before the engine's temperature, min-p, top-k, top-p.
        vocabulary: ids from here on do not exist in the tokenizer and are never drawn.
    """
    if not rows:
        return
    if vocabulary < logits.shape[1]:
        if _all(logits, [row.index for row in rows]):
            logits[:, vocabulary:] = -math.inf
        else:
            logits[_index(logits, (row.index for row in rows)), vocabulary:] = -math.inf
    onehot: list[tuple[int, int]] = []
    banned: list[Row] = []
    open_rows: list[Row] = []
    for row in rows:
        lane = row.lane
        if lane is None:
            if row.refused is not None:
                onehot.append((row.index, row.refused))
        elif (due := lane.due()) is not None:
            onehot.append((row.index, due))
        elif lane.answering:
            continue
        elif lane.must_not_end():
            lane.decide(None)
            banned.append(row)
        else:
            open_rows.append(row)
    for row, drawn in zip(open_rows, _drawn(logits, open_rows), strict=True):
        assert row.lane is not None
        if drawn is None:  # no end token can come: the engine draws
            row.lane.decide(None)
        elif drawn not in row.lane.plan.end_ids:
            row.lane.decide(None)
            if row.sampling.greedy:
                banned.append(row)  # an end that ties with the best token must not win either
            else:
                onehot.append((row.index, drawn))
        elif (stands := row.lane.decide(drawn)) is None:
            banned.append(row)
        else:
            onehot.append((row.index, stands))
    _ban(logits, banned)
    if onehot:
        indices = _index(logits, (i for i, _ in onehot))
        logits[indices] = -math.inf
        logits[indices, _index(logits, (token for _, token in onehot))] = 0.0


def _drawn(logits: torch.Tensor, rows: Sequence[Row]) -> list[int | None]:
    """The token drawn in each row, None where no end token can be drawn.

    Greedy rows cost one pass over the logits; others a test of at most two passes, and a draw
    only where an end token survives it.
    """
    found: list[int | None] = [None] * len(rows)
    greedy = [i for i, row in enumerate(rows) if row.sampling.greedy]
    if greedy:
        best = _rows(logits, [rows[i].index for i in greedy]).argmax(dim=-1).tolist()
        for i, token in zip(greedy, best, strict=True):
            found[i] = token
    sampled = [i for i, row in enumerate(rows) if not row.sampling.greedy]
    if sampled:
        scores = _rows(logits, [rows[i].index for i in sampled])
        alive = _end_may_survive(scores, [rows[i] for i in sampled]).tolist()
        kept = [n for n, lives in enumerate(alive) if lives]
        if kept:
            sampled = [sampled[n] for n in kept]
            drawing = [rows[i] for i in sampled]
            warped = warp(scores[kept], [row.sampling for row in drawing])
            numbers = [
                uniform(row.sampling.seed, row.sampling.stream, row.lane.known)  # type: ignore[union-attr]
                for row in drawing
            ]
            for i, token in zip(sampled, draw(warped, numbers), strict=True):
                found[i] = token
    return found


def _end_may_survive(scores: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """(rows,) booleans; False only where the warpers surely cut every end token."""
    column = _column(scores, [row.sampling.temperature for row in rows])
    best = scores.amax(dim=-1, keepdim=True)
    end = torch.cat(
        [
            scores[i : i + 1, sorted(row.lane.plan.end_ids)].amax(dim=-1, keepdim=True)  # type: ignore[union-attr]
            for i, row in enumerate(rows)
        ]
    )
    alive = end > -math.inf
    if any(row.sampling.min_p for row in rows):
        least = _column(scores, [row.sampling.min_p for row in rows])
        alive &= (end - best) / column >= least.log() - 1e-4
    if any(row.sampling.top_k for row in rows):
        size = _column(scores, [row.sampling.top_k or scores.shape[1] for row in rows])
        alive &= (scores > end).sum(dim=-1, keepdim=True) < size
    if any(row.sampling.top_p < 1 for row in rows):
        weight = ((scores - best) / column).exp()
        above = (weight * (scores > end)).sum(dim=-1, keepdim=True)
        # Rounding must not cut an end token that the engine's own sum keeps.
        share = _column(scores, [row.sampling.top_p + 1e-4 for row in rows])
        alive &= above < share * weight.sum(dim=-1, keepdim=True)
    return alive.squeeze(1)


def warp(scores: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    """Temperature, min-p, top-k and top-p as vLLM applies them, in its order; (rows, vocabulary).

    Source: ``vllm/v1/sample/sampler.py`` and the min-p processor beside it (0.32).
    """
    scores = scores / _column(scores, [s.temperature for s in samplings])
    if any(s.min_p for s in samplings):
        weights = scores.softmax(dim=-1)
        least = weights.amax(dim=-1, keepdim=True) * _column(scores, [s.min_p for s in samplings])
        scores = scores.masked_fill(weights < least, -math.inf)
    k = p = None
    if any(s.top_k for s in samplings):
        width = scores.shape[1]
        sizes = [min(s.top_k or width, width) for s in samplings]
        k = torch.tensor(sizes, dtype=torch.int32, device=scores.device)
    if any(s.top_p < 1 for s in samplings):
        p = _column(scores, [s.top_p for s in samplings]).squeeze(1)
    return apply_top_k_top_p(scores, k, p)


def _ban(logits: torch.Tensor, rows: Sequence[Row]) -> None:
    by_ends: dict[frozenset[int], list[int]] = {}
    for row in rows:
        assert row.lane is not None
        by_ends.setdefault(row.lane.plan.end_ids, []).append(row.index)
    for ends, indices in by_ends.items():
        logits[_index(logits, indices).unsqueeze(1), _index(logits, sorted(ends))] = -math.inf


def _all(logits: torch.Tensor, indices: Sequence[int]) -> bool:
    return list(indices) == list(range(logits.shape[0]))


def _rows(logits: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    """These rows; not a copy where they are all of them, in order."""
    return logits if _all(logits, indices) else logits[_index(logits, indices)]


def _index(like: torch.Tensor, numbers: Iterable[int]) -> torch.Tensor:
    return torch.tensor(list(numbers), dtype=torch.long, device=like.device)


def _column(like: torch.Tensor, numbers: Sequence[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=like.device).unsqueeze(1)
