"""Prepared data that are never stale.

axolotl's cache of tokenised data is keyed on names, not on contents: a changed local file, a
changed `s1:` block or another over-long strategy would silently meet old data. The plugin
therefore gives each state of data and settings a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

from s1_plugin import __version__, counts, files
from s1_plugin.config import S1Config
from s1_plugin.formats import get_format

DEFAULT_FOLDER = "last_run_prepared"
#: Put beside what `datasets` parsed: the digests of the files that it was parsed from.
STATE_FILE = "s1_state.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
)


#: Keys of axolotl that change the rows. It hashes them itself; our counts must follow too.
_AXOLOTL_KEYS = (
    "sequence_len",
    "sample_packing",
    "eval_sample_packing",
    "chat_template",
    "chat_template_jinja",
    "special_tokens",
    "tokens",
    "added_tokens_overrides",
    "dataset_exact_deduplication",
)


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(p for p in path.rglob("*") if p.is_file())
    elif path.is_file():
        yield path


def _hub_commit(repo: str, revision: str | None) -> str:
    """The commit a hub data set is at; offline, the one in the local cache."""
    from huggingface_hub import HfApi, constants

    if not constants.HF_HUB_OFFLINE:
        try:
            sha = HfApi().dataset_info(repo, revision=revision, timeout=10).sha
            return str(sha)
        except Exception:  # no network, gated, or not a hub id: the cache below, or nothing
            pass
    name = "datasets--" + repo.replace("/", "--")
    ref = Path(constants.HF_HUB_CACHE) / name / "refs" / (revision or "main")
    return ref.read_text().strip() if ref.is_file() else "unresolved"


def _data_state(data: Mapping[str, Any]) -> dict[str, str]:
    state: dict[str, str] = {}
    for name in [data["path"], *_names(data.get("data_files"))]:
        # Not Path.glob: a pattern may be absolute.
        paths = sorted(glob(str(name), recursive=True))  # noqa: PTH207
        found = [file for path in paths for file in _files(Path(path))]
        for file in found:
            state[str(file)] = _digest_file(file)
        if not found and name == data["path"]:
            state[str(name)] = _hub_commit(str(name), data.get("revision"))
    return state


def _names(data_files: Any) -> Iterator[str]:
    """The paths and patterns in a ``data_files:`` entry: a string, a list, or lists by split."""
    if isinstance(data_files, Mapping):
        data_files = list(data_files.values())
    if isinstance(data_files, (list, tuple)):
        for entry in data_files:
            yield from _names(entry)
    elif data_files:
        yield str(data_files)


def fingerprint(cfg: Any, settings: S1Config) -> str:
    """Hex digest over everything of ours that decides what the prepared rows are.

    What axolotl hashes itself (sequence length, packing, names, splits …) is left to it.
    """
    data = [*(cfg.datasets or []), *(cfg.test_datasets or [])]
    tokenizer = Path(str(cfg.tokenizer_config or cfg.base_model or ""))
    state = {
        "version": __version__,
        "settings": settings.model_dump(include={"format", "bad_rows"}),
        "format": repr(get_format(settings.format)),
        "over_long": str(cfg.excess_length_strategy),
        "min_sample_len": str(cfg.min_sample_len),
        "eval_sequence_len": str(cfg.eval_sequence_len),
        "seed": str(cfg.seed),
        "axolotl": {name: str(cfg.get(name)) for name in _AXOLOTL_KEYS},
        "shuffle": [str(cfg.shuffle_merged_datasets), str(cfg.shuffle_before_merging_datasets)],
        "tokenizer": {
            name: _digest_file(tokenizer / name)
            for name in _TOKENIZER_FILES
            if (tokenizer / name).is_file()
        },
        "data": [[dict(_plain(d)), _data_state(d)] for d in data],
    }
    text = json.dumps(state, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def use_own_folder(cfg: Any, settings: S1Config, anew: bool = False) -> Path:
    """Points ``cfg.dataset_prepared_path`` at the folder of this state of data and settings.

    What an interrupted run left half written there is removed first.

    Args:
        anew: the data are going to be prepared whatever is there (`axolotl preprocess`). What is
            there goes then: files that are written over where they lie have the old ones' names
            and, if that is interrupted, beside them what says that they are whole.
    """
    from axolotl.utils.data.lock import LOCK_FILE_NAME
    from filelock import FileLock

    base = Path(cfg.dataset_prepared_path or DEFAULT_FOLDER)
    folder = base / f"s1-{fingerprint(cfg, settings)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    # The lock is the one axolotl holds while a rank prepares the data, so nothing that is being
    # written right now is taken for a leftover.
    with FileLock(str(folder / LOCK_FILE_NAME)):
        known = counts.load(folder)
        for child in folder.iterdir():
            if child.is_dir() and (anew or not known or not _whole(child)):
                _remove(child, "state.json")
    cfg.dataset_prepared_path = str(folder)
    return folder


def _whole(folder: Path) -> bool:
    """Whether `save_to_disk` came to its end: it writes these two last, after all rows."""
    try:
        for name in ("state.json", "dataset_info.json"):
            json.loads((folder / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return True


def _remove(folder: Path, proof: str) -> None:
    """Removes ``folder``; first the file that says it is whole, as this may be interrupted too."""
    (folder / proof).unlink(missing_ok=True)
    shutil.rmtree(folder)


def parse_files(cfg: Any, folder: Path) -> None:
    """Has `datasets` parse local files now, as axolotl is about to (it then finds them parsed).

    For two reasons: what cannot be parsed is named with file and line, and what was parsed before
    is parsed again if the files have changed. `datasets` itself looks at a file's path and time
    alone, so a copy that keeps its time (`cp -p`, `rsync -t`, an unpacked archive) is stale.

    Args:
        folder: the one of this state of data and settings; its lock lets one rank do the work.

    Raises:
        ValueError: naming file, line and remedy.
    """
    from axolotl.utils.data.lock import LOCK_FILE_NAME
    from axolotl.utils.data.shared import datasets_with_name_generator, load_dataset_with_config
    from filelock import FileLock

    if cfg.streaming:  # refused later, by name
        return
    wanted = datasets_with_name_generator([*(cfg.datasets or []), *(cfg.test_datasets or [])])
    for data in wanted:
        if data.type != "s1_plugin.traces" or not Path(data.path).exists():
            continue
        with FileLock(str(folder / LOCK_FILE_NAME)):
            try:
                parser = files.builder(data)
                kept = Path(parser.cache_dir) if parser else None
                state = json.dumps(_data_state(data), sort_keys=True)
                if kept and kept.is_dir() and _text(kept / STATE_FILE) != state:
                    _remove(kept, STATE_FILE)
                load_dataset_with_config(data, cfg.hf_use_auth_token)
                if kept and kept.is_dir():
                    (kept / STATE_FILE).write_text(state, encoding="utf-8")
            except Exception:
                reason = files.explain(data)
                if reason:
                    raise ValueError(reason) from None
                # Not the files' fault: axolotl meets the same error, and tells it.


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def reused(folder: Path) -> list[counts.Counts]:
    """Counts of the prepared data in ``folder`` if axolotl is going to load them again."""
    if not folder.is_dir() or not any(p.is_dir() for p in folder.iterdir()):
        return []
    return list(counts.load(folder).values())
