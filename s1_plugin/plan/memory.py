"""What lies in one GPU's memory at the worst moment of a step, in bytes.

Sums of the tensors that must be there, not measurements; a test counts what PyTorch keeps of a real
layer for its backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from s1_plugin.plan.hardware import Gpu
from s1_plugin.plan.recipe import TARGETS, Recipe
from s1_plugin.plan.shapes import Shape

#: Positions whose logits our loss holds at a time (s1_plugin/training/loss.py, CHUNK).
LOSS_CHUNK = 2048
#: Bytes per logit: bf16, its float32 copy, the float32 gradient, and that in bf16.
LOGIT = 2 + 4 + 4 + 2
#: What is not tensors: CUDA context, NCCL's and cuBLAS's buffers; and holes between tensors, a
#: share of the memory. A rule, not a measurement.
CONTEXT, HOLES = 2 * 1024**3, 0.04


def kept_per_token(
    shape: Shape,
    fused: bool,
    targets: Sequence[str] = (),
    rank: int = 0,
    product: bool = True,
) -> int:
    """What one layer keeps for its backward pass without checkpointing, in bytes per token, with
    activations in bf16 and attention by a flash kernel.

    Args:
        fused: norms, rotary angles and the gated feed-forward are Liger's. Without them a norm's
            input is kept in float32, its result before the weight too, and silu(gate).
        targets, rank: matrices with a LoRA adapter, all else being frozen. A frozen matrix keeps
            nothing, an adapted one a copy of its input of its own, and what comes out of A.
        product: whether what goes into the feed-forward's last matrix is kept; if not, it is
            computed again from gate and up (s1_plugin/training/recompute.py), and silu(gate) too.
    """
    norms = 2 * ((2 if fused else 4) * shape.hidden + 4)  # and 1 / its size, float32
    scaled = 2 * shape.hidden
    if shape.qk_norm:
        wide = shape.q_width + shape.kv_width
        norms += (2 if fused else 4) * wide + 4 * (shape.heads + shape.kv_heads)
        scaled += wide
    attention = 2 * (2 * shape.q_width + 2 * shape.kv_width) + 4 * shape.heads
    gated = 2 * (2 if fused or not product else 3) * shape.ffn
    if targets:
        inputs = sum(2 * TARGETS[name](shape)[0] + 2 * rank for name in targets)
    else:
        inputs = 2 * (2 * shape.hidden + product * shape.ffn) + (0 if fused else 2 * scaled)
    return norms + attention + gated + inputs


def of_layer(shape: Shape, recipe: Recipe) -> int:
    """`kept_per_token` of a recipe."""
    return kept_per_token(shape, recipe.fused, recipe.targets, recipe.rank, not recipe.keep)


def working_per_token(shape: Shape, recipe: Recipe) -> int:
    """What exists while one layer is gone through backwards: what it keeps, recomputed, and the
    gradients of gate, up and their product, of its input and of its output."""
    whole = of_layer(shape, replace(recipe, keep=0.0))
    return whole + 2 * (3 * shape.ffn + 2 * shape.hidden)


def checkpoint_per_token(shape: Shape, recipe: Recipe) -> int:
    """What a layer that is recomputed keeps until the backward pass, per token."""
    kept = 2 * shape.hidden * (recipe.offload == "nothing")
    if recipe.keep_attention:
        kept += 2 * shape.q_width + 4 * shape.heads  # and its softmax's scale, float32
    return kept


def layers_within(layers: int, tokens: int, per_token: float, budget: float) -> int:
    """How many of ``layers`` keep the activations of a micro-batch.

    Args:
        tokens: of the micro-batch on this GPU.
        per_token: bytes that one layer keeps per token.
        budget: bytes for all of them.
    """
    return min(layers, int(budget // max(1.0, per_token * tokens)))


def kept_layers(shape: Shape, recipe: Recipe, tokens: int) -> int:
    """Layers that are not recomputed in a micro-batch of ``tokens`` on this GPU."""
    if recipe.recompute == "none":
        return shape.layers
    return layers_within(shape.layers, tokens, of_layer(shape, recipe), recipe.keep)


def kept(shape: Shape, recipe: Recipe, tokens: int) -> float:
    """What all layers keep until the backward pass, in the worst micro-batch of up to ``tokens`` on
    this GPU: a shorter one has more layers that keep all, within the same budget."""
    if recipe.offload == "activations":
        return 0.0
    per_layer = of_layer(shape, recipe) * tokens
    if recipe.recompute == "none":
        return float(shape.layers * per_layer)
    others = shape.layers - kept_layers(shape, recipe, tokens)
    whole = min(recipe.keep, float(shape.layers * per_layer))
    return whole + others * checkpoint_per_token(shape, recipe) * tokens


def states(shape: Shape, recipe: Recipe) -> dict[str, float]:
    """Weights, gradients and optimiser states of one GPU."""
    trained = recipe.trained(shape)
    on_weights, on_gradients, on_optimiser = recipe.shards
    base = 0.0
    if recipe.frozen:
        matrices = shape.layers * shape.layer_matrices()
        base = recipe.frozen * matrices + 2.0 * (shape.params() - matrices)
    if recipe.states_on_cpu:
        return {"weights": 0.0, "gradients": 0.0, "optimiser": 0.0}
    gradients = recipe.weight * trained / on_gradients
    if on_gradients > 1 and recipe.accumulation > 1 and not recipe.sync_each:
        gradients += 2.0 * trained  # whole ones, in bf16, until the last micro-batch
    return {
        "weights": (recipe.weight * trained + base) / on_weights,
        "gradients": gradients,
        "optimiser": (recipe.optimiser + recipe.master) * trained / on_optimiser,
    }


def gathered(shape: Shape, recipe: Recipe) -> float:
    """Weights gathered in bf16 from other GPUs: the layer at work and the next one; embedding and
    output layer, which stay; and the whole gradients of one layer and of both of those. All layers
    where they are not dropped after the forward pass. On one GPU with float32 weights, the bf16
    copies that autocast holds."""
    ends = shape.params() - shape.layers * shape.layer_params()
    if recipe.shards[0] == 1:
        copies = recipe.weight == 4 and not recipe.frozen
        return 2.0 * shape.params() * copies
    layers = 2 if recipe.reshard else shape.layers
    weights = 2.0 * (layers * shape.layer_params() + ends)
    gradients = 0.0 if recipe.frozen else 2.0 * (shape.layer_params() + ends)
    return weights + gradients


def parts(shape: Shape, recipe: Recipe, gpu: Gpu, tokens: int) -> dict[str, float]:
    """Everything, by name, where a GPU's share of the largest micro-batch is ``tokens``."""
    positions = tokens if recipe.logits == "all" else min(tokens, LOSS_CHUNK)
    return {
        **states(shape, recipe),
        "gathered": gathered(shape, recipe),
        "kept": kept(shape, recipe, tokens),
        "one layer": float(tokens * working_per_token(shape, recipe)),
        "logits": float(LOGIT * positions * shape.vocab),
        "margin": CONTEXT + HOLES * gpu.memory,
    }


def budget(shape: Shape, recipe: Recipe, gpu: Gpu, tokens: int) -> int:
    """The largest ``s1.keep_activations_gb`` with which a micro-batch of ``tokens`` on this GPU,
    and every shorter one, fits; 0 where none does."""
    if recipe.recompute == "none" or recipe.offload != "nothing" or recipe.states_on_cpu:
        return 0
    if recipe.frozen:  # training refuses the key
        return 0
    per_layer = of_layer(shape, replace(recipe, keep=1.0))
    enough = math.ceil(shape.layers * per_layer * tokens / 1e9)
    for gigabytes in range(min(enough, int(gpu.memory / 1e9)), 0, -1):
        tried = replace(recipe, keep=gigabytes * 1e9)
        if sum(parts(shape, tried, gpu, tokens).values()) <= gpu.memory:
            return gigabytes
    return 0


def longest(shape: Shape, recipe: Recipe, gpu: Gpu) -> int:
    """Tokens of the largest micro-batch of a group that fits, to a hundred; 0 where none does."""
    low, high = 0, 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        fits = sum(parts(shape, recipe, gpu, middle).values()) <= gpu.memory
        low, high = (middle, high) if fits else (low, middle)
    return low * recipe.context // 100 * 100
