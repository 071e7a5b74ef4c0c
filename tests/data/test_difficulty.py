from __future__ import annotations

import json

import pytest

from s1_plugin.data import stages
from s1_plugin.data.attempts import Attempts
from s1_plugin.data.difficulty import Student, gold, solved
from s1_plugin.data.engine import Local
from s1_plugin.data.pipeline import run
from s1_plugin.data.rows import InputError, load


@pytest.mark.parametrize(
    ("answer", "solution", "found"),
    [
        ("5", "\\boxed{6}", "5"),
        ("", "so \\boxed{1} and \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("", "128", "128"),
        ("", "A proof.\nIt ends.", None),
        ("", "", None),
    ],
)
def test_gold(answer, solution, found):
    assert gold(answer, solution) == found


def batch(*rows):
    names = ("question", "answer", "solution", "other")
    return {name: [row.get(name, "") for row in rows] for name in names}


def test_students_in_files_and_columns(tmp_path):
    pytest.importorskip("math_verify")
    ledger = [
        {"question": "Find  $x$.", "thinking_trajectories": [], "attempt": "",
         "partial_attempt": "Answer: 7", "status": "no_thinking"},
        {"question": "Find $y$.", "thinking_trajectories": ["t"], "attempt": "\\boxed{3}"},
        {"question": "Find $y$.", "thinking_trajectories": ["t"], "attempt": "\\boxed{4}"},
        {"question": "Find $z$.", "thinking_trajectories": ["t"], "attempt": "\\boxed{9}"},
        {"question": "Find $y$.", "thinking_trajectories": [], "attempt": "", "status": "error"},
        {"question": "Find $u$.", "thinking_trajectories": [], "attempt": "", "status": "refused"},
        {"question": "Find $u$.", "thinking_trajectories": [], "attempt": "", "status": "error"},
    ]  # fmt: skip
    path = tmp_path / "small.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ledger))
    students = [
        Student("small", Attempts(load([str(path)], tmp_path))),
        Student("big", "big"),
    ]
    found = solved(
        students,
        batch(
            {"question": "find $x$", "answer": "7"},
            {"question": "Find $y$.", "solution": "thus \\boxed{4}"},
            {"question": "Find $z$.", "answer": "8"},
            {"question": "Find $z$.", "answer": "8", "other": json.dumps({"big": True})},
            {"question": "Find $w$.", "other": json.dumps({"big": "\\boxed{1}"})},
            {"question": "Find $v$.", "answer": "1"},
            {"question": "Find $u$.", "answer": "1"},
        ),
    )
    assert found["solved_by"] == ["small", "small", "", "big", "", "", ""]
    assert found["tried"] == [1, 1, 1, 2, 1, 0, 0]
    assert found["known"] == [True, True, True, True, False, True, True]
    assert found["failed"] == [0, 1, 0, 0, 0, 0, 2]


def test_failed_requests_are_said_and_are_no_attempts(tmp_path):
    rows = tmp_path / "in.jsonl"
    rows.write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in "xy"))
    row = {"thinking_trajectories": [], "attempt": "", "status": "error"}
    ledger = [{**row, "question": "x"}, {**row, "question": "y", "status": "truncated"}]
    path = tmp_path / "small.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ledger))
    stage = stages.hard([Student("small", Attempts(load([str(path)], tmp_path)))])
    found = run(load([str(rows)], tmp_path), [stage], tmp_path, Local(), lambda step: None)
    assert found.steps[0].said == [
        "1 failed or refused requests of students count as no attempt",
        "1 rows that no student tried stay",  # what was cut was tried
    ]
    path.write_text(json.dumps(ledger[0]) + "\n")
    stage = stages.hard([Student("small", Attempts(load([str(path)], tmp_path)))])
    with pytest.raises(InputError, match=r"no row has an attempt.*\(1 requests failed"):
        run(load([str(rows)], tmp_path), [stage], tmp_path, Local(), lambda step: None)
