import json

import pytest
from click.testing import CliRunner

from s1_plugin.commands.grade import grade


def invoke(tmp_path, rows, *options):
    file = tmp_path / "responses.jsonl"
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(grade, [str(file), *options])


ROWS = [
    {"response": "<|im_start|>think\n5<|im_start|>answer\nAnswer: 023", "answer": "23"},
    {"response": "<|im_start|>think\nAnswer: 23", "answer": "23"},
    {"response": "<think>2</think>\\boxed{\\frac12}", "answer": "0.5", "kind": "math"},
    {"response": "\\boxed{9**9**9}", "answer": "0.5", "kind": "math", "id": "q4"},
    {"response": "The answer is (C).", "answer": "C", "kind": "letter", "correct": False},
    {"response": None, "answer": 7},
]
ROWS = [{"kind": "integer", **row} for row in ROWS]


def test_rows_are_written_with_what_was_found(tmp_path):
    given = invoke(tmp_path, ROWS)
    assert given.exit_code == 0, given.output
    found = [json.loads(line) for line in given.stdout.splitlines()]
    assert [row["extracted"] for row in found] == ["23", None, "\\frac12", "9**9**9", "C", None]
    assert [row["correct"] for row in found] == [True, False, True, False, True, False]
    assert found[3] == {**ROWS[3], "extracted": "9**9**9", "correct": False, "trouble": "too large"}
    assert "6 responses: 3 right, 2 without an answer" in given.stderr
    assert "1 with another `correct` before" in given.stderr
    assert "1 wrong because not compared (too large)" in given.stderr


def test_a_folder_that_is_not_there_is_made(tmp_path):
    out = tmp_path / "new" / "graded.jsonl"
    assert invoke(tmp_path, ROWS[:1], "--out", str(out)).exit_code == 0
    assert json.loads(out.read_text())["correct"] is True


def test_a_file_may_be_graded_in_place(tmp_path):
    given = invoke(tmp_path, ROWS[:2], "--out", str(tmp_path / "responses.jsonl"))
    assert given.exit_code == 0 and given.stdout == ""
    lines = (tmp_path / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["correct"] for line in lines] == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["responses.jsonl"]


GOOD = '{"response": "1", "answer": "1", "kind": "integer"}\n'


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"response": "1", "ans', ["line 2", "not JSON", "interrupted", "`kind`"]),
        ("[1]", ["line 2", "not an object"]),
        ('{"answer": "1", "kind": "math"}', ["line 2", "`response`", "is missing"]),
        ('{"response": 5, "answer": "1", "kind": "math"}', ["`response`", "is 5", "null"]),
        ('{"response": "1", "kind": "math"}', ["`answer`", "is missing"]),
        ('{"response": "1", "answer": "1"}', ["`kind`", "is missing", "integer, math, letter"]),
        ('{"response": "1", "answer": "1", "kind": "maths"}', ["`kind`", "'maths'"]),
        ('{"response": "1", "answer": "x", "kind": "integer"}', ["`answer`", "'x'", "`kind`"]),
        ('{"response": "1", "answer": "E", "kind": "letter"}', ["`answer`", "'E'"]),
        ('{"response": "1", "answer": " ", "kind": "math"}', ["`answer`", "empty"]),
    ],
)
def test_bad_rows_are_named(tmp_path, row, words):
    given = invoke(tmp_path, GOOD + row)
    assert given.exit_code == 1
    assert all(word in given.output for word in ["responses.jsonl", "line 2", *words]), given.output
    assert "Traceback" not in given.output
