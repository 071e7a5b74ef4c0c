"""What was asked and paid for, on disk: one JSON line per question and sample, never changed.

A line counts once it is on the disk (fsync); what was in flight at a kill is asked again, nothing
else is. One process at a time writes to a ledger.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s1_plugin.console import say

#: Numbers of a row that are added up over all of them.
SUMMED = ("prompt_tokens", "completion_tokens")


class LedgerError(RuntimeError):
    """The ledger cannot be read or written; names file, line and remedy."""


class Contents:
    """What the ledger at ``path`` holds, without its texts.

    Attributes:
        done: keys of all rows, with `along` of what went along with their questions.
        tally: rows and tokens by (teacher, host, parameters, status).

    Raises:
        LedgerError: for a line that is no row of a ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, int] = {}
        self.tally: dict[tuple[str, str, str, str], Counter[str]] = {}
        for _, row in rows(path) if path.exists() else ():
            self.count(row)

    def count(self, row: Mapping[str, Any]) -> None:
        self.done[row["key"]] = along(row)
        group = (row["teacher"], row["host"], row["parameters"], row["status"])
        counter = self.tally.setdefault(group, Counter())
        counter["rows"] += 1
        for name in SUMMED:
            counter[name] += row.get(name) or 0

    def paid(self, teacher: str, host: str, parameters: str) -> Counter[str]:
        """Rows and tokens of all that was asked of this teacher in this way."""
        found = Counter[str]()
        for group, counter in self.tally.items():
            if group[:3] == (teacher, host, parameters):
                found.update(counter)
        return found


def along(columns: Mapping[str, Any]) -> int:
    """Another number, within this process, for another answer or solution of a question, by which
    its traces are graded."""
    return hash(tuple(str(columns.get(name) or "") for name in ("answer", "solution")))


class Ledger:
    """The ledger at ``path``; made if need be, and locked until it is closed.

    A last line that a kill cut short is removed.

    Attributes:
        contents: what it holds.

    Raises:
        LedgerError: if another process writes to it, or a line in it is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: list[bytes] = []
        self._asked = self._written = 0
        self._broken: str | None = None
        self._turn = asyncio.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise LedgerError(f"{path}: cannot write there ({error}); name another --out") from None
        try:
            self._lock()
            if new:
                _sync_folder(path.parent)
            self._mend()
            self.contents = Contents(path)
        except BaseException:
            os.close(self._file)
            raise

    async def add(self, row: Mapping[str, Any]) -> None:
        """Returns once ``row`` is on the disk. Rows that come at the same time share one fsync.

        Raises:
            LedgerError: if the disk does not take it; nothing is written from then on.
        """
        # What a server says may hold half a surrogate pair, and has been paid for all the same.
        line = json.dumps(row, ensure_ascii=False).encode(errors="replace")
        self._pending.append(line + b"\n")
        self._asked += 1
        ticket = self._asked
        commit = asyncio.ensure_future(self._commit(ticket))
        commit.add_done_callback(_looked_at)
        await asyncio.shield(commit)
        self.contents.count(row)

    @property
    def broken(self) -> bool:
        """Whether the disk took something no more."""
        return self._broken is not None

    async def close(self) -> None:
        """Writes what is pending, and unlocks the file."""
        try:
            if self._broken is None:
                await self._commit(self._asked)
        finally:
            os.close(self._file)

    # -- writing --------------------------------------------------------------------------------

    async def _commit(self, ticket: int) -> None:
        async with self._turn:
            if self._broken:
                raise LedgerError(self._broken)
            if self._written >= ticket:
                return
            lines, self._pending, upto = self._pending, [], self._asked
            try:
                await asyncio.to_thread(self._write, b"".join(lines))
            except OSError as error:
                self._broken = (
                    f"{self.path}: {error}; make room, and give the same command again: it goes on "
                    "after the last whole row"
                )
                raise LedgerError(self._broken) from None
            self._written = upto

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    # -- opening --------------------------------------------------------------------------------

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerError(
                f"{self.path}: another `s1 distill` is writing to it; wait for it, or name another "
                "--out"
            ) from None
        except OSError as error:
            raise LedgerError(
                f"{self.path}: this file system has no locks ({error}); name an --out on another"
            ) from None

    def _mend(self) -> None:
        """Removes what comes after the last line's end, unless it is a whole row."""
        size = os.fstat(self._file).st_size
        start, tail = size, b""
        while start and b"\n" not in tail:
            step = min(1 << 16, start)
            start -= step
            tail = os.pread(self._file, step, start) + tail
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn:
            return
        try:
            whole = isinstance(json.loads(torn), dict)
        except ValueError:
            whole = False
        if whole:
            self._write(b"\n")
            return
        os.ftruncate(self._file, size - len(torn))
        os.fsync(self._file)
        say(f"{self.path}: removed the last {len(torn)} bytes, a row that was cut short by a kill")


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row of every whole line of the ledger at ``path``.

    Raises:
        LedgerError: for a line that is no row of a ledger.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):  # being written just now, or cut short by a kill
                return
            try:
                row = json.loads(line)
                row["key"], row["status"], row["teacher"], row["host"], row["parameters"]
            except (ValueError, KeyError, TypeError):
                raise LedgerError(
                    f"{path}, line {number}: is no row of `s1 distill`; remove the line (its "
                    "question is then asked again), or name another --out"
                ) from None
            yield number, row


def _looked_at(commit: asyncio.Future[None]) -> None:
    """Or asyncio complains about the error of each that was cancelled while it wrote."""
    if not commit.cancelled():
        commit.exception()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
