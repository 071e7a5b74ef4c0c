"""From the folders that `lm_eval --output_path DIR --log_samples` writes to `Run`s."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s1_plugin.evaluation.provenance import provenance
from s1_plugin.evaluation.runs import Answer, Run
from s1_plugin.evaluation.sample_row import AGAIN, Row, SamplesError
from s1_plugin.forcing.budget import Budget

__all__ = ["SamplesError", "read"]

_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")


def read(paths: Sequence[Path | str], tasks: Sequence[str] = ()) -> list[Run]:
    """All runs below ``paths`` (folders, or single ``samples_*.jsonl`` files).

    A budget that was evaluated twice into the same folder, with the same sampling, counts once:
    the run with more questions, of equals the newer one. A note on it names the other.

    Args:
        tasks: read these only; all if empty.

    Raises:
        SamplesError: if there are no samples, or a file is not what an s1 task writes.
    """
    found: dict[tuple, dict[str, Run]] = {}
    for path in map(Path, paths):
        files = sorted(_files(path, tasks), key=lambda file: _name(file)["date"])
        if not files:
            wanted = f" of {', '.join(tasks)}" if tasks else ""
            raise SamplesError(
                f"{path}: no samples_<task>_<date>.jsonl{wanted} in it; give the folder that was "
                f"lm_eval's --output_path, or {AGAIN}"
            )
        for file in files:
            for run in _runs(file):
                key = (run.folder, run.task, run.label, run.sampling, run.seed)
                # By file: the same folder may have been given twice.
                found.setdefault(key, {})[file.name] = run
    return [_choice([same[name] for name in sorted(same)]) for same in found.values()]


def _choice(same: Sequence[Run]) -> Run:
    """That of the runs, oldest first, with the most questions, of equals the last."""
    kept = max(reversed(same), key=lambda run: run.n)
    kept.notes.extend(_left_out(run, kept) for run in same if run is not kept)
    return kept


def _left_out(other: Run, kept: Run) -> str:
    note = (
        f"{kept.label}: {other.provenance['file']} ({other.n} questions) is left out for "
        f"{kept.provenance['file']} ({kept.n} questions)"
    )
    theirs, ours = other.provenance["generation"], kept.provenance["generation"]
    changed = [
        f"{name} {theirs.get(name)}, here {ours.get(name)}"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    ]
    return f"{note} (its settings differ: {'; '.join(changed)})." if changed else note + "."


def _files(path: Path, tasks: Sequence[str]) -> Iterator[Path]:
    found = [path] if path.is_file() else sorted(path.rglob("samples_*.jsonl"))
    for file in found:
        match = _SAMPLES.fullmatch(file.name)
        if match is None:
            raise SamplesError(
                f"{file}: not named samples_<task>_<date>.jsonl, so its task is unknown; give it "
                "the name that lm_eval gave it, or move it out of the folder"
            )
        if not tasks or match["task"] in tasks:
            yield file


def _name(file: Path) -> re.Match[str]:
    match = _SAMPLES.fullmatch(file.name)
    assert match is not None
    return match


def _runs(file: Path) -> list[Run]:
    """The runs in one file: one per budget (and per lm-eval filter, where a task has several)."""
    task = _name(file)["task"]
    results, missing = _results(file)
    answers: dict[tuple[int, str], list[Answer]] = {}
    generations: dict[int, Mapping[str, Any]] = {}
    ungraded = 0
    failures: dict[tuple[int, str], int] = {}
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = Row(file, number, line)
            several = len(row.generations) > 1
            for index, generation in enumerate(row.generations):
                if generations.setdefault(index, generation) != generation:
                    raise row.error(
                        f"arguments.gen_args_{index}.arg_1",
                        f"is {generation}, but {generations[index]} in the lines before",
                        "a file holds one set of budgets; " + AGAIN,
                    )
                label = row.budget(index).label if several else None
                found, left, failed = row.answers(index, label)
                ungraded += left
                run = (index, row.filter)
                failures[run] = failures.get(run, 0) + failed
                answers.setdefault(run, []).extend(found)
    if not answers:
        raise SamplesError(f"{file}: the file is empty; {AGAIN}")
    filters = {name for _, name in answers}
    runs = []
    for (index, name), rows in answers.items():
        budget = Budget.from_gen_kwargs(generations[index])
        if not rows:
            raise SamplesError(f"{file}: every request of {budget.label} failed; {AGAIN}")
        rows.sort(key=lambda a: (a.question.number, a.repeat))
        where = provenance(results, task, generations[index])
        notes = list(missing)
        if ungraded:
            notes.append(
                f"{file.name}: {ungraded} further samples of the same prompts have no grade of "
                "their own and are left out."
            )
        if failures[index, name]:
            notes.append(
                f"{budget.label}: {failures[index, name]} requests failed for good and are left "
                "out; accuracy and thinking are those of the others."
            )
        runs.append(
            Run(
                task=task,
                model=str(results.get("model_name") or file.parent.name),
                label=budget.label + (f" ({name})" if len(filters) > 1 else ""),
                cap=budget.cap,
                waits=budget.waits,
                wait_text="|".join(budget.wait_texts),
                at_least=budget.min_thinking,
                control=budget.control,
                answers=rows,
                provenance={"file": str(file), **where},
                notes=notes,
            )
        )
    return runs


def _results(file: Path) -> tuple[dict[str, Any], list[str]]:
    path = file.with_name(f"results_{_name(file)['date']}.json")
    try:
        return json.loads(path.read_text(encoding="utf-8")), []
    except FileNotFoundError:
        return {}, [f"{path.name} is not beside its samples: versions, seeds and date unknown."]
    except ValueError as error:
        raise SamplesError(f"{path}: not JSON ({error}); {AGAIN}") from error
