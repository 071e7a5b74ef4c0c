"""Runs to a curve: everything that is drawn, printed or tabulated, as one plain dictionary.

Accuracies, intervals and differences in it are per cent, shares are from 0 to 1, and tokens are
thinking tokens per answer; None where nobody counted them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from statistics import fmean
from typing import Any

from s1_plugin import __version__
from s1_plugin.evaluation import metrics, noise
from s1_plugin.evaluation.names import short_models
from s1_plugin.evaluation.published import SOURCE, Published, published
from s1_plugin.evaluation.runs import Answer, Run
from s1_plugin.evaluation.shown import percent

#: Version of the dictionary's layout.
SCHEMA = 1

#: GPQA's authors ask for this in the data set's terms (https://huggingface.co/datasets/Idavidrein/gpqa),
#: so that its questions do not end up in training data.
GPQA_NOTE = (
    "These files hold GPQA's questions. Its authors ask not to reveal examples from it online, in "
    "plain text or images: publish curve.png, or numbers, rather than curve.html and curve.json."
)


def build(
    runs: Sequence[Run], *, title: str, commands: Sequence[str], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """The curve of ``runs``.

    Returns:
        ``tasks``: one per benchmark, with ``points`` (in the order of `sort`),
        ``methods`` (the paper's three metrics), ``reference`` (the paper's curve or None),
        ``comparisons``, ``warnings`` (plain words) and ``questions`` (which points solved each).

    Raises:
        ValueError: if there are no runs.
    """
    if not runs:
        raise ValueError("a curve needs at least one run")
    by_task: dict[str, list[Run]] = {}
    for run in runs:
        by_task.setdefault(run.task, []).append(run)
    return {
        "schema": SCHEMA,
        "title": title,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "s1_plugin": __version__,
        "commands": list(commands),
        "notes": [
            *notes,
            *([GPQA_NOTE] if any(task.startswith("s1_gpqa") for task in by_task) else []),
            *dict.fromkeys(note for run in runs for note in run.notes),
        ],
        "tasks": [_task(name, sort(members)) for name, members in by_task.items()],
    }


def sort(runs: Sequence[Run]) -> list[Run]:
    """In the order of the points: by model, caps before Waits before other words before other
    control methods, by tokens."""
    models = list(dict.fromkeys(run.model for run in runs))
    first = ["cap", "wait:Wait"]

    def place(run: Run) -> tuple:
        rank = first.index(run.series) if run.series in first else len(first)
        tokens = run.mean_thinking_tokens
        other = run.control is not None
        return models.index(run.model), other, rank, run.series, tokens, run.waits, run.label

    return sorted(runs, key=place)


def _task(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    models = short_models(runs)
    names = [r.label if len(models) == 1 else f"{models[r.model]} {r.label}" for r in runs]
    compared = noise.compare(runs)
    curve = published(name)
    return {
        "task": name,
        "points": [_point(run, models[run.model]) for run in runs],
        "methods": list(_methods(runs, models)),
        "reference": _reference(curve) if curve else None,
        "comparisons": [noise.as_json(pair, c) for pair, c in compared if c is not None],
        "warnings": [
            *_size(runs),
            *_undrawn(runs, names),
            *noise.in_words(runs, models, compared),
            *_oddities(runs, names),
        ],
        "questions": _questions(runs),
    }


def _point(run: Run, model: str) -> dict[str, Any]:
    low, high = run.interval
    spread = run.error_over_repeats
    return {
        "label": run.label,
        "model": model,
        "model_name": run.model,
        "series": run.series,
        "series_name": _series_name(run),
        "short": run.short,
        "prolonged": run.prolonged,
        "control": run.control.label if run.control else None,
        "cap": run.cap,
        "waits": run.waits,
        "at_least": run.at_least,
        "wait_text": run.wait_text if run.prolonged else None,
        "waits_used": round(fmean(a.waits for a in run.answers), 3),
        "accuracy": percent(run.accuracy),
        "standard_error": percent(run.standard_error),
        "error_over_repeats": None if spread is None else percent(spread),
        "wilson": [percent(low), percent(high)],
        "n": run.n,
        "repeats": run.repeats,
        "thinking_tokens": _tokens(run, lambda a: a.thinking_tokens),
        "answer_tokens": _tokens(run, lambda a: a.answer_tokens),
        "shares": {name: round(value, 4) for name, value in run.shares.items()},
        "provenance": run.provenance,
    }


def _tokens(run: Run, of: Callable[[Answer], int]) -> dict[str, float | None]:
    counts = asdict(metrics.token_statistics(run.by_question(of)))
    return {name: round(v, 2) if run.counted else None for name, v in counts.items()}


def _series_name(run: Run) -> str:
    forced = "thinking capped"
    if run.prolonged:
        forced = f"“{run.wait_text.strip() or 'nothing'}” in the place of the end"
    if run.control is None:
        return forced
    plain = not run.prolonged and run.cap == "auto"
    return f"control={run.control.method}" + ("" if plain else f", {forced}")


def _methods(runs: Sequence[Run], models: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The paper's metrics for each model: its caps, joined with its Waits of each word; and each
    other control method by itself."""
    for model, name in models.items():
        mine = [r for r in runs if r.model == model and r.drawn]
        forced = [r for r in mine if r.control is None]
        words = list(dict.fromkeys(r.wait_text for r in forced if r.prolonged))
        found = {
            f"caps and {word.strip() or 'nothing'}": [
                r for r in forced if not r.prolonged or r.wait_text == word
            ]
            for word in words
        } or {"caps": forced}
        for run in mine:
            if run.control is not None:
                found.setdefault(_series_name(run), []).append(run)
        for method, members in found.items():
            if members:
                trials = [
                    metrics.Trial(r.mean_thinking_tokens, 100 * r.accuracy, *r.limits)
                    for r in members
                ]
                row = metrics.paper_metrics(trials)
                if members[0].control and all(r.limits == (None, None) for r in members):
                    row["control"] = None  # steps, or a short time: no tokens to keep to
                yield {
                    "model": name,
                    "method": method,
                    "runs": [r.label for r in members],
                    **row,
                }


