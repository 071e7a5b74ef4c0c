"""A sequence of stages over rows: what each keeps, why rows go, and a cache by content.

A stage measures rows (of each row alone, on any engine) and then decides over all of them. Its
outcome is kept under a key of its code, the versions of the packages it uses, its settings, the
rows that came to it and the columns it needs: where an earlier stage changed and lets the same rows
through, nothing is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s1_plugin.data.engine import Job, Local, Measure, Ray
from s1_plugin.data.rows import GROUP, Rows, bar, replace


@dataclass
class Outcome:
    """What a stage decided.

    Attributes:
        reasons: of each row, "" where it stays; what stands before the first ": " is counted.
        columns: what it found of each row, for later stages and the output.
        said: lines for the reader.
    """

    reasons: list[str]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class Found:
    """What is known of the rows that came to a stage: columns of earlier stages, and measures."""

    def __init__(self, rows: Rows, numbers: list[int], columns: Mapping[str, Any]) -> None:
        self.rows, self.numbers, self.columns = rows, numbers, columns

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def text(self, at: int, column: str = "question") -> str:
        """A column of the input, of the row at this place."""
        return self.rows.value(self.numbers[at], column)


@dataclass(frozen=True)
class Stage:
    """One step.

    Attributes:
        name: for people, and a part of the cache's key.
        decide: what stays; a pure function of its argument.
        settings: whatever ``measure`` and ``decide`` depend on but rows and code, as JSON.
        code: modules whose source is a part of the key.
        packages: installed packages, other than Python's own, that ``measure`` and ``decide`` work
            with; their versions are a part of the key, as Python's is.
        reads: columns of the input that ``measure`` is given.
        needs: columns of earlier stages that either is given.
        measure: from a batch of rows to lists or arrays of the same length.
    """

    name: str
    decide: Callable[[Found], Outcome]
    settings: Mapping[str, Any]
    code: tuple[str, ...]
    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    measure: Measure | None = None
    packages: tuple[str, ...] = ()


@dataclass
class Step:
    """What a stage did: for the report."""

    name: str
    rows_in: int
    rows_out: int
    reasons: dict[str, int]
    examples: dict[str, str]
    said: list[str]
    cached: bool
    seconds: float


@dataclass
class Result:
    """Rows that came through, what is known of them, and the steps; ``pool`` is what was known of
    the rows that came to the last stage, and ``gone`` has stage, row and reason of all others."""

    numbers: list[int]
    columns: dict[str, list[Any]]
    steps: list[Step]
    pool: dict[str, list[Any]]
    gone: list[tuple[str, int, str]]


def run(
    rows: Rows,
    stages: Sequence[Stage],
    cache: Path,
    engine: Local | Ray,
    say: Callable[[Step], None],
) -> Result:
    """Sends ``rows`` through ``stages`` until none is left; ``say`` is called after each."""
    numbers = list(range(len(rows)))
    columns: dict[str, list[Any]] = {}
    pool = columns
    steps: list[Step] = []
    gone: list[tuple[str, int, str]] = []
    for stage in stages:
        if not numbers:
            break
        pool = columns
        began = time.monotonic()
        key = _key(stage, rows, numbers, columns)
        path = cache / "stages" / f"{key}.json"
        outcome = _kept(path, len(numbers))
        cached = outcome is not None
        if outcome is None:
            outcome = _decide(stage, rows, numbers, columns, engine)
            _keep(path, stage, outcome)
        stay = [at for at, reason in enumerate(outcome.reasons) if not reason]
        steps.append(_step(stage, outcome, len(stay), rows, numbers, cached, began))
        say(steps[-1])
        gone += [
            (stage.name, numbers[at], reason) for at, reason in enumerate(outcome.reasons) if reason
        ]
        columns = {
            name: [values[at] for at in stay]
            for name, values in {**columns, **outcome.columns}.items()
        }
        numbers = [numbers[at] for at in stay]
    return Result(numbers, columns, steps, pool, gone)


def _decide(
    stage: Stage,
    rows: Rows,
    numbers: list[int],
    columns: Mapping[str, list[Any]],
    engine: Local | Ray,
) -> Outcome:
    found: dict[str, Any] = {name: columns[name] for name in stage.needs}
    if stage.measure is not None:
        measured: dict[str, list[Any]] = {}
        jobs = jobs_of(numbers, found)
        with bar(stage.name, len(numbers)) as shown:
            parts = engine.run(stage.measure, rows, stage.reads, jobs)
            for job, part in zip(jobs, parts, strict=True):
                for name, values in part.items():
                    measured.setdefault(name, []).append(values)
                shown.update(len(job.places))
        found |= {name: _joined(parts) for name, parts in measured.items()}
    outcome = stage.decide(Found(rows, numbers, found))
    assert len(outcome.reasons) == len(numbers), stage.name
    return outcome


def jobs_of(numbers: list[int], found: Mapping[str, list[Any]]) -> list[Job]:
    """Rows by group, with what was found of them."""
    jobs, start = [], 0
    while start < len(numbers):
        group, end = numbers[start] // GROUP, start
        while end < len(numbers) and numbers[end] // GROUP == group:
            end += 1
        places = [number % GROUP for number in numbers[start:end]]
        jobs.append(Job(group, places, {n: values[start:end] for n, values in found.items()}))
        start = end
    return jobs


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    import numpy as np

    return np.concatenate(parts)


def _key(stage: Stage, rows: Rows, numbers: list[int], columns: Mapping[str, list[Any]]) -> str:
    digest = hashlib.sha256(f"{stage.name}\n{rows.digest}\n".encode())
    digest.update(json.dumps(stage.settings, sort_keys=True).encode())
    for module in sorted({__name__, *stage.code}):
        spec = find_spec(module)
        assert spec is not None and spec.origin, module
        digest.update(hashlib.sha256(Path(spec.origin).read_bytes()).digest())
    # Python's own: what is a letter, and what NFKC writes, is of unicodedata.
    digest.update(f"Python {platform.python_version()}\n".encode())
    for package in sorted(stage.packages):
        digest.update(f"{package} {_version(package)}\n".encode())
    digest.update(json.dumps(numbers).encode())
    for name in stage.needs:
        digest.update(json.dumps([name, columns[name]]).encode())
    return digest.hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # whoever needs it says so; without it the outcome is another
        return "none"


def _keep(path: Path, stage: Stage, outcome: Outcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    kept = {
        "stage": stage.name,
        "rows": len(outcome.reasons),
        "gone": {at: reason for at, reason in enumerate(outcome.reasons) if reason},
        "columns": outcome.columns,
        "said": outcome.said,
    }
    part.write_text(json.dumps(kept), encoding="utf-8")
    replace(part, path)


def _kept(path: Path, count: int) -> Outcome | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["rows"] != count or any(len(v) != count for v in kept["columns"].values()):
            return None
        reasons = [""] * count
        for at, reason in kept["gone"].items():
            reasons[int(at)] = reason
        return Outcome(reasons, kept["columns"], kept["said"])
    # Not there, not whole, or not what we write: done again.
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _step(
    stage: Stage,
    outcome: Outcome,
    stay: int,
    rows: Rows,
    numbers: list[int],
    cached: bool,
    began: float,
) -> Step:
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for at, reason in enumerate(outcome.reasons):
        if reason:
            kind = reason.partition(": ")[0]
            reasons[kind] += 1
            if kind not in examples:
                examples[kind] = f"{rows.value(numbers[at], 'place')}: {reason}"
    return Step(
        stage.name,
        len(outcome.reasons),
        stay,
        dict(reasons.most_common()),
        examples,
        outcome.said,
        cached,
        time.monotonic() - began,
    )
