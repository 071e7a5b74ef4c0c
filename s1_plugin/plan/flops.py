"""Floating-point operations of training, by the rows' lengths.

A multiplication and an addition are two operations. A matrix of P weights takes 2·P per token
forward and 4·P backward (https://arxiv.org/abs/2204.02311, appendix B). Causal attention over n
tokens scores n·(n+1)/2 pairs, each 2·w for the score and 2·w for the sum over values, w the width
of all query heads; backward twice that. Norms, activations, the softmax and the optimiser are left
out, as is usual for MFU: they are under 1 %.
"""

from __future__ import annotations

from collections.abc import Iterable

from s1_plugin.plan.shapes import Shape


def forward(shape: Shape) -> tuple[float, float]:
    """The layers' forward pass of a row of n tokens, without the output layer: the coefficients of
    n and of n squared. It is what full recomputation does a second time."""
    pairs = 2.0 * shape.layers * shape.q_width
    return 2.0 * shape.layers * shape.layer_matrices() + pairs, pairs


def row_cost(shape: Shape) -> tuple[float, float]:
    """Forward and backward of a row of n tokens: (a, b) of a·n + b·n². No recomputation."""
    linear, quadratic = forward(shape)
    return 3 * (linear + 2.0 * shape.vocab * shape.hidden), 3 * quadratic


def of_rows(shape: Shape, lengths: Iterable[int]) -> float:
    """Model FLOPs (forward and backward, what MFU counts) of causal rows of these lengths in
    tokens; rows packed into one, which do not see each other, count one by one."""
    linear, quadratic = row_cost(shape)
    return sum(linear * n + quadratic * n * n for n in lengths)


def recomputed(shape: Shape, lengths: Iterable[int]) -> float:
    """What full recomputation of every layer (gradient checkpointing) adds to ``of_rows``."""
    linear, quadratic = forward(shape)
    return sum(linear * n + quadratic * n * n for n in lengths)
