"""What is looked at before a training begins, while nothing has been paid for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from s1_plugin.config import S1Config
from s1_plugin.console import say
from s1_plugin.training import checkpoints, evaluate, record, space


def check_output(cfg: Any) -> None:
    """Looks at the output folder before axolotl opens its log there, as every command of it does.

    Raises:
        ValueError: if it cannot be written.
    """
    if not is_first_rank():
        return
    problem = space.unwritable("output_dir", space.folders(cfg)["output_dir"])
    if problem:
        raise ValueError(problem)


def check(cfg: Any, settings: S1Config) -> None:
    """Looks at disk and checkpoints, on the first rank alone: it is the one that writes. Where the
    run is finished already, all ranks end here, and what is to be evaluated is.

    Raises:
        ValueError: if what is written will not fit or cannot be written, or if the checkpoint that
            is to be gone on from cannot be, or is a finished run's of other settings.
    """
    going_on = cfg.auto_resume_from_checkpoints or cfg.resume_from_checkpoint
    if going_on and checkpoints.newest_first(Path(cfg.output_dir)) and record.check_resumed(cfg):
        _leave_alone(cfg, settings)
    if not is_first_rank():
        return
    checkpoints.prepare(
        Path(cfg.output_dir),
        cfg.resume_from_checkpoint or None,
        bool(cfg.auto_resume_from_checkpoints),
    )
    unknown = space.check(cfg)
    if unknown:
        say(unknown)


def _leave_alone(cfg: Any, settings: S1Config) -> None:
    """A finished run: its model and record stay; the evaluation goes on from its cache."""
    if is_first_rank():
        say(f"{cfg.output_dir} holds this run, finished: nothing is trained; to repeat it, move it")
        if settings.evaluate is not None:
            evaluate.run(cfg, settings.evaluate)
    raise SystemExit(0)


def is_first_rank() -> bool:
    """Whether this process is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0") or 0) == 0
