"""Floating-point operations of training, by the rows' lengths.

A multiplication and an addition are two operations. A matrix of P weights takes 2·P per token
forward and 4·P backward (https://arxiv.org/abs/2204.02311, appendix B): half for the gradient of
its input, half for its own. Causal attention over n tokens scores n·(n+1)/2 pairs, each 2·w for the
score and 2·w for the sum over values, w the width of all query heads; backward twice that. Norms,
activations, the softmax and the optimiser are left out, as is usual for MFU: they are under 1 %.
"""

from __future__ import annotations

from collections.abc import Iterable

from s1_plugin.plan.shapes import Shape

#: (a, b): a row of n tokens takes a·n + b·n² operations.
Cost = tuple[float, float]


def _forward(shape: Shape) -> Cost:
    """The layers' forward pass, without the output layer."""
    pairs = 2.0 * shape.layers * shape.q_width
    return 2.0 * shape.layers * shape.layer_matrices() + pairs, pairs


def row_cost(shape: Shape, frozen: bool = False) -> Cost:
    """Forward and backward of one row, without recomputation.

    Args:
        frozen: the weights have no gradients (adapters, whose own work is under 1 %, are trained).
    """
    linear, quadratic = _forward(shape)
    matrices = 2.0 * shape.matrices()
    return 3 * linear + 6.0 * shape.vocab * shape.hidden - frozen * matrices, 3 * quadratic


def recompute_cost(shape: Shape, early_stop: bool, keep_attention: bool = False) -> Cost:
    """What gradient checkpointing adds: a second forward pass of every layer.

    Args:
        early_stop: of torch's non-reentrant checkpoints, which end when the last tensor that the
            backward pass needs is there, before the layer's last matrix (``down_proj``). Reentrant
            ones (``use_reentrant: true``) do the whole layer.
        keep_attention: the output of attention is kept (axolotl's ``selective_checkpointing``).
    """
    linear, quadratic = _forward(shape)
    if early_stop:
        linear -= 2.0 * shape.layers * shape.hidden * shape.ffn
    if keep_attention:
        linear, quadratic = linear - quadratic, 0.0
    return linear, quadratic


def of_rows(shape: Shape, lengths: Iterable[int]) -> float:
    """Model FLOPs (forward and backward, what MFU counts) of causal rows of these lengths in
    tokens; rows packed into one, which do not see each other, count one by one."""
    return total(row_cost(shape), lengths)


def total(cost: Cost, lengths: Iterable[int]) -> float:
    """The cost of rows of these lengths."""
    linear, quadratic = cost
    return sum(linear * n + quadratic * n * n for n in lengths)
