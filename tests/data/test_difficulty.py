from __future__ import annotations

import json

import pytest

from s1_plugin.data.difficulty import Student, gold, solved
from s1_plugin.data.rows import load


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
    ]  # fmt: skip
    path = tmp_path / "small.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ledger))
    students = [
        Student.of_rows("small", load([str(path)], tmp_path)),
        Student("big", column="big"),
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
        ),
    )
    assert found["solved_by"] == ["small", "small", "", "big", "", ""]
    assert found["tried"] == [1, 1, 1, 2, 1, 0]
    assert found["known"] == [True, True, True, True, False, True]
