"""Changed data or settings never meet prepared data made from others."""

import pytest

from s1_plugin import counts, prepared
from s1_plugin.config import S1Config
from tests.test_traces import Cfg


@pytest.fixture
def cfg(tmp_path):
    data = tmp_path / "traces.jsonl"
    data.write_text("one\n")
    base = tmp_path / "base"
    base.mkdir()
    (base / "tokenizer.json").write_text("{}")
    return Cfg(
        datasets=[Cfg(path=str(data), type="s1_plugin.traces")],
        base_model=str(base),
        dataset_prepared_path=str(tmp_path / "prepared"),
        sequence_len=64,
        seed=1,
    )


def test_the_same_state_has_the_same_fingerprint(cfg):
    assert prepared.fingerprint(cfg, S1Config()) == prepared.fingerprint(cfg, S1Config())


def test_changed_contents_of_the_same_size_and_time_are_seen(cfg, tmp_path):
    import os

    before = prepared.fingerprint(cfg, S1Config())
    data = tmp_path / "traces.jsonl"
    stat = data.stat()
    data.write_text("two\n")
    os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert prepared.fingerprint(cfg, S1Config()) != before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("excess_length_strategy", "drop"),
        ("seed", 2),
        ("eval_sequence_len", 9),
        ("sequence_len", 128),
        ("special_tokens", {"pad_token": "x"}),
    ],
)
def test_settings_of_axolotl_that_it_does_not_hash_are_seen(cfg, key, value):
    before = prepared.fingerprint(cfg, S1Config())
    cfg[key] = value
    assert prepared.fingerprint(cfg, S1Config()) != before


def test_changed_settings_and_tokenizers_are_seen(cfg, tmp_path):
    before = prepared.fingerprint(cfg, S1Config())
    assert prepared.fingerprint(cfg, S1Config(bad_rows="skip")) != before
    assert prepared.fingerprint(cfg, S1Config(format="think-tags")) != before
    (tmp_path / "base" / "tokenizer.json").write_text('{"a": 1}')
    assert prepared.fingerprint(cfg, S1Config()) != before


@pytest.mark.parametrize("pattern", [str, lambda p: [p], lambda p: {"train": [p]}])
def test_changed_files_behind_a_pattern_are_seen(cfg, tmp_path, pattern):
    cfg["datasets"] = [Cfg(path="json", data_files=pattern(str(tmp_path / "*.jsonl")))]
    before = prepared.fingerprint(cfg, S1Config())
    (tmp_path / "traces.jsonl").write_text("changed\n")
    assert prepared.fingerprint(cfg, S1Config()) != before


def test_named_columns_are_seen(cfg):
    before = prepared.fingerprint(cfg, S1Config())
    cfg["datasets"][0]["field_human"] = "q"
    assert prepared.fingerprint(cfg, S1Config()) != before


@pytest.fixture
def whole(cfg):
    """A folder with rows as `save_to_disk` leaves them, and their counts beside it."""
    import datasets

    folder = prepared.use_own_folder(cfg, S1Config())
    datasets.Dataset.from_dict({"input_ids": [[1]] * 3}).save_to_disk(str(folder / "hash"))
    kept = counts.Counts(source="traces.jsonl", reader="s1K", rows=3, bad=1, sequence_len=64)
    counts.save(folder, kept, "traces.jsonl")
    cfg["dataset_prepared_path"] = str(folder.parent)
    return folder


def test_whole_data_are_kept_and_their_counts_said_again(cfg, whole):
    assert prepared.use_own_folder(cfg, S1Config()) == whole
    assert (whole / "hash" / "data-00000-of-00001.arrow").exists()
    assert [kept.rows for kept in prepared.reused(whole)] == [3]


@pytest.mark.parametrize("name", ["hash/state.json", "hash/dataset_info.json", counts.FILE_NAME])
@pytest.mark.parametrize("left", [None, "", '{"_data_f'])
def test_what_an_interrupted_run_left_is_removed(cfg, whole, name, left):
    if left is None:
        (whole / name).unlink()
    else:
        (whole / name).write_text(left)
    assert prepared.use_own_folder(cfg, S1Config()) == whole
    assert not (whole / "hash").exists() and prepared.reused(whole) == []


def test_what_is_going_to_be_written_over_is_removed(cfg, whole):
    """Torn rows would lie beside the files that say that they are whole."""
    prepared.use_own_folder(cfg, S1Config(), anew=True)
    assert not (whole / "hash").exists() and prepared.reused(whole) == []


def test_files_that_changed_but_kept_their_time_are_parsed_again(cfg, tmp_path, monkeypatch):
    """`datasets` alone would hand out the rows that it parsed before."""
    import os

    import datasets
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "traces.jsonl"
    entry = DictDefault(path=str(data), type="s1_plugin.traces")
    cfg["datasets"] = [entry]

    def rows(text):
        data.write_text(f'{{"question": "{text}"}}\n')
        os.utime(data, ns=(10**18, 10**18))
        cfg["dataset_prepared_path"] = str(tmp_path / "prepared")
        prepared.parse_files(cfg, prepared.use_own_folder(cfg, S1Config()))
        return load_dataset_with_config(entry, False)["question"][:]

    assert rows("one") == ["one"]
    assert rows("two") == ["two"]
    assert rows("one") == ["one"]
    (parsed,) = (tmp_path / "cache").rglob("*.arrow")
    before = parsed.stat().st_mtime_ns
    assert rows("one") == ["one"]
    assert parsed.stat().st_mtime_ns == before  # parsed once for each change, not each time
