"""Files with one JSON object per line, read so that an error names its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class RowError(ValueError):
    """Something in a file cannot be used: file, line, field and remedy."""


def rows(path: Path, needed: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of ``path`` and its place, "FILE, line 7"; blank lines are no rows. One line is
    in memory at a time.

    Args:
        needed: what each row must hold, for the errors.

    Raises:
        RowError: for a line that is no JSON object, and for a file without any.
    """
    found = False
    # As bytes, whose lines end at \n alone: JSON strings may hold other line separators.
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            found = True
            yield (where := f"{path}, line {number}"), _row(where, number, line, needed)
    if not found:
        raise RowError(f"{path}: no rows; write one JSON object per line, with {needed}")


def _row(where: str, number: int, line: bytes, needed: str) -> dict[str, Any]:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        row = json.loads(text)
    except UnicodeDecodeError as error:
        raise RowError(
            f"{where}: byte {error.start + 1} is not UTF-8; write the file again as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        said = getattr(error, "msg", None) or type(error).__name__
        cut = number > 1 and not line.endswith(b"\n")
        torn = "; the file ends there: its writing or copying was interrupted" if cut else ""
        raise RowError(
            f"{where}: {text[:60].rstrip()!r} is not JSON ({said}){torn}; write one JSON object "
            f"per line, with {needed}"
        ) from None
    if not isinstance(row, dict):
        raise RowError(
            f"{where}: is {type(row).__name__}, not an object; write one JSON object per line, "
            f"with {needed}"
        )
    return row
