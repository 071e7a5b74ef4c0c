"""The checks behind `s1 doctor`: each finding says what was looked at, and what to do.

Those of the installation are here, those of a config in `doctor_config`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple


class Finding(NamedTuple):
    """One line of the report."""

    status: Literal["ok", "note", "fail"]
    what: str
    remedy: str = ""


def guarded(check: Callable[..., Iterator[Finding]], *args: Any) -> Iterator[Finding]:
    """A check that blows up is a finding, not a traceback."""
    try:
        yield from check(*args)
    except Exception as error:
        name = check.__name__.strip("_").replace("_", " ")
        yield Finding("fail", f"{name}: {type(error).__name__}: {error}")


def check_installation(telemetry: str | None = None) -> Iterator[Finding]:
    """Packages, the plugin, and whether lm-eval sees the tasks.

    Args:
        telemetry: ``AXOLOTL_DO_NOT_TRACK`` as it was set before this command.
    """
    yield from guarded(_packages)
    yield from guarded(_plugin, telemetry)
    yield from guarded(_tasks)


def found(name: str) -> str | None:
    """The version of an installed package, None if it is not."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    for name, needed_for, remedy in (
        ("torch", "everything", "pip install torch"),
        ("transformers", "everything", "pip install transformers"),
        ("axolotl", "training", 'pip install "s1-plugin[train]"'),
        ("lm_eval", "evaluation", 'pip install "s1-plugin[eval]"'),
        ("matplotlib", "curve.png", 'pip install "s1-plugin[eval]"'),
    ):
        installed = found(name)
        if installed:
            yield Finding("ok", f"{name} {installed}")
        else:
            status: Literal["note", "fail"] = "fail" if needed_for == "everything" else "note"
            yield Finding(status, f"{name} is not installed (needed for {needed_for})", remedy)
    import torch

    if torch.cuda.is_available():
        yield Finding("ok", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}")
    else:
        yield Finding("note", "no GPU here: nano trains, real models do not")


def _plugin(telemetry: str | None) -> Iterator[Finding]:
    if found("axolotl") is None:
        return
    from axolotl.integrations.base import BasePlugin, load_plugin

    plugin = load_plugin("s1_plugin.S1Plugin")
    if not isinstance(plugin, BasePlugin):
        yield Finding("fail", "s1_plugin.S1Plugin is no axolotl plugin", "reinstall s1-plugin")
    yield Finding("ok", "axolotl loads s1_plugin.S1Plugin")
    if telemetry != "1":
        yield Finding("note", "axolotl sends telemetry", "export AXOLOTL_DO_NOT_TRACK=1 to stop it")


@cache
def task_names() -> list[str]:
    """Everything a plain `lm_eval --tasks` finds; reading that index takes seconds."""
    from lm_eval.tasks import TaskManager

    return list(TaskManager().all_tasks)


def _tasks() -> Iterator[Finding]:
    if found("lm_eval") is None:
        return
    ours = [name for name in task_names() if name.startswith("s1_")]
    if "s1_aime" in ours:
        yield Finding("ok", f"lm-eval lists {', '.join(sorted(ours))}")
    else:
        yield Finding(
            "fail",
            "lm-eval does not list the s1 tasks",
            "pip install --force-reinstall --no-deps s1-plugin, or pass --include_path eval_tasks",
        )
