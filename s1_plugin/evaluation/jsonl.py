"""Files with one JSON object per line, read so that an error names its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class RowError(ValueError):
    """Something in a file cannot be used: file, line, field and remedy."""


def rows(path: Path, needed: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of ``path`` and its place, "FILE, line 7"; blank lines are no rows.

    Args:
        needed: what each row must hold, for the errors.

    Raises:
        RowError: for a line that is no JSON object, and for a file without any.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowError(
            f"{path}: byte {error.start + 1} is not UTF-8; write the file again as UTF-8"
        ) from None
    lines = text.split("\n")  # not splitlines: JSON strings may hold other line separators
    found = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = True
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            said = getattr(error, "msg", None) or type(error).__name__
            cut = number == len(lines) and number > 1
            torn = "; the file ends there: its writing or copying was interrupted" if cut else ""
            raise RowError(
                f"{where}: {line[:60]!r} is not JSON ({said}){torn}; write one JSON object per "
                f"line, with {needed}"
            ) from None
        if not isinstance(row, dict):
            raise RowError(
                f"{where}: is {type(row).__name__}, not an object; write one JSON object per line, "
                f"with {needed}"
            )
        yield where, row
    if not found:
        raise RowError(f"{path}: no rows; write one JSON object per line, with {needed}")
