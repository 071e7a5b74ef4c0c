import json
import tracemalloc

import pytest

from s1_plugin.distill.questions import Question, Questions

ROWS = [
    {"id": 7, "question": "What?", "solution": "that", "source_type": "mine", "year": 2024},
    {"id": None, "question": "∑\u2028?", "solution": None, "source_type": None, "year": None},
]


def test_jsonl_and_parquet_read_alike_and_twice(tmp_path):
    from datasets import Dataset

    jsonl, parquet = tmp_path / "q.jsonl", tmp_path / "q.parquet"
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    Dataset.from_list(ROWS).to_parquet(parquet)
    rest = {"id": "7", "solution": "that", "source_type": "mine", "metadata": '{"year": 2024}'}
    want = [Question("What?", **rest), Question("∑\u2028?")]
    for path in (jsonl, parquet):
        questions = Questions(str(path))
        assert list(questions) == want == list(questions)


def test_jsonl_is_read_line_by_line(tmp_path):
    """5 MB of questions, in less than 1 MB of memory."""
    path = tmp_path / "q.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"question": "{n} {"x" * 1000}"}}\n' for n in range(5_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in Questions(str(path))) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_named_column_and_other_names(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"problem": "p", "answer": 5, "source": "s", "metadata": "{}"}\n')
    want = Question("p", answer="5", source_type="s", metadata="{}")
    assert list(Questions(str(path), "problem")) == [want]
    with pytest.raises(ValueError, match=r"line 1: field 'question' is missing.*--question-field"):
        list(Questions(str(path)))


def read(tmp_path, *rows):
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(Questions(str(path)))


def test_white_space_around_a_question_makes_no_other(tmp_path):
    assert read(tmp_path, {"question": " a  b\n"}, {"question": "a  b"}) == [Question("a  b")] * 2


def test_nan_is_no_answer(tmp_path):
    """pandas writes it for what is missing."""
    nan = float("nan")
    (question,) = read(tmp_path, {"question": "q", "answer": nan, "solution": nan, "year": nan})
    assert question == Question("q")


@pytest.mark.parametrize(
    ("columns", "metadata"),
    [
        ({"metadata": "as it is"}, "as it is"),  # s1K's column
        ({"metadata": {"year": 2024}}, {"year": 2024}),
        ({"metadata": [1]}, {"metadata": [1]}),
        ({"metadata": "{}", "year": 2024}, {"metadata": "{}", "year": 2024}),
        ({"domain": "Topology"}, {"domain": "Topology"}),
        (
            {"a": {"b": [float("nan"), float("-inf")]}, "c": float("inf")},
            {"a": {"b": [None, "-inf"]}, "c": "inf"},
        ),
    ],
)
def test_metadata_of_ours_is_an_object(tmp_path, columns, metadata):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    (question,) = read(tmp_path, {"question": "q", **columns})
    if isinstance(metadata, str):
        assert question.metadata == metadata
    else:
        assert json.loads(question.metadata, parse_constant=refuse) == metadata


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"question": "a"}\n{"question": " "}\n', "line 2: field 'question' holds no text"),
        ('{"question": 5}\n', "line 1: field 'question' holds no text"),
        ('{"question": "\\ud800"}\n', "line 1: field 'question' holds half a surrogate"),
        *(
            (
                f'{{"question": "a"}}\n{{"question": "b", {more}}}\n',
                f"line 2: field '{name}' holds half",
            )
            for name, more in [
                ("answer", '"answer": "\\ud800"'),
                ("metadata", '"metadata": "\\ud800"'),
                ("year", '"id": 1, "year": {"a": ["\\udfff"]}'),
                (r"\\ud800", '"id": 1, "\\ud800": 1'),
            ]
        ),
        ('{"question": "a"}\n{"quest', "line 2.*not JSON"),
        ("", "no rows"),
    ],
)
def test_bad_rows_are_named(tmp_path, text, problem):
    path = tmp_path / "q.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        list(Questions(str(path)))


def test_bad_sources_are_named(tmp_path):
    (tmp_path / "q.csv").write_text("question\n")
    (tmp_path / "q.parquet").write_bytes(b"PAR1")
    for source, problem in [
        ("nope.jsonl", "no such file"),
        (tmp_path / "q.csv", "convert"),
        (tmp_path, "is a folder; name the .jsonl or .parquet file in it"),
    ]:
        with pytest.raises(ValueError, match=problem):
            Questions(str(source))
    with pytest.raises(ValueError, match="no whole parquet file"):
        list(Questions(str(tmp_path / "q.parquet")))


def test_a_data_set_that_cannot_be_had_says_what_to_do(monkeypatch):
    """The hub's client is there, the hub is not."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"QUESTIONS nobody/nothing.*--split.*hf auth") as error:
        Questions("nobody/nothing")
    assert "\n" not in str(error.value)
