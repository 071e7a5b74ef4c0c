"""The problems of a benchmark as rows: from a file of one's own, and GPQA's choices in an order."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s1_plugin.evaluation.letters import LETTERS

#: The columns of GPQA on the hub, the right choice first.
GPQA_CHOICES = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
GPQA_COLUMNS = ("Question", *GPQA_CHOICES)
#: Columns that are kept where they are there: they name a question.
_NAMES = ("id", "unique_id", "Record ID")


class ProblemsError(ValueError):
    """A file of problems that cannot be used: file, line, field and remedy."""


def read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a file with one JSON object per line; ``columns``, as text, and what names them.

    Raises:
        ProblemsError: for what is not a row, or lacks a column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProblemsError(
            f"{path}: byte {error.start + 1} is not UTF-8; write the file again as UTF-8"
        ) from None
    # Not splitlines: JSON may hold other line separators as they are.
    lines = text.split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            torn = number == len(lines)
            rows.append(_row(f"{path}, line {number}", line, columns, torn))
    if not rows:
        raise ProblemsError(f"{path} holds no rows; write one JSON object per line")
    return rows


def _row(where: str, line: str, columns: Sequence[str], torn: bool) -> dict[str, str]:
    needed = ", ".join(f"`{name}`" for name in columns)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        cut = "; the file ends there, so its copy was cut short: copy it again" if torn else ""
        raise ProblemsError(
            f"{where}: {line[:60]!r} is not JSON ({said}){cut}; each line must be one object with "
            f"{needed}"
        ) from None
    if not isinstance(row, dict):
        raise ProblemsError(f"{where}: is {type(row).__name__}; each line must be an object")
    kept: dict[str, str] = {}
    for name in (*columns, *(n for n in _NAMES if n in row)):
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
            what = f"is {value!r:.60}" if name in row else "is missing"
            raise ProblemsError(
                f"{where}, field `{name}`: {what}; give it as text (each line needs {needed})"
            )
        kept[name] = str(value)
    return kept


def shuffled(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """GPQA's rows with their choices in an order that depends on ``seed`` and the question alone:
    ``choice1`` to ``choice4``, the right one's letter as ``answer``, ``choices_seed``.

    The authors shuffle anew in every run, so their order is not known.
    """
    out = []
    for number, row in enumerate(rows, 1):
        missing = [name for name in GPQA_COLUMNS if not str(row.get(name) or "").strip()]
        if missing:
            raise ProblemsError(
                f"GPQA, row {number}, field `{missing[0]}`: is missing or empty; needed are "
                f"{', '.join(GPQA_COLUMNS)}"
            )
        order = list(range(4))
        random.Random(f"{seed}:{row['Question']}").shuffle(order)
        out.append(
            {
                "id": str(row.get("Record ID") or row.get("id") or f"question {number}"),
                "Question": row["Question"],
                **{f"choice{i + 1}": row[GPQA_CHOICES[at]] for i, at in enumerate(order)},
                "answer": LETTERS[order.index(0)],
                "choices_seed": seed,
            }
        )
    return out
