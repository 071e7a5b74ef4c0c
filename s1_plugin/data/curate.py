"""Questions with traces in, the rows to train on out: the paper's curation (section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s1_plugin.data import benchmarks, domains, filters, lengths, select, stages
from s1_plugin.data.attempts import Attempts
from s1_plugin.data.decontaminate import Benchmark
from s1_plugin.data.difficulty import Student
from s1_plugin.data.engine import Local, Ray
from s1_plugin.data.pipeline import Result, Stage, Step, run
from s1_plugin.data.rows import InputError, Rows, labels, load, object_in

#: Columns that a message names at most.
_SHOWN = 50


@dataclass(frozen=True)
class Asked:
    """What `s1 curate` was asked; see its options."""

    inputs: tuple[str, ...]
    rows: int = 1000
    seed: int = 0
    mode: str = "s1"
    tokenizer: str = "Qwen/Qwen2.5-32B-Instruct"
    length_column: str | None = None
    max_tokens: int | None = None
    domains: str | None = None
    students: tuple[str, ...] = ()
    against: tuple[Path, ...] = ()
    without: tuple[str, ...] = ()
    patterns: Path | None = None
    direct: Path | None = None
    layout: str | None = None


@dataclass
class Curated:
    """What came of it."""

    rows: Rows
    result: Result
    benchmarks: list[Benchmark]
    traced: bool
    domains_by: str
    notes: list[str] = field(default_factory=list)


def curate(asked: Asked, cache: Path, engine: Local | Ray, say: Callable[[Step], None]) -> Curated:
    """Runs all stages. What is asked is checked first: an error comes before any work.

    Raises:
        InputError: naming file, row, field or option, and the remedy.
        RuntimeError: if what grading needs is not installed.
    """
    patterns = filters.patterns(asked.patterns)
    rules = stages.direct_rules(asked.direct)
    against = benchmarks.load(asked.without, asked.against)
    rows = load(asked.inputs, cache, asked.layout)
    traced = any_trace(rows)
    notes = []
    if not traced:
        notes.append("no row has a trace: these are questions, to be given to `s1 distill`")
        if asked.mode in ("s1", "longest") and asked.length_column is None:
            raise InputError(
                f"{', '.join(asked.inputs)}: no row has a trace, so none is longer than another; "
                "make traces with `s1 distill` first, or give --select all, random or diverse"
            )
    if asked.length_column:
        _column("--length-column", asked.length_column, rows)
    told = _answers("--domains", asked.domains, rows, cache) if asked.domains else None
    steps = _stages(asked, rows, patterns, rules, against, traced, told, cache, notes)
    by = _domains_by(asked.domains, told)
    return Curated(rows, run(rows, steps, cache, engine, say), against, traced, by, notes)


def any_trace(rows: Rows) -> bool:
    """Whether a row has thinking, or is said to come from a teacher."""
    return any(
        any(texts["thinking"]) or any(texts["status"]) or any(texts["problem"])
        for texts in rows.groups(("thinking", "status", "problem"))
    )


def _sampled(rows: Rows) -> bool:
    """Whether `s1 distill --samples` asked a question more than once."""
    others = (other for group in rows.groups(("other",)) for other in group["other"])
    return any(object_in(other).get("sample") for other in others)


def _stages(
    asked: Asked,
    rows: Rows,
    patterns: list[dict],
    rules: list[dict],
    against: list[Benchmark],
    traced: bool,
    told: str | Attempts | None,
    cache: Path,
    notes: list[str],
) -> list[Stage]:
    found = [stages.status(), stages.complete()] if traced else []
    found.append(stages.form(patterns))
    sampled = _sampled(rows)
    measured = traced or asked.length_column is not None
    if measured:
        path = None if asked.length_column else lengths.tokenizer_file(asked.tokenizer)
        length = stages.length(path, asked.length_column, asked.max_tokens)
        if sampled:  # or the sample that stays may be too long, where another is not
            found.append(length)
    if sampled:
        found.append(stages.samples())
    found.append(stages.copies())
    if against:
        found.append(stages.contamination(against))
    if asked.students:
        found.append(stages.hard(_students(asked.students, rows, cache)))
    if measured and not sampled:
        found.append(length)
    found.append(stages.domain(told))
    weights = None
    # Of the benchmarks that models are measured by; not of what else is to be kept out.
    named = against[: len(against) - len(asked.against)]
    if asked.mode == "s1" and named:
        texts = [question for benchmark in named for question in benchmark.questions]
        names: list[str | None] = [None] * len(texts)
        if isinstance(told, Attempts):
            names = [domains.told(told, text) for text in texts]
            if untold := names.count(None):
                unasked = sum(not told.of(text) for text in texts)
                notes.append(
                    f"{untold:,} of {len(texts):,} questions of the benchmarks, by whose domains "
                    f"rows are drawn, have none in {asked.domains}: told by words"
                    + (
                        f"; {unasked:,} of them were not asked about: `s1 distill --ask domain` "
                        "takes the benchmarks' files, too"
                        if unasked
                        else ""
                    )
                )
        weights = select.by_domain(
            [name or domains.classify(text) for name, text in zip(names, texts, strict=True)]
        )
    found.append(
        stages.selection(
            asked.mode,
            asked.rows,
            asked.seed,
            rules=rules if asked.mode == "s1" else (),
            weights=weights,
            with_lengths=measured,
        )
    )
    return found


def _students(names: Sequence[str], rows: Rows, cache: Path) -> list[Student]:
    answers = [_answers("--student", name, rows, cache) for name in names]
    # What `s1 distill` writes is always called traces.jsonl: the folder tells who it was.
    ledgers = any(Path(name).name == "traces.jsonl" for name in names)
    called = labels(names, least=2 if ledgers else 1)
    for name, one in zip(names, answers, strict=True):
        if isinstance(one, Attempts) and one.of_domains():
            raise InputError(
                f"--student {name}: holds names of domains, not attempts; give it to --domains"
            )
    return [Student(name, one) for name, one in zip(called, answers, strict=True)]


def _answers(option: str, name: str, rows: Rows, cache: Path) -> str | Attempts:
    """What a model said of the questions: a file of `s1 distill`, or a column of the input."""
    path = Path(name)
    if path.suffix in (".jsonl", ".parquet") or path.is_file():
        return Attempts(load([name], cache, names=labels([name], least=2)))
    _column(option, name, rows, "a .jsonl or .parquet file or ")
    return name


def _domains_by(name: str | None, told: str | Attempts | None) -> str:
    """Who told the domains, for the card."""
    if name is None:
        return "Told by the words of the question; a guess."
    if not isinstance(told, Attempts):
        return f"As the column {name} of the input gives them."
    by = ", ".join(told.teachers()) or "a model"
    return f"As {by} named them ({Path(name).name}), or by the words of the question."


def _column(option: str, name: str, rows: Rows, else_wanted: str = "") -> None:
    """Refuses a name that no row has for a column."""
    seen: set[str] = set()
    for group in rows.groups(("other",)):
        for other in group["other"]:
            columns = object_in(other).keys()
            if name in columns:
                return
            seen |= columns
    found = ", ".join(sorted(seen)[:_SHOWN]) or "none"
    found += ", …" * (len(seen) > _SHOWN)
    raise InputError(
        f"{option} {name}: the input has no such column; name {else_wanted}one of its further "
        f"columns: {found}"
    )
