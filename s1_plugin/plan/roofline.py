"""Step times: FLOPs against the tensor cores' peak, bytes against the links.

A micro-batch takes as long as the group with the most work needs to compute it, or as gathering the
weights and reducing the gradients takes, whichever is longer: FSDP does both at once, and what of
it does not overlap is in the efficiency. That one constant, the share of the peak that the GPU with
the most work reaches while the others wait, is fitted so that the paper's own layout takes the
paper's 26 minutes.
"""

from __future__ import annotations

import functools
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1_plugin.plan import flops, paper
from s1_plugin.plan.hardware import GPUS, Gpu
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.shapes import Shape
from s1_plugin.training import balance

#: More steps than these are not looked at one by one; the epoch goes on as they do.
_LOOK = 2000


@dataclass(frozen=True)
class Constants:
    """Efficiency of the kernels, measured on one GPU by benchmarks/train_step.py: the authors'
    recipe and ours, as shares of the peak, all FLOPs counted that are done. Only their ratio is
    used: what else the authors' run lost is in the fit."""

    authors: float
    ours: float
    device: str
    command: str

    @property
    def ratio(self) -> float:
        return self.ours / self.authors

    @classmethod
    def read(cls, path: Path) -> Constants:
        """From ``{"device": "NVIDIA H100 80GB HBM3", "efficiency": {"authors": 0.45, "ours":
        0.55}, "versions": {…}, "command": "python benchmarks/train_step.py …"}``.

        Raises:
            ValueError: naming file and field.
        """
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            authors, ours = (float(found["efficiency"][name]) for name in ("authors", "ours"))
            device, command = str(found["device"]), str(found["command"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path}: {error!r}; it must be what benchmarks/train_step.py writes: "
                '{"device", "efficiency": {"authors", "ours"}, "versions", "command"}'
            ) from None
        if not (0 < authors <= 1 and 0 < ours <= 1):
            raise ValueError(f"{path}, field `efficiency`: a share of the peak is over 0, up to 1")
        return cls(authors, ours, device, command)


@dataclass(frozen=True)
class Forecast:
    """What training takes, loading and saving apart.

    Attributes:
        seconds: of all steps.
        waiting: share of the GPUs' time in which they wait for the group with the most work.
        largest: tokens of the largest micro-batch of a group.
        mfu: model FLOPs (no recomputation) of all rows, as a share of the peak.
        transfer: seconds of a mean step in which links are busy; ``felt``: those not hidden.
        needed: bytes/s of a node's network below which the gathering would be felt; 0 on one node.
    """

    gpus: int
    steps: int
    seconds: float
    waiting: float
    largest: int
    tokens: int
    mfu: float
    transfer: float
    felt: float
    needed: float

    @property
    def minutes(self) -> float:
        return self.seconds / 60

    @property
    def gpu_hours(self) -> float:
        return self.seconds * self.gpus / 3600


def row_cost(shape: Shape, recipe: Recipe) -> flops.Cost:
    """All FLOPs of a row that are done: model, recomputation, and the logits' second time."""
    linear, quadratic = flops.row_cost(shape, frozen=bool(recipe.frozen))
    if recipe.recompute != "none":
        more = flops.recompute_cost(shape, recipe.recompute == "needed", recipe.keep_attention)
        linear, quadratic = linear + more[0], quadratic + more[1]
    if recipe.logits == "chunks":
        linear += 2.0 * shape.vocab * shape.hidden
    return linear, quadratic


def steps(
    recipe: Recipe, lengths: Sequence[int], cost: flops.Cost, seed: int = 42
) -> Iterator[list[list[list[int]]]]:
    """The steps of one epoch: micro-batches, of each the groups, of each the rows' lengths."""
    order = list(lengths)
    random.Random(seed).shuffle(order)
    if recipe.layout == "packed":
        bins = list(_filled(order, recipe.sequence_len))
        per_step = recipe.rows_per_step
        for start in range(0, len(bins), per_step):
            yield _dealt(recipe, bins[start : start + per_step])
        return
    size = recipe.rows_per_step
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        if len(rows) < size:  # what the last step lacks comes from the start
            rows += (order * math.ceil(size / len(order)))[: size - len(rows)]
        if recipe.layout == "rows":
            yield _dealt(recipe, [[n] for n in rows], padded=True)
            continue
        costs = [balance.cost(n, *cost) for n in rows]
        found = balance.assign(costs, recipe.groups * recipe.accumulation)
        bins = [[rows[i] for i in part] for part in found]
        yield [bins[i : i + recipe.groups] for i in range(0, len(bins), recipe.groups)]


def _filled(order: Sequence[int], size: int) -> Iterator[list[int]]:
    """Rows one after the other into bins of ``size`` tokens; axolotl's own packing is tighter."""
    part: list[int] = []
    for n in order:
        if part and sum(part) + n > size:
            yield part
            part = []
        part.append(n)
    if part:
        yield part


def _dealt(
    recipe: Recipe, bins: Sequence[list[int]], padded: bool = False
) -> list[list[list[int]]]:
    """Bins dealt out to micro-batches of groups; rows in one micro-batch ``padded`` alike."""
    batches = []
    for start in range(0, len(bins), recipe.micro_batch):
        parts = bins[start : start + recipe.micro_batch]
        rows = [n for part in parts for n in part]
        batches.append([max(rows)] * len(rows) if padded else rows)
    return [batches[i : i + recipe.groups] for i in range(0, len(batches), recipe.groups)]


