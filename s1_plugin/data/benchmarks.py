"""The questions of the benchmarks that training data must not hold, from the tasks' own sources."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from s1_plugin.data.decontaminate import Benchmark
from s1_plugin.data.rows import InputError, hub, parquet
from s1_plugin.evaluation.jsonl import RowError
from s1_plugin.evaluation.jsonl import rows as jsonl_rows

#: As in `s1_plugin.evaluation.task`, which needs lm-eval.
DATA_VARIABLE = "S1_EVAL_DATA"


class _Place(NamedTuple):
    dataset: str
    config: str | None
    split: str
    revision: str | None
    local: str
    column: str


#: As in the tasks' YAML files, which may be installed or not (a test compares them).
PLACES = {
    "aime24": _Place(
        "simplescaling/aime24_nofigures", None, "train", None, "aime24.jsonl", "problem"
    ),
    "aime25": _Place(
        "simplescaling/aime25_nofigures", None, "train", None, "aime25.jsonl", "problem"
    ),
    "math500": _Place("simplescaling/openaimath", None, "test", None, "math500.jsonl", "problem"),
    "gpqa_diamond": _Place(
        "Idavidrein/gpqa",
        "gpqa_diamond",
        "train",
        "633f5ee89ab8ad4522a9f850766b73f62147ffdd",
        "gpqa_diamond.jsonl",
        "Question",
    ),
}
_COLUMNS = ("problem", "question", "Question", "text")
_IDS = ("unique_id", "id", "Record ID")


class Missing(InputError):
    """A benchmark cannot be had."""


def check(without: Sequence[str]) -> None:
    """Refuses the name of a benchmark that there is not.

    Raises:
        InputError: with those that there are.
    """
    unknown = sorted(set(without) - set(PLACES))
    if unknown:
        raise InputError(
            f"--without-benchmark {unknown[0]}: there are {', '.join(PLACES)}; leave the others out"
        )


def load(without: Sequence[str] = (), against: Sequence[Path] = ()) -> list[Benchmark]:
    """All benchmarks but those in ``without``, and after them the questions of the files in
    ``against``.

    Raises:
        InputError: for one that cannot be had, with the remedy: never silently left out.
    """
    check(without)
    found, missing = [], {}
    for name, place in PLACES.items():
        if name not in without:
            try:
                found.append(_named(name, place))
            except Missing as error:
                missing[name] = str(error)
    if missing:
        left_out = " ".join(f"--without-benchmark {name}" for name in missing)
        raise Missing(f"{'; '.join(missing.values())}; {_remedy(missing)}: {left_out}")
    return found + [_file(path.name, path, _COLUMNS) for path in against]


def _remedy(missing: Iterable[str]) -> str:
    files = ", ".join(f"{PLACES[name].local} (`{PLACES[name].column}`)" for name in missing)
    return (
        f"put {files}, one JSON object per line, into the folder that {DATA_VARIABLE} names, or "
        "leave out by name what cannot be had"
    )


def _named(name: str, place: _Place) -> Benchmark:
    folder = os.environ.get(DATA_VARIABLE)
    if folder:
        path = Path(folder) / place.local
        if not path.is_file():
            raise Missing(f"{name}: {path} is not there")
        return _file(name, path, (place.column,))
    try:
        data = hub(place.dataset, place.config, place.split, place.revision)
    except InputError as error:
        raise Missing(f"{name}: {error}") from None
    if place.column not in data.column_names:
        raise InputError(
            f"{name}: {place.dataset} has no column `{place.column}` but {data.column_names}; "
            f"{_remedy([name])}: --without-benchmark {name}"
        )
    return _of(name, place.dataset, [dict(row) for row in data], place.column)


def _file(name: str, path: Path, columns: Sequence[str]) -> Benchmark:
    wanted = " or ".join(f"`{column}`" for column in columns)
    kept = []
    try:
        for where, row in _places(path, wanted):
            column = next((c for c in columns if isinstance(row.get(c), str) and row[c]), None)
            if column is None:
                raise InputError(
                    f"{where}: has no text under {wanted} (the row has "
                    f"{', '.join(sorted(row))}); rename the column that holds the question"
                )
            kept.append({**row, "question": row[column]})
    except RowError as error:
        raise InputError(str(error)) from None
    return _of(name, path.name, kept, "question")


def _places(path: Path, wanted: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix == ".parquet":
        yield from ((f"{path}, {place}", row) for place, row in parquet(path))
    else:
        yield from jsonl_rows(path, wanted)


def _of(name: str, source: str, rows: list[dict], column: str) -> Benchmark:
    def identity(number: int, row: dict) -> str:
        return next((str(row[key]) for key in _IDS if row.get(key)), f"row {number}")

    return Benchmark(
        name,
        source,
        tuple(str(row[column]) for row in rows),
        tuple(identity(number, row) for number, row in enumerate(rows)),
    )
