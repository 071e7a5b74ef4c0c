"""A run before it happens: what it needs and takes, from a config, GPUs and the rows' lengths."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from s1_plugin.plan import memory, paper, roofline
from s1_plugin.plan.hardware import Gpu
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.roofline import Constants, Forecast
from s1_plugin.plan.shapes import Shape

#: Bytes per second at which weights are read and written, for the one-time costs: an assumption.
DISK = 2e9


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
            (f"recomputation: {RECOMPUTE[recipe.recompute]}", again, h100, self.kernels),
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


RECOMPUTE = {"none": "none", "whole": "all of each layer", "needed": "up to the last matrix"}


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
