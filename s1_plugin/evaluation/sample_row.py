"""One line of a samples file that lm-eval wrote for an s1 task, checked field by field."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s1_plugin.evaluation.runs import LOGGED, Answer, Question
from s1_plugin.forcing.budget import Budget

AGAIN = "evaluate again with `lm_eval --tasks s1_… --output_path DIR --log_samples`"
_NOT_OURS = "this is not an s1 task: choose with --task, or " + AGAIN

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


class Row:
    """One line of a samples file, checked."""

    def __init__(self, file: Path, number: int, line: str) -> None:
        self.file, self.number = file, number
        try:
            self.row = json.loads(line)
        except ValueError as error:
            raise SamplesError(
                f"{file}, line {number}: not JSON ({error}); the file was cut or edited, {AGAIN}"
            ) from error
        if not isinstance(self.row, dict):
            raise SamplesError(f"{file}, line {number}: not a JSON object; {AGAIN}")
        arguments = self.take("arguments", dict)
        self.generations: list[Mapping[str, Any]] = []
        for index in range(len(arguments)):
            generation = (arguments.get(f"gen_args_{index}") or {}).get("arg_1")
            if not isinstance(generation, dict):
                raise self.error(f"arguments.gen_args_{index}.arg_1", "is missing", _NOT_OURS)
            self.generations.append(generation)
        self.filter = str(self.row.get("filter", "none"))
        doc = self.take("doc", dict)
        text = str((arguments["gen_args_0"] or {}).get("arg_2") or doc.get("problem") or "")
        control = self.budget(0).control
        if control is not None:  # what the model is told of its thinking is not the question
            text = text.removesuffix(control.instruct(""))
        target = str(self.row.get("target", ""))
        # Not lm-eval's doc_hash: it covers columns in which a local file differs from the hub's.
        asked = json.dumps([text.strip() or doc, target], sort_keys=True)
        self.question = Question(
            number=self.take("doc_id", int),
            name=str(doc.get("id") or doc.get("unique_id") or f"question {self.row['doc_id'] + 1}"),
            text=text,
            target=target,
            fingerprint=hashlib.sha256(asked.encode()).hexdigest(),
        )

    def error(self, name: str, what: str, remedy: str) -> SamplesError:
        return SamplesError(f"{self.file}, line {self.number}, field `{name}`: {what}; {remedy}")

    def take(self, name: str, kind: type) -> Any:
        value = self.row.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            what = "is missing" if name not in self.row else f"is {value!r:.80}"
            raise self.error(name, what, AGAIN)
        return value

    def budget(self, index: int) -> Budget:
        try:
            return Budget.from_gen_kwargs(self.generations[index])
        except ValueError as error:
            name = f"arguments.gen_args_{index}.arg_1"
            raise self.error(name, str(error), AGAIN) from error

    def answers(self, index: int, label: str | None) -> tuple[list[Answer], int, int]:
        """Graded responses to budget ``index``; how many more have no grade; and how many failed
        for good and so have nothing to be graded.

        One response is graded by ``exact_match``; several by the list ``correct``, if there is
        one, else only the first, which is the one that lm-eval shows to the task.
        """
        suffix = f"@{label}" if label is not None else ""
        given = self.take("resps", list)
        if len(given) != len(self.generations):
            what = f"has {len(given)} entries for {len(self.generations)} budgets"
            raise self.error("resps", what, AGAIN)
        responses = given[index] if isinstance(given[index], list) else [given[index]]
        if len(responses) == 1 and self.row.get(f"failed{suffix}") == 1:
            return [], 0, 1
        grades = self.row.get(f"correct{suffix}")
        listed = isinstance(grades, list)
        if not listed:
            grades = [self.row.get(f"exact_match{suffix}")]
        name = f"exact_match{suffix}"
        if not responses or len(grades) > len(responses):
            what = f"has {len(responses)} responses for {len(grades)} grades"
            raise self.error(f"resps[{index}]", what, AGAIN)
        for grade in grades:
            if listed and grade is None:  # its request failed for good
                continue
            if isinstance(grade, bool) or grade not in (0, 1):
                what = f"is {grade!r}, not 0 or 1"
                raise self.error(name, what, "one response has one grade; " + AGAIN)
        found = {metric: self.row.get(metric + suffix) for metric in LOGGED}
        logged = {metric: float(x) for metric, x in found.items() if isinstance(x, (int, float))}
        out = []
        for repeat, (response, grade) in enumerate(zip(responses, grades, strict=False)):
            if grade is None:
                continue
            where = f"resps[{index}][{repeat}]"
            fields = self._response(response, where)
            out.append(Answer(self.question, repeat, float(grade), logged=logged, **fields))
        return out, len(responses) - len(grades), len(grades) - len(out)

    def _response(self, response: Any, where: str) -> dict[str, Any]:
        if isinstance(response, str):
            response = self._parse(response, where)
        if not isinstance(response, dict):
            raise self.error(where, "is not a forced response", _NOT_OURS)
        fields = {}
        for name, kind in _FIELDS.items():
            if name not in response or not isinstance(response[name], kind):
                raise self.error(f"{where}.{name}", "is missing or of another type", AGAIN)
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
            raise self.error(where, f"cannot be read ({error})", _NOT_OURS) from error
