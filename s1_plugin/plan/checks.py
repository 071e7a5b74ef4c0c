"""What a config and the number of GPUs say before anything is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from s1_plugin.plan import recipe
from s1_plugin.plan.recipe import PAPER_BATCH, Recipe
from s1_plugin.training import parallel

PLUGIN = "s1_plugin.S1Plugin"


def refusal(cfg: Mapping[str, Any], how: Recipe) -> str | None:
    """Why training will not start on these GPUs, with the setting; None where it will."""
    try:
        parallel.check_on(cfg, how.gpus)
    except ValueError as error:
        return f"training will refuse: {error}"
    return None


def warnings(cfg: Mapping[str, Any], how: Recipe, gpus: int | None) -> Iterator[str]:
    """What else is amiss. ``gpus``: as asked for; None: as many as make the paper's batch."""
    if PLUGIN not in (cfg.get("plugins") or []):
        yield (
            "`plugins` lacks s1_plugin.S1Plugin: axolotl trains without anything of the s1 block, "
            f"which is planned here. Helps: plugins: [{PLUGIN}]"
        )
    if gpus is None or how.layout == "packed":
        return
    # A config that has another batch on any number of GPUs means it.
    if recipe.of_config(cfg).rows_per_step == PAPER_BATCH != how.rows_per_step:
        yield (
            f"on {how.gpus} GPUs a step has {how.rows_per_step} rows, not the paper's "
            f"{PAPER_BATCH}: another number of steps, for which the learning rate is not meant. "
            f"Helps: {_batch(how)}"
        )


def _batch(how: Recipe) -> str:
    if PAPER_BATCH % how.groups:
        return f"a number of groups (GPUs / context_parallel_size) that divides {PAPER_BATCH}"
    rows = PAPER_BATCH // how.groups
    if rows % how.micro_batch:
        return f"micro_batch_size: {rows}, gradient_accumulation_steps: 1"
    return f"gradient_accumulation_steps: {rows // how.micro_batch}"
