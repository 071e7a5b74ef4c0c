"""Numbers about runs: accuracies with their errors, token counts, and the paper's three metrics.

Pure Python: everything here works on the logged samples or on a published table, without a GPU,
numpy or lm-eval.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb, floor, log2, sqrt
from statistics import fmean, median

#: Two-sided 95 % point of the normal distribution.
Z95 = 1.959963984540054


def binomial_error(accuracy: float, n: float) -> float:
    """Standard error of a share of ``n`` independent right-or-wrong answers: sqrt(p (1 - p) / n).

    It is 0 where all answers are right or all are wrong; `wilson` is honest there too.
    """
    if n <= 0:
        raise ValueError("a standard error needs at least one answer")
    return sqrt(accuracy * (1.0 - accuracy) / n)


def clustered_error(scores: Sequence[float]) -> float:
    """Standard error of the mean of per-question scores, for questions answered several times.

    The questions are the independent draws, not the repeats; sqrt(sum (s - mean)² / n²), which is
    the binomial error when every score is 0 or 1.
    """
    if not scores:
        raise ValueError("a standard error needs at least one question")
    mean = fmean(scores)
    return sqrt(sum((s - mean) ** 2 for s in scores)) / len(scores)


def wilson(accuracy: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval for a share of ``n`` answers (Wilson 1927); 95 % by default.

    Unlike p ± z·error it never leaves [0, 1] and does not shrink to nothing at 0 or 1.
    """
    if n <= 0:
        raise ValueError("an interval needs at least one answer")
    centre = accuracy + z * z / (2 * n)
    half = z * sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


# -- two runs on the same questions -----------------------------------------------------------


def paired_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Mean of ``b - a`` over the same questions, and its standard error."""
    differences = _differences(a, b)
    return fmean(differences), clustered_error(differences)


@dataclass(frozen=True)
class Comparison:
    """Run ``b`` against run ``a`` on the same questions; shares, not per cent.

    Attributes:
        difference: accuracy of b less accuracy of a.
        error: standard error of the difference (paired).
        low, high: 95 % interval of the paired bootstrap.
        better, worse: questions on which b scores higher, lower.
        sign_p: two-sided p of the exact sign test over those questions.
        resamples, seed: of the bootstrap.
    """

    difference: float
    error: float
    low: float
    high: float
    better: int
    worse: int
    sign_p: float
    n: int
    resamples: int
    seed: int

    @property
    def within_noise(self) -> bool:
        """No difference is shown: the interval holds 0, or the sign test does not reject.

        Both, because a bootstrap over few questions is too sure of itself: if three of three
        questions change, its interval is a single point.
        """
        return self.low <= 0.0 <= self.high or self.sign_p >= 0.05


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Resamples questions, with both runs' scores of a question kept together (Efron 1979).

    Raises:
        ValueError: if the runs do not have the same number of questions.
    """
    differences = _differences(a, b)
    n = len(differences)
    draw = random.Random(seed).choices
    means = sorted(sum(draw(differences, k=n)) / n for _ in range(resamples))
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(
        difference=fmean(differences),
        error=clustered_error(differences),
        low=quantile(means, 0.025),
        high=quantile(means, 0.975),
        better=better,
        worse=worse,
        sign_p=sign_test(better, worse),
        n=n,
        resamples=resamples,
        seed=seed,
    )


def sign_test(better: int, worse: int) -> float:
    """Two-sided p of the exact sign test; for right-or-wrong answers, McNemar's exact test."""
    n, k = better + worse, min(better, worse)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)


def _differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    if len(a) != len(b) or not a:
        raise ValueError(
            f"a paired comparison needs the same questions in both runs, got {len(a)} and "
            f"{len(b)}; evaluate both on the same set (the same --limit)"
        )
    return [y - x for x, y in zip(a, b, strict=True)]


