"""A plan in words and figures: what `s1 plan` prints."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from s1_plugin.plan import memory, paper, roofline
from s1_plugin.plan.hardware import Gpu
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.roofline import Constants, Forecast
from s1_plugin.plan.shapes import Shape

#: Bytes per second at which weights are read and written, for the one-time costs: an assumption.
DISK = 2e9
#: From this share of waiting on, it is worth a warning.
_WAITING = 0.2
#: Seconds of a step under which the roofline says little.
_SHORT = 0.1


@dataclass(frozen=True)
class Plan:
    """Everything that is known of a run before it. Bytes, seconds, FLOPs."""

    model: str
    shape: Shape
    recipe: Recipe
    gpu: Gpu
    lengths: Sequence[int]
    lengths_from: str
    constants: Constants | None
    rate: float | None
    precision: str
    arrives: bool
    strategy: str | None  # axolotl's excess_length_strategy
    of_s1k: bool = False  # the lengths are those of the paper's own data

    @property
    def fitted(self) -> float:
        """The constant; on the lengths at hand where they are s1K's."""
        return roofline.fit(tuple(self.lengths) if self.of_s1k else ())

    @property
    def efficiency(self) -> float:
        return self.fitted * self.kernels

    @property
    def kernels(self) -> float:
        """How much faster than the authors' kernels, as measured; 1 where nothing was measured, or
        the config does without ours."""
        ours = self.recipe.fused and self.recipe.logits == "chunks"
        return self.constants.ratio if self.constants and ours else 1.0

    @functools.cached_property
    def forecast(self) -> Forecast:
        return roofline.forecast(
            self.shape, self.recipe, self.gpu, self._trained(), self.efficiency
        )

    def _trained(self) -> Sequence[int]:
        """The lengths that are trained on, after what `excess_length_strategy` loses."""
        limit = self.recipe.sequence_len
        if self.strategy == "truncate":
            return [min(n, limit) for n in self.lengths]
        if self.strategy == "drop":
            return [n for n in self.lengths if n <= limit] or [limit]
        return self.lengths

    def parts(self) -> dict[str, float]:
        """Memory of one GPU in the largest micro-batch of these data."""
        tokens = -(-self.forecast.largest // self.recipe.context)
        return memory.parts(self.shape, self.recipe, self.gpu, tokens)

    def chain(self) -> list[tuple[str, Forecast]]:
        """From the paper's layout on these data to this plan, one change at a time. Empty for
        another model, an adapter, or another batch: nothing is known of those."""
        recipe, lengths = self.recipe, self._trained()
        if self.shape != paper.SHAPE or recipe.frozen or recipe.layout == "packed":
            return []
        if recipe.rows_per_step != paper.RECIPE.rows_per_step:
            return []
        h100 = roofline.GPUS["H100"]
        first = replace(paper.RECIPE, epochs=recipe.epochs, max_steps=recipe.max_steps)
        layout = replace(
            first,
            gpus=recipe.gpus,
            context=recipe.context,
            micro_batch=recipe.micro_batch,
            accumulation=recipe.accumulation,
            layout=recipe.layout,
            shards=recipe.shards,
        )
        again = replace(layout, recompute=recipe.recompute, keep_attention=recipe.keep_attention)
        stages = [
            ("the paper's layout", first, h100, 1.0),
            (layout_in_words(recipe), layout, h100, 1.0),
            (f"recomputation: {_RECOMPUTE[recipe.recompute]}", again, h100, 1.0),
            ("loss and optimiser as configured", recipe, h100, 1.0),
        ]
        if self.gpu != h100:
            stages.append((f"GPU: {self.gpu.name}", recipe, self.gpu, 1.0))
        if self.kernels != 1.0:
            what = f"kernels: x {self.kernels:.2f}, measured"
            stages.append((what, recipe, self.gpu, self.kernels))
        return [
            (name, roofline.forecast(self.shape, stage, gpu, lengths, self.fitted * kernels))
            for name, stage, gpu, kernels in stages
        ]

    def room(self) -> tuple[int, float]:
        """How many layers could do without recomputation in the memory that is left, and the
        minutes that this would spare. axolotl recomputes all layers or none."""
        recipe = self.recipe
        left = self.gpu.memory - sum(self.parts().values())
        if recipe.recompute == "none" or left <= 0:
            return 0, 0.0
        tokens = -(-self.forecast.largest // recipe.context)
        kept = memory.of_layer(self.shape, recipe)
        kept -= int(memory.checkpoint_per_token(self.shape, recipe)) // self.shape.layers
        layers = min(self.shape.layers, int(left / (tokens * kept)))
        best = roofline.forecast(
            self.shape,
            replace(recipe, recompute="none"),
            self.gpu,
            self._trained(),
            self.efficiency,
        )
        return layers, (self.forecast.minutes - best.minutes) * layers / self.shape.layers

    def warnings(self) -> Iterator[str]:
        """What should be known before GPUs are rented, each with a remedy."""
        recipe, forecast = self.recipe, self.forecast
        used = sum(self.parts().values())
        if used > self.gpu.memory:
            fits = memory.longest(self.shape, recipe, self.gpu)
            remedies = [
                (recipe.recompute == "none", "gradient_checkpointing: true"),
                (recipe.logits == "all", "`loss: sequence` in the s1 block (no full logits)"),
                (recipe.shards[0] == 1 and recipe.gpus > 1, "fsdp_config, which shards the states"),
                (not recipe.frozen and recipe.weight == 4, "optimizer: optimi_adamw in bf16"),
                (True, "more GPUs, or some with more memory (--gpus, --gpu-type)"),
                (True, "context_parallel_size"),
            ]
            yield (
                f"does not fit: {used / 1e9:.1f} GB of {self.gpu.memory / 1e9:.1f} with the "
                f"{forecast.largest:,} tokens of the largest micro-batch (up to {fits:,} would). "
                f"Helps: {'; '.join(what for apt, what in remedies if apt)}"
            )
        elif memory.longest(self.shape, recipe, self.gpu) < recipe.sequence_len:
            fits = memory.longest(self.shape, recipe, self.gpu)
            yield (
                f"these data fit, but a row of sequence_len {recipe.sequence_len:,} tokens would "
                f"not: up to {fits:,} do"
            )
        over = [n for n in self.lengths if n > recipe.sequence_len]
        if over:
            then = {
                "drop": "are dropped",
                "truncate": "lose their end, the answer among it",
            }.get(self.strategy or "", "stop the run")
            yield (
                f"{len(over)} of {len(self.lengths)} rows are longer than sequence_len "
                f"{recipe.sequence_len:,} and {then}: the longest has {max(over):,} tokens"
            )
        if recipe.groups > 1 and forecast.waiting > _WAITING:
            idle = round(forecast.waiting * recipe.groups)
            remedy = (
                "a larger context_parallel_size, so that fewer groups share the rows"
                if recipe.layout == "balanced"
                else "`balance: true` in the s1 block, with context_parallel_size: 2"
            )
            yield (
                f"GPUs wait {forecast.waiting:.0%} of the time for the one with the longest row, "
                f"as if {idle} of {recipe.groups} groups stood idle. Helps: {remedy}"
            )
        if forecast.felt > 0.05 * forecast.seconds / forecast.steps:
            yield (
                f"links are felt: {forecast.felt:.2f} s of a step of "
                f"{forecast.seconds / forecast.steps:.2f} s"
            )
        if forecast.seconds < _SHORT * forecast.steps:
            yield (
                "steps as short as these are bound by Python and by starting kernels, which is not "
                "in the time forecast"
            )
        if not self.arrives:
            yield f"{self.precision}; see `s1 doctor`"

    def as_json(self) -> dict[str, Any]:
        found = self.forecast
        layers, spared = self.room()
        return {
            "model": self.model,
            "parameters": self.shape.params(),
            "trained_parameters": self.recipe.trained(self.shape),
            "gpu": self.gpu.name,
            "recipe": asdict(self.recipe),
            "precision": self.precision,
            "rows": len(self.lengths),
            "lengths_from": self.lengths_from,
            "efficiency": self.efficiency,
            "measured_kernels": self.kernels,
            "forecast": {**asdict(found), "minutes": found.minutes, "gpu_hours": found.gpu_hours},
            "dollars": None if self.rate is None else found.gpu_hours * self.rate,
            "memory": self.parts(),
            "memory_of_gpu": self.gpu.memory,
            "longest_row_that_fits": memory.longest(self.shape, self.recipe, self.gpu),
            "room": {"layers": layers, "minutes": spared},
            "once": {"read": 2 * self.shape.params(), "written": self._written()},
            "chain": [
                {"change": name, "minutes": f.minutes, "gpu_hours": f.gpu_hours}
                for name, f in self.chain()
            ],
            "warnings": list(self.warnings()),
        }

    def _written(self) -> float | None:
        if self.recipe.saves is None:
            return None
        return float(self.recipe.saves * self.recipe.weight * self.recipe.trained(self.shape))

    def lines(self) -> Iterator[str]:
        """The plan as text."""
        found, recipe, gpu = self.forecast, self.recipe, self.gpu
        trained = recipe.trained(self.shape)
        yield f"{self.model}: {_count(self.shape.params())} parameters, {_count(trained)} trained"
        yield f"  {self.precision}"
        yield f"data: {self.lengths_from}"
        yield (
            f"  {len(self.lengths):,} rows, mean {sum(self.lengths) / len(self.lengths):,.0f} "
            f"tokens, longest {max(self.lengths):,}"
        )
        yield f"layout: {recipe.gpus} x {gpu.name}, {layout_in_words(recipe)}"
        yield (
            f"  {_rows(recipe)}, {found.steps:,} steps, {found.tokens / 1e6:,.1f} M tokens; "
            f"recomputation: {_RECOMPUTE[recipe.recompute]}"
        )
        yield ""
        yield f"memory of a GPU, largest micro-batch ({found.largest:,} tokens in a group), GB"
        parts = self.parts()
        for name, size in parts.items():
            if size >= 5e7:
                yield f"  {name:<12}{size / 1e9:>7.1f}  {_WHAT[name]}"
        used = sum(parts.values())
        fits = memory.longest(self.shape, recipe, gpu)
        yield (
            f"  {'in all':<12}{used / 1e9:>7.1f}  of {gpu.memory / 1e9:.1f}; the largest "
            f"micro-batch that fits: {fits:,} tokens"
        )
        yield ""
        yield from self._time()
        for warning in self.warnings():
            yield f"warning: {warning}"

    def _time(self) -> Iterator[str]:
        found, recipe, gpu = self.forecast, self.recipe, self.gpu
        step = found.seconds / found.steps
        yield f"time of the steps: {found.minutes:.1f} minutes, {found.gpu_hours:.2f} GPU hours"
        if self.rate is None:
            yield "  price: give --rate DOLLARS per GPU hour"
        else:
            yield f"  price: ${found.gpu_hours * self.rate:,.2f} at ${self.rate:.2f} per GPU hour"
        yield (
            f"  a step takes {step:.2f} s; GPUs wait {found.waiting:.0%} of it for the one with "
            f"the most work; MFU {found.mfu:.0%}"
        )
        if found.transfer:
            line = (
                f"  links: busy {found.transfer:.2f} s of a step, {found.felt:.2f} s of it not "
                "hidden behind the computing"
            )
            if found.needed:
                line += (
                    f"; hidden as long as a node's network carries {found.needed / 1e9:.0f} GB/s "
                    f"each way (assumed: {gpu.network / 1e9:.0f})"
                )
            yield line
        chain = self.chain()
        if chain:
            yield "  from the paper's layout, one change at a time:   minutes  GPU hours"
            for name, stage in chain:
                yield f"    {name:<45} {stage.minutes:>7.1f}  {stage.gpu_hours:>9.2f}"
        layers, spared = self.room()
        if spared >= 0.05 * found.minutes:
            yield (
                f"  room: {layers} of {self.shape.layers} layers would fit without recomputation "
                f"and spare {spared:.1f} minutes (axolotl recomputes all layers or none)"
            )
        whose = "these lengths" if self.of_s1k else "the fit of s1K's lengths"
        yield (
            f"constants: efficiency {self.fitted:.3f} of the peak on the GPU with the most work, "
            f"fitted on the paper's 26 minutes with {whose}"
        )
        if self.constants is None:
            yield (
                "  kernels as the authors'; those of Liger and a loss in chunks are faster, by how "
                "much says benchmarks/train_step.py: --constants FILE"
            )
        else:
            yield (
                f"  kernels x {self.kernels:.2f}, measured on {self.constants.device}: "
                f"{self.constants.command}"
            )
        yield f"  {gpu.name}: {gpu.flops / 1e12:.0f} TFLOPS bf16, {gpu.source}"
        read, written = 2.0 * self.shape.params(), self._written()
        if written is None:
            said = "saves by steps are not counted"
        else:
            said = f"written {written / 1e9:,.1f} GB in {recipe.saves} saves"
        minutes = (read + (written or 0)) / DISK / 60
        yield (
            f"once, not in the time above: read {read / 1e9:,.1f} GB of weights, {said}; "
            f"{minutes:.1f} minutes at 2 GB/s, an assumption"
        )


_RECOMPUTE = {"none": "none", "whole": "all of each layer", "needed": "up to the last matrix"}
_WHAT = {
    "weights": "of this GPU's share",
    "gradients": "the same",
    "optimiser": "the same",
    "gathered": "weights and gradients of other GPUs' shares, or bf16 copies",
    "kept": "until the backward pass: the layers' inputs, or all of their activations",
    "one layer": "while it is gone through backwards",
    "logits": "those that exist at a time, float32 and gradient",
    "margin": "CUDA, NCCL and holes: a rule, not a measurement",
}


def layout_in_words(recipe: Recipe) -> str:
    """How rows come to GPUs."""
    how = {
        "rows": "in turn",
        "balanced": "balanced by cost",
        "packed": f"packed to {recipe.sequence_len:,} tokens",
    }[recipe.layout]
    groups = (
        f"to {recipe.groups} groups of {recipe.context}" if recipe.context > 1 else "to single GPUs"
    )
    return f"rows {how}, {groups}"


def _rows(recipe: Recipe) -> str:
    if recipe.layout == "packed":
        return f"{recipe.rows_per_step} packed rows a step"
    return f"{recipe.rows_per_step} rows a step"


def _count(number: int) -> str:
    for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.2f} {name}"
    return str(number)
