from __future__ import annotations

import json

import pytest

from s1_plugin.data import rows as rows_module
from s1_plugin.data.rows import InputError, labels, load


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ROW = {"question": "q", "thinking_trajectories": ["a", "b"], "attempt": "x", "teacher": "t"}


def test_layouts_become_the_same_columns(tmp_path):
    source = write(
        tmp_path / "a.jsonl",
        [
            ROW,
            {**ROW, "thinking_trajectories": [], "status": "truncated"},
            {"messages": [
                {"role": "user", "content": "q2"},
                {"role": "assistant", "content": "<think>\nt\n</think>\n\nans"},
            ]},
            {"problem": "only a question", "answer": 5},
        ],
    )  # fmt: skip
    found = load([source], tmp_path)
    group = found.group(0, rows_module.COLUMNS)
    assert group["question"] == ["q", "q", "q2", "only a question"]
    assert group["thinking"][:2] == ["a\nb", ""]
    assert group["thinking"][2].strip() == "t"
    assert "thinking_trajectories" in group["problem"][1] and group["problem"][0] == ""
    assert group["status"] == ["", "truncated", "", ""]
    assert group["answer"][3] == "5"
    assert json.loads(group["other"][0]) == {"teacher": "t"}
    assert group["place"][1] == "a.jsonl, line 2"
    assert found.value(2, "question") == "q2"


BY_HAND = {"question": "q", "solution": "By hand, 5.", "answer": "5"}


@pytest.mark.parametrize("source", ["a.jsonl", "a.parquet"])
def test_a_solution_is_a_trace_only_where_that_is_asked(tmp_path, capsys, source):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write(tmp_path / "a.jsonl", [BY_HAND, BY_HAND])
    pq.write_table(pa.Table.from_pylist([BY_HAND, BY_HAND]), tmp_path / "a.parquet")
    for _ in range(2):  # read, and kept from before
        group = load([str(tmp_path / source)], tmp_path).group(0, rows_module.COLUMNS)
        assert (group["thinking"][0], group["attempt"][0], group["problem"][0]) == ("", "", "")
        assert (group["solution"][0], group["answer"][0]) == ("By hand, 5.", "5")
        said = capsys.readouterr().err
        assert f"{source}: read as questions with solutions, without traces (2 rows)" in said
        assert "--layout limo" in said
    group = load([str(tmp_path / source)], tmp_path, "limo").group(0, rows_module.COLUMNS)
    assert (group["thinking"][0], group["attempt"][0]) == ("By hand, 5.", "5")
    assert (group["solution"][0], group["answer"][0]) == ("", "5")
    assert capsys.readouterr().err == f"[s1-plugin] {source}: read as LIMO (2 rows)\n"


def test_each_input_says_its_layout(tmp_path, capsys):
    first = write(tmp_path / "a.jsonl", [ROW, {"question": "q"}, ROW])
    load([first, write(tmp_path / "b.jsonl", [BY_HAND])], tmp_path, "limo")
    said = capsys.readouterr().err
    assert "a.jsonl: read as s1K (2 rows), questions without traces (1 rows)\n" in said
    assert "b.jsonl: read as LIMO (1 rows)\n" in said


def test_a_changed_reader_reads_again(tmp_path, monkeypatch):
    source = write(tmp_path / "a.jsonl", [ROW])
    first = load([source], tmp_path)
    (tmp_path / "records.py").write_text("# another reader\n")
    monkeypatch.setattr(rows_module.records, "__file__", str(tmp_path / "records.py"))
    assert load([source], tmp_path).path != first.path


def test_parquet_gives_the_same_rows_and_groups_are_small(tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    monkeypatch.setattr(rows_module, "GROUP", 2)
    rows = [{**ROW, "question": f"q{i}"} for i in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = load([str(tmp_path / "a.parquet")], tmp_path)
    assert [found.value(i, "question") for i in range(5)] == [f"q{i}" for i in range(5)]
    assert found.group(2, ("question",)) == {"question": ["q4"]}
    assert pq.ParquetFile(found.path).num_row_groups == 3


def test_the_same_files_are_read_once_and_changed_files_again(tmp_path):
    source = write(tmp_path / "a.jsonl", [ROW])
    first = load([source], tmp_path)
    stamp = first.path.stat().st_mtime_ns
    again = load([source], tmp_path)
    assert again.path == first.path and again.path.stat().st_mtime_ns == stamp
    write(tmp_path / "a.jsonl", [ROW, ROW])
    assert load([source], tmp_path).digest != first.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"question": "q"}\n{"ques', "line 2: .* is not JSON .*torn"),
        ("[1]\n", "line 1: is list"),
        ('{"thinking": "t"}\n', "line 1, field `question`: is missing"),
        ('{"question": 3}\n', "field `question`: is no text"),
        ('{"question": "\\ud800"}\n', "half a surrogate pair"),
        ("\n", "no rows"),
    ],
)
def test_errors_name_the_place(tmp_path, text, said):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InputError, match=said):
        load([str(tmp_path / "a.jsonl")], tmp_path)
    assert not list((tmp_path / "rows").glob("*"))


@pytest.mark.parametrize("name", ["none.jsonl", "a.csv", "no/such/place", "."])
def test_sources_that_are_not_there(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(InputError, match=r"name a |convert|name the"):
        load([name], tmp_path)


def test_labels_are_as_long_as_they_have_to_be(tmp_path):
    paths = [str(tmp_path / name / "traces.jsonl") for name in ("one", "two")]
    for path in paths:
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text('{"question": "q"}\n')
    assert labels(paths[:1]) == ["traces.jsonl"]
    assert labels(paths) == ["one/traces.jsonl", "two/traces.jsonl"]
    assert labels(paths[:1], least=2) == ["one/traces.jsonl"]
    assert labels([paths[0], "org/data", paths[0]]) == ["traces.jsonl", "org/data", "traces.jsonl"]
    rows = load(paths, tmp_path)
    assert rows.group(0, ["place"])["place"] == [
        f"{n}/traces.jsonl, line 1" for n in ("one", "two")
    ]


def test_columns_that_came_with_the_questions(tmp_path):
    line = {"question": "q", "thinking_trajectories": ["t"], "attempt": "a", "source": "aime"}
    line |= {"metadata": '{"domain": "Geometry", "source": "x", "teacher": "y"}', "teacher": "R1"}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**line, "status": "ok"}) + "\n" + json.dumps(line) + "\n")
    found = load([str(path)], tmp_path).group(0, ["other", "source_type"])
    mine, others = map(json.loads, found["other"])
    assert mine == {"domain": "Geometry", "source": "aime", "teacher": "R1"}
    assert others == {"source": "aime", "teacher": "R1"}  # it may be anything
    assert found["source_type"] == ["aime", "aime"]


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(InputError, match="no whole parquet"):
        load([str(tmp_path / "a.parquet")], tmp_path)