def forecast(
    shape: Shape, recipe: Recipe, gpu: Gpu, lengths: Sequence[int], efficiency: float
) -> Forecast:
    """Time and waiting of a whole training.

    Args:
        lengths: of all rows of an epoch, in tokens.
        efficiency: see `fit`; times a measured ratio for other kernels.
    """
    cost = row_cost(shape, recipe)
    # Shards of a row are cut where they lie: the last one sees all others (ring attention without
    # zigzag), for one row 2 - 1/c of the mean.
    uneven = 2.0 - 1.0 / recipe.context
    linear, quadratic = cost[0] / recipe.context, cost[1] * uneven / recipe.context
    rate = gpu.flops * efficiency
    transfer = _transfer(shape, recipe, gpu)
    update = _update(shape, recipe, gpu)
    per_token = _ring(shape, recipe, gpu)
    seconds = worked = waited = felt = moved = 0.0
    looked = largest = 0
    for step in steps(recipe, lengths, cost):
        looked += 1
        seconds += update
        for micro in step:
            loads = [linear * sum(rows) + quadratic * sum(n * n for n in rows) for rows in micro]
            tokens = max(map(sum, micro))
            largest = max(largest, tokens)
            compute = max(loads) / rate
            seconds += max(compute, transfer) + per_token * tokens
            felt += max(0.0, transfer - compute) + per_token * tokens
            moved += transfer + per_token * tokens
            worked += sum(loads) / rate
            waited += max(compute, transfer) * recipe.groups
        if looked == _LOOK:
            break
    in_epoch = _steps_per_epoch(recipe, lengths, looked)
    whole = recipe.max_steps or round(in_epoch * recipe.epochs)
    seconds *= whole / looked
    tokens_in_all = round(sum(lengths) * whole / in_epoch)
    model = flops.total(flops.row_cost(shape), lengths) * whole / in_epoch
    hidden = waited / recipe.groups / looked / recipe.accumulation  # seconds of a micro-batch
    return Forecast(
        gpus=recipe.gpus,
        steps=whole,
        seconds=seconds,
        waiting=1 - worked / waited,
        largest=largest,
        tokens=tokens_in_all,
        mfu=model / (seconds * recipe.gpus * gpu.flops),
        transfer=moved / looked,
        felt=felt / looked,
        needed=gpu.network * transfer / hidden if recipe.shards[0] > 8 else 0.0,
    )


def _steps_per_epoch(recipe: Recipe, lengths: Sequence[int], looked: int) -> int:
    if looked < _LOOK:
        return looked
    if recipe.layout == "packed":
        bins = sum(1 for _ in _filled(lengths, recipe.sequence_len))
        return math.ceil(bins / recipe.rows_per_step)
    return math.ceil(len(lengths) / recipe.rows_per_step)


def _transfer(shape: Shape, recipe: Recipe, gpu: Gpu) -> float:
    """Seconds of gathering the weights in bf16 for the forward pass, and for the backward pass
    where they were dropped, and of reducing the gradients in bf16; per micro-batch, as FSDP does
    it. Without shards, of averaging the gradients."""
    n = recipe.shards[0]
    if n == 1:
        other = recipe.gpus
        width = 2 * recipe.weight  # reduced and spread
        share = (other - 1) / other / max(1, recipe.accumulation)
        return width * recipe.trained(shape) * share / gpu.bus(other)
    times = 2 if recipe.reshard else 1
    moved = 2.0 * times * shape.params() + 2.0 * recipe.trained(shape)
    return moved * (n - 1) / n / gpu.bus(n)


def _ring(shape: Shape, recipe: Recipe, gpu: Gpu) -> float:
    """Seconds per token of a group's row in which its shards wait for one another's keys and
    values, in bf16: forward, recomputed, backward, and their gradients back. Inside a node."""
    passes = 3 + (recipe.recompute != "none" and not recipe.keep_attention)
    share = (recipe.context - 1) / recipe.context
    return passes * shape.layers * 2 * shape.kv_width * 2 * share / gpu.nvlink


def _update(shape: Shape, recipe: Recipe, gpu: Gpu) -> float:
    """Seconds of the optimiser: weights and states read and written, gradients read twice (the
    first time for their norm)."""
    width = 2 * (recipe.weight + recipe.optimiser + recipe.master) + 2 * recipe.weight
    return width * recipe.trained(shape) / recipe.shards[2] / gpu.bandwidth


@functools.cache
def fit(lengths: tuple[int, ...] = ()) -> float:
    """The efficiency with which the paper's layout takes the paper's minutes: its longest row
    decides each step. All of the 26 minutes are taken for steps; what of them was loading, saving
    or evaluating makes this too low, and forecasts too long.

    Args:
        lengths: of s1K's rows, where they are at hand; none: the fit of what is known of them.
    """
    low, high = 0.01, 4.0  # over 1 for lengths that are not s1K's: shorter ones leave idle time
    lengths = lengths or tuple(paper.s1k())
    for _ in range(40):
        middle = (low + high) / 2
        found = forecast(paper.SHAPE, paper.RECIPE, GPUS["H100"], lengths, middle)
        low, high = (middle, high) if found.minutes > paper.MINUTES else (low, middle)
    return (low + high) / 2
