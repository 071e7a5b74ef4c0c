"""The cache: what runs again when something changed."""

from __future__ import annotations

import json
import platform

import pytest

from s1_plugin.data.engine import Local
from s1_plugin.data.pipeline import Outcome, Stage, run
from s1_plugin.data.rows import load


def input_rows(tmp_path, n=6):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"question": f"q{i}"}) + "\n" for i in range(n)))
    return load([str(path)], tmp_path / "cache")


def drop(*gone):
    return lambda found: Outcome(
        [f"gone: {n}" if n in gone else "" for n in found.numbers], {"seen": list(found.numbers)}
    )


def ran(rows, stages, tmp_path):
    steps = []
    result = run(rows, stages, tmp_path / "cache", Local(), steps.append)
    return result, [step.name for step in steps if not step.cached]


def three(middle, number=0, needs=()):
    return [
        Stage("first", drop(0), {}, ()),
        Stage("second", middle, {"n": number}, ()),
        Stage("third", drop(5), {}, (), needs=needs),
    ]


def test_only_what_depends_on_a_change_runs_again(tmp_path):
    rows = input_rows(tmp_path)
    result, names = ran(rows, three(drop(2)), tmp_path)
    assert names == ["first", "second", "third"]
    assert result.numbers == [1, 3, 4]
    assert result.columns == {"seen": [1, 3, 4]}
    assert ran(rows, three(drop(2)), tmp_path)[1] == []
    # Another setting, other rows through: it and what follows.
    assert ran(rows, three(drop(3), 1), tmp_path)[1] == ["second", "third"]
    # Another setting, the same rows through: it alone.
    assert ran(rows, three(drop(2), 2), tmp_path)[1] == ["second"]


def test_a_stage_that_needs_a_column_runs_again_when_that_changes(tmp_path):
    def column(value):
        return lambda found: Outcome([""] * len(found), {"made": [value] * len(found)})

    rows = input_rows(tmp_path)
    assert ran(rows, three(column(1), 1, ("made",)), tmp_path)[1] == ["first", "second", "third"]
    assert ran(rows, three(column(1), 2, ("made",)), tmp_path)[1] == ["second"]
    assert ran(rows, three(column(7), 3, ("made",)), tmp_path)[1] == ["second", "third"]


def test_changed_code_and_changed_rows(tmp_path, monkeypatch):
    (tmp_path / "stage_code.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    stages = [Stage("one", drop(1), {}, ("stage_code",)), Stage("two", drop(), {}, ())]
    rows = input_rows(tmp_path)
    ran(rows, stages, tmp_path)
    (tmp_path / "stage_code.py").write_text("x = 2\n")
    assert ran(rows, stages, tmp_path)[1] == ["one"]
    assert ran(input_rows(tmp_path, 7), stages, tmp_path)[1] == ["one", "two"]


@pytest.mark.parametrize(
    "left",
    [
        lambda whole: whole[:20],
        lambda whole: b"",
        lambda whole: bytes(len(whole)),
        lambda whole: b"{}",
        lambda whole: b"[]",
        lambda whole: b"null",
        lambda whole: whole.replace(b'"rows": ', b'"rows": 1'),
        lambda whole: whole.replace(b'"gone": {"0"', b'"gone": {"70"'),
        lambda whole: whole.replace(b'"seen": [0, ', b'"seen": ['),
    ],
)
def test_a_torn_outcome_is_made_again(tmp_path, left):
    rows = input_rows(tmp_path)
    stages = [Stage("first", drop(0), {}, ())]
    first = ran(rows, stages, tmp_path)[0]
    (path,) = (tmp_path / "cache" / "stages").iterdir()
    whole = path.read_bytes()
    path.write_bytes(left(whole))
    assert path.read_bytes() != whole
    again, names = ran(rows, stages, tmp_path)
    assert names == ["first"]
    assert (again.numbers, again.columns) == (first.numbers, first.columns)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 1, 100, -100, -1])
def test_torn_rows_are_read_again(tmp_path, capsys, kept):
    rows = input_rows(tmp_path)
    whole = rows.path.read_bytes()
    rows.path.write_bytes(whole[:kept])
    capsys.readouterr()
    again = input_rows(tmp_path)
    assert "is no whole file of rows" in capsys.readouterr().err
    assert again.digest == rows.digest and again.path.read_bytes() == whole
    assert [again.value(n, "question") for n in range(6)] == [f"q{n}" for n in range(6)]
    input_rows(tmp_path)
    assert "is no whole file" not in capsys.readouterr().err


def test_another_version_of_a_package_or_of_python_runs_again(tmp_path, monkeypatch):
    def installed(version):
        folder = tmp_path / version / f"some_package-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: some-package\nVersion: {version}\n")
        monkeypatch.syspath_prepend(str(tmp_path / version))

    stages = [
        Stage("one", drop(1), {}, (), packages=("some-package", "click")),
        Stage("two", drop(), {}, ()),
    ]
    rows = input_rows(tmp_path)
    assert ran(rows, stages, tmp_path)[1] == ["one", "two"]  # it is not installed
    for version in ("1.0", "1.1"):
        installed(version)
        assert ran(rows, stages, tmp_path)[1] == ["one"]
        assert ran(rows, stages, tmp_path)[1] == []
    monkeypatch.setattr(platform, "python_version", lambda: "4.0.0")
    assert ran(rows, stages, tmp_path)[1] == ["one", "two"]


def test_steps_count_reasons_by_kind(tmp_path):
    steps = []
    run(input_rows(tmp_path), three(drop(2, 3)), tmp_path / "c", Local(), steps.append)
    assert steps[1].reasons == {"gone": 2}
    assert steps[1].examples == {"gone": "a.jsonl, line 3: gone: 2"}
    assert (steps[1].rows_in, steps[1].rows_out) == (5, 3)


def test_no_row_left(tmp_path):
    result, names = ran(input_rows(tmp_path, 1), three(drop()), tmp_path)
    assert result.numbers == [] and names == ["first"]
