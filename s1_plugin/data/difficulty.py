"""Questions that a weaker model solves, by the grades of its attempts; and whether a teacher was
right. Grading is `s1_plugin.evaluation.grading`, as in evaluation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from s1_plugin.data.duplicates import fingerprint
from s1_plugin.data.engine import Batch
from s1_plugin.data.rows import GROUP, Rows

#: A right answer longer than this is a solution, and cannot be compared.
_LONGEST = 100
#: Of `s1 distill`: no model answered, so that nothing is known of what it can.
FAILED = ("error", "refused")
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
    """A model's attempts: in a column of the rows, or rows of their own, found by the question."""

    name: str
    column: str | None = None
    rows: Rows | None = None
    places: dict[int, tuple[int, ...]] | None = None

    @classmethod
    def of_rows(cls, name: str, rows: Rows) -> Student:
        places: dict[int, tuple[int, ...]] = {}
        for group in range((len(rows) + GROUP - 1) // GROUP):
            for at, question in enumerate(rows.group(group, ("question",))["question"]):
                key = fingerprint(question)
                places[key] = (*places.get(key, ()), group * GROUP + at)
        return cls(name, rows=rows, places=places)

    def attempts(self, question: str, other: dict) -> list[str | bool]:
        """Its attempts at a question: texts, or grades that were given."""
        if self.column is not None:
            value = other.get(self.column)
            return [] if value is None else [value if isinstance(value, bool) else str(value)]
        return [self._attempt(row) for row in self._of(question) if not self._failed(row)]

    def failed(self, question: str) -> int:
        """How many requests for a question failed."""
        return 0 if self.column is not None else sum(map(self._failed, self._of(question)))

    def _of(self, question: str) -> tuple[int, ...]:
        assert self.places is not None
        return self.places.get(fingerprint(question), ())

    def _failed(self, row: int) -> bool:
        assert self.rows is not None
        return self.rows.value(row, "status") in FAILED

    def _attempt(self, row: int) -> str:
        assert self.rows is not None
        attempt = self.rows.value(row, "attempt")
        if not attempt.strip() and self.rows.value(row, "status") == "no_thinking":
            # `s1 distill` keeps the answer of a model that does not think apart: it is no trace.
            other = json.loads(self.rows.value(row, "other") or "{}")
            attempt = str(other.get("partial_attempt") or "")
        return attempt


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
