"""The checks behind `s1 doctor`: each finding says what was looked at, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple


class Finding(NamedTuple):
    """One line of the report."""

    status: Literal["ok", "note", "fail"]
    what: str
    remedy: str = ""


def _guarded(check: Callable[..., Iterator[Finding]], *args: Any) -> Iterator[Finding]:
    """A check that blows up is a finding, not a traceback."""
    try:
        yield from check(*args)
    except Exception as error:
        name = check.__name__.strip("_").replace("_", " ")
        yield Finding("fail", f"{name}: {type(error).__name__}: {error}")


# -- installation -------------------------------------------------------------------------------


def check_installation() -> Iterator[Finding]:
    """Packages, the plugin, and whether lm-eval sees the tasks."""
    yield from _guarded(_packages)
    yield from _guarded(_plugin)
    yield from _guarded(_tasks)


def _found(name: str) -> str | None:
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
        found = _found(name)
        if found:
            yield Finding("ok", f"{name} {found}")
        else:
            status: Literal["note", "fail"] = "fail" if needed_for == "everything" else "note"
            yield Finding(status, f"{name} is not installed (needed for {needed_for})", remedy)
    import torch

    if torch.cuda.is_available():
        yield Finding("ok", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}")
    else:
        yield Finding("note", "no GPU here: nano trains, real models do not")


def _plugin() -> Iterator[Finding]:
    if _found("axolotl") is None:
        return
    from axolotl.integrations.base import BasePlugin, load_plugin

    plugin = load_plugin("s1_plugin.S1Plugin")
    if not isinstance(plugin, BasePlugin):
        yield Finding("fail", "s1_plugin.S1Plugin is no axolotl plugin", "reinstall s1-plugin")
    yield Finding("ok", "axolotl loads s1_plugin.S1Plugin")
    if os.environ.get("AXOLOTL_DO_NOT_TRACK") != "1":
        yield Finding("note", "axolotl sends telemetry", "export AXOLOTL_DO_NOT_TRACK=1 to stop it")


@cache
def _task_names() -> list[str]:
    """Everything a plain `lm_eval --tasks` finds; reading that index takes seconds."""
    from lm_eval.tasks import TaskManager

    return list(TaskManager().all_tasks)


def _tasks() -> Iterator[Finding]:
    if _found("lm_eval") is None:
        return
    ours = [name for name in _task_names() if name.startswith("s1_")]
    if "s1_aime" in ours:
        yield Finding("ok", f"lm-eval lists {', '.join(sorted(ours))}")
    else:
        yield Finding(
            "fail",
            "lm-eval does not list the s1 tasks",
            "pip install --force-reinstall --no-deps s1-plugin, or pass --include_path eval_tasks",
        )


# -- a config -----------------------------------------------------------------------------------


def check_config(path: str | Path) -> Iterator[Finding]:
    """Everything in an axolotl config that s1 depends on; nothing is trained or downloaded
    beyond a tokenizer and the first rows of each data set."""
    import yaml

    try:
        cfg = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        yield Finding("fail", f"{path} is not YAML: {error}")
        return
    if not isinstance(cfg, dict):
        yield Finding("fail", f"{path} holds no settings")
        return
    yield from _guarded(_settings, cfg)
    yield from _guarded(_tokenizer, cfg)
    yield from _guarded(_data, cfg)
    yield from _guarded(_evaluation, cfg)
    yield from _guarded(_output, cfg)


def _settings(cfg: dict) -> Iterator[Finding]:
    from s1_plugin.config import parse

    if "s1_plugin.S1Plugin" in (cfg.get("plugins") or []):
        yield Finding("ok", "the config names the plugin")
    else:
        yield Finding(
            "fail",
            "the config does not name the plugin: axolotl would train without it",
            "add `plugins: [s1_plugin.S1Plugin]`",
        )
    try:
        settings = parse(cfg.get("s1"))
    except ValueError as error:
        yield Finding("fail", str(error), "mend the `s1:` block")
        return
    yield Finding("ok", f"s1 block: format {settings.format}, bad rows: {settings.bad_rows}")
    if cfg.get("train_on_inputs"):
        yield Finding("fail", "train_on_inputs contradicts s1", "remove `train_on_inputs`")
    strategy = cfg.get("excess_length_strategy")
    if strategy in ("drop", "truncate"):
        yield Finding(
            "note",
            f"excess_length_strategy: {strategy} loses answers of rows over "
            f"{cfg.get('sequence_len')} tokens; how many is said at the start of training",
        )
    if settings.nano:
        from s1_plugin.nano import world

        world.build(Path(settings.nano.folder), n_train=settings.nano.rows, seed=settings.nano.seed)
        yield Finding("ok", f"nano world in {settings.nano.folder}")


def _tokenizer(cfg: dict) -> Iterator[Finding]:
    from transformers import AutoTokenizer

    from s1_plugin.config import parse
    from s1_plugin.encoding import TextEncoder
    from s1_plugin.formats import get_format

    name = cfg.get("tokenizer_config") or cfg.get("base_model")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except OSError as error:
        yield Finding(
            "fail",
            f"cannot load the tokenizer of {name}: {str(error).splitlines()[0]}",
            "check `base_model`, the network, or `hf auth login` for gated models",
        )
        return
    encoder, fmt = TextEncoder(tokenizer), get_format(parse(cfg.get("s1")).format)
    missing = encoder.missing_tokens(fmt)
    if missing:
        yield Finding(
            "fail",
            f"the tokenizer has no single token for {', '.join(missing)} (format {fmt.name})",
            "use a Qwen2.5 model, or another `s1: {format: …}`",
        )
    else:
        yield Finding("ok", f"the tokenizer of {name} has the tokens of format {fmt.name}")
    encoder.template  # noqa: B018  (raises where the chat template cannot be used)
    pad = (cfg.get("special_tokens") or {}).get("pad_token") or tokenizer.pad_token
    if pad is None or pad in fmt.stop:
        yield Finding(
            "fail",
            f"the pad token {pad!r} would not be told from the end of a turn",
            'set `special_tokens: {pad_token: "<|fim_pad|>"}` (as the authors do for Qwen2.5)',
        )
    else:
        yield Finding("ok", f"pad token {pad}")


def _data(cfg: dict) -> Iterator[Finding]:
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault

    from s1_plugin import records
    from s1_plugin.config import parse
    from s1_plugin.traces import reader_for, source_of

    ours = [d for d in cfg.get("datasets") or [] if d.get("type") == "s1_plugin.traces"]
    if not ours:
        yield Finding("fail", "no data set of `type: s1_plugin.traces`", "set it under `datasets:`")
    for data in ours:
        source = source_of(data)
        try:
            loaded = load_dataset_with_config(DictDefault(data), False)
        except Exception as error:
            yield Finding(
                "fail",
                f"{source}: cannot be read ({type(error).__name__}: {error})",
                "check the path; a hub data set needs the network or the local cache",
            )
            continue
        if not hasattr(loaded, "column_names") or isinstance(loaded.column_names, dict):
            loaded = loaded[data.get("split") or "train"]
        reader = reader_for(data, loaded.column_names, source)
        problems: list[tuple[int, str]] = []
        good: list[records.Record] = []
        for number, row in enumerate(loaded, start=1):
            try:
                record = reader.read(row)
                records.check_learnable(record, record.answer)
                good.append(record)
            except records.BadRow as bad:
                problems.append((number, str(bad)))
        if problems and good and parse(cfg.get("s1")).bad_rows == "skip":
            yield Finding(
                "note",
                f"{source}: {len(problems)} of {len(loaded)} rows will be skipped (bad_rows: skip)",
            )
        elif problems:
            for number, problem in islice(problems, 5):
                yield Finding("fail", f"{source}: row {number}: {problem}")
            yield Finding(
                "fail",
                f"{source}: {len(problems)} of {len(loaded)} rows cannot be learned from",
                "mend them, or set `s1: {bad_rows: skip}`",
            )
        else:
            yield Finding("ok", f"{source}: {len(loaded)} rows, all readable as {reader.name}")
        yield from _lengths(cfg, source, good)


def _lengths(cfg: dict, source: str, good: list) -> Iterator[Finding]:
    from transformers import AutoTokenizer

    from s1_plugin import counts
    from s1_plugin.config import parse
    from s1_plugin.encoding import TextEncoder
    from s1_plugin.formats import get_format

    encoder = TextEncoder(
        AutoTokenizer.from_pretrained(cfg.get("tokenizer_config") or cfg.get("base_model"))
    )
    fmt, limit = get_format(parse(cfg.get("s1")).format), int(cfg.get("sequence_len") or 512)
    lengths = [
        len(row.input_ids)
        for start in range(0, len(good), 256)
        for row in encoder.rows(good[start : start + 256], fmt)
    ]
    over = [(length, row) for row, length in enumerate(lengths, start=1) if length > limit]
    if not over:
        yield Finding("ok", f"{source}: longest row {max(lengths, default=0)} of {limit} tokens")
        return
    message = counts.too_long_message(
        source, [length for length, _ in over], [row for _, row in over], len(good), limit
    )
    chosen = cfg.get("excess_length_strategy") in ("drop", "truncate")
    yield Finding("note" if chosen else "fail", message)


def _evaluation(cfg: dict) -> Iterator[Finding]:
    tasks = cfg.get("lm_eval_tasks")
    if not tasks:
        return
    tasks = [tasks] if isinstance(tasks, str) else tasks
    if _found("lm_eval"):
        known = _task_names()
        for task in tasks:
            if task.split(":")[0] not in known:
                yield Finding(
                    "fail",
                    f"lm_eval_tasks names {task}, which lm-eval does not know",
                    f"our tasks: {', '.join(sorted(t for t in known if t.startswith('s1_')))}",
                )
    if not cfg.get("apply_chat_template"):
        yield Finding(
            "fail",
            "axolotl lm-eval would ask without the chat template",
            "add `apply_chat_template: true`",
        )
    if not cfg.get("lm_eval_batch_size"):
        yield Finding("fail", "axolotl lm-eval needs a batch size", "add `lm_eval_batch_size: 8`")
    if cfg.get("apply_chat_template") and cfg.get("lm_eval_batch_size"):
        yield Finding("ok", f"axolotl lm-eval will run {', '.join(tasks)}")


def _output(cfg: dict) -> Iterator[Finding]:
    folder = Path(cfg.get("output_dir") or "./model-out")
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    if os.access(existing, os.W_OK):
        yield Finding("ok", f"output_dir {folder} can be written")
    else:
        yield Finding("fail", f"output_dir {folder} cannot be written", f"check {existing}")
