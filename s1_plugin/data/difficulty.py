"""Questions that a weaker model solves, by the grades of its attempts; and whether a teacher was
right. Grading is `s1_plugin.evaluation.grading`, as in evaluation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from s1_plugin.data.attempts import Attempts
from s1_plugin.data.engine import Batch

#: A right answer longer than this is a solution, and cannot be compared.
_LONGEST = 100
_LETTER = re.compile(r"[A-D]")


def gold(answer: str, solution: str) -> str | None:
    """The right answer of a row: its ``answer``, else the last box in its ``solution``, else a
    ``solution`` that is short; None if there is none that could be compared."""
    from s1_plugin.evaluation.answers import boxes

    if answer.strip():
        return answer.strip()
    boxed = boxes(solution)
    if boxed:
        return boxed[-1].text.strip() or None
    short = solution.strip()
    return short if short and len(short) <= _LONGEST and "\n" not in short else None


def right(attempt: str, gold: str) -> bool:
    """Whether ``attempt`` (a model's answer, or its whole response) gives ``gold``."""
    from s1_plugin.evaluation import grading
    from s1_plugin.evaluation.answers import answer_of

    kind = "letter" if _LETTER.fullmatch(gold) else "math"
    return grading.grade(answer_of(attempt), gold, kind).correct


@dataclass(frozen=True)
class Student:
    """A model's answers to the questions: in a column of the rows, or in rows of their own."""

    name: str
    answers: str | Attempts

    @property
    def digest(self) -> str | None:
        """Of its rows, where it has rows."""
        return None if isinstance(self.answers, str) else self.answers.rows.digest

    def attempts(self, question: str, other: dict) -> list[str | bool]:
        """Its attempts at a question: texts, or grades that were given."""
        if isinstance(self.answers, str):
            value = other.get(self.answers)
            return [] if value is None else [value if isinstance(value, bool) else str(value)]
        return [*self.answers.of(question)]

    def failed(self, question: str) -> int:
        """How many requests for a question failed."""
        return 0 if isinstance(self.answers, str) else self.answers.failed(question)


def solved(students: Sequence[Student], batch: Batch) -> dict[str, list]:
    """For each row the students that solve it (one right attempt is enough), how many tried,
    whether there is an answer to compare with, and how many requests failed: no attempts."""
    by, tried, known, failed = [], [], [], []
    for question, answer, solution, other in zip(
        batch["question"], batch["answer"], batch["solution"], batch["other"], strict=True
    ):
        true = gold(answer, solution)
        columns = json.loads(other or "{}")
        solvers, attempts_by = [], 0
        for student in students:
            attempts = student.attempts(question, columns)
            attempts_by += bool(attempts)
            if any(
                one if isinstance(one, bool) else true is not None and right(one, true)
                for one in attempts
            ):
                solvers.append(student.name)
        by.append(", ".join(solvers))
        tried.append(attempts_by)
        known.append(true is not None)
        failed.append(sum(student.failed(question) for student in students))
    return {"solved_by": by, "tried": tried, "known": known, "failed": failed}
