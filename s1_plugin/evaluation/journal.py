"""What was generated already, on disk: an evaluation that was stopped goes on where it stopped.

Every finished thinking and every finished answer is a line of its own, written at once, in a file
that only the process that makes it writes to. So a kill loses what was in flight and nothing else,
and ranks do not tread on one another; a line that a kill cut short is left out. Nothing is ever
changed in place: whoever wants to generate anew removes the folder, which is named when it is used.

A line holds token ids under the digest of everything they depend on, not text: what is made of the
tokens (decoding, counting, grading) is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from s1_plugin import __version__, cache
from s1_plugin.console import say


@dataclass(frozen=True)
class Trajectory:
    """A thinking: its budget, and every token the model drew in it (`Thinking.draws`)."""

    cap: int
    waits: int
    draws: list[int]


@dataclass(frozen=True)
class Answer:
    """The tokens drawn after a thinking, and how they ended: "stop" or "length"."""

    token_ids: list[int]
    finished: str


class Journal:
    """The trajectories and answers of one model.

    Kept in memory is where each line stands, not what it says.

    Args:
        folder: one per model; made if need be.

    Raises:
        OSError: if it cannot be written to, with the remedy: before anything is generated.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            writable = os.access(folder, os.W_OK | os.X_OK)
        except OSError:
            writable = False
        if not writable:
            raise OSError(
                f"{folder}: cannot write there what is generated, to go on after an interruption; "
                f"set {cache.VARIABLE} to a folder of yours"
            )
        self._file: TextIO | None = None
        self._full = False
        self._answers: dict[tuple[str, str], tuple[Path, int]] = {}
        self._thinking: dict[str, list[tuple[int, int, Path, int]]] = {}
        broken = sum(self._index(file) for file in sorted(folder.glob("*.jsonl")))
        if broken:
            say(
                f"{folder}: {broken} unfinished lines (cut short by a kill, or being written just "
                "now) are left out"
            )

    def _index(self, file: Path) -> int:
        """Notes where the lines of ``file`` stand; returns how many cannot be read."""
        broken = offset = 0
        with file.open("rb") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    self._answers[row["family"], row["thinking"]] = file, offset
                    if "draws" in row:
                        where = (row["cap"], row["waits"], file, offset)
                        self._thinking.setdefault(row["family"], []).append(where)
                except (ValueError, KeyError, TypeError):
                    broken += 1
                offset += len(line)
        return broken

    def trajectory(self, family: str, cap: int, waits: int) -> Trajectory | None:
        """A thinking of ``family`` under a budget at least as large, if there is one."""
        for most, times, file, offset in self._thinking.get(family, ()):
            if most >= cap and times >= waits:
                return Trajectory(most, times, _row(file, offset)["draws"])
        return None

    def answer(self, family: str, thinking: str) -> Answer | None:
        """The answer after the thinking of that digest, if there is one."""
        if (where := self._answers.get((family, thinking))) is None:
            return None
        row = _row(*where)
        return Answer(row["answer"], row["finished"])

    def add(
        self, family: str, thinking: str, answer: Answer, trajectory: Trajectory | None = None
    ) -> None:
        """Writes an answer down, with the whole trajectory if it was made for it."""
        row: dict[str, Any] = {"family": family, "thinking": thinking}
        if trajectory is not None:
            row |= {"cap": trajectory.cap, "waits": trajectory.waits, "draws": trajectory.draws}
        row |= {"answer": answer.token_ids, "finished": answer.finished}
        if self._full:
            return
        try:
            if self._file is None:
                path = self.folder / f"{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
                self._file = path.open("x", encoding="utf-8")
            self._file.write(json.dumps(row, separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:  # a full disk must not cost what is being generated
            self._full = True
            say(f"{self.folder}: {error}; what comes from now on is not kept for another run")

    def close(self) -> None:
        """Closes the file, if one was begun."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take was said
                self._file.close()
            self._file = None


def _row(file: Path, offset: int) -> dict[str, Any]:
    with file.open("rb") as lines:
        lines.seek(offset)
        return json.loads(lines.readline())


def journal_of(identity: Mapping[str, Any]) -> Journal:
    """The journal of a model.

    Args:
        identity: its ``name``, and everything else that what it generates depends on but for the
            requests.
    """
    told = {**identity, "s1-plugin": __version__}
    short = re.sub(r"[^A-Za-z0-9.]+", "-", identity["name"])[-60:].strip("-.")
    return Journal(cache.folder("answers") / f"{short}-{digest(told)}")


def digest(value: Any) -> str:
    """A short name for ``value``; equal values have equal names."""
    text = json.dumps(value, sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)


def stamp(name: str | Path) -> list[Any]:
    """Sizes and times of a model's files (a local folder, or a file), which may be trained anew
    under the same name; nothing for a name that is neither."""
    path = Path(name)
    files: Sequence[Path] = [path] if path.is_file() else []
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
    return [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
