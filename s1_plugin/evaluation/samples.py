"""From the folders that `lm_eval --output_path DIR --log_samples` writes to `Run`s."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s1_plugin.evaluation.provenance import provenance
from s1_plugin.evaluation.runs import Answer, Question, Run
from s1_plugin.forcing.budget import GEN_KWARGS, Budget

_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
_AGAIN = "evaluate again with `lm_eval --tasks s1_… --output_path DIR --log_samples`"

# lm-eval logs a response as the text of a Python dictionary. Its token ids, which nobody reads
# here, are nine tenths of the work of parsing it; they are its last field.
_TOKEN_IDS = re.compile(r", 'token_ids': \[[\d, ]*\]\}\Z")

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "thinking": str,
    "answer": (str, type(None)),
    "thinking_tokens": int,
    "answer_tokens": int,
    "waits": int,
    "ended": str,
    "finished": str,
    "forced": list,
}


class SamplesError(ValueError):
    """Something in the samples cannot be used; names the file, line and field, and a remedy."""


def read(paths: Sequence[Path | str], tasks: Sequence[str] = ()) -> list[Run]:
    """All runs below ``paths`` (folders, or single ``samples_*.jsonl`` files).

    A budget that was evaluated twice into the same folder counts once: the newer file is read,
    and a note on the run names the older one.

    Args:
        tasks: read these only; all if empty.

    Raises:
        SamplesError: if there are no samples, or a file is not what an s1 task writes.
    """
    runs: dict[tuple, Run] = {}
    for path in map(Path, paths):
        files = sorted(_files(path, tasks), key=lambda file: _name(file)["date"])
        if not files:
            wanted = f" of {', '.join(tasks)}" if tasks else ""
            raise SamplesError(
                f"{path}: no samples_<task>_<date>.jsonl{wanted} in it; give the folder that was "
                f"lm_eval's --output_path, or {_AGAIN}"
            )
        for file in files:
            for run in _runs(file):
                key = (file.parent, run.task, run.label)
                if key in runs:
                    older = runs.pop(key).provenance["file"]
                    if older != run.provenance["file"]:
                        run.notes.append(f"{run.label}: {older} is older and left out.")
                runs[key] = run
    return list(runs.values())


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
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = _Row(file, number, line)
            several = len(row.generations) > 1
            for index, generation in enumerate(row.generations):
                if generations.setdefault(index, generation) != generation:
                    raise row.error(
                        f"arguments.gen_args_{index}.arg_1",
                        f"is {generation}, but {generations[index]} in the lines before",
                        "a file holds one set of budgets; " + _AGAIN,
                    )
                found, left = row.answers(index, row.budget(index).label if several else None)
                ungraded += left
                answers.setdefault((index, row.filter), []).extend(found)
    if not answers:
        raise SamplesError(f"{file}: the file is empty; {_AGAIN}")
    filters = {name for _, name in answers}
    runs = []
    for (index, name), rows in answers.items():
        budget = Budget.from_gen_kwargs(generations[index])
        rows.sort(key=lambda a: (a.question.number, a.repeat))
        where = provenance(results, task, generations[index])
        notes = list(missing)
        if ungraded:
            notes.append(
                f"{file.name}: {ungraded} further samples of the same prompts have no grade of "
                "their own and are left out."
            )
        runs.append(
            Run(
                task=task,
                model=str(results.get("model_name") or file.parent.name),
                label=budget.label + (f" ({name})" if len(filters) > 1 else ""),
                cap=budget.cap,
                waits=budget.waits,
                wait_text=budget.wait_text,
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
        raise SamplesError(f"{path}: not JSON ({error}); {_AGAIN}") from error


class _Row:
    """One line of a samples file, checked."""

    def __init__(self, file: Path, number: int, line: str) -> None:
        self.file, self.number = file, number
        try:
            self.row = json.loads(line)
        except ValueError as error:
            raise SamplesError(
                f"{file}, line {number}: not JSON ({error}); the file was cut or edited, {_AGAIN}"
            ) from error
        if not isinstance(self.row, dict):
            raise SamplesError(f"{file}, line {number}: not a JSON object; {_AGAIN}")
        arguments = self.take("arguments", dict)
        self.generations: list[Mapping[str, Any]] = []
        for index in range(len(arguments)):
            generation = (arguments.get(f"gen_args_{index}") or {}).get("arg_1")
            if not isinstance(generation, dict):
                raise self.error(f"arguments.gen_args_{index}.arg_1", "is missing", self._not_ours)
            self.generations.append(generation)
        if not any(name in self.generations[0] for name in GEN_KWARGS):
            raise self.error(
                "arguments.gen_args_0.arg_1", f"has none of {', '.join(GEN_KWARGS)}", self._not_ours
            )
        self.filter = str(self.row.get("filter", "none"))
        doc = self.take("doc", dict)
        self.question = Question(
            number=self.take("doc_id", int),
            name=str(doc.get("id") or doc.get("unique_id") or f"question {self.row['doc_id'] + 1}"),
            text=str((arguments["gen_args_0"] or {}).get("arg_2") or doc.get("problem") or ""),
            target=str(self.row.get("target", "")),
            fingerprint=str(self.row.get("doc_hash") or json.dumps(doc, sort_keys=True)),
        )

    _not_ours = "this is not an s1 task: choose with --task, or " + _AGAIN

    def error(self, name: str, what: str, remedy: str) -> SamplesError:
        return SamplesError(f"{self.file}, line {self.number}, field `{name}`: {what}; {remedy}")

    def take(self, name: str, kind: type) -> Any:
        value = self.row.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            what = "is missing" if name not in self.row else f"is {value!r:.80}"
            raise self.error(name, what, _AGAIN)
        return value

    def budget(self, index: int) -> Budget:
        try:
            return Budget.from_gen_kwargs(self.generations[index])
        except ValueError as error:
            name = f"arguments.gen_args_{index}.arg_1"
            raise self.error(name, str(error), _AGAIN) from error

    def answers(self, index: int, label: str | None) -> tuple[list[Answer], int]:
        """Graded responses to budget ``index``, and how many more have no grade.

        One response is graded by ``exact_match``; several by the list ``correct``, if there is
        one, else only the first, which is the one that lm-eval shows to the task.
        """
        suffix = f"@{label}" if label is not None else ""
        given = self.take("resps", list)
        if len(given) != len(self.generations):
            what = f"has {len(given)} entries for {len(self.generations)} budgets"
            raise self.error("resps", what, _AGAIN)
        responses = given[index] if isinstance(given[index], list) else [given[index]]
        grades = self.row.get(f"correct{suffix}")
        if not isinstance(grades, list):
            grades = [self.row.get(f"exact_match{suffix}")]
        name = f"exact_match{suffix}"
        if not responses or len(grades) > len(responses):
            what = f"has {len(responses)} responses for {len(grades)} grades"
            raise self.error(f"resps[{index}]", what, _AGAIN)
        for grade in grades:
            if isinstance(grade, bool) or not isinstance(grade, (int, float)):
                raise self.error(name, f"is {grade!r}, not 0 or 1", _AGAIN)
            if not 0 <= grade <= 1:
                raise self.error(name, f"is {grade!r}, not from 0 to 1", _AGAIN)
        out = []
        for repeat, (response, grade) in enumerate(zip(responses, grades, strict=False)):
            where = f"resps[{index}][{repeat}]"
            fields = self._response(response, where)
            out.append(Answer(self.question, repeat, float(grade), **fields))
        return out, len(responses) - len(grades)

    def _response(self, response: Any, where: str) -> dict[str, Any]:
        if isinstance(response, str):
            response = self._parse(response, where)
        if not isinstance(response, dict):
            raise self.error(where, "is not a forced response", self._not_ours)
        fields = {}
        for name, kind in _FIELDS.items():
            if name not in response or not isinstance(response[name], kind):
                raise self.error(f"{where}.{name}", "is missing or of another type", _AGAIN)
            fields[name] = response[name]
        return {**fields, "forced_spans": response.get("forced_spans")}

    def _parse(self, text: str, where: str) -> Any:
        if text.startswith('{"'):
            try:
                return json.loads(text)
            except ValueError:
                pass  # a Python dictionary whose first key is in double quotes
        try:
            return ast.literal_eval(_TOKEN_IDS.sub("}", text))
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise self.error(where, f"cannot be read ({error})", self._not_ours) from error
