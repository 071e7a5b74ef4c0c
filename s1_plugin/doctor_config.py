"""Will this config train? What `s1 doctor CONFIG` looks at."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from s1_plugin import counts, files, records
from s1_plugin.config import S1Config, outside, parse
from s1_plugin.doctor import Finding, found, guarded, task_names
from s1_plugin.encoding import TextEncoder
from s1_plugin.formats import get_format
from s1_plugin.training import precision, space


def check_config(path: str | Path) -> Iterator[Finding]:
    """Everything in an axolotl config that s1 depends on. Nothing is trained, and no file is left
    behind; what is loaded is a tokenizer, the model's configuration and the data sets."""
    import yaml

    try:
        cfg = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        yield Finding("fail", f"{path} is not YAML: {error}")
        return
    if not isinstance(cfg, dict):
        yield Finding("fail", f"{path} holds no settings")
        return
    stray = outside(cfg)
    if stray:
        yield Finding("fail", stray)
    yield from guarded(_plugin, cfg)
    try:
        settings = parse(cfg.get("s1"))
    except ValueError as error:
        yield Finding("fail", str(error), "mend the `s1:` block; what depends on it is not checked")
        settings = S1Config()
    else:
        yield from guarded(_settings, cfg, settings)
    if found("axolotl"):
        with tempfile.TemporaryDirectory() as scratch:
            home = settings.nano.folder if settings.nano else scratch
            for finding in guarded(_training, cfg, settings, Path(scratch)):
                yield finding._replace(what=finding.what.replace(scratch, home))
    else:
        yield Finding(
            "fail",
            "tokenizer and data are not checked: axolotl, which loads them, is not installed",
            'run this where the config trains, or pip install "s1-plugin[train]"',
        )
    yield from guarded(_evaluation, cfg)
    yield from guarded(_afterwards, settings)
    yield from guarded(_output, cfg)


def _plugin(cfg: dict) -> Iterator[Finding]:
    if "s1_plugin.S1Plugin" in (cfg.get("plugins") or []):
        yield Finding("ok", "the config names the plugin")
    else:
        yield Finding(
            "fail",
            "the config does not name the plugin: axolotl would train without it",
            "add `plugins: [s1_plugin.S1Plugin]`",
        )


def _settings(cfg: dict, settings: S1Config) -> Iterator[Finding]:
    yield Finding("ok", f"s1 block: format {settings.format}, bad rows: {settings.bad_rows}")
    yield from _layout(cfg, settings)
    arrives, sentence = precision.of_config(cfg, settings.weights)
    if arrives:
        yield Finding("ok", sentence)
    else:
        yield Finding("fail", sentence, precision.REMEDY)
    yield from _needed(cfg)
    if cfg.get("train_on_inputs"):
        yield Finding("fail", "train_on_inputs contradicts s1", "remove `train_on_inputs`")
    strategy = cfg.get("excess_length_strategy")
    if strategy in ("drop", "truncate"):
        yield Finding(
            "note",
            f"excess_length_strategy: {strategy} loses answers of rows over "
            f"{cfg.get('sequence_len')} tokens; how many is said at the start of training",
        )


def _needed(cfg: dict) -> Iterator[Finding]:
    """Packages that axolotl does not bring and misses only when the model is loaded already. A
    note, since a config may be looked at elsewhere than where it trains."""
    optimizer, context = str(cfg.get("optimizer")), cfg.get("context_parallel_size") or 1
    for asked, key, package, how in (
        (cfg.get("deepspeed"), "deepspeed", "deepspeed", "axolotl[deepspeed]"),
        (optimizer == "optimi_adamw", "optimizer", "torch-optimi", "torch-optimi==0.2.1"),
        (optimizer.startswith("flash_"), "optimizer", "flashoptim", "flashoptim"),
        (context > 1, "context_parallel_size", "ring-flash-attn", "axolotl[ring-flash-attn]"),
    ):
        if asked and not found(package):
            yield Finding(
                "note",
                f"`{key}` needs the package {package}, which is not installed here",
                f'where the config trains: pip install "{how}"',
            )


def _layout(cfg: dict, settings: S1Config) -> Iterator[Finding]:
    """What training refuses of rows on GPUs, and of what is recomputed."""
    from s1_plugin.training import batches, parallel, recompute

    checks = [parallel.check, lambda cfg: precision.check(cfg, settings.weights)]
    checks += [batches.check] * settings.balance
    checks += [recompute.check] * bool(settings.keep_activations_gb)
    for check in checks:
        try:
            check(cfg)
        except ValueError as error:
            yield Finding("fail", str(error))


