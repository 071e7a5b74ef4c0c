"""Whether what a run writes can be written, and fits on the disk: found before training."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s1_plugin.plan import recipe, shapes
from s1_plugin.prepared import DEFAULT_FOLDER

#: axolotl's, where the config sets none (core/builders/base.py).
_SAVE_TOTAL_LIMIT = 4
DEFAULT_OUTPUT = "./model-out"
_PROBE = 1 << 20


def folders(cfg: Mapping[str, Any]) -> dict[str, Path]:
    """The folders that a run writes to, by the setting that names them."""
    return {
        "output_dir": Path(cfg.get("output_dir") or DEFAULT_OUTPUT),
        "dataset_prepared_path": Path(cfg.get("dataset_prepared_path") or DEFAULT_FOLDER),
    }


def unwritable(setting: str, folder: Path) -> str | None:
    """Why ``folder`` cannot be written to; None if it can. A file of 1 MiB is written where it is,
    or where it will be made, and removed."""
    existing = _existing(folder)
    if not existing.is_dir():
        return f"{setting} {folder}: {existing} is a file; move it away or choose another folder"
    try:
        with tempfile.TemporaryFile(dir=existing, prefix=".s1-probe-") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return (
            f"{setting} {folder} cannot be written: {error.strerror or error} (in {existing}); "
            "mend its permissions, make room, or choose another folder"
        )
    return None


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(p for p in [folder, *folder.parents] if p.exists())


def checkpoints(cfg: Mapping[str, Any]) -> int:
    """How many checkpoints lie there at a time, at most: the oldest is removed after the newest is
    written (axolotl's ``save_total_limit`` is 4 where it is not set)."""
    most = int(cfg.get("save_total_limit") or _SAVE_TOTAL_LIMIT) + 1
    plan = recipe.of_config(cfg)
    written = plan.checkpoints(plan.max_steps)
    return most if written is None else min(most, written)


def needed(cfg: Mapping[str, Any]) -> tuple[int, str]:
    """Bytes of the weights and checkpoints that a run saves, and a sentence on what they are.

    Raises:
        ValueError: where the model's shape or the optimiser is not known.
    """
    plan, shape = recipe.of_config(cfg), shapes.of_model(str(cfg.get("base_model")))
    model = float(plan.weight * plan.trained(shape))
    checkpoint = plan.saved * plan.trained(shape)
    kept = checkpoints(cfg)
    parts = f"the model of {_size(model)}"
    if kept:
        kind = "without" if cfg.get("save_only_model") else "with"
        parts += (
            f" and {kept} checkpoint{'s' * (kept > 1)} of {_size(checkpoint)} "
            f"({kind} optimiser states)"
        )
    return round(model + kept * checkpoint), parts


def too_little(cfg: Mapping[str, Any]) -> str | None:
    """Why the disk of ``output_dir`` does not hold what will be saved; None if it does. What
    earlier runs left there is replaced and does not count.

    Raises:
        ValueError: see `needed`.
    """
    folder = folders(cfg)["output_dir"]
    bytes_, parts = needed(cfg)
    free = shutil.disk_usage(_existing(folder)).free
    missing = bytes_ - sum(_left(folder)) - free
    if missing <= 0:
        return None
    remedy = "make room, choose another folder, or lower `save_total_limit`"
    if not cfg.get("save_only_model"):
        remedy += " (or set `save_only_model: true`: checkpoints that cannot be resumed from)"
    return (
        f"output_dir {folder}: {parts} take {bytes_:,} bytes, and {free:,} are free on its disk: "
        f"{missing:,} too few; {remedy}"
    )


def _left(folder: Path) -> Iterator[int]:
    for pattern in ("checkpoint-*/**/*", "*.safetensors"):
        for path in folder.glob(pattern):
            if path.is_file():
                yield path.stat().st_size


def _size(bytes_: float) -> str:
    for unit, width in (("GB", 1e9), ("MB", 1e6)):
        if bytes_ >= width:
            return f"{bytes_ / width:.1f} {unit}"
    return f"{bytes_ / 1e3:.0f} kB"


def check(cfg: Mapping[str, Any]) -> str | None:
    """Before training, on one rank.

    Returns:
        what is not known, as a sentence; None if all was checked.

    Raises:
        ValueError: naming setting, folder, bytes needed and free, and the remedy.
    """
    for setting, folder in folders(cfg).items():
        problem = unwritable(setting, folder)
        if problem:
            raise ValueError(problem)
    try:
        problem = too_little(cfg)
    except ValueError as error:
        return f"whether the disk of output_dir holds what is saved is not known: {error}"
    if problem:
        raise ValueError(problem)
    return None
