"""What `s1 curate` writes: the rows in s1K's columns, and a data card."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from s1_plugin import __version__
from s1_plugin.console import say
from s1_plugin.data.curate import Asked, Curated
from s1_plugin.data.decontaminate import summary
from s1_plugin.data.rows import object_in
from s1_plugin.distill import terms
from s1_plugin.training.card import BESIDE, FILE_NAME, by_hand, signed

#: Of an absolute path, alone or in `--out=/…` or `-o/…`: all but the name.
_FOLDERS = re.compile(r"^(-\w|--[\w-]+=)?/(?:.*/)?(?=[^/]+/?$)")
_PAPER = "[s1: Simple test-time scaling](https://arxiv.org/abs/2501.19393)"
#: How rows were chosen, by the mode of selection.
_CHOSEN = {
    "s1": f"chosen as the paper {_PAPER} chooses s1K, by",
    "random": f"drawn at random (an ablation of the paper {_PAPER}) by",
    "longest": f"those with the longest thinking (an ablation of the paper {_PAPER}), chosen by",
    "diverse": f"drawn evenly over domains (an ablation of the paper {_PAPER}) by",
    "all": "all that the stages below let through; by",
}
_PLAIN = ("solution", "cot_type", "source_type", "metadata", "cot")


def rows(curated: Curated) -> Iterator[dict[str, Any]]:
    """The rows in the order of the input: s1K's columns, ``answer`` where there is one, and ours:
    ``domain``, ``trace_tokens``, ``picked``, ``place``, ``provenance`` (JSON of all other columns).
    """
    source, result = curated.rows, curated.result
    for at, number in enumerate(result.numbers):
        row: dict[str, Any] = {"question": source.value(number, "question")}
        row |= {name: source.value(number, name) for name in _PLAIN}
        thinking = source.value(number, "thinking")
        if thinking:
            row["thinking_trajectories"] = [thinking]
            row["attempt"] = source.value(number, "attempt")
        row["answer"] = source.value(number, "answer")
        row |= {name: values[at] for name, values in result.columns.items()}
        row["place"] = source.value(number, "place")
        row["provenance"] = source.value(number, "other")
        yield row


def write(curated: Curated, folder: Path, parquet: bool) -> Path:
    """Writes train.jsonl, or train.parquet; returns where.

    Questions without traces go to questions.jsonl: with solutions by hand they have LIMO's columns,
    and training would take those for traces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = "train" if curated.traced else "questions"
    path = folder / (name + (".parquet" if parquet else ".jsonl"))
    part = path.with_name(path.name + ".part")
    if parquet:
        _parquet(curated, part)
    else:
        with part.open("w", encoding="utf-8") as file:
            for row in rows(curated):
                file.write(json.dumps(row, ensure_ascii=True) + "\n")
    part.replace(path)
    other = folder / (name + (".jsonl" if parquet else ".parquet"))
    if other.exists():
        say(f"{other} is of an earlier run and stays; remove it, or both are trained on")
    return path


def dropped(curated: Curated, folder: Path) -> None:
    """Writes dropped.jsonl: place, stage and reason of every row that went before selection."""
    with (folder / "dropped.jsonl").open("w", encoding="utf-8") as file:
        for stage, number, reason in curated.result.gone:
            if stage != "selection":
                place = curated.rows.value(number, "place")
                file.write(json.dumps({"place": place, "stage": stage, "reason": reason}) + "\n")