# -- tokens -----------------------------------------------------------------------------------


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``ordered`` (ascending) lies; linear between values."""
    position = share * (len(ordered) - 1)
    low = floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


@dataclass(frozen=True)
class TokenStatistics:
    """Tokens per response. ``mean`` counts each question the same, and ``error`` is its standard
    error, with the questions as draws; the others are over all responses."""

    mean: float
    error: float
    median: float
    p95: float
    max: float


def token_statistics(tokens: Sequence[Sequence[float]]) -> TokenStatistics:
    """Statistics of token counts: for every question, those of its responses."""
    if not tokens:
        raise ValueError("token statistics need at least one question")
    means = [fmean(counts) for counts in tokens]
    ordered = sorted(count for counts in tokens for count in counts)
    return TokenStatistics(
        mean=fmean(means),
        error=clustered_error(means),
        median=float(median(ordered)),
        p95=quantile(ordered, 0.95),
        max=ordered[-1],
    )


# -- the paper's three metrics, https://arxiv.org/abs/2501.19393, section 3.2 ------------------


@dataclass(frozen=True)
class Trial:
    """One run of a method.

    Attributes:
        tokens: average thinking tokens.
        accuracy: in per cent.
        low, high: the asked-for limits of the thinking tokens; None where there is none.
    """

    tokens: float
    accuracy: float
    low: float | None = None
    high: float | None = None


def control(trials: Sequence[Trial]) -> float:
    """Per cent of the runs whose average thinking is within the limits that were asked for.

    A run without limits is within them. The paper's 40 % for token-conditional control comes out
    with the number of tokens asked for as the upper limit and no lower one.
    """
    _need(trials)
    inside = [(t.low or 0.0) <= t.tokens and (t.high is None or t.tokens <= t.high) for t in trials]
    return 100.0 * sum(inside) / len(inside)


def scaling(trials: Sequence[Trial]) -> float | None:
    """Accuracy points per doubling of the thinking tokens: the mean slope over all pairs of runs.

    The paper writes (f(b) - f(a)) / (b - a) with tokens a and b, but its figures only come out
    when a and b are log2 of the tokens, which is also the axis of its plots. Its -24 for
    token-conditional control further needs the accuracies as fractions of 30 problems: from
    those printed (26.7 for 8/30) it is -23.45, see `exact_accuracy`.

    Returns:
        None if no two runs differ in their tokens.
    """
    _need(trials)
    slopes = []
    for one, other in combinations(sorted(trials, key=lambda t: t.tokens), 2):
        if one.tokens <= 0:
            raise ValueError("Scaling needs runs with more than 0 thinking tokens; leave 0 out")
        if one.tokens < other.tokens:
            doublings = log2(other.tokens) - log2(one.tokens)
            slopes.append((other.accuracy - one.accuracy) / doublings)
    return fmean(slopes) if slopes else None


def performance(trials: Sequence[Trial]) -> float:
    """Accuracy of the best run, in per cent."""
    _need(trials)
    return max(t.accuracy for t in trials)


def paper_metrics(trials: Sequence[Trial]) -> dict[str, float | None]:
    """The three together; Control and Performance in per cent, Scaling in points per doubling."""
    return {
        "control": control(trials),
        "scaling": scaling(trials),
        "performance": performance(trials),
    }


def exact_accuracy(printed: float, questions: int) -> float:
    """The share of ``questions`` (in per cent) that was printed with one decimal."""
    return 100.0 * round(printed * questions / 100.0) / questions


def thirtieths(trials: Sequence[Trial]) -> dict[Trial, Trial]:
    """``trials`` with the fractions that their accuracies were rounded from, if all of them are
    shares of 30 problems printed with one decimal and some lost digits by it; else nothing.
    """
    exact = {t: replace(t, accuracy=exact_accuracy(t.accuracy, 30)) for t in trials}
    if not all(round(e.accuracy, 1) == t.accuracy for t, e in exact.items()):
        return {}
    return exact if any(e.accuracy != t.accuracy for t, e in exact.items()) else {}


def _need(trials: Sequence[Trial]) -> None:
    if not trials:
        raise ValueError("the paper's metrics need at least one run")