def _training(cfg: dict, settings: S1Config, scratch: Path) -> Iterator[Finding]:
    """Tokenizer and data as axolotl loads them; the nano world is made in ``scratch``."""
    if not (cfg.get("tokenizer_config") or cfg.get("base_model")):
        yield Finding("fail", "the config names no model", "set `base_model:`")
        return
    seen = as_trained(cfg, settings, scratch)
    encoders: list[TextEncoder] = []
    yield from guarded(_tokenizer, seen, settings, encoders)
    yield from guarded(_data, seen, settings, encoders)


def as_trained(cfg: dict, settings: S1Config, scratch: Path) -> Any:
    """The config, with a model named, as axolotl's loaders take it. What they write goes into the
    folder ``scratch``, in which the nano world is made too."""
    from axolotl.utils.dict import DictDefault

    # As axolotl's validation fills it in; a tokenizer with `added_tokens_overrides` is written
    # to the output folder.
    tokenizer = cfg.get("tokenizer_config") or cfg["base_model"]
    seen = {**cfg, "tokenizer_config": tokenizer, "output_dir": str(scratch / "output")}
    if settings.nano:
        from s1_plugin.nano import world

        world.build(scratch, n_train=settings.nano.rows, seed=settings.nano.seed)
        for name in ("base_model", "base_model_config", "tokenizer_config", "datasets"):
            if name in seen:
                seen[name] = _moved(seen[name], settings.nano.folder, scratch)
    return DictDefault(seen)


def _moved(value: Any, folder: str, to: Path) -> Any:
    """``value`` with every path in ``folder`` moved to the folder ``to``."""
    if isinstance(value, list):
        return [_moved(entry, folder, to) for entry in value]
    if isinstance(value, dict):
        return {name: _moved(entry, folder, to) for name, entry in value.items()}
    if isinstance(value, str) and Path(value).is_relative_to(folder):
        return str(to / Path(value).relative_to(folder))
    return value


def _tokenizer(cfg: Any, settings: S1Config, encoders: list[TextEncoder]) -> Iterator[Finding]:
    """The tokenizer that training sees; it is put into ``encoders`` for the check of the data."""
    from axolotl.loaders import load_tokenizer

    name = cfg.tokenizer_config
    try:
        tokenizer = load_tokenizer(cfg)
    except OSError as error:
        yield Finding(
            "fail",
            f"cannot load the tokenizer of {name}: {str(error).splitlines()[0]}",
            "check `base_model`, the network, or `hf auth login` for gated models",
        )
        return
    encoder, fmt = TextEncoder(tokenizer), get_format(settings.format)
    unfit = encoder.unfit(fmt)
    if unfit:
        yield Finding("fail", unfit)
    else:
        yield Finding("ok", f"the tokenizer of {name} has the tokens of format {fmt.name}")
    encoders.append(encoder)
    pad = tokenizer.pad_token
    if pad is None or pad in fmt.stop:
        yield Finding(
            "fail",
            f"the pad token {pad!r} would not be told from the end of a turn",
            'set `special_tokens: {pad_token: "<|fim_pad|>"}` (as the authors do for Qwen2.5)',
        )
    else:
        yield Finding("ok", f"pad token {pad}")


def _data(cfg: Any, settings: S1Config, encoders: list[TextEncoder]) -> Iterator[Finding]:
    from axolotl.utils.data.shared import datasets_with_name_generator

    ours = [d for d in cfg.datasets or [] if d.get("type") == "s1_plugin.traces"]
    if not ours:
        yield Finding("fail", "no data set of `type: s1_plugin.traces`", "set it under `datasets:`")
    tests = [d for d in cfg.test_datasets or [] if d.get("type") == "s1_plugin.traces"]
    for data in datasets_with_name_generator([*ours, *tests]):
        yield from guarded(_data_set, cfg, data, settings, encoders)


def _data_set(
    cfg: Any, data: Any, settings: S1Config, encoders: list[TextEncoder]
) -> Iterator[Finding]:
    from s1_plugin.traces import reader_for, source_of

    source = source_of(data)
    yield from _ignored_keys(data, source)
    try:
        table = loaded(data, Path(cfg.output_dir).with_name("cache"))
    except Exception as error:
        reason = files.explain(data)
        if reason:
            yield Finding("fail", reason)
        else:
            yield Finding(
                "fail",
                f"{source}: cannot be read ({type(error).__name__}: {error})",
                "check the path; a hub data set needs the network or the local cache",
            )
        return
    reader = reader_for(data, table.column_names, source)
    places = files.Places(table, data, cfg.seed)
    problems: list[tuple[int, str]] = []
    good: list[tuple[int, records.Record]] = []
    system = 0
    for number in range(len(table)):
        try:
            row = table[number]
            record = reader.read(row)
            records.check_learnable(record, record.answer)
        except records.BadRow as bad:
            problems.append((number, str(bad)))
        except UnicodeDecodeError as error:
            yield Finding("fail", files.explain(data) or f"{source}: {error}")
            return
        else:
            good.append((number, record))
            system += reader.has_system(row)
    if problems and good and settings.bad_rows == "skip":
        yield Finding(
            "note",
            f"{source}: {len(problems)} of {len(table)} rows will be skipped (bad_rows: skip)",
        )
    elif problems:
        for number, problem in islice(problems, 5):
            yield Finding("fail", f"{source}: {places[number]}: {problem}")
        yield Finding(
            "fail",
            f"{source}: {len(problems)} of {len(table)} rows cannot be learned from",
            "mend them, or set `s1: {bad_rows: skip}`",
        )
    else:
        yield Finding("ok", f"{source}: {len(table)} rows, all readable as {reader.name}")
    if system:
        yield Finding("note", f"{source}: {counts.system_messages(system)}")
    if good and encoders:
        yield from _lengths(cfg, source, good, places, encoders[0], settings)


