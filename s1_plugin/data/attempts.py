"""What a model said to the questions, as `s1 distill` wrote it down: found by the question."""

from __future__ import annotations

from typing import Any

from s1_plugin.data.duplicates import fingerprint
from s1_plugin.data.rows import Rows, object_in

#: Of `s1 distill`: no model answered, so that nothing is known of what it can.
FAILED = ("error", "refused")


class Attempts:
    """The answers in ``rows``; case, white space and LaTeX spacing of a question do not matter."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._places: dict[int, tuple[int, ...]] = {}
        groups = rows.groups(("question",))
        questions = (question for group in groups for question in group["question"])
        for row, question in enumerate(questions):
            key = fingerprint(question)
            self._places[key] = (*self._places.get(key, ()), row)

    def of(self, question: str) -> list[str]:
        """The answers to ``question``, in their order; no failed request is one."""
        return [self._text(row) for row in self._rows(question) if not self._failed(row)]

    def of_domains(self) -> bool:
        """Whether they name domains (`s1 distill --ask domain`) instead of solving."""
        return "ask" in object_in(self._columns(0).get("parameters"))

    def teachers(self) -> list[str]:
        """The models that gave them."""
        found = (self._columns(row).get("teacher") for row in range(len(self.rows)))
        return sorted({str(name) for name in found if name})

    def failed(self, question: str) -> int:
        """How many requests for ``question`` failed or were refused."""
        return sum(map(self._failed, self._rows(question)))

    def _rows(self, question: str) -> tuple[int, ...]:
        return self._places.get(fingerprint(question), ())

    def _columns(self, row: int) -> dict[str, Any]:
        return object_in(self.rows.value(row, "other"))

    def _failed(self, row: int) -> bool:
        return self.rows.value(row, "status") in FAILED

    def _text(self, row: int) -> str:
        attempt = self.rows.value(row, "attempt")
        if not attempt.strip() and self.rows.value(row, "status") == "no_thinking":
            # `s1 distill` keeps the answer of a model that does not think apart: it is no trace.
            attempt = str(self._columns(row).get("partial_attempt") or "")
        return attempt
