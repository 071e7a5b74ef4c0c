"""Shared fixtures. Real data are read from S1_TEST_DATA (default ../shared/data) where present."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("AXOLOTL_DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models of a few thousand parameters run slower on several threads than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
FULL = os.environ.get("S1_TEST_FULL") == "1"


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """No test finds what was generated before it, or leaves anything in the user's cache."""
    os.environ["S1_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("S1_CACHE", str(tmp_path / "s1-cache"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = Path(os.environ.get("S1_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set S1_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def qwen(data_dir):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(data_dir / "qwen2.5-tokenizer")


@pytest.fixture(scope="session")
def traces(data_dir) -> list[dict]:
    rows = []
    for name in ("s1.1-32b-gsm8k.jsonl", "limo-v2-40.jsonl"):
        with (data_dir / "traces" / name).open(encoding="utf-8") as file:
            rows += [json.loads(line) for line in file]
    return rows


@pytest.fixture(scope="session")
def nano_base(tmp_path_factory) -> Path:
    """The nano base model's folder: config and tokenizer, no weights."""
    from s1_plugin.nano import world

    folder = tmp_path_factory.mktemp("nano")
    world.build(folder, n_train=200, seed=0)
    return folder / "base"
