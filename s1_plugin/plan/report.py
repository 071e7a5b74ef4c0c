"""A plan in words and figures: what `s1 plan` prints."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from s1_plugin.plan import memory, paper, roofline, traffic
from s1_plugin.plan.hardware import REACH, Gpu
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.roofline import Constants, Forecast
from s1_plugin.plan.shapes import Shape

#: Bytes per second at which weights are read and written, for the one-time costs: an assumption.
DISK = 2e9
#: From this share of waiting on, it is worth a warning.
_WAITING = 0.2
#: Bytes of slack below which a GPU is called full.
_SPARE = 3e9
#: Share of the peak over which a forecast is not to be believed: a rule, twice the fitted one.
_TOO_FAST = 0.8
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
    refusal: str | None = None  # why training will not start on these GPUs
    notes: Sequence[str] = ()  # other warnings about the config
    of_s1k: bool = False  # the lengths are those of the paper's own data, read from it
    of_others: bool = False  # ... or its, where the config's data could not be read

    @property
    def efficiency(self) -> float:
        """The constant; on the lengths at hand where they are s1K's."""
        return roofline.fit(tuple(self.lengths) if self.of_s1k else ())

    @property
    def kernels(self) -> float | None:
        """How much faster than the authors' kernels, as measured; None where nothing was measured,
        or the config does without ours."""
        ours = self.recipe.fused and self.recipe.logits == "chunks"
        return self.constants.ratio if self.constants and ours else None

    @functools.cached_property
    def forecast(self) -> Forecast:
        return self._forecast(self.recipe)

    def _forecast(self, recipe: Recipe) -> Forecast:
        return roofline.forecast(
            self.shape, recipe, self.gpu, self._trained(), self.efficiency, self.kernels
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
        fused = replace(layout, fused=recipe.fused)
        again = replace(fused, recompute=recipe.recompute, keep_attention=recipe.keep_attention)
        kept = replace(again, keep=recipe.keep)
        measured = f", measured x {self.kernels:.2f}" if self.kernels else ", by their bytes"
        stages = [
            ("the paper's layout", first, h100, None),
            (layout_in_words(recipe), layout, h100, None),
            (f"Liger's kernels{measured}", fused, h100, self.kernels),
            (f"recomputation: {_RECOMPUTE[recipe.recompute]}", again, h100, self.kernels),
            (f"less of it: {recipe.keep / 1e9:.0f} GB are kept", kept, h100, self.kernels),
            ("loss, optimiser and FSDP as configured", recipe, h100, self.kernels),
            (f"GPU: {self.gpu.name}", recipe, self.gpu, self.kernels),
        ]
        found, before = [], None
        for name, stage, gpu, kernels in stages:
            if (stage, gpu, kernels) != before:
                found.append(
                    (
                        name,
                        roofline.forecast(
                            self.shape, stage, gpu, lengths, self.efficiency, kernels
                        ),
                    )
                )
            before = (stage, gpu, kernels)
        return found

    @functools.cached_property
    def budget(self) -> tuple[int, float]:
        """The `keep_activations_gb` that fits, in these micro-batches and in one of sequence_len
        tokens; and the minutes that it spares over what is set."""
        largest = max(self.forecast.largest, self.recipe.sequence_len)
        tokens = -(-largest // self.recipe.context)
        fits = memory.budget(self.shape, self.recipe, self.gpu, tokens)
        if not fits:
            return 0, 0.0
        best = self._forecast(replace(self.recipe, keep=fits * 1e9))
        return fits, self.forecast.minutes - best.minutes

    @property
    def fails(self) -> bool:
        """Training would not go through: refused, out of memory, or stopped by its rows. Lengths
        of others say nothing of the last."""
        stops = self.strategy not in ("drop", "truncate") and not self.of_others
        over = stops and max(self.lengths) > self.recipe.sequence_len
        full = sum(self.parts().values()) > self.gpu.memory
        return self.refusal is not None or full or over

    def warnings(self) -> Iterator[str]:
        """What should be known before GPUs are rented, each with a remedy."""
        recipe, forecast = self.recipe, self.forecast
        if self.refusal:
            yield self.refusal
        yield from self.notes
        used = sum(self.parts().values())
        if used > self.gpu.memory:
            fits = memory.longest(self.shape, recipe, self.gpu)
            remedies = [
                (recipe.recompute == "none", "gradient_checkpointing: true"),
                (recipe.keep > 0, _less_kept(self.budget[0])),
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
        else:
            fits = memory.longest(self.shape, recipe, self.gpu)
            if fits < recipe.sequence_len:
                yield (
                    f"these data fit, but a row of sequence_len {recipe.sequence_len:,} tokens "
                    f"would not: up to {fits:,} do"
                )
            if self.gpu.memory - used < _SPARE:
                yield (
                    f"{(self.gpu.memory - used) / 1e9:.1f} GB are left at the largest micro-batch, "
                    "and this arithmetic is not that exact. Helps: a smaller keep_activations_gb, "
                    "context_parallel_size"
                )
        matrices = self.efficiency * (self.kernels or 1.0)
        if max(matrices, forecast.mfu) > _TOO_FAST:
            cause = "these rows of s1K" if self.of_s1k else "the kernels' ratio in --constants"
            yield (
                f"time and price are too low to be believed: they take matrices at {matrices:.2f} "
                f"of the peak, MFU {forecast.mfu:.0%}, over {_TOO_FAST:.0%}. The "
                f"cause is {cause}; look at it first"
            )
        if self.of_others:
            yield (
                "lengths are a fit of s1K's, NOT those of your data, which cannot be read here: "
                "memory and time are of other rows. Helps: --lengths FILE"
            )
        whole = memory.states(self.shape, recipe)["gradients"]
        whole -= memory.states(self.shape, replace(recipe, sync_each=True))["gradients"]
        if whole:
            yield (
                f"gradients are kept whole on each GPU until the last of {recipe.accumulation} "
                f"micro-batches, {whole / 1e9:.1f} GB. Helps: accelerator_config: "
                "{gradient_accumulation_kwargs: {sync_each_batch: true}}"
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
        fits, spared = self.budget
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
            "memory_reach": REACH,
            "forecast": {**asdict(found), "minutes": found.minutes, "gpu_hours": found.gpu_hours},
            "dollars": None if self.rate is None else found.gpu_hours * self.rate,
            "memory": self.parts(),
            "memory_of_gpu": self.gpu.memory,
            "longest_row_that_fits": memory.longest(self.shape, self.recipe, self.gpu),
            "keep_activations_gb": {"fits": fits, "minutes": spared},
            "once": self.once(),
            "chain": [
                {"change": name, "minutes": f.minutes, "gpu_hours": f.gpu_hours}
                for name, f in self.chain()
            ],
            "warnings": list(self.warnings()),
        }

    def once(self) -> dict[str, float]:
        """Bytes of loading and saving, and their minutes, which are not in the forecast."""
        recipe, trained = self.recipe, self.recipe.trained(self.shape)
        read, result = 2.0 * self.shape.params(), float(recipe.weight * trained)
        count = recipe.checkpoints(self.forecast.steps) or 0
        written = result + count * recipe.saved * trained
        return {
            "read": read,
            "result": result,
            "checkpoints": count,
            "checkpoint": recipe.saved * trained,
            "written": written,
            "minutes": (read + written) / DISK / 60,
        }

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
        once = self.once()
        hours = once["minutes"] * recipe.gpus / 60
        dollars = "" if self.rate is None else f" (${hours * self.rate:,.2f})"
        yield (
            f"  not in it: loading and saving, {once['minutes']:.1f} minutes{dollars} at 2 GB/s, "
            "an assumption; see below"
        )
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
        if recipe.keep:
            yield (
                f"  {recipe.keep / 1e9:.0f} GB for activations spare {found.kept:.0%} of the "
                "recomputation"
            )
        fits, spared = self.budget
        if spared >= 0.01 * found.minutes:
            yield (
                f"  room: `keep_activations_gb: {fits}` in the s1 block fits, with a row of "
                f"{recipe.sequence_len:,} tokens too, and spares {spared:.1f} minutes"
            )
        whose = "these lengths" if self.of_s1k else "the fit of s1K's lengths"
        yield (
            f"constants: matrices at {self.efficiency:.3f} of the peak on the GPU with the most "
            f"work, fitted on the paper's 26 minutes with {whose}"
        )
        if self.kernels and self.constants:
            yield (
                f"  kernels x {self.kernels:.2f} of the authors', measured on "
                f"{self.constants.device}: {self.constants.command}"
            )
        else:
            ours, theirs = (sum(traffic.of_layer(self.shape, f)) for f in (recipe.fused, False))
            yield (
                f"  between matrices, {self.shape.layers * ours / 1e6:.0f} MB per token (the "
                f"authors' kernels: {self.shape.layers * theirs / 1e6:.0f}) at {REACH:.0%} of the "
                "memory's rate: counted; benchmarks/train_step.py measures: --constants FILE"
            )
        yield (
            f"  {gpu.name}: {gpu.flops / 1e12:.0f} TFLOPS bf16, {gpu.bandwidth / 1e12:.2f} TB/s, "
            f"{gpu.source}"
        )
        checkpoints = ""
        if once["checkpoints"]:
            each = once["checkpoint"] / 1e9
            checkpoints = f" and {once['checkpoints']:.0f} x {each:,.1f} GB of checkpoints"
        yield (
            f"once, not in the time above: read {once['read'] / 1e9:,.1f} GB of weights; written "
            f"{once['result'] / 1e9:,.1f} GB of the result{checkpoints}; {once['minutes']:.1f} "
            "minutes at 2 GB/s, an assumption"
        )


def _less_kept(fits: int) -> str:
    return f"keep_activations_gb: {fits}" if fits else "remove keep_activations_gb"


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
    times = f", {recipe.accumulation} micro-batches" if recipe.accumulation > 1 else ""
    return f"rows {how}, {groups}{times}"


def _rows(recipe: Recipe) -> str:
    if recipe.layout == "packed":
        return f"{recipe.rows_per_step} packed rows a step"
    return f"{recipe.rows_per_step} rows a step"


def _count(number: int) -> str:
    for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.2f} {name}"
    return str(number)
