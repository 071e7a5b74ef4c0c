"""Where a run's numbers come from: lm-eval's results file in the few fields a reader needs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

_SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
#: What an s1 task adds to its metadata.
_NOTED = ("problems_from", "problems_sha256", "judge_model")
_PRINTED = {
    "torch": re.compile(r"^PyTorch version: (\S+)", re.M),
    "python": re.compile(r"^Python version: (\S+)", re.M),
}
_GPU = re.compile(r"^GPU \d+: (.+)$", re.M)


def provenance(results: Mapping[str, Any], task: str, generation: Mapping[str, Any]) -> dict:
    """What made a run.

    Args:
        results: a ``results_*.json`` of lm-eval 0.4.11 or later; may be empty.
        task: name of the task.
        generation: the generation arguments of this budget, from the samples.

    Returns:
        ``command`` (put together from the recorded settings: lm-eval does not log the command
        line itself), ``generation``, ``versions``, ``seeds``, ``date`` (UTC, ISO 8601),
        ``seconds``, ``device``, ``dtype``, ``dataset``, ``problems_from`` and ``problems_sha256``
        (which problems they were), ``judge_model``, ``task_version``, ``questions`` (asked and in
        the set). Fields that the file does not have are left out.
    """
    config = results.get("config") or {}
    task_config = (results.get("configs") or {}).get(task) or {}
    metadata = task_config.get("metadata") or {}
    environment = str(results.get("pretty_env_info") or "")
    versions = {
        "lm_eval": results.get("lm_eval_version"),
        "transformers": results.get("transformers_version"),
        "s1_plugin": metadata.get("s1_plugin"),
        **{name: _first(pattern, environment) for name, pattern in _PRINTED.items()},
    }
    devices = _GPU.findall(environment)
    date = results.get("date")
    counts = (results.get("n-samples") or {}).get(task) or {}
    found = {
        "command": _command(config, task) if config else None,
        "generation": dict(generation),
        "versions": {name: value for name, value in versions.items() if value},
        "seeds": {name: config[name] for name in _SEEDS if config.get(name) is not None},
        "date": _utc(date) if isinstance(date, (int, float)) else None,
        "seconds": _number(results.get("total_evaluation_time_seconds")),
        "device": ", ".join(dict.fromkeys(devices)) or ("CPU" if environment else None),
        "dtype": config.get("model_dtype"),
        "model_sha": config.get("model_sha") or None,
        "dataset": task_config.get("dataset_path"),
        **{name: metadata.get(name) for name in _NOTED},
        "task_version": (results.get("versions") or {}).get(task),
        "questions": dict(counts) or None,
        "git": results.get("git_hash"),
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _command(config: Mapping[str, Any], task: str) -> str:
    words = ["lm_eval", "--model", str(config.get("model"))]
    arguments = config.get("model_args")
    if isinstance(arguments, Mapping):
        arguments = ",".join(f"{name}={value}" for name, value in arguments.items())
    if arguments:
        words += ["--model_args", str(arguments)]
    words += ["--tasks", task, "--apply_chat_template"]
    if config.get("gen_kwargs"):
        words += ["--gen_kwargs", json.dumps(config["gen_kwargs"], ensure_ascii=False)]
    for name in ("batch_size", "limit"):
        if config.get(name) is not None:
            value = config[name]
            whole = isinstance(value, float) and value.is_integer()
            words += [f"--{name}", str(int(value) if whole else value)]
    return shlex.join(words)


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat(timespec="seconds")


def _number(value: Any) -> float | None:
    try:
        return round(float(value), 1)
    except (TypeError, ValueError):
        return None
