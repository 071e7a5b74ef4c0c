import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s1_plugin.training import space

BIG = {
    "base_model": "Qwen/Qwen2.5-32B-Instruct",
    "bf16": True,
    "optimizer": "adamw_torch_fused",
    "num_epochs": 5,
    "s1": {"weights": "float32"},
}
PARAMS = 32_763_876_352


@pytest.mark.parametrize(
    ("settings", "bytes_"),
    [
        # 4 bytes a weight, 12 in a checkpoint with Adam's states; the limit, and one more
        ({"save_strategy": "epoch", "save_total_limit": 1}, 4 + 2 * 12),
        ({"save_strategy": "epoch"}, 4 + 5 * 12),
        ({"save_strategy": "epoch", "save_only_model": True}, 4 + 5 * 4),
        ({"save_strategy": "no"}, 4),
        # whole tensors under FSDP: the weights are there twice
        (
            {"save_total_limit": 1, "fsdp_config": {"state_dict_type": "FULL_STATE_DICT"}},
            4 + 2 * 16,
        ),
        ({"save_total_limit": 1, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}, 28),
        ({"save_strategy": "epoch", "save_total_limit": 1, "s1": {}}, 2 + 2 * 6),
    ],
)
def test_what_32b_saves(settings, bytes_):
    found, _ = space.needed({**BIG, **settings})
    assert found == bytes_ * PARAMS


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 3),  # axolotl saves every epoch where nothing is said
        ({"save_strategy": "no"}, 0),
        ({"save_strategy": False}, 0),
        ({"save_steps": 10, "max_steps": 25}, 3),
        ({"save_steps": 10}, 5),
        ({"saves_per_epoch": 2, "save_total_limit": 8}, 6),
        ({"save_steps": 0.5}, 2),
    ],
)
def test_how_many_checkpoints_lie_there(settings, count):
    assert space.checkpoints({"num_epochs": 3, **settings}) == count


@pytest.fixture
def small(nano_base, tmp_path):
    return {
        "base_model": str(nano_base),
        "output_dir": str(tmp_path / "a" / "model"),
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "num_epochs": 1,
    }


def test_enough_room_is_no_problem_and_nothing_is_left_behind(small, tmp_path):
    assert space.check(small) is None
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_with_bytes_and_remedy(small, monkeypatch):
    bytes_, _ = space.needed(small)
    usage = shutil.disk_usage("/")

    def free(amount):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=amount))

    free(bytes_)
    assert space.check(small) is None
    free(bytes_ - 1)
    with pytest.raises(
        ValueError, match=f"{bytes_:,} bytes, and {bytes_ - 1:,} are free"
    ) as caught:
        space.check(small)
    assert small["output_dir"] in str(caught.value) and "save_total_limit" in str(caught.value)
    # what an earlier run left is replaced
    weights = Path(small["output_dir"], "checkpoint-3", "model.safetensors")
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"1")
    assert space.check(small) is None


@pytest.mark.parametrize("setting", ["output_dir", "dataset_prepared_path"])
def test_a_folder_that_cannot_be_written_is_named(small, setting, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"{setting} .*file is a file; move it away"):
        space.check({**small, setting: str(tmp_path / "file" / "model")})
    # A real folder in which nobody, root included, can make a file.
    with pytest.raises(ValueError, match=f"{setting} /proc/x cannot be written: .*in /proc"):
        space.check({**small, setting: "/proc/x"})


def test_a_disk_that_is_full_while_much_seems_free(tmp_path):
    """A real one of 512 kB, in a mount namespace of its own."""
    code = "import sys; from s1_plugin.training.space import unwritable; "
    code += "from pathlib import Path; print(unwritable('output_dir', Path(sys.argv[1])))"
    script = f'mount -t tmpfs -o size=512k tmpfs {tmp_path} && exec "$0" -c "$1" {tmp_path}/model'
    command = ["unshare", "-rm", "sh", "-c", script, sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ermi" in done.stderr or "Operation not" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert "cannot be written: No space left on device" in done.stdout, done


def test_what_is_not_known_is_said(small):
    said = space.check({**small, "optimizer": "unheard_of"})
    assert said is not None and "is not known" in said and "unheard_of" in said
