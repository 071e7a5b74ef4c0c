"""Sample folders such as `lm_eval --log_samples` writes, made up: no model is run.

Accuracy rises with the thinking: each question needs some number of tokens, and a run solves it
if its thinking is long enough. Budgets of one question share their trajectory, as forced runs do.
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from s1_plugin.evaluation.budgets import expand
from s1_plugin.forcing.budget import Budget, plan
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking
from s1_plugin.formats import S1

DATE = "2026-01-02T03-04-05.678901"
WORDS = ("so", "the", "sum", "is", "then", "find", "x", "equals", "two", "check", "again", "both")

_VOCABULARY = [
    *(" " + word for word in WORDS),
    *("\n", "Wait", "Hmm", "<|im_start|>", "<|im_end|>", "think", "answer", "Final Answer:"),
    *map(str, range(10)),
]
_ID = {text: number for number, text in enumerate(_VOCABULARY)}


class Encoder:
    """A toy tokenizer, as far as `plan` needs one: one token per word or mark."""

    def text_ids(self, text: str) -> list[int]:
        pieces = sorted(_VOCABULARY, key=len, reverse=True)
        return [_ID[found] for found in re.findall("|".join(map(re.escape, pieces)), text)]

    scaffold_ids = text_ids

    def control_id(self, token: str) -> int | None:
        return _ID.get(token)


def decode(ids: Sequence[int]) -> str:
    return "".join(_VOCABULARY[i] for i in ids)


def response(
    question: int, budget: Budget, *, solved: bool, target: int, seed: int = 0
) -> Response:
    """A response from the real state machine to a made-up stream of tokens."""
    rng = random.Random(f"{seed}/{question}")
    asked = plan(budget, Encoder(), S1, prompt_length=10, max_new_tokens=4096)  # type: ignore[arg-type]
    state = Thinking(asked, lambda token: _VOCABULARY[token].endswith("\n"))
    natural = rng.randint(150, 900)
    tokens: list[int] = []
    while not state.answering:
        drawn = _ID["\n"] if rng.random() < 0.05 else rng.randrange(len(WORDS))
        if state.watching and state.thinking_tokens >= natural:
            drawn = _ID["<|im_start|>"]
            natural += rng.randint(30, 200)
        pushed = state.push(drawn)
        if pushed is not None:
            tokens.append(pushed)
    tokens.append(_ID["\n"])
    tokens += [_ID[digit] for digit in str(target if solved else target + 1)]
    return Response.from_tokens(
        tokens, state, decode=decode, think_start=S1.think_start, finished="stop"
    )


def write(
    folder: Path,
    gen_kwargs: dict[str, Any],
    *,
    task: str = "s1_made_up",
    model: str = "made/up",
    questions: int = 30,
    seed: int = 0,
    skill: float = 1.0,
    date: str = DATE,
    results: bool = True,
    text: str = "What is {n} squared?",
) -> Path:
    """Writes one evaluation; returns the samples file."""
    folder = folder / model.replace("/", "__")
    folder.mkdir(parents=True, exist_ok=True)
    generations = expand(gen_kwargs)
    labels = [Budget.from_gen_kwargs(g).label for g in generations]
    path = folder / f"samples_{task}_{date}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(questions):
            row = _row(n, generations, labels, seed=seed, skill=skill, text=text)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if results:
        (folder / f"results_{date}.json").write_text(
            json.dumps(_results(task, model, gen_kwargs, questions)), encoding="utf-8"
        )
    return path


def edit(path: Path, change: Callable[[dict], Any], line: int | None = None) -> None:
    """Applies ``change`` to one row of a samples file, or to all."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number in range(len(lines)) if line is None else [line - 1]:
        row = json.loads(lines[number])
        change(row)
        lines[number] = json.dumps(row)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def unforce(row: dict[str, Any]) -> None:
    """Makes of a row's responses such as a model gives in which nothing can be forced."""
    nothing = {"thinking_tokens": 0, "answer_tokens": 0, "waits": 0, "ended": "unforced"}
    nothing |= {"forced": [], "forced_spans": []}
    row["resps"] = [[str(ast.literal_eval(r) | nothing) for r in given] for given in row["resps"]]


def repeat(path: Path, grades: Sequence[Sequence[int]], lengths: Sequence[int] = ()) -> None:
    """Makes of the one response to each question as many as it has ``grades``, with ``lengths``
    (of each question) for thinking tokens."""
    for number, given in enumerate(grades):

        def change(row: dict, given: Sequence[int] = given, number: int = number) -> None:
            made = ast.literal_eval(row["resps"][0][0])
            if lengths:
                made["thinking_tokens"] = lengths[number]
            row.update(correct=list(given), resps=[[str(made)] * len(given)])

        edit(path, change, number + 1)


def _row(
    n: int, generations: list[dict], labels: list[str], *, seed: int, skill: float, text: str
) -> dict[str, Any]:
    problem = text.replace("{n}", str(n))
    needs = random.Random(f"needs/{n}").uniform(20, 1600) / skill
    row: dict[str, Any] = {
        "doc_id": n,
        "doc": {"id": f"made-up-{n}", "problem": problem, "answer": str(n * n)},
        "target": str(n * n),
        "arguments": {
            f"gen_args_{i}": {"arg_0": f"<user>{asked}<assistant>", "arg_1": g, "arg_2": asked}
            for i, g in enumerate(generations)
            for asked in [_asked(problem, g)]
        },
        "resps": [],
        "filter": "none",
        "doc_hash": f"hash-{n}",
    }
    for generation, label in zip(generations, labels, strict=True):
        budget = Budget.from_gen_kwargs(generation)
        length = response(n, budget, solved=True, target=0, seed=seed).thinking_tokens
        solved = length >= needs
        made = response(n, budget, solved=solved, target=n * n, seed=seed)
        # lm-eval logs a response as the text of a Python dictionary
        row["resps"].append([str(made.to_json())])
        row["exact_match" + (f"@{label}" if len(labels) > 1 else "")] = float(solved)
    return row


def _asked(problem: str, generation: dict[str, Any]) -> str:
    control = Budget.from_gen_kwargs(generation).control
    return control.instruct(problem) if control else problem


def _results(task: str, model: str, gen_kwargs: dict, questions: int) -> dict[str, Any]:
    return {
        "configs": {
            task: {
                "task": task,
                "dataset_path": "made/up-data",
                "metadata": {
                    "grader": "integer",
                    "problems_from": "made/up-data at 0123",
                    "problems_sha256": "ab12",
                    "judge_model": "a/judge",
                    "s1_plugin": "0.1.0",
                },
            }
        },
        "versions": {task: 1.0},
        "n-samples": {task: {"original": questions, "effective": questions}},
        "config": {
            "model": "hf",
            "model_args": {"pretrained": model, "dtype": "float32"},
            "model_dtype": "torch.float32",
            "batch_size": "8",
            "limit": None,
            "gen_kwargs": gen_kwargs,
            "random_seed": 0,
            "torch_seed": 1234,
        },
        "date": 1767323045.0,
        "pretty_env_info": "PyTorch version: 2.9.0+cpu\nPython version: 3.11.7 (main) [GCC]\n",
        "transformers_version": "5.0.0",
        "lm_eval_version": "0.4.11",
        "model_name": model,
        "total_evaluation_time_seconds": "12.34",
    }
