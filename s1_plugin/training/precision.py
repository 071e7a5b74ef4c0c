"""In which precision a config trains: that of its weights decides whether an update arrives.

axolotl loads the weights of a config with ``bf16: true`` in bfloat16, and keeps them and the
optimiser's states so, under FSDP2 too: its own preparation of the model has no cast to float32, and
accelerate's assigns to a loop variable (axolotl 0.19, accelerate 1.13). bfloat16 has 8 bits of
precision: next to a weight of 0.02 its numbers are 1.2e-4 apart, and Adam's step at a learning rate
of 1e-5 is 1e-5, which rounds to nothing, step after step. The authors loaded float32, and FSDP1
kept it (https://github.com/simplescaling/s1, train/sft.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Optimisers that keep what a bfloat16 weight cannot hold: optimi by Kahan summation, the flash
#: ones by correction terms.
COMPENSATED = ("optimi_adamw", "flash_adamw", "flash_adam")
#: torchao's: asked to (`bf16_stochastic_round`), they round up or down at random, and small updates
#: arrive on average.
ROUNDING = ("adamw_torch_8bit", "adamw_torch_4bit", "ao_adamw_fp8")


def use_float32(model: torch.nn.Module) -> int:
    """Casts all floating-point weights and buffers to float32, in place; returns how many weights.

    Exact: every bfloat16 is a float32. Under mixed precision matrices are multiplied in bfloat16
    all the same; what is float32 is what the optimiser adds to.

    Raises:
        ValueError: for a model with quantised or frozen weights: there the adapter is what trains.
    """
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    odd = [n for n, p in model.named_parameters() if not p.is_floating_point()]
    if frozen or odd:
        raise ValueError(
            f"s1.weights: float32 is for full fine-tuning, but {(frozen or odd)[0]} is frozen or "
            "quantised; remove the key (adapters are float32 anyway)"
        )
    if _weights_come_from_another_rank():
        # They are memory that nobody has touched, and so takes none; a cast would fill it: 131 GB
        # of a 32B model in each of a node's processes but the first.
        import torch

        for p in model.parameters():
            p.data = torch.empty_like(p, dtype=torch.float32)
    model.float()
    return sum(p.numel() for p in model.parameters())


def check(cfg: Mapping[str, Any], weights: str | None) -> None:
    """Before anything is loaded.

    Raises:
        ValueError: for ``s1.weights: float32`` beside an adapter.
    """
    if weights and cfg.get("adapter"):
        raise ValueError(
            f"s1.weights: {weights} is for full fine-tuning, and here an adapter trains, whose "
            "weights are float32 anyway; remove `weights` from the `s1:` block"
        )


def _weights_come_from_another_rank() -> bool:
    """Whether FSDP (``cpu_ram_efficient_loading``) will send this rank its weights: then
    `transformers` has given it uninitialised ones (modeling_utils.py)."""
    from transformers.modeling_utils import is_fsdp_enabled, is_local_dist_rank_0

    return bool(is_fsdp_enabled() and not is_local_dist_rank_0())


def of_config(cfg: Mapping[str, Any], weights: str | None) -> tuple[bool, str]:
    """Whether small updates arrive in what ``cfg`` trains, and a sentence on it.

    Args:
        cfg: an axolotl config.
        weights: its ``s1.weights``.
    """
    low = next((name for name in ("bf16", "bfloat16", "fp16", "float16") if cfg.get(name)), None)
    if cfg.get("adapter"):
        return True, f"precision: adapter weights, optimiser {cfg.get('optimizer')}"
    if low is None or weights == "float32":
        mixed = f", multiplied in {low} (mixed precision)" if low else ""
        return True, f"precision: float32 weights and optimiser states{mixed}"
    if cfg.get("deepspeed"):
        return True, f"precision: {low} weights with DeepSpeed's float32 masters"
    if cfg.get("optimizer") in COMPENSATED:
        return True, f"precision: {low} weights, small updates kept by {cfg['optimizer']}"
    rounds = low.startswith("b") and _rounds_at_random(cfg.get("optim_args"))
    if rounds and cfg.get("optimizer") in ROUNDING:
        return True, (
            f"precision: {low} weights rounded at random, so that small updates arrive on average; "
            f"optimiser states as {cfg['optimizer']} keeps them"
        )
    rate = cfg.get("learning_rate")
    return False, (
        f"precision: {low} weights and optimiser states; at learning_rate {rate} most updates are "
        "smaller than the distance between two such numbers, and are lost"
    )


def _rounds_at_random(arguments: object) -> bool:
    """axolotl takes ``optim_args`` as a block or as "key=value,key=value"."""
    if isinstance(arguments, str):
        pairs = [pair.partition("=") for pair in arguments.replace(" ", "").split(",")]
        arguments = {name: value for name, _, value in pairs}
    value = arguments.get("bf16_stochastic_round") if isinstance(arguments, Mapping) else None
    return str(value).lower() in ("true", "1", "yes")


REMEDY = (
    "set `weights: float32` in the `s1:` block (16 bytes per parameter), or `optimizer: "
    "optimi_adamw` where that does not fit"
)
