"""Bytes that element-wise work reads and writes, between the matrices: time that no tensor core
shortens.

Counted operation by operation of the code that runs, in bf16 as under FSDP's mixed precision, each
operand read once from memory and each result written (micro-batches of a few thousand tokens are
larger than a GPU's cache). A test compares the authors' code with what PyTorch dispatches, byte for
byte; Liger's is what its kernels load and store (liger-kernel 0.8.1, ops/rms_norm.py, rope.py,
swiglu.py). Attention and the matrices' own traffic are in their efficiency.
"""

from __future__ import annotations

from s1_plugin.plan.shapes import Shape

#: Operation, which entries of a token it goes over, bytes per entry forward, and backward.
Op = tuple[str, str, int, int]

#: transformers' Qwen2, Qwen3 and Llama (modeling_qwen2.py): one kernel per operation.
EAGER: tuple[Op, ...] = (
    ("norm: input to float32", "norms", 6, 6),
    ("norm: squared", "norms", 8, 28),  # backward: x to the power of 1, times 2, times gradient
    ("norm: mean of the squares", "norms", 4, 4),
    ("norm: times 1 / root", "norms", 8, 24),  # backward: both factors', and a sum
    ("norm: both gradients of the input added", "norms", 0, 12),
    ("norm: result to bf16", "norms", 6, 6),
    ("norm: times weight", "norms", 4, 12),
    ("rotary: times cosine", "rotated", 4, 4),
    ("rotary: one half negated, halves exchanged", "rotated", 6, 10),  # backward: zeros, filled
    ("rotary: times sine", "rotated", 4, 4),
    ("rotary: added", "rotated", 6, 12),  # backward: gradients of halves, and of both uses, added
    ("rotary: gradient laid out for q and k", "rotated", 0, 4),
    ("feed-forward: silu", "gated", 4, 6),
    ("feed-forward: times up", "gated", 6, 12),
)
#: Liger's: one kernel each. Rotary angles are applied in place.
LIGER: tuple[Op, ...] = (
    ("norm", "norms", 4, 6),
    ("rotary", "rotated", 4, 4),
    ("feed-forward: silu times up", "gated", 6, 10),
)
#: What is the same in both.
BOTH: tuple[Op, ...] = (
    ("both residuals added; backward, the gradients of both", "hidden", 12, 12),
    ("gradients of the inputs of q, k, v, and of gate, up added", "hidden", 0, 18),
    ("gradients of the biases", "biased", 0, 2),
)
#: Cross entropy, per logit: to float32 and its softmax; the softmax's gradient, its input's, bf16.
LOSS: tuple[Op, ...] = (
    ("logits to float32", "logits", 6, 6),
    ("logarithm of the softmax", "logits", 8, 12),
    ("one of them", "logits", 0, 4),  # its gradient is zeros with one entry
)


def _entries(shape: Shape) -> dict[str, int]:
    rotated = shape.q_width + shape.kv_width
    return {
        "norms": 2 * shape.hidden + shape.qk_norm * rotated,
        "hidden": shape.hidden,
        "rotated": rotated,
        "biased": shape.qkv_bias * (rotated + shape.kv_width),
        "gated": shape.ffn,
        "logits": shape.vocab,
    }


def _total(shape: Shape, ops: tuple[Op, ...]) -> tuple[int, int]:
    sizes = _entries(shape)
    forward = sum(sizes[which] * ahead for _, which, ahead, _ in ops)
    return forward, sum(sizes[which] * back for _, which, _, back in ops)


def of_layer(shape: Shape, fused: bool) -> tuple[int, int]:
    """Bytes of one layer per token: forward (and once more where it is recomputed), backward.

    Args:
        fused: with Liger's kernels.
    """
    return _total(shape, (LIGER if fused else EAGER) + BOTH)


def of_product(shape: Shape, fused: bool) -> int:
    """Bytes of one layer per token for silu(gate) x up once more."""
    gated = tuple(op for op in (LIGER if fused else EAGER) if op[1] == "gated")
    return _total(shape, gated)[0]


def of_loss(shape: Shape, chunks: bool) -> int:
    """Bytes of the cross entropy per token, forward and backward. In ``chunks`` the forward part is
    done twice (s1_plugin/training/loss.py)."""
    forward, backward = _total(shape, LOSS)
    return forward * (1 + chunks) + backward
