"""Rows that cannot be learned from: failed requests, incomplete rows, bad form, too long."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from s1_plugin.data.engine import Batch
from s1_plugin.data.rows import InputError
from s1_plugin.distill.replies import STATUSES

_COLUMNS = ("question", "thinking", "attempt")


def status(batch: Batch) -> dict[str, list[Any]]:
    """Requests that failed, or came back unfit: ``status`` of `s1 distill` other than "ok"; and
    whether it is a status of somebody else's."""
    return {
        "reason": [f"status {s}" if s in STATUSES and s != "ok" else "" for s in batch["status"]],
        "foreign": [s not in ("", *STATUSES) for s in batch["status"]],
    }


def complete(batch: Batch) -> dict[str, list[str]]:
    """Rows that the trace loader would refuse."""
    reasons = []
    for problem, thinking in zip(batch["problem"], batch["thinking"], strict=True):
        field = re.match(r"field '([^']+)'", problem)
        if problem and field:
            reasons.append(f"{field[1]} unfit: {problem}")
        else:
            reasons.append("no trace" if not thinking.strip() else "")
    return {"reason": reasons}


def entries(path: Path | None, own: str, what: str) -> tuple[Any, list[Any]]:
    """The list in the YAML file ``path``, or in ours named ``own``; with where it was read from.

    Args:
        what: what it is a list of, and the remedy, for the message.

    Raises:
        InputError: for what is no YAML, or no list.
    """
    import yaml

    source = files("s1_plugin.data").joinpath(own) if path is None else path
    try:
        found = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).replace('"<unicode string>", ', "").split())
        raise InputError(f"{source}: is no YAML ({said}); see docs/curate.md for one") from None
    if not isinstance(found, list):
        raise InputError(f"{source}: is no list of {what}")
    return source, found


def patterns(path: Path | None) -> list[dict[str, Any]]:
    """The patterns in ``path``, or ours (patterns.yaml).

    Raises:
        InputError: naming file, entry, field and remedy.
    """
    what = "patterns; see docs/curate.md for one"
    source, found = entries(path, "patterns.yaml", what)
    for number, entry in enumerate(found, 1):
        place = f"{source}, entry {number}"
        if not isinstance(entry, dict) or set(entry) != {"name", "in", "pattern"}:
            raise InputError(f"{place}: needs exactly name, in and pattern")
        if not isinstance(entry["in"], list) or not set(entry["in"]) <= set(_COLUMNS):
            raise InputError(f"{place}, field `in`: a list of some of {', '.join(_COLUMNS)}")
        try:
            re.compile(str(entry["pattern"]), re.M)
        except re.error as error:
            raise InputError(f"{place}, field `pattern`: {error}; mend the expression") from None
    return found


def form(entries: Sequence[Mapping[str, Any]], batch: Batch) -> dict[str, list[str]]:
    """The first pattern that a row shows, and where."""
    compiled = [(e["name"], e["in"], re.compile(e["pattern"], re.M)) for e in entries]
    reasons = []
    for at in range(len(batch["question"])):
        reason = ""
        for name, columns, pattern in compiled:
            match = next((m for c in columns if (m := pattern.search(batch[c][at]))), None)
            if match:
                reason = f"{name}: {' '.join(match[0].split())[:60]!r}"
                break
        reasons.append(reason)
    return {"reason": reasons}
