"""The paper's own budget-forcing curves, to stand beside one's own.

s1-32B, average thinking tokens and accuracy in per cent; "s1: Simple test-time scaling",
https://arxiv.org/abs/2501.19393 (v3), figures 1 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "s1-32B with budget forcing, arXiv 2501.19393"


@dataclass(frozen=True)
class Published:
    """A published curve; ``questions`` is the size of the benchmark, for its standard errors."""

    benchmark: str
    questions: int
    points: tuple[tuple[int, float], ...]


_CURVES = {
    "s1_aime24": Published(
        "AIME24",
        30,
        (
            (500, 0.0),
            (1000, 13.3),
            (2000, 30.0),
            (3933, 43.3),
            (5300, 50.0),
            (6657, 53.3),
            (7320, 56.7),
        ),
    ),
    "s1_math500": Published(
        "MATH500",
        500,
        ((499, 64.0), (984, 80.0), (1814, 85.6), (2868, 90.6), (3200, 93.2)),
    ),
    "s1_gpqa_diamond": Published(
        "GPQA Diamond",
        198,
        ((500, 37.9), (985, 49.5), (1742, 51.0), (3231, 57.6), (4649, 59.6)),
    ),
}


def published(task: str) -> Published | None:
    """The paper's curve for ``task`` or a variant of it (``s1_aime24_agg64``), None if none."""
    for name, curve in _CURVES.items():
        if task == name or task.startswith(name + "_"):
            return curve
    return None
