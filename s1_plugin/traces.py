"""The axolotl dataset type for reasoning traces: `type: s1_plugin.traces`.

axolotl imports this module and calls `load`; a ModuleNotFoundError in here would show as an
"unhandled prompt tokenization strategy", so everything imported at the top is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s1_plugin import counts, files, records
from s1_plugin.config import S1Config, parse
from s1_plugin.console import say
from s1_plugin.encoding import IGNORED, Encoded, TextEncoder
from s1_plugin.formats import get_format

# Columns of the intermediate data set, with their types. Those of the trainer have the types that
# `datasets` gives axolotl's own kinds of data, so that both can be mixed in one config; the others
# do not reach it.
_TRAINED = {"input_ids": "int32", "attention_mask": "int8", "labels": "int64"}
_OURS = {
    "s1_problem": "string",
    "s1_system": "bool",
    "s1_length": "int64",
    "s1_prompt": "int64",
}
_NO_ROW = Encoded([], 0, None)
_LISTED_PROBLEMS = 20


def load(tokenizer: Any, cfg: Any, ds_cfg: Any) -> Any:
    """What axolotl calls for `type: s1_plugin.traces`; returns a DatasetWrappingStrategy."""
    from axolotl.integrations.base import PluginManager
    from axolotl.prompt_tokenizers import DatasetWrappingStrategy

    from s1_plugin.plugin import S1Plugin

    loaded = PluginManager.get_instance().plugins.values()
    if not any(isinstance(plugin, S1Plugin) for plugin in loaded):
        raise ValueError(
            "type: s1_plugin.traces needs the plugin itself: add `plugins: [s1_plugin.S1Plugin]` "
            "to the config (without it changed data could meet stale prepared data)"
        )

    class TraceStrategy(DatasetWrappingStrategy):
        def wrap_dataset(
            self,
            dataset: Any,
            process_count: int | None = None,
            keep_in_memory: Any = False,
            **_: Any,
        ) -> Any:
            return prepare(
                dataset,
                tokenizer=tokenizer,
                settings=parse(cfg.s1),
                cfg=cfg,
                ds_cfg=ds_cfg,
                process_count=process_count,
            )

    return TraceStrategy()


def prepare(
    dataset: Any,
    *,
    tokenizer: Any,
    settings: S1Config,
    cfg: Any,
    ds_cfg: Any,
    process_count: int | None = None,
) -> Any:
    """Tokenised and masked rows of ``dataset`` (columns input_ids, attention_mask, labels).

    Raises:
        ValueError: naming file, row, field and remedy for rows that cannot be learned from, or
            the number and lengths of rows over ``sequence_len``.
    """
    import datasets
    import numpy as np

    source = source_of(ds_cfg)
    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(
            f"{source}: s1_plugin.traces does not stream; remove `streaming: true` "
            "(a thousand traces fit in memory, and every row is checked before training)"
        )
    reader = reader_for(ds_cfg, dataset.column_names, source)
    encoder = TextEncoder(tokenizer)
    fmt = get_format(settings.format)
    unfit = encoder.unfit(fmt)
    if unfit:
        raise ValueError(f"{cfg.base_model}: {unfit}")

    def encode(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        good: list[records.Record] = []
        problems: list[str] = []
        system: list[bool] = []
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(batch, values, strict=True))
            try:
                record = reader.read(row)
                records.check_learnable(record, record.answer)
            except records.BadRow as bad:
                problems.append(str(bad))
                system.append(False)
            else:
                problems.append("")
                system.append(reader.has_system(row))
                good.append(record)
        encoded = iter(encoder.rows(good, fmt))
        encodings = [_NO_ROW if problem else next(encoded) for problem in problems]
        # Arrays, because Arrow takes them as they are, and a list of integers one by one.
        ids = [np.array(one.input_ids, np.int32) for one in encodings]
        labels = [row_ids.astype(np.int64) for row_ids in ids]
        for one, row_labels in zip(encodings, labels, strict=True):
            row_labels[: one.prompt_length] = IGNORED
        return {
            "input_ids": ids,
            "attention_mask": [np.ones(len(row_ids), np.int8) for row_ids in ids],
            "labels": labels,
            "s1_problem": problems,
            "s1_system": system,
            "s1_length": [len(row_ids) for row_ids in ids],
            "s1_prompt": [one.prompt_length for one in encodings],
        }

    try:
        tokenised = dataset.map(
            encode,
            batched=True,
            batch_size=64,
            num_proc=process_count if len(dataset) > 2000 else None,
            remove_columns=dataset.column_names,
            features=datasets.Features(
                {name: datasets.List(datasets.Value(kind)) for name, kind in _TRAINED.items()}
                | {name: datasets.Value(kind) for name, kind in _OURS.items()}
            ),
            load_from_cache_file=False,
            desc=f"Encoding traces ({fmt.name})",
        )
    except UnicodeDecodeError as error:  # Arrow does not look; the first to read the text does
        raise ValueError(files.explain(ds_cfg) or f"{source}: {error}") from None
    places = files.Places(dataset, ds_cfg, cfg.seed)
    return _checked(tokenised, places, source, reader.name, settings, cfg, ds_cfg)


def _checked(
    data: Any,
    places: files.Places,
    source: str,
    reader: str,
    settings: S1Config,
    cfg: Any,
    ds_cfg: Any,
) -> Any:
    """Stops at, or counts, bad and over-long rows."""
    problems = data["s1_problem"][:]
    bad = [(row, problem) for row, problem in enumerate(problems) if problem]
    good = [row for row, problem in enumerate(problems) if not problem]
    if bad and (settings.bad_rows == "stop" or len(bad) == len(data)):
        listed = "\n".join(f"  {places[row]}: {problem}" for row, problem in bad[:_LISTED_PROBLEMS])
        more = len(bad) - _LISTED_PROBLEMS
        raise ValueError(
            f"{source}: {len(bad)} of {len(data)} rows cannot be learned from:\n{listed}"
            + (f"\n  … and {more} more" if more > 0 else "")
            + "\nMend them, or set `s1: {bad_rows: skip}` to go on without them."
        )
    total = len(data)
    if bad:
        for row, problem in bad[:_LISTED_PROBLEMS]:
            say(f"{source}: {places[row]} skipped: {problem}")
        data = data.select(good)

    sequence_len = _sequence_len(cfg, ds_cfg)
    lengths, prompts = data["s1_length"][:], data["s1_prompt"][:]
    over = [i for i, length in enumerate(lengths) if length > sequence_len]
    strategy = str(cfg.excess_length_strategy or "").lower()
    if over and strategy not in ("drop", "truncate"):
        where = [places[good[i]] for i in over]
        raise ValueError(
            counts.too_long_message(source, [lengths[i] for i in over], where, total, sequence_len)
        )
    kept = [
        (min(length, sequence_len), prompt)
        for length, prompt in zip(lengths, prompts, strict=True)
        if length <= sequence_len or (strategy == "truncate" and prompt < sequence_len)
    ]
    result = counts.Counts(
        source=source,
        reader=reader,
        rows=total,
        bad=len(bad),
        system=sum(data["s1_system"]),
        over_long=len(over),
        kept=len(kept),
        over_long_strategy=strategy if over else "",
        tokens=sum(length for length, _ in kept),
        learned_tokens=sum(length - prompt for length, prompt in kept),
        longest=sorted(lengths, reverse=True)[:5],
        sequence_len=sequence_len,
    )
    say(result.sentence())
    if cfg.dataset_prepared_path:
        counts.save(Path(cfg.dataset_prepared_path), result, counts.key_of(ds_cfg))
    return data.remove_columns(list(_OURS))


def reader_for(ds_cfg: Any, column_names: list[str], source: str) -> records.Reader:
    named = (ds_cfg.get("field_human"), ds_cfg.get("field_thinking"), ds_cfg.get("field_model"))
    if not any(named):
        return records.detect(column_names, source)
    if not all(named):
        raise ValueError(
            f"{source}: name all three of field_human (question), field_thinking (trace) and "
            "field_model (answer), or none of them"
        )
    return records.mapped(*named, column_names, source)


def source_of(ds_cfg: Any) -> str:
    split = ds_cfg.get("split")
    return f"{ds_cfg['path']}[{split}]" if split else str(ds_cfg["path"])


def _sequence_len(cfg: Any, ds_cfg: Any) -> int:
    test_paths = [data.get("path") for data in cfg.test_datasets or []]
    if cfg.eval_sequence_len and ds_cfg["path"] in test_paths:
        return int(cfg.eval_sequence_len)
    return int(cfg.sequence_len)
