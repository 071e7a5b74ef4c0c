import pytest
import yaml

from s1_plugin.evaluation.jsonl import RowError
from s1_plugin.evaluation.problems import (
    GPQA_CHOICES,
    answers_digest,
    digest,
    hub_source,
    read,
    shuffled,
)
from tests.conftest import ROOT

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


def test_problems_are_named_by_content_in_order():
    pairs = [("a", "1"), ("b", "\ud800")]
    names = [digest(pairs), digest(pairs[::-1]), digest([("a", "1 "), pairs[1]]), digest([])]
    assert len(set(names)) == 4 and digest(iter(pairs)) == names[0] and len(names[0]) == 64
    assert digest([("a1", "")]) != digest([("a", "1")])


def test_the_revision_is_the_one_that_was_read():
    commit = "0123456789abcdef" * 2 + "01234567"
    files = [f"hf://datasets/o/n@{commit}/{name}" for name in ("a.csv", "b.csv")]
    assert hub_source("o/n", "c", "main", files) == f"o/n c at {commit}"
    assert hub_source("o/n", None, "main", []) == "o/n at main"
    assert hub_source("o/n", None, None, ["/tmp/a.json"]) == "o/n at unknown revision"


@pytest.mark.parametrize("task", ["aime24", "math500"])
def test_the_pinned_contents_are_those_of_the_real_problems(task, data_dir):
    config = yaml.safe_load((ROOT / "eval_tasks" / f"s1_{task}.yaml").read_text())
    rows = read(data_dir / f"{task}.jsonl", COLUMNS)
    found = digest((row["problem"], row["answer"]) for row in rows)
    assert found == config["metadata"]["problems_sha256_expected"]
    known = config["metadata"].get("answers_sha256_expected")
    assert known in (None, answers_digest(row["answer"] for row in rows))


def test_answers_name_problems_whatever_their_order_and_zeros():
    assert answers_digest(["023", "7"]) == answers_digest(["7", "23"]) != answers_digest(["23"])
    assert answers_digest(["x", "y"]) == answers_digest(["y", "x"]) != answers_digest(["x"])


def test_the_answers_of_aime_2025_are_pinned():
    """As MAA published them: I, problems 1 to 15, then II."""
    first = [70, 588, 16, 117, 279, 504, 821, 77, 62, 81, 259, 510, 204, 60, 735]
    second = [468, 49, 82, 106, 336, 293, 237, 610, 149, 907, 113, 19, 248, 104, 240]
    config = yaml.safe_load((ROOT / "eval_tasks" / "s1_aime25.yaml").read_text())
    found = answers_digest(map(str, second + first))
    assert found == config["metadata"]["answers_sha256_expected"]


def test_a_row_without_a_choice_is_named():
    with pytest.raises(RowError, match="row 1, field `Incorrect Answer 2`"):
        shuffled([{**ROWS[0], "Incorrect Answer 2": None}], 0)


def test_the_order_never_changes():
    # Runs are compared over years: with another order they would have answered other questions.
    assert "".join(row["answer"] for row in shuffled(ROWS[:8], 0)) == "CCCACBAC"
