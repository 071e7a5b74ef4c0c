"""`s1 grade FILE.jsonl`: grades responses again, without a model."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

_NEEDED = '`response`, `answer` and `kind` ("integer", "math" or "letter")'


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the graded rows go, instead of standard output.",
)
def grade(file: Path, out: Path | None) -> None:
    """Grade the responses in FILE.

    Each line is {"response": "…", "answer": "204", "kind": "integer"}, with a response as the
    model wrote it (what follows its answer delimiter is graded, never its thinking), or its answer
    alone. Kinds are integer (AIME), math (any expression) and letter (A to D).

    Every row is written with `extracted` (null where there is no answer) and `correct`; where the
    answer could not be compared within the limits, `trouble` says why.
    """
    from s1_plugin.evaluation import grading
    from s1_plugin.evaluation.answers import MOST_CHARACTERS, answer_of

    rows = read(file)
    counts: Counter[str] = Counter()
    try:
        with click.progressbar(rows, label="grading", file=sys.stderr) as bar:
            for row in bar:
                answer = None if row["response"] is None else answer_of(row["response"])
                found = grading.grade(answer, row["answer"], row["kind"])
                before = row.get("correct")
                counts["right"] += found.correct
                counts["without an answer"] += found.extracted is None
                counts[f"longer than {MOST_CHARACTERS:,} characters, only the end read"] += (
                    found.cut
                )
                if found.trouble:
                    counts[f"wrong because not compared ({found.trouble})"] += 1
                if isinstance(before, bool):
                    counts["with another `correct` before"] += before != found.correct
                row["extracted"], row["correct"] = found.extracted, found.correct
                row.pop("trouble", None)
                if found.trouble:
                    row["trouble"] = found.trouble
    except RuntimeError as error:  # math-verify is not there
        raise click.ClickException(str(error)) from None
    # ASCII: a model's text is no control sequence of the terminal, nor has it to be valid Unicode.
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if out is None:
        click.echo(text, nl=False)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")  # FILE itself may be OUT: never half of it
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    said = [f"{n} {what}" for what, n in counts.items() if n or what == "right"]
    click.echo(f"{len(rows)} responses: {', '.join(said)}", err=True)


def read(file: Path) -> list[dict[str, Any]]:
    """The rows, checked.

    Raises:
        click.ClickException: for a bad row, with file, line, field and remedy.
    """
    from s1_plugin.evaluation.grading import KINDS, grade
    from s1_plugin.evaluation.jsonl import RowError, rows

    found = []
    try:
        for where, row in rows(file, _NEEDED):
            kind, gold = row.get("kind"), row.get("answer")
            if kind not in KINDS:
                raise RowError(
                    f"{where}, field `kind`: {_said(row, 'kind')}; give one of {', '.join(KINDS)}"
                )
            if not isinstance(row.get("response", 0), (str, type(None))):
                raise RowError(
                    f"{where}, field `response`: {_said(row, 'response')}; give the model's text, "
                    "or null where there is none"
                )
            if isinstance(gold, bool) or not isinstance(gold, (str, int, float)):
                raise RowError(
                    f"{where}, field `answer`: {_said(row, 'answer')}; give the right answer as "
                    "text"
                )
            row["answer"] = gold = str(gold)
            try:
                grade(None, gold, kind)
            except ValueError as error:
                raise RowError(
                    f"{where}, field `answer`: {error}; mend it, or its `kind`"
                ) from None
            found.append(row)
    except RowError as error:
        raise click.ClickException(str(error)) from None
    return found


def _said(row: dict[str, Any], name: str) -> str:
    return f"is {row[name]!r:.60}" if name in row else "is missing"
