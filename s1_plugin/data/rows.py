"""The rows to curate, on disk in groups, so that memory stays flat whatever their number.

A row of any layout that `s1_plugin.records` reads becomes one of these columns, all of them text
(LIMO's only where it is asked for: its columns, `question`, `solution` and `answer`, are those of
any question with a solution by hand, too, and that is no trace):

- ``question``, ``thinking``, ``attempt``: as the trace loader reads them; "" where there is none
- ``problem``: why the loader would refuse the row; ""
- ``solution``, ``answer``, ``cot_type``, ``source_type``, ``metadata``, ``cot``, ``status``: as
  they came; "" where there is none
- ``place``: file and line or row, for people
- ``other``: every other column, as JSON
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from s1_plugin import records
from s1_plugin.console import say
from s1_plugin.distill import replies

#: Rows that are read together: some 30 MB of traces.
GROUP = 500
COLUMNS = (
    *("question", "thinking", "attempt", "problem", "solution", "answer", "cot_type"),
    *("source_type", "metadata", "cot", "status", "place", "other"),
)
_KEPT = ("solution", "answer", "cot_type", "source_type", "metadata", "cot", "status")
_LIMO = "LIMO"
_QUESTIONS = "questions without traces"
_UNASKED = "questions with solutions, without traces"
_NEEDED = "`question`, and `thinking_trajectories` and `attempt` where there are traces"


class InputError(ValueError):
    """The input cannot be read: file, row, field and remedy."""


class Rows:
    """Rows in a parquet file of our making; cheap to send to another process.

    Attributes:
        digest: sha256 of what the rows say.
        layouts: input -> layout -> how many of its rows were read as it.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path = path
        found = pq.read_metadata(path)
        self.digest = found.metadata[b"digest"].decode()
        self.layouts: dict[str, dict[str, int]] = json.loads(found.metadata[b"layouts"])
        self.count = found.num_rows

    def __len__(self) -> int:
        return self.count

    def group(self, number: int, columns: Sequence[str]) -> dict[str, list[str]]:
        """Rows ``number * GROUP`` and following, as lists of text by column."""
        table = _file(str(self.path)).read_row_group(number, columns=list(columns))
        return {name: table[name].to_pylist() for name in columns}

    def groups(self, columns: Sequence[str]) -> Iterator[dict[str, list[str]]]:
        """All rows, group by group."""
        for number in range((self.count + GROUP - 1) // GROUP):
            yield self.group(number, columns)

    def value(self, row: int, column: str) -> str:
        """One text; neighbours come cheap."""
        return _column(str(self.path), row // GROUP, column)[row % GROUP]


@lru_cache(maxsize=4)
def _file(path: str) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path)


@lru_cache(maxsize=16)  # few: a group's traces are 30 MB
def _column(path: str, group: int, column: str) -> list[str]:
    return _file(path).read_row_group(group, columns=[column])[column].to_pylist()


def load(
    sources: Sequence[str],
    cache: Path,
    layout: str | None = None,
    names: Sequence[str] | None = None,
) -> Rows:
    """The rows of files (``.jsonl``, ``.parquet``) and data sets of the hub (``OWNER/NAME``).

    Kept in ``cache`` by the content of the sources: the same files are not read twice. Which layout
    each was read as is said.

    Args:
        layout: "limo" where a `solution` is LIMO's trace and not a solution by hand.
        names: what people are told of each source; by default `labels`.

    Raises:
        InputError: naming the source, and row and field where there is one, with the remedy.
    """
    names = names or labels(sources)
    opened = [_Source(at, layout, name) for at, name in zip(sources, names, strict=True)]
    key = hashlib.sha256(f"{layout}\n".encode())
    for module in (__file__, records.__file__, replies.__file__):
        key.update(hashlib.sha256(Path(module).read_bytes()).digest())
    for source in opened:
        key.update(f"{source.name} {source.digest}\n".encode())
    path = cache / "rows" / f"{key.hexdigest()[:32]}.parquet"
    rows = _kept(path)
    if rows is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            _write(part, opened)
            replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        rows = Rows(path)
    for name, found in rows.layouts.items():
        say(f"{name}: read as {', '.join(f'{kind} ({n:,} rows)' for kind, n in found.items())}")
        if _UNASKED in found:
            say(
                f"{name}: if a `solution` there is a thinking trace, as in LIMO, give --layout limo"
            )
    return rows


def _kept(path: Path) -> Rows | None:
    """The rows kept before; None if there are none, or none that can be read: a torn file."""
    try:
        return Rows(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:  # pyarrow's are ValueErrors
        say(f"{path}: is no whole file of rows ({type(error).__name__}); the input is read again")
        return None


def replace(part: Path, path: Path) -> None:
    """``part`` becomes ``path`` once it is on the disk: after a crash the whole file is there, or
    the one before."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def labels(names: Sequence[str], least: int = 1) -> list[str]:
    """Short names for files: the last parts of their paths, ``least`` at least, as many as tell
    them apart; data sets of the hub as they are called."""
    parts = [Path(name).resolve().parts if Path(name).is_file() else (name,) for name in names]
    wanted = [min(least, len(one)) for one in parts]
    while True:
        found = ["/".join(one[-n:]) for one, n in zip(parts, wanted, strict=True)]
        twice = [
            at
            for at, name in enumerate(found)
            if wanted[at] < len(parts[at])
            and any(other == name and parts[n] != parts[at] for n, other in enumerate(found))
        ]
        if not twice:
            return found
        for at in twice:
            wanted[at] += 1


def _write(path: Path, sources: Sequence[_Source]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    digest, count = hashlib.sha256(), 0
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        group: list[dict[str, str]] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=GROUP)
            group.clear()

        named = ", ".join(source.name for source in sources)
        for row in bar(
            f"reading {named}", rows=(row for source in sources for row in source.rows())
        ):
            count += 1
            digest.update(json.dumps([row[name] for name in COLUMNS]).encode())
            group.append(row)
            if len(group) == GROUP:
                flush()
        if group:
            flush()
        layouts: dict[str, Counter[str]] = {}
        for source in sources:
            layouts.setdefault(source.name, Counter()).update(source.layouts)
        writer.add_key_value_metadata(
            {"digest": digest.hexdigest(), "layouts": json.dumps(layouts)}
        )
    if not count:
        raise InputError(f"{named}: has no rows; give it at least one question")


def bar(what: str, total: int | None = None, rows: Iterable[Any] | None = None) -> Any:
    """A bar in a terminal, for what takes longer than a second."""
    from tqdm import tqdm

    return tqdm(rows, what, total, unit=" rows", delay=1.0, leave=False, disable=None, smoothing=0)


class _Source:
    """One input: a label for people, a digest of its content, and its rows; ``layouts`` counts the
    rows that were read, by layout."""

    def __init__(self, name: str, layout: str | None, label: str) -> None:
        path = Path(name)
        self.name = label
        self._limo = layout == "limo"
        self.layouts: Counter[str] = Counter()
        self._dataset: Any = None
        self._path = path
        if path.is_file():
            if path.suffix not in (".jsonl", ".parquet"):
                raise InputError(
                    f"{name}: is no .jsonl and no .parquet file; convert it to one of them"
                )
            self.digest = _sha256(path)
        elif path.is_dir():
            raise InputError(f"{name}: is a folder; name the .jsonl or .parquet file in it")
        elif path.exists() or path.suffix in (".jsonl", ".parquet") or name.count("/") != 1:
            raise InputError(
                f"{name}: no such file; name a .jsonl or .parquet file, or a data set of the hub "
                "as OWNER/NAME"
            )
        else:
            self._dataset = hub(name)
            self.digest = self._dataset._fingerprint

    def rows(self) -> Iterator[dict[str, str]]:
        reader: records.Reader | None = None
        names: frozenset[str] = frozenset()
        kind = ""
        for place, row in self._raw():
            if frozenset(row) != names:
                names = frozenset(row)
                reader = next((r for r in records.READERS if r.needs <= names), None)
                kind = reader.name if reader else _QUESTIONS
                if reader and reader.name == _LIMO and not self._limo:
                    reader, kind = None, _UNASKED
            self.layouts[kind] += 1
            yield _canonical(f"{self.name}, {place}", row, reader)

    def _raw(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if self._dataset is not None:
            yield from ((f"row {n}", row) for n, row in enumerate(self._dataset))
        elif self._path.suffix == ".jsonl":
            yield from _lines(self._path)
        else:
            yield from parquet(self._path)


def _canonical(place: str, row: Mapping[str, Any], reader: records.Reader | None) -> dict[str, str]:
    record, problem, used = None, "", {"question", "problem"}
    if reader:
        used |= reader.needs - {"answer"}
        try:
            record = reader.read(row)
        except records.BadRow as bad:
            problem = str(bad)
    question = record.question if record else row.get("question", row.get("problem"))
    if not isinstance(question, str) or not question.strip():
        if problem:
            question = ""
        else:
            raise InputError(
                f"{place}, field `question`: {'is missing' if question is None else 'is no text'}"
                f" (the row has {', '.join(sorted(row))}); each row needs {_NEEDED}"
            )
    out = {
        "question": question,
        "thinking": record.thinking if record else "",
        # A student's answer counts without thinking, too.
        "attempt": record.answer if record else _text(row.get("attempt")),
        "problem": problem,
        "place": place,
    }
    for name in _KEPT:
        value = row.get(name)
        if name == "source_type" and value is None:
            value = row.get("source")  # as `s1 distill` names it
        if name == "solution" and reader and reader.name == _LIMO:
            value = None  # its solution is the trace
        out[name] = "" if value is None else value if isinstance(value, str) else _json(value)
    other = {name: value for name, value in row.items() if name not in used | set(_KEPT)}
    if row.get("status") in replies.STATUSES:
        # The columns that came to `s1 distill` with a question.
        other = {**object_in(row.get("metadata")), **other}
    out["other"] = _json(other) if other else ""
    for name, text in out.items():
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InputError(
                    f"{place}, field `{name}`: holds half a surrogate pair; mend or remove the row"
                ) from None
    return out


def object_in(text: Any) -> dict[str, Any]:
    """The JSON object that a column holds; empty where it holds anything else."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, default=str)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """JSON objects line by line, never the whole file."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                torn = "" if line.endswith(b"\n") else " (the file ends there: it is torn)"
                raise InputError(
                    f"{path}, line {number}: {line[:60]!r} is not JSON{torn} "
                    f"({type(error).__name__}); write one JSON object per line, with {_NEEDED}"
                ) from None
            if not isinstance(row, dict):
                raise InputError(
                    f"{path}, line {number}: is {type(row).__name__}, not an object; write one "
                    f"JSON object per line, with {_NEEDED}"
                )
            yield f"line {number}", row


def parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place and row of a parquet file, never the whole file.

    Raises:
        InputError: if it is none, or torn.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=GROUP):
            for row in batch.to_pylist():
                yield f"row {number}", row
                number += 1
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: is no whole parquet file ({error}); write it again") from None


def hub(name: str, config: str | None = None, split: str = "train", revision: str | None = None):
    """A data set of the hub.

    Raises:
        InputError: with what the hub said, and the remedy.
    """
    import datasets

    try:
        return datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # the hub, the network, the name, the split: it says which
        raise InputError(
            f"{name}: cannot be loaded from the hub ({type(error).__name__}: {error}); check the "
            "name, or download it and name the file"
        ) from None
