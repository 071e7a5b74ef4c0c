"""How many steps a run has: whole epochs, the last, short step of each counted.

axolotl takes epochs x rows / batch, rounded up at the end: 313 steps for 5 epochs of 1,000 rows by
16. An epoch has 62 full steps and one more, so the authors' run, and the schedule of its learning
rate, has 5 x 63 = 315 (https://arxiv.org/abs/2501.19393, section 4).
"""

from __future__ import annotations

import math
from typing import Any

from s1_plugin.console import say


def per_epoch(rows: int, micro_batch: int, accumulation: int, groups: int) -> int:
    """Optimiser steps of an epoch, as `transformers` counts them; the last may be short."""
    return math.ceil(rows / (micro_batch * groups) / accumulation)


def use_whole_epochs(cfg: Any, trainer: Any) -> None:
    """Lets ``trainer`` count its steps, and its steps of warming up, where the config does not.

    With ``max_steps`` in the config, or axolotl's packing, axolotl's number stays; then a number
    that is not the config's epochs is said.
    """
    args = trainer.args
    if cfg.sample_packing or not hasattr(trainer.train_dataset, "__len__"):
        return
    settings = getattr(trainer.accelerator, "parallelism_config", None)
    shards = int(getattr(settings, "non_data_parallel_size", 1) or 1)
    batch = (trainer._train_batch_size, args.gradient_accumulation_steps, args.world_size // shards)
    rows = len(trainer.train_dataset)
    epoch = per_epoch(rows, *batch)
    whole = math.ceil(epoch * float(args.num_train_epochs))
    if cfg.max_steps:
        if int(cfg.max_steps) != whole:
            say(
                f"max_steps: {cfg.max_steps} ends the training after "
                f"{int(cfg.max_steps) / epoch:.2f} epochs of {rows:,} rows; for num_epochs: "
                f"{args.num_train_epochs:g} ({whole:,} steps) remove the key"
            )
        return
    args.max_steps = -1
    if cfg.warmup_steps is None and cfg.warmup_ratio:
        args.warmup_steps = float(cfg.warmup_ratio)  # below 1, a share of all steps
    warm = args.get_warmup_steps(whole)
    say(
        f"{whole:,} steps of {math.prod(batch)} rows: {args.num_train_epochs:g} epochs of "
        f"{rows:,} rows; {warm:,} of them warm up"
    )
    if 2 * warm > whole:
        say(
            f"warning: {warm:,} of {whole:,} steps warm up, so the learning rate "
            + ("never reaches" if warm >= whole else "hardly reaches")
            + " what the config says; raise num_epochs, or give warmup_ratio: 0.05 instead of "
            "warmup_steps"
        )
