"""How GPUs are grouped: what axolotl and accelerate find out only when the weights are loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_SIZES = ("context_parallel_size", "tensor_parallel_size", "dp_shard_size", "dp_replicate_size")


def check(cfg: Mapping[str, Any]) -> None:
    """Whether the sizes of this axolotl config fit together, and to the processes launched.

    Raises:
        ValueError: naming the key and the number to set.
    """
    check_on(cfg, int(os.environ.get("WORLD_SIZE") or 0))


def check_on(cfg: Mapping[str, Any], world: int) -> None:
    """The same for ``world`` processes; 0 or 1: not known yet.

    axolotl tells accelerate the size of shards only where the config has it, and accelerate then
    takes 1 and refuses (axolotl 0.19, utils/trainer.py).

    Raises:
        ValueError: naming the key and the number to set.
    """
    context, tensor, shard, replicate = (int(cfg.get(name) or 1) for name in _SIZES)
    if context * tensor == 1:
        return
    if world > 1 and context * tensor * shard * replicate != world:
        raise ValueError(
            f"{world} processes are not context_parallel_size {context} x tensor_parallel_size "
            f"{tensor} x dp_shard_size {shard} x dp_replicate_size {replicate}; set "
            f"`dp_shard_size: {world // (context * tensor * replicate)}`, and "
            "gradient_accumulation_steps so that a step has as many rows as before"
        )
    if not cfg.get("dp_shard_size"):
        raise ValueError(
            f"context_parallel_size {context} x tensor_parallel_size {tensor} needs "
            "`dp_shard_size`: the number of GPUs divided by both"
        )
