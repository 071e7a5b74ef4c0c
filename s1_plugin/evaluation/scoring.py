"""From the responses to one problem to its metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any

from s1_plugin.evaluation.grading import Grade, grade
from s1_plugin.evaluation.judge import Judge, Verdict
from s1_plugin.evaluation.maths import ballots
from s1_plugin.evaluation.repeats import maj_at_k, pass_at_k

#: Of every response; which of them there are depends on how it ended and is graded. What each means
#: stands in docs/evaluation.md.
METRICS = (
    "exact_match",
    "thinking_tokens",
    "answer_tokens",
    "waits",
    "capped",
    "out_of_context",
    "forced",
    "unanswered",
    "failed",
    "unforced",
    "ungraded",
    "judged",
    "judge_failed",
)


def names(repeats: int) -> list[str]:
    """Every metric that `score` may give for ``repeats`` samples."""
    if repeats == 1:
        return list(METRICS)
    return [*METRICS, "correct", *(f"{n}@{k}" for n in ("pass", "maj") for k in powers(repeats))]


def score(
    responses: list[dict[str, Any]], question: str, gold: str, kind: str, judge: Judge | None
) -> dict[str, Any]:
    """The metrics of one problem: those of its only response, or the means over several samples.

    Of several samples ``correct`` holds the grades (None where a request failed), and there are
    coverage (``pass@k``, unbiased) and the majority's vote (``maj@k``) for k = 2, 4, … up to the
    number of samples that did not fail. Right answers vote together, however they are written, and
    so do wrong ones as far as `maths.ballots` knows them to be the same.

    Args:
        responses: as `s1_plugin.forcing.response.Response.to_json` gives them.
    """

    def verdict(response: dict[str, Any]) -> Verdict | None:
        if response["ended"] == "failed":
            return None
        if judge is None:
            return Verdict(grade(response["answer"], gold, kind))
        return judge.grade(question, response["answer"], gold, kind)

    if judge is None or len(responses) == 1:
        verdicts = [verdict(response) for response in responses]
    else:
        with ThreadPoolExecutor(8) as pool:
            verdicts = list(pool.map(verdict, responses))
    rows = [
        _metrics(v, response, kind, judge is not None)
        for v, response in zip(verdicts, responses, strict=True)
    ]
    metrics: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        metrics[name] = fmean(row[name] for row in rows if name in row)
    if len(responses) == 1:
        return metrics
    metrics["correct"] = [row.get("exact_match") for row in rows]
    grades = [v.grade for v in verdicts if v is not None]
    right = [found.correct for found in grades]
    votes = _votes(grades, kind)
    for k in powers(len(grades)):
        metrics[f"pass@{k}"] = pass_at_k(len(grades), sum(right), k)
        metrics[f"maj@{k}"] = maj_at_k(votes, right, k)
    return metrics


def _votes(grades: Sequence[Grade], kind: str) -> list[tuple[bool, str] | None]:
    """What each answer votes for; None where there is none."""
    wrong = [g.extracted for g in grades if g.extracted is not None and not g.correct]
    named = dict(zip(wrong, ballots(wrong) if kind == "math" else wrong, strict=True))
    return [
        (True, "") if g.correct else None if g.extracted is None else (False, named[g.extracted])
        for g in grades
    ]


def _metrics(
    verdict: Verdict | None, response: dict[str, Any], kind: str, judging: bool
) -> dict[str, float]:
    """Those of one response; ``verdict`` is None if its request failed."""
    if verdict is None:
        return {"failed": 1.0}
    metrics: dict[str, float] = {
        "failed": 0.0,
        "exact_match": float(verdict.grade.correct),
        "unanswered": float(verdict.grade.extracted is None),
    }
    if kind == "math":
        metrics["ungraded"] = float(bool(verdict.grade.trouble))
    if judging:
        metrics |= {"judged": float(verdict.judged), "judge_failed": float(verdict.failed)}
    if response["ended"] == "unforced":
        return {**metrics, "unforced": 1.0}
    ended = response["ended"]
    return {
        **metrics,
        "thinking_tokens": response["thinking_tokens"],
        "answer_tokens": response["answer_tokens"],
        "waits": response["waits"],
        "capped": float(ended == "cap"),
        "out_of_context": float(ended == "context"),
        "forced": float(response["waits"] > 0 or ended in ("cap", "context")),
    }


def aggregations(metric_names: list[str]) -> dict[str, Callable]:
    """How lm-eval sums each up over the problems: the mean; of ``correct`` over all samples."""
    from lm_eval.api.metrics import mean

    return {name: _mean_of_lists if name.startswith("correct") else mean for name in metric_names}


def _mean_of_lists(lists: list[list[float | None]]) -> float:
    values = [value for values in lists for value in values if value is not None]
    return fmean(values) if values else float("nan")


def powers(most: int) -> list[int]:
    """2, 4, 8 … up to ``most``."""
    return [2**i for i in range(1, most.bit_length())]
