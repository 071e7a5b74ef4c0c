"""A plan in words and figures: what `s1 plan` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from s1_plugin.plan import memory, traffic, warnings
from s1_plugin.plan.hardware import REACH
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.run import RECOMPUTE, Plan, layout_in_words

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


def as_json(plan: Plan) -> dict[str, Any]:
    found = plan.forecast
    fits, spared = plan.budget
    return {
        "model": plan.model,
        "parameters": plan.shape.params(),
        "trained_parameters": plan.recipe.trained(plan.shape),
        "gpu": plan.gpu.name,
        "recipe": asdict(plan.recipe),
        "precision": plan.precision,
        "rows": len(plan.lengths),
        "lengths_from": plan.lengths_from,
        "efficiency": plan.efficiency,
        "measured_kernels": plan.kernels,
        "memory_reach": REACH,
        "forecast": {**asdict(found), "minutes": found.minutes, "gpu_hours": found.gpu_hours},
        "dollars": None if plan.rate is None else found.gpu_hours * plan.rate,
        "memory": plan.parts(),
        "memory_of_gpu": plan.gpu.memory,
        "longest_row_that_fits": memory.longest(plan.shape, plan.recipe, plan.gpu),
        "keep_activations_gb": {"fits": fits, "minutes": spared},
        "once": plan.once(),
        "chain": [
            {"change": name, "minutes": f.minutes, "gpu_hours": f.gpu_hours}
            for name, f in plan.chain()
        ],
        "warnings": list(warnings.of(plan)),
    }


def lines(plan: Plan) -> Iterator[str]:
    """The plan as text."""
    found, recipe, gpu = plan.forecast, plan.recipe, plan.gpu
    trained = recipe.trained(plan.shape)
    yield f"{plan.model}: {_count(plan.shape.params())} parameters, {_count(trained)} trained"
    yield f"  {plan.precision}"
    yield f"data: {plan.lengths_from}"
    yield (
        f"  {len(plan.lengths):,} rows, mean {sum(plan.lengths) / len(plan.lengths):,.0f} "
        f"tokens, longest {max(plan.lengths):,}"
    )
    yield f"layout: {recipe.gpus} x {gpu.name}, {layout_in_words(recipe)}"
    yield (
        f"  {_rows(recipe)}, {found.steps:,} steps, {found.tokens / 1e6:,.1f} M tokens; "
        f"recomputation: {RECOMPUTE[recipe.recompute]}"
    )
    yield ""
    yield f"memory of a GPU, largest micro-batch ({found.largest:,} tokens in a group), GB"
    parts = plan.parts()
    for name, size in parts.items():
        if size >= 5e7:
            yield f"  {name:<12}{size / 1e9:>7.1f}  {_WHAT[name]}"
    used = sum(parts.values())
    fits = memory.longest(plan.shape, recipe, gpu)
    yield (
        f"  {'in all':<12}{used / 1e9:>7.1f}  of {gpu.memory / 1e9:.1f}; the largest "
        f"micro-batch that fits: {fits:,} tokens"
    )
    yield ""
    yield from _time(plan)
    for warning in warnings.of(plan):
        yield f"warning: {warning}"


def _time(plan: Plan) -> Iterator[str]:
    found, recipe, gpu = plan.forecast, plan.recipe, plan.gpu
    step = found.seconds / found.steps
    yield f"time of the steps: {found.minutes:.1f} minutes, {found.gpu_hours:.2f} GPU hours"
    if plan.rate is None:
        yield "  price: give --rate DOLLARS per GPU hour"
    else:
        yield f"  price: ${found.gpu_hours * plan.rate:,.2f} at ${plan.rate:.2f} per GPU hour"
    once = plan.once()
    hours = once["minutes"] * recipe.gpus / 60
    dollars = "" if plan.rate is None else f" (${hours * plan.rate:,.2f})"
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
    chain = plan.chain()
    if chain:
        yield "  from the paper's layout, one change at a time:   minutes  GPU hours"
        for name, stage in chain:
            yield f"    {name:<45} {stage.minutes:>7.1f}  {stage.gpu_hours:>9.2f}"
    if recipe.keep:
        yield (
            f"  {recipe.keep / 1e9:.0f} GB for activations spare {found.kept:.0%} of the "
            "recomputation"
        )
    fits, spared = plan.budget
    if spared >= 0.01 * found.minutes:
        yield (
            f"  room: `keep_activations_gb: {fits}` in the s1 block fits, with a row of "
            f"{recipe.sequence_len:,} tokens too, and spares {spared:.1f} minutes"
        )
    whose = "these lengths" if plan.of_s1k else "the fit of s1K's lengths"
    yield (
        f"constants: matrices at {plan.efficiency:.3f} of the peak on the GPU with the most "
        f"work, fitted on the paper's 26 minutes with {whose}"
    )
    if plan.kernels and plan.constants:
        yield (
            f"  kernels x {plan.kernels:.2f} of the authors', measured on "
            f"{plan.constants.device}: {plan.constants.command}"
        )
    else:
        ours, theirs = (sum(traffic.of_layer(plan.shape, f)) for f in (recipe.fused, False))
        yield (
            f"  between matrices, {plan.shape.layers * ours / 1e6:.0f} MB per token (the "
            f"authors' kernels: {plan.shape.layers * theirs / 1e6:.0f}) at {REACH:.0%} of the "
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


def _rows(recipe: Recipe) -> str:
    if recipe.layout == "packed":
        return f"{recipe.rows_per_step} packed rows a step"
    return f"{recipe.rows_per_step} rows a step"


def _count(number: int) -> str:
    for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.2f} {name}"
    return str(number)
