"""Step times: FLOPs against the tensor cores' peak, bytes against the memory and the links.

A micro-batch takes as long as the group with the most work needs: its FLOPs at a share of the peak,
then the bytes of its element-wise work at the memory's rate; or as long as gathering the weights
and reducing the gradients takes, if that is longer: FSDP does that meanwhile, and what of it does
not overlap is in the efficiency. That one constant, the share of the peak that matrices reach on
the GPU with the most work, is fitted so that the paper's own layout takes the paper's 26 minutes.
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

from s1_plugin.plan import flops, memory, paper, traffic
from s1_plugin.plan.hardware import GPUS, REACH, Gpu
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
        whole = (
            "it must be what benchmarks/train_step.py writes: "
            '{"device", "efficiency": {"authors", "ours"}, "versions", "command"}'
        )
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            authors, ours = (float(found["efficiency"][name]) for name in ("authors", "ours"))
            device, command = str(found["device"]), str(found["command"])
        except KeyError as error:
            raise ValueError(f'{path}: the field "{error.args[0]}" is missing; {whole}') from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}; {whole}") from None
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
        kept: share of the layers, over all tokens, that are not recomputed.
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
    kept: float
    transfer: float
    felt: float
    needed: float

    @property
    def minutes(self) -> float:
        return self.seconds / 60

    @property
    def gpu_hours(self) -> float:
        return self.seconds * self.gpus / 3600


@dataclass(frozen=True)
class Pace:
    """Seconds of one GPU for a micro-batch of its group.

    Attributes:
        once: per token of this GPU, and per pair of tokens in attention (n² for a row of n);
            nothing recomputed.
        again: the same, of recomputing all layers; ``product``: of what even a layer that keeps
            its activations computes again, per token, all layers.
        fixed: per micro-batch: weights and gradients copied to and from where links put them.
    """

    shape: Shape
    recipe: Recipe
    once: flops.Cost
    again: flops.Cost
    product: float
    fixed: float

    @classmethod
    def of(
        cls, shape: Shape, recipe: Recipe, gpu: Gpu, efficiency: float, kernels: float | None
    ) -> Pace:
        """Args:
        efficiency: see `fit`.
        kernels: how much faster ours are than the authors', as measured; None: by their bytes.
        """
        fused, chunks = recipe.fused, recipe.logits == "chunks"
        if kernels is not None:
            fused = chunks = False
        memory_rate = REACH * gpu.bandwidth

        def seconds(cost: flops.Cost, moved: float) -> flops.Cost:
            rate = gpu.flops * efficiency
            speed = kernels or 1.0
            return (cost[0] / rate + moved / memory_rate) / speed, cost[1] / rate / speed

        forward, backward = traffic.of_layer(shape, fused)
        linear, quadratic = flops.row_cost(shape, frozen=bool(recipe.frozen))
        if recipe.logits == "chunks":
            linear += 2.0 * shape.vocab * shape.hidden
        moved = shape.layers * (forward + backward) + traffic.of_loss(shape, chunks)
        again = (0.0, 0.0)
        if recipe.recompute != "none":
            cost = flops.recompute_cost(shape, recipe.recompute == "needed", recipe.keep_attention)
            again = seconds(cost, shape.layers * forward)
        return cls(
            shape,
            recipe,
            once=seconds((linear, quadratic), moved),
            again=again,
            product=seconds((0.0, 0.0), shape.layers * traffic.of_product(shape, fused))[0],
            fixed=_copied(shape, recipe) / memory_rate,
        )

    def load(self, rows: Sequence[int]) -> float:
        """Of a group that has these rows, in tokens."""
        share = 1.0 - self.kept(rows)
        linear = self.once[0] + share * self.again[0]
        if self.recipe.keep:
            linear += (1.0 - share) * self.product
        quadratic = self.once[1] + share * self.again[1]
        context = self.recipe.context
        return linear * sum(rows) / context + quadratic * pairs(rows, context) + self.fixed

    def kept(self, rows: Sequence[int]) -> float:
        """Share of the layers that are not recomputed."""
        tokens = -(-sum(rows) // self.recipe.context)
        return memory.kept_layers(self.shape, self.recipe, tokens) / self.shape.layers


def pairs(rows: Sequence[int], context: int) -> float:
    """Of the pairs of tokens in attention, n² for a row of n, those of the shard with the most.
    Rows lie end to end and are cut into equal parts; the last part of a row sees all before it
    (ring attention without zigzag)."""
    if context == 1:
        return float(sum(n * n for n in rows))
    width = sum(rows) / context
    found = [0.0] * context
    start = 0
    for n in rows:
        for shard in range(context):
            low = max(start, shard * width)
            high = min(start + n, (shard + 1) * width)
            if high > low:
                found[shard] += (high - start) ** 2 - (low - start) ** 2
        start += n
    return max(found)


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
    shape: Shape,
    recipe: Recipe,
    gpu: Gpu,
    lengths: Sequence[int],
    efficiency: float,
    kernels: float | None = None,
) -> Forecast:
    """Time and waiting of a whole training.

    Args:
        lengths: of all rows of an epoch, in tokens.
        efficiency: see `fit`.
        kernels: how much faster than the authors' ours were measured to be; None: by their bytes.
    """
    pace = Pace.of(shape, recipe, gpu, efficiency, kernels)
    transfer = _transfer(shape, recipe, gpu)
    update = _update(shape, recipe, gpu)
    per_token = _ring(shape, recipe, gpu)
    seconds = worked = waited = felt = moved = kept = 0.0
    looked = largest = seen = 0
    for step in steps(recipe, lengths, flops.row_cost(shape)):
        looked += 1
        seconds += update
        for micro in step:
            loads = [pace.load(rows) for rows in micro]
            tokens = max(map(sum, micro))
            largest = max(largest, tokens)
            compute = max(loads)
            seconds += max(compute, transfer) + per_token * tokens
            felt += max(0.0, transfer - compute) + per_token * tokens
            moved += transfer + per_token * tokens
            worked += sum(loads)
            waited += max(compute, transfer) * recipe.groups
            kept += sum(pace.kept(rows) * sum(rows) for rows in micro)
            seen += sum(map(sum, micro))
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
        kept=kept / seen,
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


def _copied(shape: Shape, recipe: Recipe) -> float:
    """Bytes read and written per micro-batch on the way between links and matrices, while nothing
    is computed: gradients into what is reduced; and under FSDP2 gathered weights out of what has
    arrived (torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py, in the computing stream)."""
    if recipe.gpus == 1:
        return 0.0
    moved = 4.0 * recipe.trained(shape)
    if recipe.shards[0] > 1 and not recipe.flat:
        moved += 4.0 * shape.params() * (2 if recipe.reshard else 1)
    return moved


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
    return width * recipe.trained(shape) / recipe.shards[2] / (REACH * gpu.bandwidth)


@functools.cache
def fit(lengths: tuple[int, ...] = ()) -> float:
    """The efficiency of the matrices with which the paper's layout takes the paper's minutes: its
    longest row decides each step. All of the 26 minutes are taken for steps; what of them was
    loading, saving or evaluating makes this too low, and forecasts too long.

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
