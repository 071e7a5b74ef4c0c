"""What is done when the model is saved and the trainer is gone, on the first rank alone."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from s1_plugin.config import S1Config
from s1_plugin.console import say
from s1_plugin.training import checkpoints, evaluate, record
from s1_plugin.training.before import is_first_rank

_WORTH_SAYING = 1e9


def finish(cfg: Any, settings: S1Config) -> None:
    """Marks the run as finished, and evaluates the model if asked to."""
    if not is_first_rank():
        return
    folder = Path(cfg.output_dir)
    record.finish(folder)
    left = checkpoints.newest_first(folder)
    size = sum(file.stat().st_size for path in left for file in path.rglob("*") if file.is_file())
    if size > _WORTH_SAYING:
        say(f"{len(left)} checkpoints in {folder}, {size / 1e9:.0f} GB, are not needed any more")
    if settings.evaluate is None:
        return
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the memory is another process's now
    evaluate.run(cfg, settings.evaluate)
