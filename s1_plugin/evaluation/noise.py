"""Which differences between runs are shown by the data, and which are within noise.

Every comparison is paired: the same questions, answered under two budgets or by two models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, NamedTuple

from s1_plugin.evaluation.metrics import Comparison, paired_bootstrap
from s1_plugin.evaluation.runs import Run

#: Enough for an interval that is stable to a tenth of its width; 500 questions take 0.2 s.
RESAMPLES = 4000


class Pair(NamedTuple):
    """Runs ``a`` and ``b`` by index, and why they are compared."""

    kind: str
    a: int
    b: int


#: What a kind of comparison asks, with the verb of its sentence.
KINDS = {
    "overall": "From the least to the most thinking",
    "step": "One step along the curve",
    "wait": "Waits against none, under the same cap",
    "word": "Wait against another word",
    "model": "The same budget, two models",
}


def pairs(runs: Sequence[Run]) -> list[Pair]:
    """The comparisons that a reader of the curve makes, for the runs of one task."""
    return list(dict.fromkeys(_pairs(runs)))


def _pairs(runs: Sequence[Run]) -> Iterator[Pair]:
    order = sorted(range(len(runs)), key=lambda i: (runs[i].mean_thinking_tokens, i))
    for model in dict.fromkeys(run.model for run in runs):
        mine = [i for i in order if runs[i].model == model]
        capped = [i for i in mine if runs[i].waits == 0]
        if len(mine) > 2:
            yield Pair("overall", mine[0], mine[-1])
        yield from (Pair("step", a, b) for a, b in pairwise(capped))
        for i in mine:
            if not runs[i].waits:
                continue
            plain = [j for j in capped if runs[j].cap == runs[i].cap]
            yield from (Pair("wait", j, i) for j in plain)
            others = [
                j
                for j in mine
                if (runs[j].cap, runs[j].waits) == (runs[i].cap, runs[i].waits)
                and runs[i].wait_text == "Wait" != runs[j].wait_text
            ]
            yield from (Pair("word", j, i) for j in others)
    for a, first in enumerate(runs):
        for b in range(a + 1, len(runs)):
            if first.model != runs[b].model and first.label == runs[b].label:
                yield Pair("model", a, b)


def compare(runs: Sequence[Run], *, seed: int = 0) -> list[tuple[Pair, Comparison | None]]:
    """Every pair with its paired bootstrap; None where the questions are not the same."""
    return [
        (
            pair,
            paired_bootstrap(
                runs[pair.a].correct, runs[pair.b].correct, resamples=RESAMPLES, seed=seed
            )
            if runs[pair.a].comparable(runs[pair.b])
            else None,
        )
        for pair in pairs(runs)
    ]


def as_json(pair: Pair, comparison: Comparison, offset: int = 0) -> dict[str, Any]:
    """One comparison in per cent; ``offset`` is the first run's place among all points."""
    numbers = asdict(comparison)
    for name in ("difference", "error", "low", "high"):
        numbers[name] = round(100 * numbers[name], 3)
    return {
        "kind": pair.kind,
        "a": pair.a + offset,
        "b": pair.b + offset,
        **numbers,
        "sign_p": round(comparison.sign_p, 5),
        "within_noise": comparison.within_noise,
    }


def in_words(
    runs: Sequence[Run], names: Sequence[str], compared: Sequence[tuple[Pair, Comparison | None]]
) -> list[str]:
    """One sentence per kind of comparison for what is within noise, one for what is not."""
    out = []
    for kind, question in KINDS.items():
        found = [(pair, c) for pair, c in compared if pair.kind == kind and c is not None]
        for noise in (True, False):
            some = [_one(names, pair, c) for pair, c in found if c.within_noise == noise]
            if some:
                verdict = "within noise" if noise else "more than noise"
                out.append(f"{question}: {verdict}: " + "; ".join(some) + ".")
    unlike = [f"{names[p.a]} and {names[p.b]}" for p, c in compared if c is None]
    if unlike:
        out.append(
            "Not compared, because their questions are not the same: " + "; ".join(unlike) + "."
        )
    made = sum(c is not None for _, c in compared)
    if made > 4:
        out.append(
            f"{made} comparisons were made, each at 95 %: about one in twenty looks like more "
            "than noise by chance."
        )
    return out


def _one(names: Sequence[str], pair: Pair, c: Comparison) -> str:
    if c.better == c.worse == 0:
        return f"{names[pair.a]} → {names[pair.b]} (the same questions solved)"
    return (
        f"{names[pair.a]} → {names[pair.b]} ({_signed(c.difference)} points, 95 % interval "
        f"{_signed(c.low)} to {_signed(c.high)})"
    )


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")
