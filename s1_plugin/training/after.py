"""What is done when the model is saved and the trainer is gone, on the first rank alone."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

from s1_plugin.config import S1Config
from s1_plugin.training import evaluate, record


def finish(cfg: Any, settings: S1Config) -> None:
    """Marks the run as finished, and evaluates the model if asked to."""
    if int(os.environ.get("RANK", "0") or 0):
        return
    record.finish(Path(cfg.output_dir))
    if settings.evaluate is None:
        return
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the memory is another process's now
    evaluate.run(cfg, settings.evaluate)
