"""What one evaluated budget is: a `Run` of graded answers, with where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from s1_plugin.evaluation import metrics
from s1_plugin.evaluation.unforced import ENDED as UNFORCED
from s1_plugin.forcing.control import Control


@dataclass(frozen=True)
class Question:
    """One problem: ``name`` is for people, ``fingerprint`` tells whether two runs asked it: it is
    made of the text and the right answer, wherever they were read from."""

    number: int
    name: str
    text: str
    target: str
    fingerprint: str


#: Shares of how answers were graded; only some runs have them.
GRADED = ("judged", "judge_failed", "ungraded")
#: Logged metrics that a curve reads.
LOGGED = ("unanswered", "out_of_context", *GRADED)


@dataclass(frozen=True)
class Answer:
    """One graded response; the names are those of `s1_plugin.forcing.response.Response`.

    ``correct`` is 0 or 1; ``forced_spans`` is None where the samples do not have it. ``logged``
    are the metrics of `LOGGED` that lm-eval logged for this question and budget, from 0 to 1; with
    repeats each is the mean over them.
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
    logged: Mapping[str, float] = field(default_factory=dict)

    @property
    def unanswered(self) -> float:
        """No answer could be read, as logged; in older files: it is not there, or empty."""
        return self.logged.get("unanswered", float(not (self.answer or "").strip()))

    @property
    def out_of_context(self) -> float:
        """The model's context ended the thinking, as logged; in older files: as it ended."""
        return self.logged.get("out_of_context", float(self.ended == "context"))


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
        control: the paper's other control method that was asked for, if any.
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
    control: Control | None = None
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
        """The line of the chart: ``cap``, or ``wait:`` and the word in the end's place. A control
        method is one of its own: ``control:token``, and ``control:token+cap`` under a cap."""
        forced = f"wait:{self.wait_text}" if self.prolonged else "cap"
        if self.control is None:
            return forced
        plain = not self.prolonged and self.cap == "auto"
        return f"control:{self.control.method}" + ("" if plain else f"+{forced}")

    @property
    def short(self) -> str:
        """What stands beside its point: the cap, or how often Wait was put in; behind the control
        method, if there is one."""
        forced = f"{self.waits}×" if self.waits else f"≥{self.at_least}"
        forced = forced if self.prolonged else str(self.cap)
        if self.control is None:
            return forced
        return self.control.label + ("" if forced == "auto" else f" {forced}")

    @property
    def counted(self) -> bool:
        """Its tokens were counted; nobody does where nothing could be forced."""
        return all(answer.ended != UNFORCED for answer in self.answers)

    @property
    def drawn(self) -> bool:
        """It has a place on the chart's logarithmic axis."""
        return self.counted and self.mean_thinking_tokens > 0

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The least and the most thinking tokens asked for; None where there is no such limit."""
        asked = [] if self.cap == "auto" else [self.cap]
        if self.control is not None and self.control.method in ("token", "rejection"):
            asked.append(int(self.control.limit))
        return self.at_least or None, min(asked, default=None)

    @cached_property
    def questions(self) -> list[Question]:
        """The questions, in order."""
        return list({a.question.number: a.question for a in self.answers}.values())

    @cached_property
    def correct(self) -> list[float]:
        """Score of each question, in order: the mean over its repeats."""
        return [fmean(values) for values in self.by_question(lambda a: a.correct)]

    def by_question(self, value: Callable[[Answer], float]) -> list[list[float]]:
        """``value`` of every answer, those to one question together, in order."""
        found: dict[int, list[float]] = {}
        for answer in self.answers:
            found.setdefault(answer.question.number, []).append(value(answer))
        return list(found.values())

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
        """Of the accuracy, with the questions as draws: what other questions of this kind would
        change. Binomial; with repeats, that of the questions' means."""
        return metrics.clustered_error(self.correct)

    @cached_property
    def error_over_repeats(self) -> float | None:
        """Of the accuracy, with the repeats as draws: what sampling these questions again would
        change. Standard deviation of the repeats' accuracies / sqrt(repeats); None without any."""
        rounds: dict[int, list[float]] = {}
        for answer in self.answers:
            rounds.setdefault(answer.repeat, []).append(answer.correct)
        if len(rounds) < 2:
            return None
        return stdev(map(fmean, rounds.values())) / len(rounds) ** 0.5

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
        """Average thinking tokens per answer, forced Waits included; each question counts the
        same. 0 means nothing where they were not `counted`."""
        return fmean(map(fmean, self.by_question(lambda a: a.thinking_tokens)))

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the answers, from 0 to 1.

        ``capped``: thinking met the asked-for cap; ``out_of_context``: the model's context ended
        it; ``open``: it never ended; ``waited``: at least one Wait was put in; ``forced``: any of
        these; ``unanswered``: no answer; ``cut``: the answer met max_gen_toks. Those of `GRADED`
        are there where they were logged: ``judged``: a judge decided what the answer says;
        ``judge_failed``: it should have, but did not reply; ``ungraded``: could not be compared
        within the limits, and so counts as wrong.
        """
        tests: dict[str, Callable[[Answer], float]] = {
            "capped": lambda a: a.ended == "cap",
            "out_of_context": lambda a: a.out_of_context,
            "open": lambda a: a.ended == "open",
            "waited": lambda a: a.waits > 0,
            "forced": lambda a: a.waits > 0 or a.ended in ("cap", "context"),
            "unanswered": lambda a: a.unanswered,
            "cut": lambda a: a.finished == "length",
        }
        found = {name: fmean(map(test, self.answers)) for name, test in tests.items()}
        for name in GRADED:
            logged = [a.logged[name] for a in self.answers if name in a.logged]
            if logged:
                found[name] = fmean(logged)
        return found

    def paired(self, other: Run) -> tuple[list[float], list[float]]:
        """Scores of both on the questions that both answered, in the order of this run."""
        ours, theirs = (
            {
                (q.number, q.fingerprint): score
                for q, score in zip(r.questions, r.correct, strict=True)
            }
            for r in (self, other)
        )
        common = [key for key in ours if key in theirs]
        return [ours[key] for key in common], [theirs[key] for key in common]

    @property
    def sampling(self) -> str:
        """How tokens were drawn, in words."""
        asked = dict(self.provenance.get("generation") or {})
        if asked.get("temperature") is None and (
            asked.get("do_sample") or asked.get("control") == "rejection"
        ):
            asked["temperature"] = 1.0  # as `s1_plugin.evaluation.request` has it
        names = [n for n in ("temperature", "top_p", "top_k", "min_p") if asked.get(n)]
        return ", ".join(f"{n} {asked[n]:g}" for n in names) or "greedy"

    @property
    def seed(self) -> str:
        """Of the sampling, in words; nothing for greedy decoding, which has none."""
        asked = self.provenance.get("generation") or {}
        return "" if self.sampling == "greedy" else f"seed {asked.get('seed') or 0}"
