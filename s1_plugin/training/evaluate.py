"""An evaluation of the trained model by lm_eval, in a process of its own on the first rank.

In the trainer's processes the model may be spread over ranks; and axolotl's own LMEvalPlugin runs
lm_eval on every one of them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s1_plugin.config import EvaluateConfig
from s1_plugin.console import say

#: What launchers set for their ranks: with it lm_eval would wait for others that never come.
_OF_LAUNCHERS = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE|ROLE_NAME)$|LOCAL_WORLD_SIZE$|ROLE_WORLD_SIZE$"
    r"|MASTER_(ADDR|PORT)$|(TORCHELASTIC|ACCELERATE|FSDP|PARALLELISM_CONFIG|NCCL_ASYNC|PMI|OMPI)_"
)


def model_args(cfg: Mapping[str, Any], output_dir: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """``--model_args`` for the model that ``cfg`` has trained into ``output_dir``."""
    found: dict[str, Any] = {"pretrained": output_dir}
    if cfg.get("adapter"):
        found = {"pretrained": str(cfg.get("base_model")), "peft": output_dir}
    low = any(cfg.get(name) for name in ("bf16", "bfloat16", "fp16", "float16"))
    return {**found, "dtype": "bfloat16" if low else "float32", **more}


def command(settings: EvaluateConfig, arguments: Mapping[str, Any], out: str) -> list[str]:
    """The arguments of lm_eval. JSON, as lists of budgets need it in lm_eval 0.4.11."""
    return [
        *("lm_eval", "run", "--model", "hf", "--model_args", json.dumps(arguments)),
        *("--tasks", ",".join(settings.tasks), "--apply_chat_template"),
        *("--batch_size", str(settings.batch_size)),
        *(["--gen_kwargs", json.dumps(settings.gen_kwargs)] if settings.gen_kwargs else []),
        *("--output_path", out, "--log_samples"),
    ]


def environment() -> dict[str, str]:
    """The environment without what makes a process one of several ranks."""
    return {name: value for name, value in os.environ.items() if not _OF_LAUNCHERS.match(name)}


def check(settings: EvaluateConfig) -> None:
    """Before training.

    Raises:
        ValueError: naming the tasks that lm_eval does not know, or that it is not installed.
    """
    from s1_plugin.doctor import found, task_names

    if not found("lm_eval"):
        raise ValueError("s1.evaluate needs lm_eval: pip install lm_eval, or remove the key")
    unknown = [task for task in settings.tasks if task not in task_names()]
    if unknown:
        ours = ", ".join(sorted(name for name in task_names() if name.startswith("s1_")))
        raise ValueError(
            f"s1.evaluate.tasks: lm_eval does not know {', '.join(unknown)}; ours are {ours}"
        )
    if not all(task.startswith("s1_") for task in settings.tasks):
        return
    from s1_plugin.evaluation.budgets import expand
    from s1_plugin.evaluation.request import request

    # As the tasks themselves check them, once the model is loaded.
    asked = {"until": [], "max_gen_toks": 32768, **settings.gen_kwargs}
    try:
        for generation in expand(asked):
            request("?", "?", generation)
    except ValueError as error:
        raise ValueError(f"s1.evaluate.gen_kwargs: {error}") from None


def run(cfg: Mapping[str, Any], settings: EvaluateConfig) -> bool:
    """Evaluates what has been saved in ``output_dir``; results go to its folder ``eval``. A failure
    is said, with the command to repeat: the model is there all the same.

    Returns:
        whether lm_eval succeeded.
    """
    folder = str(cfg["output_dir"])
    arguments = model_args(cfg, folder, settings.model_args)
    words = command(settings, arguments, str(Path(folder) / "eval"))
    program = Path(sys.executable).with_name(words[0])
    say(f"evaluating: {shlex.join(words)}")
    try:
        # What lm_eval prints is told to the user, not to whoever reads this process's output.
        status = subprocess.run([str(program), *words[1:]], env=environment()).returncode
        reason = f"exit status {status}"
    except OSError as error:
        status, reason = 1, str(error)
    if status:
        say(f"the evaluation FAILED ({reason}); the model is saved. Again: {shlex.join(words)}")
    return not status
