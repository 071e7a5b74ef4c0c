from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from s1_plugin.data import benchmarks
from s1_plugin.data.rows import InputError

TASKS = Path(__file__).resolve().parents[2] / "eval_tasks"


@pytest.mark.parametrize("name", sorted(benchmarks.PLACES))
def test_places_are_those_of_the_tasks(name):
    def ignore(loader, suffix, node):
        return None

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", ignore)
    found: dict = {}
    path = TASKS / f"s1_{name}.yaml"
    while path:
        task = yaml.load(path.read_text(encoding="utf-8"), Loader)
        found = {**task, **found}
        path = TASKS / task["include"] if "include" in task else None
    place = benchmarks.PLACES[name]
    assert place.dataset == found["dataset_path"]
    assert place.config == found.get("dataset_name")
    assert place.split == found["test_split"]
    assert place.revision == (found.get("dataset_kwargs") or {}).get("revision")
    assert place.local == found["metadata"]["local"]


def test_what_cannot_be_had_is_an_error_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("S1_EVAL_DATA", str(tmp_path))
    with pytest.raises(
        InputError,
        match=r"aime24.jsonl is not there; aime25: .*gpqa_diamond.jsonl is not there; "
        r"put aime24.jsonl \(`problem`\), aime25.*gpqa_diamond.jsonl \(`Question`\).*"
        r"--without-benchmark aime24 --without-benchmark aime25 .*gpqa_diamond$",
    ):
        benchmarks.load()
    monkeypatch.delenv("S1_EVAL_DATA")
    with pytest.raises(InputError, match=r"aime24: .*cannot be loaded.*--without-benchmark aime24"):
        benchmarks.load()


def test_left_out_by_name_and_files_of_ones_own(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "mine.jsonl").write_text(json.dumps({"question": "q", "id": 7}) + "\n")
    (found,) = benchmarks.load(tuple(benchmarks.PLACES), (tmp_path / "mine.jsonl",))
    assert found == ("mine.jsonl", "mine.jsonl", ("q",), ("7",))
    pq.write_table(pa.Table.from_pylist([{"problem": "p"}]), tmp_path / "mine.parquet")
    (found,) = benchmarks.load(tuple(benchmarks.PLACES), (tmp_path / "mine.parquet",))
    assert found == ("mine.parquet", "mine.parquet", ("p",), ("row 0",))
    pq.write_table(pa.Table.from_pylist([{"q": "p"}]), tmp_path / "mine.parquet")
    with pytest.raises(InputError, match=r"mine\.parquet, row 0: has no text under"):
        benchmarks.load(tuple(benchmarks.PLACES), (tmp_path / "mine.parquet",))
    with pytest.raises(InputError, match="there are aime24"):
        benchmarks.load(("aime23",))
    (tmp_path / "mine.jsonl").write_text(json.dumps({"q": "q"}) + "\n")
    with pytest.raises(InputError, match="line 1: has no text under"):
        benchmarks.load(tuple(benchmarks.PLACES), (tmp_path / "mine.jsonl",))
