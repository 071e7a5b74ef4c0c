import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from s1_plugin.training import checkpoints


def make(folder, step, optimiser=True):
    """A checkpoint with the files that `transformers` writes."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"w": torch.ones(50), "v": torch.ones(3)}, path / "model.safetensors")
    if optimiser:
        torch.save({"state": torch.ones(50)}, path / "optimizer.pt")
        torch.save({}, path / "scheduler.pt")
        torch.save({}, path / "rng_state.pth")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def cut(path, by=1):
    path.write_bytes(path.read_bytes()[:-by])


@pytest.fixture
def folder(tmp_path):
    make(tmp_path, 9)
    make(tmp_path, 100)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_whole_stays(folder):
    assert checkpoints.set_aside(folder) == []
    assert [p.name for p in checkpoints.newest_first(folder)] == ["checkpoint-100", "checkpoint-9"]
    checkpoints.prepare(folder, None, auto_resume=True)


@pytest.mark.parametrize(
    "name", ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt"]
)
@pytest.mark.parametrize("how", ["cut", "empty", "half"])
def test_a_torn_file_sets_the_checkpoint_aside(folder, name, how, capsys):
    path = folder / "checkpoint-100" / name
    cut(path, {"cut": 1, "empty": path.stat().st_size, "half": path.stat().st_size // 2}[how])
    (moved,) = checkpoints.set_aside(folder)
    assert names(folder) == ["checkpoint-9", "incomplete-checkpoint-100"]
    assert moved.name == "incomplete-checkpoint-100"
    said = capsys.readouterr().err
    assert name in said and "checkpoint-100" in said and "safe to delete" in said


def test_every_moment_of_writing_is_seen(folder):
    """As `transformers` writes them: weights first, the trainer's state last."""
    whole = folder / "checkpoint-100"
    files = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"]
    for n in range(len(files) + 1):
        part = folder / "checkpoint-200"
        part.mkdir()
        for name in files[:n]:
            shutil.copy(whole / name, part / name)
        assert checkpoints.flaw(part)
        assert [p.name for p in checkpoints.set_aside(folder)] == ["incomplete-checkpoint-200"]


def test_a_missing_shard_is_seen(folder):
    path = folder / "checkpoint-100"
    index = {"weight_map": {"w": "model.safetensors", "v": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert checkpoints.flaw(path) == "model-00002-of-00002.safetensors is missing"


def test_without_optimiser_states_going_on_is_refused(tmp_path):
    make(tmp_path, 5, optimiser=False)
    with pytest.raises(ValueError, match=r"save_only_model: true.*set `save_only_model: false`"):
        checkpoints.prepare(tmp_path, None, auto_resume=True)
    checkpoints.prepare(tmp_path, None, auto_resume=False)


def test_a_named_checkpoint_must_be_whole_and_there(folder):
    with pytest.raises(ValueError, match="there is no folder"):
        checkpoints.prepare(folder, str(folder / "checkpoint-7"), auto_resume=False)
    cut(folder / "checkpoint-9" / "optimizer.pt")
    with pytest.raises(ValueError, match=r"checkpoint-9: optimizer\.pt is cut off"):
        checkpoints.prepare(folder, str(folder / "checkpoint-9"), auto_resume=False)


def test_a_checkpoint_that_is_not_gone_on_from_is_said(folder, capsys):
    checkpoints.prepare(folder, None, auto_resume=False)
    assert "checkpoint-100 is there and NOT gone on from" in capsys.readouterr().err


def test_nothing_there_is_nothing_to_do(tmp_path):
    checkpoints.prepare(tmp_path / "none", None, auto_resume=True)
