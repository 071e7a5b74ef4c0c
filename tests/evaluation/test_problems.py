import pytest

from s1_plugin.evaluation.jsonl import RowError
from s1_plugin.evaluation.problems import GPQA_CHOICES, read, shuffled

COLUMNS = ("problem", "answer")
GOOD = '{"problem": "1+1", "answer": 2, "id": "a", "year": 2024}\n'


def written(tmp_path, text):
    path = tmp_path / "aime24.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_are_text_with_what_names_them(tmp_path):
    text = "\ufeff" + GOOD + "\n" + '{"problem": "a\u2028b", "answer": "3"}'
    assert read(written(tmp_path, text), COLUMNS) == [
        {"problem": "1+1", "answer": "2", "id": "a"},
        {"problem": "a\u2028b", "answer": "3"},
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + '{"problem": "1+', ["line 2", "not JSON", "interrupted", "`problem`, `answer`"]),
        (GOOD + "[]\n", ["line 2", "list", "not an object"]),
        (GOOD + '\n{"problem": "x"}', ["line 3", "`answer`", "is missing"]),
        ('{"problem": " ", "answer": "1"}', ["line 1", "`problem`", "is ' '"]),
        ('{"problem": "x", "answer": null}', ["line 1", "`answer`", "is None"]),
        ("\n", ["no rows", "`problem`"]),
        (GOOD.encode() + b"\xff\n", ["byte", "UTF-8"]),
    ],
)
def test_bad_files_are_named(tmp_path, text, words):
    with pytest.raises(RowError) as caught:
        read(written(tmp_path, text), COLUMNS)
    assert all(word in str(caught.value) for word in ["aime24.jsonl", *words]), caught.value


ROWS = [
    {"Question": f"Q{n}", "Record ID": f"r{n}", **{c: f"{c} {n}" for c in GPQA_CHOICES}}
    for n in range(60)
]


def test_choices_are_shuffled_by_seed_and_question_alone():
    found = shuffled(ROWS, 0)
    for row, given in zip(found, ROWS, strict=True):
        choices = [row[f"choice{i}"] for i in range(1, 5)]
        assert sorted(choices) == sorted(given[name] for name in GPQA_CHOICES)
        assert choices["ABCD".index(row["answer"])] == given["Correct Answer"]
        assert row["choices_seed"] == 0 and row["id"] == given["Record ID"]
    assert {row["answer"] for row in found} == set("ABCD")
    assert shuffled(ROWS[7:9], 0) == found[7:9]
    assert [r["answer"] for r in shuffled(ROWS, 1)] != [r["answer"] for r in found]


def test_a_row_without_a_choice_is_named():
    with pytest.raises(RowError, match="row 1, field `Incorrect Answer 2`"):
        shuffled([{**ROWS[0], "Incorrect Answer 2": None}], 0)


def test_the_order_never_changes():
    # Runs are compared over years: with another order they would have answered other questions.
    assert "".join(row["answer"] for row in shuffled(ROWS[:8], 0)) == "CCCACBAC"
