"""Where the rows of a local data set stand: file and line.

`datasets` hands over a table without them, and what it cannot parse it refuses without a line.
Files are read here only when there is something to say about a row.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast


class Unreadable(ValueError):
    """A place in a file that holds no row: which file, which line, what to do."""


def explain(ds_cfg: Mapping[str, Any]) -> str | None:
    """Why the local files of a `datasets:` entry cannot be loaded: file, line and remedy.

    None if they are not JSON, not local, or every row of them can be read.
    """
    try:
        for paths in _files(ds_cfg).values():
            for path in paths:
                if not sum(1 for _ in _rows(path)):
                    return f"{shown(path)} holds no rows; remove it, or fill it in"
    except Unreadable as error:
        return str(error)
    except Exception:  # whoever asks has an error of their own to show
        return None
    return None


class Places(Sequence[str]):
    """Names for the rows of a loaded data set: "traces.jsonl, line 7", or "row 7" where the data
    are not local files or their lines cannot be told for certain.

    Args:
        dataset: what axolotl loaded for ``ds_cfg``.
        seed: the config's, with which axolotl shuffles before it takes a shard.
    """

    def __init__(self, dataset: Any, ds_cfg: Mapping[str, Any], seed: int | None = None) -> None:
        self._dataset, self._ds_cfg, self._seed = dataset, ds_cfg, seed

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        return self._names[index]

    @cached_property
    def _names(self) -> list[str]:
        try:
            names = self._in_files()
        except Exception:  # a row number is always true; the caller has a better error to raise
            names = []
        # Another number of rows than lines: something was loaded in a way not known here.
        if len(names) != len(self):
            names = [f"row {number}" for number in range(1, len(self) + 1)]
        return names

    def _in_files(self) -> list[str]:
        from datasets import Dataset, ReadInstruction

        files = _files(self._ds_cfg)
        asked = ReadInstruction.from_spec(str(self._dataset.split or "train"))
        names = {
            split: [f"{shown(path)}, {where}" for path in paths for where in _rows(path)]
            for split, paths in files.items()
        }
        parts = asked.to_absolute({split: len(of_split) for split, of_split in names.items()})
        chosen = [name for part in parts for name in names[part.splitname][part.from_ : part.to]]
        shards = self._ds_cfg.get("shards")
        if shards:  # as axolotl's `_load_and_process_single_dataset` does it
            order = Dataset.from_dict({"at": range(len(chosen))}).shuffle(seed=self._seed)
            kept = order.shard(num_shards=shards, index=self._ds_cfg.get("shards_idx") or 0)
            chosen = [chosen[at] for at in kept["at"]]
        return chosen


def shown(path: Path) -> str:
    """``path`` as a person would write it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def builder(ds_cfg: Mapping[str, Any]) -> Any:
    """The builder with which `datasets` parses the local files of a `datasets:` entry, chosen as
    axolotl's `_load_from_local_path` chooses it; None where the data are not parsed from files."""
    from axolotl.utils.data.shared import get_dataset_type
    from axolotl.utils.dict import DictDefault
    from datasets import load_dataset_builder

    path, data_files, name = Path(ds_cfg["path"]), ds_cfg.get("data_files"), ds_cfg.get("name")
    if not path.exists():
        return None
    if path.is_file() or data_files:
        kind = get_dataset_type(DictDefault(ds_cfg))
        wanted = str(path) if path.is_file() else data_files
        return load_dataset_builder(kind, name=name, data_files=wanted)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return None  # written by `save_to_disk`, and read as it lies there
    return load_dataset_builder(str(path), name=name)


def _files(ds_cfg: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Local files by split, in the order in which `datasets` reads them."""
    parser = builder(ds_cfg)
    found = (parser.config.data_files if parser else None) or {}
    return {str(split): [Path(file) for file in of_split] for split, of_split in found.items()}


def _rows(path: Path) -> Iterator[str]:
    """ "line 7" (or item, or row) for every row of a file.

    Raises:
        Unreadable: for what is not a row.
    """
    if path.suffix == ".parquet":
        from pyarrow.parquet import read_metadata

        yield from (f"row {number}" for number in range(1, read_metadata(path).num_rows + 1))
        return
    if not {".json", ".jsonl"} & set(path.suffixes):
        raise NotImplementedError(f"rows of {path.suffix} files are not counted here")
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        try:
            yield from _json_rows(cast(BinaryIO, file), shown(path))
        except (EOFError, gzip.BadGzipFile) as error:
            raise Unreadable(
                f"{shown(path)} is torn ({error}); copy or write the file again"
            ) from None


def _json_rows(file: BinaryIO, name: str) -> Iterator[str]:
    line, number = b"", 0
    for number, line in enumerate(file, start=1):
        if number == 1 and line.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            yield from _json_items(line + file.read(), name)
            return
        for row in _values(line, f"{name}, line {number}", whole=line.endswith(b"\n")):
            _check_row(row, f"{name}, line {number}")
            yield f"line {number}"


def _values(line: bytes, place: str, whole: bool) -> Iterator[Any]:
    """The JSON values in ``line``: none, one, or (Arrow reads them too) several."""
    text = _decoded(line, place).lstrip("\ufeff").strip()
    while text:
        try:
            value, end = _DECODER.raw_decode(text)
        except json.JSONDecodeError as error:
            torn = "" if whole else " and the file ends there: its writing was interrupted"
            raise Unreadable(
                f"{place}: {text[:60]!r} is not JSON ({error.msg}, column {error.colno}){torn}; "
                "each line must be one row: mend or remove it, or write the file again"
            ) from None
        yield value
        text = text[end:].lstrip()


def _json_items(data: bytes, name: str) -> Iterator[str]:
    text = _decoded(data, name).lstrip("\ufeff")
    try:
        items = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Unreadable(
            f"{name}, line {error.lineno} is not JSON ({error.msg}, column {error.colno}); "
            "mend the list there, or write the file again"
        ) from None
    for number, row in enumerate(items, start=1):
        _check_row(row, f"{name}, item {number}")
        yield f"item {number}"


def _decoded(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"{place}: byte {error.start + 1} is not UTF-8 ({error.reason}); "
            "write the file again as UTF-8"
        ) from None


def _check_row(row: Any, place: str) -> None:
    if not isinstance(row, dict):
        raise Unreadable(
            f"{place} holds {type(row).__name__}, not an object with columns; mend or remove it"
        )
    if _TWICE in row:
        raise Unreadable(f"{place} names {row[_TWICE]!r} twice; keep one of them")


# No name of a column, so that it is never met in a file.
_TWICE = object()


def _object(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A JSON object; a name that comes twice in it is noted, because Arrow refuses the file."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        row[_TWICE] = next(name for name in names if names.count(name) > 1)
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
