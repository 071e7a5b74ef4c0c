"""Which differences between runs are shown by the data, and which are within noise.

Every comparison is paired: the questions that both runs answered, under two budgets or by two
models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, NamedTuple

from s1_plugin.evaluation.metrics import Comparison, paired_bootstrap
from s1_plugin.evaluation.runs import Run
from s1_plugin.evaluation.shown import accuracy, percent

#: Enough for an interval that is stable to a tenth of its width; 500 questions take 0.2 s.
RESAMPLES = 4000


class Pair(NamedTuple):
    """Runs ``a`` and ``b`` by index, and why they are compared."""

    kind: str
    a: int
    b: int


#: What a kind of comparison asks.
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
    for model, method in dict.fromkeys((run.model, _method(run)) for run in runs):
        mine = [i for i in order if (runs[i].model, _method(runs[i])) == (model, method)]
        counted = [i for i in mine if runs[i].counted]
        # Caps and Waits make one curve; what the model is told, and that under caps, do not.
        for line in dict.fromkeys(method and runs[i].series for i in counted):
            on = [i for i in counted if line in ("", runs[i].series)]
            if len(on) > 2:
                yield Pair("overall", on[0], on[-1])
        plain = [i for i in counted if not runs[i].prolonged]
        for series in dict.fromkeys(runs[i].series for i in plain):
            steps = pairwise(i for i in plain if runs[i].series == series)
            yield from (Pair("step", a, b) for a, b in steps)
        for i in mine:
            if not runs[i].prolonged:
                continue
            asked = runs[i].cap, runs[i].control
            same = [j for j in plain if (runs[j].cap, runs[j].control) == asked]
            yield from (Pair("wait", j, i) for j in same)
            others = [
                j
                for j in mine
                if _length(runs[j]) == _length(runs[i])
                and runs[i].wait_text == "Wait" != runs[j].wait_text
            ]
            yield from (Pair("word", j, i) for j in others)
    for a, first in enumerate(runs):
        for b in range(a + 1, len(runs)):
            if first.model != runs[b].model and first.label == runs[b].label:
                yield Pair("model", a, b)


def _method(run: Run) -> str:
    """The control method; nothing for budget forcing alone."""
    return run.control.method if run.control else ""


def _length(run: Run) -> tuple:
    """How much thinking was asked for, whatever the word."""
    return run.cap, run.waits, run.at_least, run.control


def compare(runs: Sequence[Run], *, seed: int = 0) -> list[tuple[Pair, Comparison | None]]:
    """Every pair with its paired bootstrap over the common questions; None if there are none."""
    out: list[tuple[Pair, Comparison | None]] = []
    for pair in pairs(runs):
        a, b = runs[pair.a].paired(runs[pair.b])
        found = paired_bootstrap(a, b, resamples=RESAMPLES, seed=seed) if a else None
        out.append((pair, found))
    return out


def as_json(pair: Pair, comparison: Comparison) -> dict[str, Any]:
    """One comparison in per cent."""
    numbers = asdict(comparison)
    for name in ("difference", "error", "low", "high"):
        numbers[name] = percent(numbers[name])
    return {
        "kind": pair.kind,
        "a": pair.a,
        "b": pair.b,
        **numbers,
        "sign_p": round(comparison.sign_p, 5),
        "within_noise": comparison.within_noise,
    }


def in_words(
    runs: Sequence[Run],
    models: Mapping[str, str],
    compared: Sequence[tuple[Pair, Comparison | None]],
) -> list[str]:
    """What is within noise and what is not: a sentence for each question that `KINDS` asks.

    Args:
        models: a short name for every model.
    """
    groups: dict[tuple, list[str]] = {}
    unlike = []
    for pair, c in compared:
        a, b = runs[pair.a], runs[pair.b]
        if c is None:
            unlike.append(f"{models[a.model]} {a.label} and {models[b.model]} {b.label}")
            continue
        steps = a.label if pair.kind == "model" else f"{a.label} → {b.label}"
        who = f"{models[b.model]} against {models[a.model]}" if a.model != b.model else ""
        if not who and len(models) > 1:
            who = models[a.model]
        key = (list(KINDS).index(pair.kind), list(models).index(b.model), who, not c.within_noise)
        some = f", on the {c.n} common questions" if c.n < max(a.n, b.n) else ""
        groups.setdefault(key, []).append(f"{steps} {_gain(c)}{some}")
    out = []
    for (kind, _, who, shown), found in sorted(groups.items()):
        question = list(KINDS.values())[kind] + (f" ({who})" if who else "")
        verdict = "more than noise" if shown else "within noise"
        out.append(f"{question}, {verdict}: {'; '.join(found)}.")
    if unlike:
        out.append(f"Not compared, as they have no question in common: {'; '.join(unlike)}.")
    made = sum(c is not None for _, c in compared)
    if made:
        out.append(
            "How to read this: ± is the standard error of the paired difference, in points. Within "
            f"noise means that the 95 % interval of {RESAMPLES} paired bootstrap resamples holds "
            f"0, or that the exact sign test does not reject at 5 %. With {made} comparisons, "
            "about one in twenty of those without a true difference looks like more than noise."
        )
    return out


def _gain(c: Comparison) -> str:
    if c.better == c.worse == 0:
        return "±0 (the same questions solved)"
    sign = "+" if c.difference >= 0 else ""
    return (sign + accuracy(c.difference, c.error)).replace("-", "−")