def _reference(curve: Published) -> dict[str, Any]:
    exact = [
        (tokens, metrics.exact_accuracy(printed, curve.questions))
        for tokens, printed in curve.points
    ]
    return {
        "name": f"{SOURCE}, {curve.benchmark}",
        "n": curve.questions,
        "points": [
            {
                "tokens": tokens,
                "accuracy": printed,
                "standard_error": percent(metrics.binomial_error(share / 100, curve.questions)),
                "wilson": [percent(x) for x in metrics.wilson(share / 100, curve.questions)],
            }
            for (tokens, printed), (_, share) in zip(curve.points, exact, strict=True)
        ],
        **metrics.paper_metrics([metrics.Trial(t, a, high=None) for t, a in exact]),
    }


def _questions(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every question that any run was asked, with its score in each run (None: not asked)."""
    keys: dict[tuple[int, str], Any] = {}
    scores: list[dict[tuple[int, str], float]] = []
    for run in runs:
        mine = {}
        for question, score in zip(run.questions, run.correct, strict=True):
            key = (question.number, question.fingerprint)
            keys.setdefault(key, question)
            mine[key] = score
        scores.append(mine)
    return [
        {
            "name": keys[key].name,
            "text": keys[key].text,
            "target": keys[key].target,
            "scores": [mine.get(key) for mine in scores],
        }
        for key in sorted(keys)
    ]


def _size(runs: Sequence[Run]) -> Iterator[str]:
    fewest = min(run.n for run in runs)
    if fewest < 200:
        low, high = metrics.wilson(0.5, fewest)
        yield (
            f"{fewest} questions: one question is {100 / fewest:.1f} points, and the 95 % interval "
            f"of a run that solves half of them reaches from {100 * low:.0f} to {100 * high:.0f} %."
        )


def _undrawn(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    """Runs that are in the table alone."""
    why = {
        "nothing was forced and nobody counted their thinking": lambda r: not r.counted,
        "they have no thinking tokens": lambda r: r.counted and not r.drawn,
    }
    left_out = [
        f"{', '.join(found)} ({reason})"
        for reason, test in why.items()
        if (found := [name for run, name in zip(runs, names, strict=True) if test(run)])
    ]
    if left_out:
        yield f"Not in the chart and the three metrics: {'; '.join(left_out)}."


def _oddities(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    """What makes a run's accuracy mean something else than it seems to."""
    checks = (
        ("out_of_context", 0.0, "thinking met the end of the model's context, not the cap"),
        ("open", 0.0, "thinking never ended, so there is no answer"),
        ("cut", 0.05, "the answer was cut at max_gen_toks"),
        ("unanswered", 0.05, "no answer could be read, which counts as wrong"),
        ("ungraded", 0.0, "nothing could be compared within the limits, which counts as wrong"),
        ("judged", 0.0, "a judge decided what they say, not the rules"),
        ("judge_failed", 0.0, "a judge should have decided what they say, but did not reply"),
    )
    for share, above, meaning in checks:
        found = [
            f"{name} {100 * value:.{0 if value >= 0.01 else 1}f} %"
            for run, name in zip(runs, names, strict=True)
            if (value := run.shares.get(share, 0.0)) > above
        ]
        if found:
            yield f"In some answers {meaning}: {', '.join(found)}."
    unused = [
        f"{name} {fmean(a.waits for a in run.answers):.1f} of {run.waits}"
        for run, name in zip(runs, names, strict=True)
        if run.waits and fmean(a.waits for a in run.answers) < 0.95 * run.waits
    ]
    if unused:
        yield (
            "Fewer Waits were put in than asked for, on average, because thinking ended otherwise "
            f"(at its cap) before: {', '.join(unused)}."
        )
