"""A row is named by its own file and line, however the files came to be one table."""

import gzip
import json

import datasets
import pytest
from axolotl.utils.data.shared import load_dataset_with_config
from axolotl.utils.dict import DictDefault

from s1_plugin import files

ROW = {"question": "1+2", "thinking_trajectories": ["3"], "attempt": "3"}


def line(number):
    return json.dumps({**ROW, "question": str(number)})


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def places(**ds_cfg):
    """(question, place) of every row that axolotl loads; questions are written so that the number
    in them is the line they stand in."""
    data = DictDefault(ds_cfg)
    loaded = load_dataset_with_config(data, False)
    if isinstance(loaded, datasets.DatasetDict):
        loaded = loaded["train"]
    if data.shards:
        loaded = loaded.shuffle(seed=7).shard(num_shards=data.shards, index=data.shards_idx)
    return list(zip(loaded["question"], files.Places(loaded, data, seed=7), strict=True))


def test_blank_lines_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"\n{line(2)}\n  \n{line(4)}\n\n{line(6)}")
    assert places(path="a.jsonl") == [(n, f"a.jsonl, line {n}") for n in "246"]


def test_two_rows_in_one_line_share_it(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{line(1)} {line(1)}\n{line(2)}\n")
    assert [place for _, place in places(path="a.jsonl")] == [
        "a.jsonl, line 1",
        "a.jsonl, line 1",
        "a.jsonl, line 2",
    ]


@pytest.mark.parametrize("split", ["train[2:]", "train[:50%]", "train[3:]+train[:1]"])
def test_slices(tmp_path, split):
    (tmp_path / "a.jsonl").write_text("".join(f"{line(n)}\n" for n in range(1, 7)))
    rows = places(path="a.jsonl", split=split)
    assert 3 <= len(rows) <= 4
    assert all(place == f"a.jsonl, line {n}" for n, place in rows)


def test_shards(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f"{line(n)}\n" for n in range(1, 10)))
    rows = places(path="a.jsonl", shards=2, shards_idx=1)
    assert len(rows) == 4
    assert all(place == f"a.jsonl, line {n}" for n, place in rows)


@pytest.mark.parametrize(
    "how",
    [
        {"path": "parts"},
        {"path": "parts", "ds_type": "json", "data_files": "parts/*.jsonl"},
        {"path": "parts", "ds_type": "json", "data_files": ["parts/b.jsonl", "parts/a.jsonl"]},
    ],
)
def test_several_files_keep_their_own_numbers(tmp_path, how):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.jsonl").write_text(f"{line('a1')}\n\n{line('a3')}\n")
    (folder / "b.jsonl").write_text(f"{line('b1')}\n{line('b2')}\n")
    rows = places(**how)
    assert len(rows) == 4
    assert all(place == f"parts/{q[0]}.jsonl, line {q[1]}" for q, place in rows)


def test_compressed_files_and_lists(tmp_path):
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(f"{line(1)}\n\n{line(3)}\n")
    assert places(path="a.jsonl.gz") == [(n, f"a.jsonl.gz, line {n}") for n in "13"]
    (tmp_path / "b.json").write_text(json.dumps([json.loads(line(n)) for n in (1, 2)], indent=1))
    assert places(path="b.json") == [(n, f"b.json, item {n}") for n in "12"]


def test_parquet_rows(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in "ab":
        rows = [json.loads(line(f"{name}{n}")) for n in (1, 2)]
        datasets.Dataset.from_list(rows).to_parquet(folder / f"{name}.parquet")
    rows = places(path="parts")
    assert len(rows) == 4
    assert all(place == f"parts/{q[0]}.parquet, row {q[1]}" for q, place in rows)


def test_what_cannot_be_told_for_certain_is_a_row_number(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{line(1)}\n{line(2)}\n")
    other = datasets.Dataset.from_list([ROW] * 3)
    assert list(files.Places(other, {"path": "a.jsonl"})) == ["row 1", "row 2", "row 3"]
    assert list(files.Places(other, {"path": "some/hub-data"}))[2] == "row 3"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'{line(1)}\n\n{{"question": "a", "thi', 'line 3: \'{"question": "a", "thi\' is not JSON'),
        (f'{line(1)}\n{{"question": "a", "thi', "its writing was interrupted"),
        (f"{line(1)}\noops\x1b[2J\n{line(3)}\n", "line 2: 'oops\\x1b[2J' is not JSON"),
        (f"{line(1)}\n[1, 2]\n", "line 2 holds list"),
        (f'{line(1)}\n{{"a": 1, "a": 2}}\n', "line 2 names 'a' twice"),
        (f"{line(1)}\n".encode() + b'{"question": "\xff"}\n', "line 2: byte 15 is not UTF-8"),
        ("", "holds no rows"),
        (f"[{line(1)},\n{line(2)}\n", "line 3 is not JSON"),
        (f"[{line(1)},\n3]\n", "item 2 holds int"),
        (gzip.compress(f"{line(1)}\n".encode() * 9)[:-9], "is torn"),
    ],
)
def test_what_is_no_row_is_named_with_its_line(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Exception):  # noqa: B017 (whatever `datasets` says of it)
        list(load_dataset_with_config(DictDefault(path="a.json"), False))
    said = files.explain({"path": "a.json"})
    assert said and said.startswith("a.json") and words in said
    assert "\x1b" not in said


def test_whole_files_need_no_explanation(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{line(1)}\n")
    assert files.explain({"path": "a.jsonl"}) is None
    assert files.explain({"path": "some/hub-data"}) is None
