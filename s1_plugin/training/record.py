"""``s1_run.json`` in the output folder: what was trained, from what, on what, at what cost.

Written when training begins, again whenever something is logged, and at the end, so that a run that
was killed leaves one too: ``finished`` is then false. No secrets: keys, tokens and passwords of the
config are struck out, and the environment is not looked at.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from s1_plugin import counts
from s1_plugin.console import say
from s1_plugin.training import loss, precision
from s1_plugin.training.watch import Watch

FILE_NAME = "s1_run.json"
STRUCK_OUT = "(struck out)"
#: Settings that may differ between a run and its resumption without a word.
_PATHS = {
    *("resume_from_checkpoint", "axolotl_config_path", "dataset_prepared_path"),
    "device_map",  # the launcher's
}
#: Settings that a checkpoint brings along: the optimiser's groups and the schedule are restored.
_RESTORED = {
    *("learning_rate", "lr_scheduler", "warmup_ratio", "warmup_steps", "weight_decay"),
    *("optimizer", "adam_beta1", "adam_beta2", "adam_epsilon"),
}
_PACKAGES = (
    *("s1_plugin", "axolotl", "torch", "transformers", "accelerate", "datasets", "peft"),
    *("flash-attn", "liger-kernel", "deepspeed", "bitsandbytes"),
)
_SECRET_KEY = re.compile(
    r"(^|_)(api|access|secret|private|auth)?_?(key|token|secret|password|passwd|credentials?)s?$"
    r"|authorization|api_?key",
    re.I,
)
#: Keys of axolotl and of tokenizers that only look like it.
_HARMLESS = {"special_tokens", "tokens", "added_tokens_overrides"}
_SECRET_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{16,}"  # Hugging Face
    r"|\b(sk|pk|rk)-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic, ...
    r"|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}"
    r"|\bxox[a-z]-[A-Za-z0-9-]{10,}"  # Slack
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"  # JSON web tokens
    r"|(?<=://)[^/@\s]+(?=@)"  # user:password@host, token@host
    r"|(?<=[?&])[^=&\s]*(?i:token|key|signature|secret|credential)[^=&\s]*=[^&\s]+"  # in a query
    r"|\bAIza[\w-]{20,}|\bya29\.[\w.-]{10,}"  # Google
)
_HEX40 = re.compile(r"[0-9a-fA-F]{40}")  # Weights & Biases' keys; commits look the same


def without_secrets(value: Any, key: str = "") -> Any:
    """``value`` as JSON has it, and everything that is a secret, or looks like one, struck out."""
    if isinstance(value, Mapping):
        if key in _HARMLESS:
            return {str(k): without_secrets(v) for k, v in value.items()}
        return {str(k): without_secrets(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [without_secrets(v, key) for v in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    if key not in _HARMLESS and _SECRET_KEY.search(key):
        return STRUCK_OUT
    commit = "revision" in key or "commit" in key
    if _HEX40.fullmatch(text) and not commit:
        return STRUCK_OUT
    return _SECRET_VALUE.sub(STRUCK_OUT, text)


def versions() -> dict[str, str]:
    """Versions of the packages that are installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def data_of(cfg: Any) -> dict[str, Any]:
    """Fingerprint of the prepared data, and what became of every row."""
    folder = Path(str(cfg.dataset_prepared_path))
    return {
        "fingerprint": folder.name.removeprefix("s1-"),
        "sets": [without_secrets(vars(found)) for found in counts.load(folder).values()],
    }


