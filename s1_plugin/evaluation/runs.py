"""What one evaluated budget is: a `Run` of graded answers, with where it came from."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from s1_plugin.evaluation import metrics

#: Between a model's name and what tells its runs from others of the same name.
APART = " · "


@dataclass(frozen=True)
class Question:
    """One problem: ``name`` is for people, ``fingerprint`` tells whether two runs asked it."""

    number: int
    name: str
    text: str
    target: str
    fingerprint: str


@dataclass(frozen=True)
class Answer:
    """One graded response; the names are those of `s1_plugin.forcing.response.Response`.

    ``correct`` is 0 or 1; ``forced_spans`` is None where the samples do not have it.
    """

    question: Question
    repeat: int
    correct: float
    text: str
    thinking: str
    answer: str | None
    thinking_tokens: int
    answer_tokens: int
    waits: int
    ended: str
    finished: str
    forced: list[int]
    forced_spans: list[list[int]] | None

    @property
    def unanswered(self) -> bool:
        """There is no answer, or an empty one."""
        return not (self.answer or "").strip()


@dataclass(frozen=True)
class Run:
    """All answers of one model to one task under one budget.

    Attributes:
        task, model: as lm-eval names them.
        label: `Budget.label`, such as ``cap500`` or ``auto+2xWait``.
        cap: asked-for thinking tokens, or "auto".
        waits, wait_text: asked-for Waits and the string that stands for Wait (several, used in
            turn, are joined with ``|``).
        at_least: asked-for thinking tokens before which no natural end counts.
        answers: ordered by question, then repeat.
        provenance: see `s1_plugin.evaluation.provenance.provenance`.
        notes: what a reader of the numbers has to know (older files left out, and so on).
    """

    task: str
    model: str
    label: str
    cap: int | Literal["auto"]
    waits: int
    wait_text: str
    answers: Sequence[Answer]
    at_least: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """Where its samples are; empty if unknown."""
        return (
            str(Path(self.provenance["file"]).parent.resolve()) if "file" in self.provenance else ""
        )

    @property
    def prolonged(self) -> bool:
        """Natural ends are replaced: Waits are asked for, or a lower bound."""
        return bool(self.waits or self.at_least)

    @property
    def series(self) -> str:
        """The line of the chart: ``cap``, or ``wait:`` and the word in the end's place."""
        return f"wait:{self.wait_text}" if self.prolonged else "cap"

    @cached_property
    def questions(self) -> list[Question]:
        """The questions, in order."""
        return list({a.question.number: a.question for a in self.answers}.values())

    @cached_property
    def correct(self) -> list[float]:
        """Score of each question, in order: the mean over its repeats."""
        scores: dict[int, list[float]] = {}
        for answer in self.answers:
            scores.setdefault(answer.question.number, []).append(answer.correct)
        return [fmean(values) for values in scores.values()]

    @property
    def n(self) -> int:
        """Number of questions."""
        return len(self.correct)

    @property
    def repeats(self) -> int:
        """Samples per question (the most of any question)."""
        return max(answer.repeat for answer in self.answers) + 1

    @cached_property
    def accuracy(self) -> float:
        """Share of right answers, from 0 to 1; each question counts the same."""
        return fmean(self.correct)

    @cached_property
    def standard_error(self) -> float:
        """Of the accuracy: binomial, or clustered by question if there are repeats."""
        return metrics.clustered_error(self.correct)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy.

        With repeats, n is the number of independent answers that have this standard error
        (p (1 - p) / error²), at least the number of questions.
        """
        n = float(self.n)
        if self.repeats > 1 and self.standard_error > 0:
            n = max(n, self.accuracy * (1 - self.accuracy) / self.standard_error**2)
        return metrics.wilson(self.accuracy, n)

    @cached_property
    def mean_thinking_tokens(self) -> float:
        """Average thinking tokens per answer, forced Waits included."""
        return fmean(answer.thinking_tokens for answer in self.answers)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the answers, from 0 to 1.

        ``capped``: thinking met the asked-for cap; ``out_of_context``: the model's context ended
        it; ``open``: it never ended; ``waited``: at least one Wait was put in; ``forced``: any of
        these; ``unanswered``: no answer; ``cut``: the answer met max_gen_toks.
        """
        tests = {
            "capped": lambda a: a.ended == "cap",
            "out_of_context": lambda a: a.ended == "context",
            "open": lambda a: a.ended == "open",
            "waited": lambda a: a.waits > 0,
            "forced": lambda a: a.waits > 0 or a.ended in ("cap", "context"),
            "unanswered": lambda a: a.unanswered,
            "cut": lambda a: a.finished == "length",
        }
        return {name: fmean(map(test, self.answers)) for name, test in tests.items()}

    def comparable(self, other: Run) -> bool:
        """Both answered the same questions."""
        mine = [(q.number, q.fingerprint) for q in self.questions]
        return mine == [(q.number, q.fingerprint) for q in other.questions]

    @property
    def sampling(self) -> str:
        """How tokens were drawn, in words."""
        asked = self.provenance.get("generation") or {}
        names = [n for n in ("temperature", "top_p", "top_k", "min_p") if asked.get(n)]
        return ", ".join(f"{n} {asked[n]:g}" for n in names) or "greedy"


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """``runs`` with names by which they can be told apart: runs of a model that differ in their
    sampling, or that have the same budget but stand in different folders, are not one curve."""
    ways: dict[tuple, set[str]] = defaultdict(set)
    for run in runs:
        ways[run.task, run.model].add(run.sampling)
    found = [
        replace(run, model=f"{run.model}{APART}{run.sampling}")
        if len(ways[run.task, run.model]) > 1
        else run
        for run in runs
    ]
    places: dict[tuple, set[str]] = defaultdict(set)
    for run in found:
        places[run.task, run.model, run.label].add(run.folder)
    again = {(task, model) for (task, model, _), where in places.items() if len(where) > 1}
    twice = [r.folder for r in found if (r.task, r.model) in again]
    shared = os.path.commonpath(twice) if twice else ""
    return [
        replace(run, model=f"{run.model}{APART}{os.path.relpath(run.folder, shared)}")
        if (run.task, run.model) in again
        else run
        for run in found
    ]
