import json
import os

import pytest

from s1_plugin.evaluation.journal import Answer, Journal, Trajectory, digest, journal_of, stamp

ANSWER = Answer([7, 8], "stop")


def test_what_is_written_is_there_the_next_time(tmp_path):
    first = Journal(tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())  # a file when there is something to keep
    first.add("f", "t", ANSWER, Trajectory(40, 2, [1, 2, 3]))
    first.add("f", "u", Answer([9], "length"))
    for journal in (Journal(tmp_path / "model"), Journal(tmp_path / "model")):
        assert journal.answer("f", "t") == ANSWER
        assert journal.answer("f", "u") == Answer([9], "length")
        assert journal.answer("g", "t") is None
        assert journal.trajectory("f", 40, 2) == Trajectory(40, 2, [1, 2, 3])
        assert journal.trajectory("f", 10, 0) == Trajectory(40, 2, [1, 2, 3])
        assert journal.trajectory("f", 41, 0) is None and journal.trajectory("f", 1, 3) is None


def test_every_process_writes_a_file_of_its_own(tmp_path):
    one, two = Journal(tmp_path), Journal(tmp_path)
    for i in range(50):
        one.add("one", str(i), ANSWER)
        two.add("two", str(i), ANSWER)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    both = Journal(tmp_path)
    assert all(both.answer(f, str(i)) == ANSWER for f in ("one", "two") for i in range(50))


@pytest.mark.parametrize("length", [1, 20, -1])
def test_a_line_cut_short_by_a_kill_is_said_and_left_out(tmp_path, capsys, length):
    journal = Journal(tmp_path)
    for name in "abc":
        journal.add("f", name, ANSWER, Trajectory(5, 0, [1, 2]))
    journal.close()
    (file,) = tmp_path.glob("*.jsonl")
    *whole, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole) + last.rstrip()[:length])
    again = Journal(tmp_path)
    assert "1 unfinished lines" in capsys.readouterr().err
    assert [again.answer("f", name) for name in "abc"] == [ANSWER, ANSWER, None]


def test_a_model_has_a_folder_of_its_own_and_nobody_else_reads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("S1_CACHE", str(tmp_path))
    here = journal_of({"name": "org/model", "dtype": "float32"})
    assert here.folder.parent == tmp_path / "answers"
    assert here.folder.name.startswith("org-model-")
    assert here.folder != journal_of({"name": "org/model", "dtype": "bfloat16"}).folder
    assert here.folder == journal_of({"dtype": "float32", "name": "org/model"}).folder
    assert journal_of({"name": "../../x"}).folder.parent == tmp_path / "answers"
    here.add("f", "t", ANSWER)
    assert here.folder.stat().st_mode & 0o077 == 0


def test_without_a_setting_it_is_where_caches_are(tmp_path, monkeypatch):
    monkeypatch.delenv("S1_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert journal_of({"name": "m"}).folder.is_relative_to(tmp_path / "s1-plugin")


def test_a_model_trained_anew_in_its_folder_is_another(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"0" * 100)
    before = stamp(tmp_path)
    assert before == stamp(tmp_path) and stamp("org/model") == []
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert stamp(tmp_path) != before


def test_a_digest_knows_sets_and_not_their_order():
    assert digest({"a": frozenset({3, 1}), "b": [1]}) == digest({"b": [1], "a": frozenset({1, 3})})
    assert digest([1, 2]) != digest([2, 1]) != digest(json.dumps([2, 1]))


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_generated(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="set S1_CACHE"):
        Journal(tmp_path / "file" / "model")


def test_a_full_disk_costs_the_journal_and_nothing_else(tmp_path, capsys):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    journal = Journal(tmp_path)
    journal._file = Full()
    for _ in range(3):
        journal.add("f", "t", ANSWER)
    journal.close()
    assert capsys.readouterr().err.count("No space left") == 1


def test_a_model_in_one_file_has_a_stamp(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"1")
    before = stamp(tmp_path / "m.gguf")
    os.utime(tmp_path / "m.gguf", ns=(1, 1))
    assert before and stamp(tmp_path / "m.gguf") != before
