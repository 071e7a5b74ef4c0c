"""Recomputation only as far as memory asks: `s1.keep_activations_gb`.

With gradient checkpointing every layer is computed a second time in the backward pass, a quarter of
all work, so that a row of 32,768 tokens fits. Most micro-batches are shorter: in each, as many of
the last layers as fit into the given memory keep their activations, and only the others are
computed again. One activation is never kept, as it is as large as a quarter of all and costs one
pass over memory: the product of gate and up, which goes into the last matrix of the feed-forward.
The gradient is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1_plugin.console import say
from s1_plugin.plan import memory
from s1_plugin.plan.shapes import Shape


def check(cfg: Mapping[str, Any]) -> None:
    """Whether this axolotl config can train with ``s1.keep_activations_gb``.

    Raises:
        ValueError: with the remedy.
    """
    if cfg.get("gradient_checkpointing") is not True:
        raise ValueError(
            "s1.keep_activations_gb says which layers gradient checkpointing may leave out; set "
            "`gradient_checkpointing: true`, or remove the key"
        )
    if cfg.get("adapter"):
        raise ValueError(
            "s1.keep_activations_gb is for full fine-tuning: what layers with an adapter keep "
            "depends on its matrices and rank; remove the key"
        )
    if (cfg.get("fsdp_config") or {}).get("activation_checkpointing"):
        raise ValueError(
            "s1.keep_activations_gb cannot go with fsdp_config.activation_checkpointing, which "
            "wraps all layers; set `gradient_checkpointing: true` at the top level instead"
        )


def install(trainer: Any, gigabytes: float, fused: bool) -> None:
    """Lets the last layers of each micro-batch keep their activations, up to ``gigabytes`` (1e9
    bytes) on each GPU.

    Args:
        fused: the feed-forward is Liger's, which keeps less.

    Raises:
        ValueError: for a model whose layers cannot be left out one by one.
    """
    causal = trainer.accelerator.unwrap_model(trainer.model)
    shape = Shape.from_config(causal.config.to_dict())
    per_token = memory.kept_per_token(shape, fused, product=False)
    use_budget(causal.base_model, per_token, gigabytes * 1e9)


def use_budget(base: Any, per_token: float, budget: float) -> None:
    """The same for a decoder without its head, and numbers instead of a trainer."""
    layers = list(getattr(base, "layers", ()))
    if not layers or not all(hasattr(layer, "gradient_checkpointing") for layer in layers):
        raise ValueError(
            f"s1.keep_activations_gb does not know the layers of {type(base).__name__}; remove it"
        )
    for layer in layers:
        drop_product(layer)
    said: list[int] = []

    def choose(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not base.training:
            return
        given = kwargs.get("input_ids", args[0] if args else None)
        # Under context parallelism this is what the rank has of the row.
        tokens = (kwargs["inputs_embeds"][..., 0] if given is None else given).numel()
        kept = memory.layers_within(len(layers), tokens, per_token, budget)
        for number, layer in enumerate(layers):
            # The last ones: their activations are the first to be used up.
            layer.gradient_checkpointing = number < len(layers) - kept
        if not said:
            said.append(kept)
            say(
                f"the first micro-batch ({tokens:,} tokens on this GPU) keeps the activations of "
                f"{kept} of {len(layers)} layers; the others are computed again"
            )

    base.register_forward_pre_hook(choose, with_kwargs=True)


def drop_product(layer: Any) -> None:
    """Lets a decoder layer that is not recomputed as a whole compute what goes into its
    ``down_proj`` again, from gate and up, when the backward pass needs it.

    Raises:
        ValueError: for a feed-forward that is not gated as Qwen's, Llama's, or Liger's of them.
    """
    from torch.utils.checkpoint import checkpoint

    mlp = layer.mlp
    kind = type(mlp).__name__
    if not all(hasattr(mlp, name) for name in ("gate_proj", "up_proj", "down_proj")):
        raise ValueError(f"s1.keep_activations_gb does not know the feed-forward {kind}; remove it")
    if kind == "LigerSwiGLUMLP":
        from liger_kernel.ops import LigerSiLUMulFunction

        product = LigerSiLUMulFunction.apply
    else:

        def product(gate: Any, up: Any) -> Any:
            return mlp.act_fn(gate) * up

    def last(gate: Any, up: Any) -> Any:
        return mlp.down_proj(product(gate, up))

    whole = mlp.forward

    def forward(x: Any) -> Any:
        if layer.gradient_checkpointing or not layer.training:
            return whole(x)
        # Its second run ends where the matrix would begin: all that is needed is there.
        return checkpoint(last, mlp.gate_proj(x), mlp.up_proj(x), use_reentrant=False)

    mlp.forward = forward