def loaded(data: Any, scratch: Path) -> Any:
    """The rows. What `datasets` makes of local files goes into ``scratch``: its cache knows them by
    path and time alone, so it could be stale, and looking should leave nothing in it."""
    import datasets
    from axolotl.utils.data.shared import load_dataset_with_config

    cache = datasets.config.HF_DATASETS_CACHE
    if Path(data.path).exists():
        datasets.config.HF_DATASETS_CACHE = scratch
    try:
        table = load_dataset_with_config(data, False)
    finally:
        datasets.config.HF_DATASETS_CACHE = cache
    if isinstance(table.column_names, dict):  # one table per split
        return table[data.get("split") or "train"]
    return table


def _ignored_keys(data: Any, source: str) -> Iterator[Finding]:
    """Keys of a data set that axolotl drops without a word."""
    from axolotl.utils.schemas.datasets import SFTDataset

    for name in sorted(set(data) - set(SFTDataset.model_fields)):
        near = get_close_matches(name, SFTDataset.model_fields, n=1)
        yield Finding(
            "fail",
            f"{source}: axolotl ignores the key `{name}` of a data set",
            f"did you mean `{near[0]}`?" if near else "remove it",
        )


def encoded(encoder: TextEncoder, good: list[records.Record], fmt: str) -> list[int]:
    """The lengths in tokens of rows of the format named ``fmt``, encoded as training would."""
    return [
        len(row.input_ids)
        for start in range(0, len(good), 256)
        for row in encoder.rows(good[start : start + 256], get_format(fmt))
    ]


def _lengths(
    cfg: Any,
    source: str,
    good: list[tuple[int, records.Record]],
    places: files.Places,
    encoder: TextEncoder,
    settings: S1Config,
) -> Iterator[Finding]:
    """Rows over ``sequence_len``."""
    limit = int(cfg.sequence_len or 512)
    lengths = encoded(encoder, [record for _, record in good], settings.format)
    over = [(n, place) for n, (place, _) in zip(lengths, good, strict=True) if n > limit]
    if not over:
        yield Finding("ok", f"{source}: longest row {max(lengths)} of {limit} tokens")
        return
    message = counts.too_long_message(
        source, [n for n, _ in over], [places[at] for _, at in over], len(good), limit
    )
    chosen = cfg.excess_length_strategy in ("drop", "truncate")
    yield Finding("note" if chosen else "fail", message)


def _afterwards(settings: S1Config) -> Iterator[Finding]:
    """The evaluation that follows a training."""
    if settings.evaluate is None:
        return
    from s1_plugin.training import evaluate

    try:
        evaluate.check(settings.evaluate)
    except ValueError as error:
        yield Finding("fail", str(error))
    else:
        yield Finding("ok", f"evaluated after training: {', '.join(settings.evaluate.tasks)}")


def _evaluation(cfg: dict) -> Iterator[Finding]:
    tasks = cfg.get("lm_eval_tasks")
    if not tasks:
        return
    tasks = [tasks] if isinstance(tasks, str) else tasks
    if found("lm_eval"):
        known = task_names()
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
    for setting, folder in space.folders(cfg).items():
        problem = space.unwritable(setting, folder)
        if problem:
            yield Finding("fail", problem)
            return
        yield Finding("ok", f"{setting} {folder} can be written")
    if (cfg.get("s1") or {}).get("nano"):  # made when it trains, and smaller than a photograph
        return
    try:
        problem, (_, parts) = space.too_little(cfg), space.needed(cfg)
    except ValueError as error:
        yield Finding("note", f"whether its disk holds what is saved is not known: {error}")
        return
    if problem:  # a config may be looked at on another machine than it trains on
        yield Finding("note", f"if it trains on this machine: {problem}")
    else:
        yield Finding("ok", f"its disk holds {parts}")
