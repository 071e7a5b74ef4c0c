"""Several samples of one question: coverage (pass@k) and the majority's vote (maj@k)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Sequence
from math import comb
from statistics import fmean


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that at least one of ``k`` samples is right, given ``correct`` of ``n``; unbiased.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, https://arxiv.org/abs/2107.03374).
    """
    if not 0 < k <= n or not 0 <= correct <= n:
        raise ValueError(f"pass@{k} needs 1 <= k <= n and 0 <= correct <= n, got n={n}, {correct=}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def maj_at_k(
    answers: Sequence[Hashable | None],
    correct: Sequence[bool],
    k: int,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> float:
    """Chance that the majority of ``k`` of the samples is right.

    The mean over ``draws`` subsets without replacement (exact for k = n and k = 1). ``None`` is
    no answer and has no vote; a tie counts by the share of right answers among the winners.

    Args:
        answers: what was extracted; equal answers vote together.
        correct: whether each answer is right.
    """
    n = len(answers)
    if not 0 < k <= n or len(correct) != n:
        raise ValueError(f"maj@{k} needs 1 <= k <= samples, got {n} answers, {len(correct)} grades")
    if k == n:
        return _majority(list(zip(answers, correct, strict=True)))
    votes = list(zip(answers, correct, strict=True))
    if k == 1:
        return sum(bool(right) for answer, right in votes if answer is not None) / n
    if len({answer for answer in answers if answer is not None}) <= 1 and None not in answers:
        return float(correct[0])
    rng = random.Random(seed)
    return fmean(_majority(rng.sample(votes, k)) for _ in range(draws))


def _majority(votes: Sequence[tuple[Hashable | None, bool]]) -> float:
    counts = Counter(answer for answer, _ in votes if answer is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    right = dict(votes)
    winners = [answer for answer, count in counts.items() if count == most]
    return sum(right[answer] for answer in winners) / len(winners)