def hardware(trainer: Any) -> dict[str, Any]:
    """What the run runs on. ``world_size`` counts processes, one per GPU."""
    import torch

    device = trainer.accelerator.device.type
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    return {
        "device": device,
        "name": name,
        "world_size": trainer.accelerator.num_processes,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


class Recorder(TrainerCallback):
    """Keeps ``s1_run.json`` up to date; on the first rank only.

    Args:
        weights: ``s1.weights`` of the config.
    """

    def __init__(self, cfg: Any, trainer: Any, watch: Watch, weights: str | None) -> None:
        self.path = Path(cfg.output_dir) / FILE_NAME
        self._watch = watch
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.record: dict[str, Any] = {
            "finished": False,
            "began": now,
            "versions": versions(),
            "model": without_secrets(cfg.base_model),
            "seed": cfg.seed,
            "precision": precision.of_config(cfg, weights)[1],
            "hardware": hardware(trainer),
            "data": data_of(cfg),
            # packed rows count once
            "rows_per_step": trainer.args.train_batch_size
            * trainer.args.gradient_accumulation_steps
            * trainer.accelerator.num_processes
            // loss.shards(trainer),
        }
        self._cfg = cfg

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raises ValueError where a finished run of other settings would be gone on with."""
        resumed = self._cfg.resume_from_checkpoint or None  # axolotl has put it in by now
        self.record["resumed_from"] = (
            {"checkpoint": str(resumed), "step": state.global_step} if (resumed) else None
        )
        self.record["config"] = without_secrets(self._cfg.to_dict())
        if resumed and state.is_world_process_zero:
            before = _read(self.path)
            found = changes(before, self.record)
            _refuse(self.path.parent, before, found)
            say(f"going on from {resumed} at step {state.global_step}")
            for line in found:
                say(f"... though {line}")
        self._write(state)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._write(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._write(state)

    def _write(self, state: Any) -> None:
        if state.is_world_process_zero:
            self.record |= self._watch.summary(state)
            write(self.path, self.record)


def check_resumed(cfg: Any) -> bool:
    """Before anything is loaded, for a run that would go on from a checkpoint: whether it is
    finished already, with these settings.

    Raises:
        ValueError: if it is finished with other settings, or goes on with a learning rate or the
            like that the checkpoint would replace by its own.
    """
    folder = Path(cfg.output_dir)
    before, now = _read(folder / FILE_NAME), without_secrets(cfg.to_dict())
    was = before.get("config") or {}
    # axolotl fills in more later, which is not there yet.
    both = {key for key in was if was[key] is not None and now.get(key) is not None}
    known = {key: now[key] for key in both}
    found = changes({"config": {key: was[key] for key in both}}, {"config": known})
    _refuse(folder, before, found)
    restored = [key for key in sorted(both & _RESTORED) if was[key] != now[key]]
    if restored:
        raise ValueError(
            f"`{restored[0]}` was {was[restored[0]]} and is {now[restored[0]]}, but a run that "
            f"goes on from a checkpoint in {folder} keeps the checkpoint's; set it back, or start "
            "anew in another `output_dir`"
        )
    return bool(before.get("finished"))


def _refuse(folder: Path, before: Mapping[str, Any], found: list[str]) -> None:
    if found and before.get("finished"):
        raise ValueError(
            f"{folder} holds a finished run with other settings: {'; '.join(found)}. Set another "
            "`output_dir`, or delete that one: its last checkpoint would be taken for this run's"
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was in the run that is gone on with, one line each."""
    found = []
    was, is_ = before.get("config") or {}, now["config"]
    for key in sorted({*was, *is_} - _PATHS) if was else []:
        if was.get(key) != is_.get(key):
            found.append(f"`{key}` was {was.get(key)} and is {is_.get(key)}")
    old, new = (run.get("data", {}).get("fingerprint") for run in (before, now))
    if old and old != new:
        found.append("the data, or how they are tokenised, have changed")
    worlds = [run.get("hardware", {}).get("world_size") for run in (before, now)]
    if worlds[0] and worlds[0] != worlds[1]:
        found.append(f"it ran on {worlds[0]} processes and runs on {worlds[1]}")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes ``record`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def finish(output_dir: Path) -> None:
    """After the model is saved: the run is finished."""
    record = _read(output_dir / FILE_NAME)
    if record:
        record["finished"] = True
        record["ended"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write(output_dir / FILE_NAME, record)
