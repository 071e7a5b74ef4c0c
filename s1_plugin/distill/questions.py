"""The questions to ask: JSONL, parquet, or a data set of the hub; read anew for every pass, so that
memory stays flat."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from s1_plugin.console import printable
from s1_plugin.evaluation.jsonl import RowError
from s1_plugin.evaluation.jsonl import rows as jsonl_rows

#: Columns that are kept under their own name, s1K's; `source` counts as `source_type`.
_KEPT = ("id", "solution", "answer", "cot_type", "source_type")


class Question(NamedTuple):
    """A question, without white space around it, and what came with it, "" where nothing did.

    ``metadata`` is the column of that name where it is a text and the only one that is not named
    here, else the JSON of an object with all of those.
    """

    text: str
    id: str = ""
    solution: str = ""
    answer: str = ""
    cot_type: str = ""
    source_type: str = ""
    metadata: str = ""


class Questions:
    """The questions of ``source``; every iteration reads them from the start.

    Args:
        source: a ``.jsonl`` or ``.parquet`` file, or a hub id such as ``simplescaling/s1K``.
        field: the column that holds the question.
        split: of a hub data set.
        bare: without ``solution`` and ``metadata``, where only the question matters: beside traces
            these would be a second copy of them.

    Raises:
        ValueError: naming the source, and the row and field where there is one, with the remedy.
    """

    def __init__(
        self, source: str, field: str = "question", split: str = "train", *, bare: bool = False
    ) -> None:
        self.source, self.field, self._bare = source, field, bare
        path = Path(source)
        self._dataset: Any = None
        if path.is_file():
            if path.suffix not in (".jsonl", ".parquet"):
                raise ValueError(f"{source}: is no .jsonl and no .parquet file; convert it to one")
        elif path.is_dir():
            raise ValueError(f"{source}: is a folder; name the .jsonl or .parquet file in it")
        elif path.exists() or path.suffix in (".jsonl", ".parquet") or source.count("/") != 1:
            raise ValueError(
                f"{source}: no such file; name a .jsonl or .parquet file, or a data set of the hub "
                "as OWNER/NAME"
            )
        else:
            self._dataset = _from_hub(source, split)

    def __iter__(self) -> Iterator[Question]:
        found = False
        for where, row in self._rows():
            found = True
            yield self._question(where, row)
        if not found:
            raise RowError(f"{self.source}: no rows; give it one question per row")

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        path = Path(self.source)
        if self._dataset is not None:
            for number, row in enumerate(self._dataset):
                yield f"{self.source}, row {number}", row
        elif path.suffix == ".jsonl":
            yield from jsonl_rows(path, f"the question under {self.field!r}")
        else:
            yield from _parquet(path)

    def _question(self, where: str, row: Mapping[str, Any]) -> Question:
        text = row.get(self.field)
        if not isinstance(text, str) or not text.strip():
            what = "is missing" if text is None else "holds no text"
            raise RowError(
                f"{where}: field {self.field!r} {what} (the row has {sorted(row)}); fill it in, or "
                "name the right column with --question-field"
            )
        rest = {n: v for n, v in row.items() if n != self.field and not _missing(v)}
        if "source_type" not in rest and "source" in rest:
            rest["source_type"] = rest.pop("source")
        kept = {name: str(rest.pop(name)) for name in _KEPT if name in rest}
        metadata = rest.get("metadata")
        if not rest:
            metadata = ""
        elif len(rest) > 1 or not isinstance(metadata, str):
            found = metadata if isinstance(metadata, dict) and len(rest) == 1 else rest
            metadata = json.dumps(_finite(found), ensure_ascii=False, default=str)
        question = Question(text.strip(), **kept, metadata=metadata)
        if self._bare:
            question = question._replace(solution="", metadata="")
        try:
            "".join(question).encode()
        except UnicodeEncodeError:  # it could not be written down once it is paid for
            raise RowError(
                f"{where}: field {_broken(row)!r} holds half a surrogate pair; mend or remove the "
                "row"
            ) from None
        return question


def _missing(value: Any) -> bool:
    """None, and the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _finite(value: Any) -> Any:
    """``value`` without numbers that JSON does not have: NaN is none, infinity its name."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _broken(row: Mapping[str, Any]) -> str:
    """The first column that is no Unicode text."""
    for name, value in row.items():
        try:
            json.dumps({name: value}, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            return name
    raise AssertionError("every column can be written")


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ValueError(
            f"{path}: parquet needs pyarrow: in a checkout of s1-plugin, pip install '.[distill]'"
        ) from None
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield f"{path}, row {number}", row
                    number += 1
    except ArrowInvalid as error:
        raise RowError(f"{path}: is no whole parquet file ({error}); write it again") from None


def _from_hub(name: str, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise ValueError(
            f"{name}: data sets of the hub need `datasets`: "
            "in a checkout of s1-plugin, pip install '.[distill]'"
        ) from None
    try:
        return datasets.load_dataset(name, split=split)
    except Exception as error:  # the hub, the network, the name, the split: it says which
        raise ValueError(
            f"QUESTIONS {name}: no such file, and no such data set of the hub with a split "
            f"{split!r} ({first_line(error)}); check name, --split, the network and, where it is "
            "gated, `hf auth login`; or name a .jsonl or .parquet file"
        ) from None


def first_line(error: Exception) -> str:
    """What a library says, without its advice in many lines."""
    lines = printable(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
