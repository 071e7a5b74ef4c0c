"""Traces and data in the form in which the page carries them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from s1_plugin.evaluation.curve import sort
from s1_plugin.evaluation.runs import Answer, Run
from s1_plugin.forcing.response import forced_runs
from s1_plugin.formats import FORMATS

#: Above this many characters of JSON the page leaves out further traces.
LIMIT = 20_000_000


def traces(runs: Sequence[Run], limit: int = LIMIT) -> tuple[dict[str, list], list[str]]:
    """The responses of each task, question by question, and what had to be left out.

    Returns:
        ``{task: [[trace, …] of the first question, …]}`` in the order of the curve's questions
        and points, and a note for each task whose later questions did not fit into ``limit``.
    """
    out: dict[str, list] = {}
    notes = []
    used = 0
    for task in dict.fromkeys(run.task for run in runs):
        by_question: dict[tuple[int, str], list[tuple[int, Answer]]] = {}
        for point, run in enumerate(sort([r for r in runs if r.task == task])):
            for a in run.answers:
                key = (a.question.number, a.question.fingerprint)
                by_question.setdefault(key, []).append((point, a))
        kept: list[list[dict[str, Any]]] = []
        for key in sorted(by_question):
            entries = _entries(by_question[key])
            used += len(json.dumps(entries))
            if used > limit:
                notes.append(
                    f"{task}: the page holds the traces of {len(kept)} of {len(by_question)} "
                    f"questions, to stay below {limit / 1e6:.0f} MB; the others are in the "
                    "sample files."
                )
                break
            kept.append(entries)
        out[task] = kept
    return out, notes


def _entries(answers: Sequence[tuple[int, Answer]]) -> list[dict[str, Any]]:
    """One question's traces. Budgets share their trajectory up to where they part, so a trace is
    written as the first ``keep`` characters of an earlier one and the rest."""
    out: list[dict[str, Any]] = []
    written: list[str] = []
    for point, a in answers:
        keep, base = max(
            ((shared(a.text, text), i) for i, text in enumerate(written)),
            default=(0, 0),
        )
        written.append(a.text)
        out.append(
            {
                "point": point,
                "repeat": a.repeat,
                "correct": a.correct,
                "base": base,
                "keep": _units(a.text[:keep]),
                "rest": a.text[keep:],
                "marks": marks(a),
                "located": a.forced_spans is not None and bool(a.forced_spans or not a.forced),
                "thinking_tokens": a.thinking_tokens,
                "answer_tokens": a.answer_tokens,
                "waits": a.waits,
                "ended": a.ended,
                "finished": a.finished,
            }
        )
    return out


def shared(a: str, b: str) -> int:
    """How many characters ``a`` and ``b`` begin with in common; by halving, as texts are long."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def marks(answer: Answer) -> list[list[Any]]:
    """``[kind, start, end]`` of what the model did not write, in UTF-16 units of the text.

    Kinds: "start", the thinking prefix; "wait", a forced Wait; "end", a forced end at a cap;
    "answer", the answer delimiter in the place of the model's own end.
    """
    text = answer.text
    found: list[list[Any]] = []
    for fmt in FORMATS.values():
        if text.startswith(fmt.think_start):
            found.append(["start", 0, len(fmt.think_start)])
            break
    stretches = forced_runs(answer.forced, answer.thinking_tokens)
    # Either every stretch has its characters, or none could be located.
    for (position, _), (start, end) in zip(stretches, answer.forced_spans or [], strict=False):
        kind = "wait" if position < answer.thinking_tokens else "end"
        if kind == "end" and answer.ended == "natural":
            kind = "answer"
        found.append([kind, start, end])
    if text.isascii():
        return found
    return [[kind, _units(text[:start]), _units(text[:end])] for kind, start, end in found]


def _units(text: str) -> int:
    """Length as JavaScript counts it: characters beyond the basic plane are two units."""
    return len(text) + sum(character > "\uffff" for character in text)


def script_json(data: Any) -> str:
    """JSON that is safe inside a ``<script>`` element, whatever the strings in it hold.

    ASCII only, so no line separators; no ``<`` and ``>``, so neither ``</script>`` nor ``<!--``
    can end or open anything.
    """
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
