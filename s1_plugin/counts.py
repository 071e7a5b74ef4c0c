"""What became of every row: counted, said, and kept beside the prepared data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE_NAME = "s1_counts.json"


@dataclass
class Counts:
    """One data set on its way from rows to training examples. Lengths are in tokens.

    A truncated row counts as an answer lost: the answer stands at the end that is cut off. One
    whose prompt alone fills ``sequence_len`` has nothing left to learn, and axolotl drops it:
    ``kept``, ``tokens`` and ``learned_tokens`` are what training sees.
    """

    source: str
    reader: str
    rows: int = 0
    bad: int = 0
    #: Rows whose system message is not trained on.
    system: int = 0
    over_long: int = 0
    kept: int = 0
    over_long_strategy: str = ""
    tokens: int = 0
    learned_tokens: int = 0
    longest: list[int] = field(default_factory=list)
    sequence_len: int = 0

    def sentence(self) -> str:
        """One line for the log."""
        parts = [
            f"{self.source}: {self.rows} rows read as {self.reader}, {self.kept} to train on",
            f"{self.tokens:,} tokens, {self.learned_tokens:,} learned",
            f"longest {self.longest[0] if self.longest else 0} of {self.sequence_len}",
        ]
        if self.bad:
            parts.append(f"{self.bad} bad rows SKIPPED (s1.bad_rows: skip)")
        if self.system:
            parts.append(system_messages(self.system))
        if self.over_long:
            done = {"drop": "DROPPED", "truncate": "TRUNCATED"}[self.over_long_strategy]
            parts.append(
                f"{self.over_long} rows over {self.sequence_len} tokens {done} "
                f"(excess_length_strategy), {self.over_long} answers lost with them"
            )
        return "; ".join(parts)


def system_messages(number: int) -> str:
    """What is said of rows that came with a system message."""
    return (
        f"{number} system messages NOT USED (the chat template's own stands in training as it "
        "does in evaluation)"
    )


def key_of(data: Mapping[str, object]) -> str:
    """What tells one `datasets:` entry of a config from another."""
    given = {name: value for name, value in data.items() if value is not None}
    return json.dumps(given, sort_keys=True, default=str)


def save(folder: Path, counts: Counts, key: str) -> None:
    """Adds ``counts`` under ``key`` to the file in ``folder``, atomically."""
    known = {k: asdict(v) for k, v in load(folder).items()}
    known[key] = asdict(counts)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps(known, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(folder / FILE_NAME)


def load(folder: Path) -> Mapping[str, Counts]:
    """The counts kept in ``folder``; empty if there are none or they are torn."""
    try:
        raw = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return {key: Counts(**value) for key, value in raw.items()}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def too_long_message(
    source: str, lengths: Sequence[int], places: Sequence[str], total: int, sequence_len: int
) -> str:
    """The error for rows over the sequence length: how many, how long, what to set.

    ``lengths`` are those of the over-long rows, ``places`` where they stand.
    """
    worst = sorted(zip(lengths, places, strict=True), key=lambda pair: -pair[0])
    listed = ", ".join(f"{length} ({place})" for length, place in worst[:5])
    return (
        f"{source}: {len(lengths)} of {total} rows are longer than sequence_len {sequence_len}; "
        f"the longest are {listed}. Cutting a row cuts its answer off (the paper's 4,096-token "
        "ablation loses 20 points on AIME24). Set `sequence_len: "
        f"{-(-max(lengths) // 64) * 64}` to keep all of them, or choose what to lose with "
        "`excess_length_strategy: drop` or `truncate`."
    )
