"""What should be known of a planned run before GPUs are rented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from s1_plugin.plan import memory
from s1_plugin.plan.run import Plan

#: From this share of waiting on, it is worth a warning.
_WAITING = 0.2
#: Bytes of slack below which a GPU is called full.
_SPARE = 3e9
#: Share of the peak over which a forecast is not to be believed: a rule, twice the fitted one.
_TOO_FAST = 0.8
#: Seconds of a step under which the roofline says little.
_SHORT = 0.1


def of(plan: Plan) -> Iterator[str]:
    """Each with a remedy."""
    recipe, forecast = plan.recipe, plan.forecast
    if plan.refusal:
        yield plan.refusal
    yield from plan.notes
    used = sum(plan.parts().values())
    if used > plan.gpu.memory:
        fits = memory.longest(plan.shape, recipe, plan.gpu)
        remedies = [
            (recipe.recompute == "none", "gradient_checkpointing: true"),
            (recipe.keep > 0, _less_kept(plan.budget[0])),
            (recipe.logits == "all", "`loss: sequence` in the s1 block (no full logits)"),
            (recipe.shards[0] == 1 and recipe.gpus > 1, "fsdp_config, which shards the states"),
            (not recipe.frozen and recipe.weight == 4, "optimizer: optimi_adamw in bf16"),
            (True, "more GPUs, or some with more memory (--gpus, --gpu-type)"),
            (True, "context_parallel_size"),
        ]
        yield (
            f"does not fit: {used / 1e9:.1f} GB of {plan.gpu.memory / 1e9:.1f} with the "
            f"{forecast.largest:,} tokens of the largest micro-batch (up to {fits:,} would). "
            f"Helps: {'; '.join(what for apt, what in remedies if apt)}"
        )
    else:
        fits = memory.longest(plan.shape, recipe, plan.gpu)
        if fits < recipe.sequence_len:
            yield (
                f"these data fit, but a row of sequence_len {recipe.sequence_len:,} tokens "
                f"would not: up to {fits:,} do"
            )
        if plan.gpu.memory - used < _SPARE:
            yield (
                f"{(plan.gpu.memory - used) / 1e9:.1f} GB are left at the largest micro-batch, "
                "and this arithmetic is not that exact. Helps: a smaller keep_activations_gb, "
                "context_parallel_size"
            )
    matrices = plan.efficiency * (plan.kernels or 1.0)
    if max(matrices, forecast.mfu) > _TOO_FAST:
        cause = "these rows of s1K" if plan.of_s1k else "the kernels' ratio in --constants"
        yield (
            f"time and price are too low to be believed: they take matrices at {matrices:.2f} "
            f"of the peak, MFU {forecast.mfu:.0%}, over {_TOO_FAST:.0%}. The "
            f"cause is {cause}; look at it first"
        )
    if plan.of_others:
        yield (
            "lengths are a fit of s1K's, NOT those of your data, which cannot be read here: "
            "memory and time are of other rows. Helps: --lengths FILE"
        )
    whole = memory.states(plan.shape, recipe)["gradients"]
    whole -= memory.states(plan.shape, replace(recipe, sync_each=True))["gradients"]
    if whole:
        yield (
            f"gradients are kept whole on each GPU until the last of {recipe.accumulation} "
            f"micro-batches, {whole / 1e9:.1f} GB. Helps: accelerator_config: "
            "{gradient_accumulation_kwargs: {sync_each_batch: true}}"
        )
    over = [n for n in plan.lengths if n > recipe.sequence_len]
    if over:
        then = {
            "drop": "are dropped",
            "truncate": "lose their end, the answer among it",
        }.get(plan.strategy or "", "stop the run")
        yield (
            f"{len(over)} of {len(plan.lengths)} rows are longer than sequence_len "
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
    if not plan.arrives:
        yield f"{plan.precision}; see `s1 doctor`"


def _less_kept(fits: int) -> str:
    return f"keep_activations_gb: {fits}" if fits else "remove keep_activations_gb"
