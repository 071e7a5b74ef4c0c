"""The problems of a benchmark as rows: from a file of one's own, and GPQA's choices in an order;
and which problems they were."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from s1_plugin.evaluation.jsonl import RowError, rows
from s1_plugin.evaluation.letters import LETTERS

#: The columns of GPQA on the hub, the right choice first.
GPQA_CHOICES = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
GPQA_COLUMNS = ("Question", *GPQA_CHOICES)
#: Columns that are kept where they are there: they name a question.
_NAMES = ("id", "unique_id", "Record ID")


def read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a file with one JSON object per line; ``columns``, as text, and what names them.

    Raises:
        RowError: for what is not a row, or lacks a column.
    """
    needed = ", ".join(f"`{name}`" for name in columns)
    found = []
    for where, row in rows(path, needed):
        kept: dict[str, str] = {}
        for name in (*columns, *(n for n in _NAMES if n in row)):
            value = row.get(name)
            good = isinstance(value, (str, int)) and not isinstance(value, bool)
            if not good or not str(value).strip():
                what = f"is {value!r:.60}" if name in row else "is missing"
                raise RowError(
                    f"{where}, field `{name}`: {what}; each line needs {needed}, as text"
                )
            kept[name] = str(value)
        found.append(kept)
    return found


def digest(pairs: Iterable[tuple[str, str]]) -> str:
    """Names problems by what they say: the sha256, in hexadecimal, of the JSON list of their
    ``[problem, answer]`` pairs in order, as `json.dumps` writes it."""
    text = json.dumps([[problem, answer] for problem, answer in pairs])
    return hashlib.sha256(text.encode()).hexdigest()


def answers_digest(answers: Iterable[str]) -> str:
    """Names problems by their integer answers, in whatever order they are asked: the sha256, in
    hexadecimal, of the JSON list of the numbers from small to large. White space and LaTeX of a
    problem's text differ from source to source; its answer does not.

    An answer that is no number names other problems, too: then it is the digest of the texts.
    """
    found = list(answers)
    try:
        text = json.dumps(sorted(int(answer) for answer in found))
    except ValueError:
        text = json.dumps(sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()


def hub_source(path: str, name: str | None, revision: str | None, files: Iterable[str]) -> str:
    """A data set on the hub, and its revision as far as it is known.

    Args:
        revision: the one asked for, if any.
        files: where the rows were read from, as `datasets.DatasetInfo.download_checksums` lists
            them: ``hf://datasets/OWNER/NAME@COMMIT/FILE``.
    """
    commits = {m[1] for file in files if (m := re.search(r"@([0-9a-f]{40})/", file))}
    known = commits.pop() if len(commits) == 1 else revision or "unknown revision"
    return f"{path}{f' {name}' if name else ''} at {known}"


def shuffled(problems: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """GPQA's rows with their choices in an order that depends on ``seed`` and the question alone:
    ``choice1`` to ``choice4``, the right one's letter as ``answer``, ``choices_seed``.

    The authors shuffle anew in every run, so their order is not known.
    """
    out = []
    for number, row in enumerate(problems, 1):
        missing = [name for name in GPQA_COLUMNS if not str(row.get(name) or "").strip()]
        if missing:
            raise RowError(
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
