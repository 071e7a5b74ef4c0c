"""Which checkpoints training can go on from: one that was being written when the run was killed
must not be taken for whole."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from s1_plugin.console import say

#: Files in which optimisers keep their states, by who writes them: transformers, accelerate's FSDP
#: (one file, or a folder of shards), DeepSpeed.
_OPTIMISERS = ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*")
_WEIGHTS = (
    *("*.safetensors", "pytorch_model*.bin", "adapter_model.bin"),
    *("pytorch_model_fsdp_*", "global_step*"),
)
SET_ASIDE = "incomplete-"


def newest_first(output_dir: Path) -> list[Path]:
    """The checkpoints in ``output_dir``, as axolotl finds them."""
    found = [
        path
        for path in output_dir.glob("checkpoint-*")
        if path.is_dir() and path.name.removeprefix("checkpoint-").isdecimal()
    ]
    return sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-")))


def flaw(folder: Path) -> str | None:
    """What is missing in a checkpoint, by its files' headers and ends; None if it is whole.

    `transformers` writes the weights first and ``trainer_state.json`` last, without renaming.
    """
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return "trainer_state.json, which is written last, is not there or not whole"
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        return "there are no weights"
    for path in sorted(folder.rglob("*.safetensors")):
        if not _is_whole_safetensors(path):
            return f"{path.name} is cut off"
    for index in folder.glob("*.index.json"):
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        for shard in sorted(set(shards)):
            if not (folder / shard).is_file():
                return f"{shard} is missing"
    for path in sorted([*folder.rglob("*.pt"), *folder.rglob("*.bin"), *folder.rglob("*.pth")]):
        # What torch.save writes is a zip archive, its directory at the end.
        if not zipfile.is_zipfile(path):
            return f"{path.relative_to(folder)} is cut off"
    return None


def _is_whole_safetensors(path: Path) -> bool:
    """Whether the file is as long as its header says
    (https://github.com/huggingface/safetensors#format)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [e["data_offsets"][1] for name, e in header.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)


def set_aside(output_dir: Path) -> list[Path]:
    """Renames checkpoints that are not whole, so that the last one is; returns their new paths.

    One that was set aside earlier under the same number is replaced: it would never be used.
    """
    moved = []
    for folder in newest_first(output_dir):
        reason = flaw(folder)
        if reason is None:
            break
        target = folder.with_name(SET_ASIDE + folder.name)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
        say(f"{folder} is incomplete ({reason}): renamed to {target.name}, and safe to delete")
        moved.append(target)
    return moved


def check_resumable(folder: Path) -> None:
    """For a checkpoint that training is about to go on from.

    Raises:
        ValueError: if it is not whole, or holds no states of the optimiser: `transformers` would
            begin with new ones, and the learning rate at its start, without a word.
    """
    remedy = (
        f"To start anew, move {folder} away or remove `resume_from_checkpoint` and "
        "`auto_resume_from_checkpoints` from the config"
    )
    if not folder.is_dir():
        raise ValueError(f"resume_from_checkpoint: there is no folder {folder}. {remedy}")
    reason = flaw(folder)
    if reason:
        raise ValueError(f"training cannot go on from {folder}: {reason}. {remedy}")
    if not any(any(folder.glob(pattern)) for pattern in _OPTIMISERS):
        raise ValueError(
            f"training cannot go on from {folder}: it holds the model alone, without the "
            "optimiser's states, because it was saved under `save_only_model: true`. "
            f"{remedy}; for checkpoints to go on from, set `save_only_model: false`"
        )


def prepare(output_dir: Path, resume_from: str | None, auto_resume: bool) -> None:
    """Before training: what is incomplete is set aside, and what is left can be gone on from.

    Args:
        resume_from: axolotl's ``resume_from_checkpoint``.
        auto_resume: its ``auto_resume_from_checkpoints``.

    Raises:
        ValueError: see `check_resumable`.
    """
    set_aside(output_dir)
    left = newest_first(output_dir)
    if resume_from:
        check_resumable(Path(resume_from))
    elif left and auto_resume:
        check_resumable(left[0])
    elif left:
        say(
            f"{left[0]} is there and NOT gone on from; set `auto_resume_from_checkpoints: true` "
            "if this is the same run"
        )