def _parquet(curated: Curated, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    batch: list[dict[str, Any]] = []

    def flush() -> None:
        nonlocal writer
        table = pa.Table.from_pylist(batch, schema=writer.schema if writer else None)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        batch.clear()

    for row in rows(curated):
        batch.append(row)
        if len(batch) == 500:
            flush()
    if batch or writer is None:
        flush()
    writer.close()  # type: ignore[union-attr]


def shown(command: Sequence[str]) -> str:
    """A command for readers elsewhere: nobody needs to know where this machine's folders are."""
    return shlex.join(_FOLDERS.sub(r"\1", part) for part in command)


def card(curated: Curated, asked: Asked, command: Sequence[str], data: Path) -> Path:
    """Writes the draft of a data card beside ``data``; one that was written by hand stays."""
    draft = signed(_card(curated, asked, command, data))
    path = data.with_name(FILE_NAME)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    # That of `s1 distill`, say, where its ledger is in the same folder.
    others = "data_files:" in before and not re.search(r"data_files: (train|questions)\.", before)
    if by_hand(before) or others:
        whose = "is of other data" if others else "was written by hand"
        path = data.with_name(BESIDE)
        say(f"{data.with_name(FILE_NAME)} {whose} and stays; a draft is in {path}")
    path.write_text(draft, encoding="utf-8")
    return path


def _card(curated: Curated, asked: Asked, command: Sequence[str], data: Path) -> str:
    import yaml

    result = curated.result
    front = {
        "configs": [{"config_name": "default", "data_files": data.name}],
        "task_categories": ["text-generation"],
        "tags": ["s1", "reasoning"],
        "size_categories": [_size(len(result.numbers))],
    }
    domains = Counter(result.columns.get("domain", []))
    lines = [
        "---",
        "# TODO license:",
        *yaml.safe_dump(front, sort_keys=False).splitlines(),
        "---",
        "",
        f"# {data.resolve().parent.name}",
        "",
        f"{len(result.numbers):,} of {len(curated.rows):,} "
        f"{'rows' if curated.traced else 'questions without traces'}, {_CHOSEN[asked.mode]} "
        "s1-plugin.",
        "",
        "TODO: licence and terms of use of the questions"
        + (" and of the teacher that wrote the traces" if curated.traced else "")
        + ", languages, what is in it that should not be.",
        "",
        "## How it was made",
        "",
        "```bash",
        shown(command),
        "```",
        "",
        f"s1-plugin {__version__}, seed {asked.seed}, input sha256 `{curated.rows.digest}`",
        "",
        "| stage | rows in | rows out | why rows went |",
        "| --- | --- | --- | --- |",
        *[
            f"| {step.name} | {step.rows_in:,} | {step.rows_out:,} | "
            + _cell("; ".join([f"{why} {n:,}" for why, n in step.reasons.items()] + step.said))
            + " |"
            for step in result.steps
        ],
        "",
        "## Contamination",
        "",
        "Questions that share a run of 8 words with a question of these, or are one of them, were "
        "removed:"
        if curated.benchmarks
        else "Nothing was compared with any benchmark.",
        "",
        *[f"- {_cell(name)}: {_cell(what)}" for name, what in summary(curated.benchmarks).items()],
        *[f"- **not compared with {name}**" for name in asked.without],
        "",
        "## Domains",
        "",
        _cell(curated.domains_by),
        *[f"{_cell(note)}." for note in curated.notes],
        "",
        "| domain | rows |",
        "| --- | --- |",
        *[f"| {_cell(name)} | {n} |" for name, n in domains.most_common()],
        "",
        "## Provenance",
        "",
        *_provenance(curated),
        "",
    ]
    return "\n".join(lines) + "\n"


def _provenance(curated: Curated) -> list[str]:
    """What the rows say of the teachers that wrote them, and what their terms say."""
    found: Counter[tuple[str, str]] = Counter()
    for number in curated.result.numbers:
        columns = object_in(curated.rows.value(number, "other"))
        if not columns.get("teacher"):  # curated before
            columns = object_in(columns.get("provenance"))
        found[str(columns.get("teacher") or ""), str(columns.get("host") or "")] += 1
    lines = []
    for (teacher, host), n in found.most_common():
        if not teacher:
            lines.append(f"- {n:,} rows do not say who wrote the trace. TODO")
            continue
        said = terms.sentence(terms.of(teacher, host), host or "its host")
        at = f" at {_cell(host)}" if host else ""
        lines.append(f"- {n:,} rows by {_cell(teacher)}{at}: {_cell(said)}")
    return lines


def _cell(text: str) -> str:
    """Text from data as text in Markdown: no markup, no table, no new line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    for sign in "\\`*_[]|":
        text = text.replace(sign, f"\\{sign}")
    return text


def _size(n: int) -> str:
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next((name for bound, name in bounds if n < bound), "100K<n<1M")
