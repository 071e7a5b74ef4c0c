"""Thinking tokens, counted by the tokenizer that training uses."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from s1_plugin.data.engine import Batch
from s1_plugin.data.rows import InputError


def tokenizer_file(name: str) -> Path:
    """``tokenizer.json`` of a folder or of a model of the hub.

    Raises:
        InputError: if there is none.
    """
    folder = Path(name)
    if folder.is_dir():
        path = folder / "tokenizer.json"
        if path.is_file():
            return path
        raise InputError(
            f"--tokenizer {name}: has no tokenizer.json; name a folder with one, or a model of the "
            "hub"
        )
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(name, "tokenizer.json"))
    except Exception as error:  # the hub, the network, the name: it says which
        raise InputError(
            f"--tokenizer {name}: cannot be had ({type(error).__name__}: {error}); name a folder "
            "with tokenizer.json, or give lengths with --length-column"
        ) from None


@lru_cache(maxsize=1)
def _tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(path)


def count(path: str, texts: list[str]) -> list[int]:
    """Tokens of each text, control tokens not added."""
    # One by one: a batch would hold all ids of all texts.
    return [len(_tokenizer(path).encode(text, add_special_tokens=False).ids) for text in texts]


def counted(path: str, batch: Batch) -> dict[str, list[int]]:
    return {"trace_tokens": count(path, list(batch["thinking"]))}


def given(column: str, batch: Batch) -> dict[str, list[int]]:
    """Lengths from a column of the input.

    Raises:
        InputError: naming the row.
    """
    out = []
    for other, place in zip(batch["other"], batch["place"], strict=True):
        value = json.loads(other or "{}").get(column)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(
                f"{place}, field `{column}`: is {value!r:.40}, not a number of tokens; leave "
                "--length-column out to have them counted"
            )
        out.append(value)
    return {"trace_tokens": out}
