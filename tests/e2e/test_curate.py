"""Curated rows are trained on as they are."""

import json
import re

import pytest
import yaml

from s1_plugin.nano import world
from tests.conftest import ROOT
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e

WITHOUT = [
    part
    for name in ("aime24", "aime25", "math500", "gpqa_diamond")
    for part in ("--without-benchmark", name)
]


def test_what_s1_curate_writes_axolotl_prepares(tmp_path):
    world.build(tmp_path / "nano", n_train=300, seed=0)
    rows = (tmp_path / "nano" / "train.jsonl").read_text().splitlines()
    ledger = [{**json.loads(row), "status": "ok", "teacher": "nano", "seconds": 1} for row in rows]
    ledger += [{**ledger[0], "status": "truncated", "thinking_trajectories": [], "attempt": ""}]
    ledger += [ledger[1]]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ledger))
    said = run(
        *("s1", "curate", "ledger.jsonl", "-o", "curated", "--rows", "100", *WITHOUT),
        *("--tokenizer", "nano/base"),
        cwd=tmp_path,
        S1_CACHE=str(tmp_path / "cache"),
    ).stderr
    assert re.search(r"status +302 → +301 ", said) and re.search(r"copies +301 → +300 ", said)

    cfg = yaml.safe_load((ROOT / "axolotl_configs" / "s1_nano.yaml").read_text())
    del cfg["s1"]["nano"]
    cfg |= {"base_model": "nano/base", "dataset_prepared_path": "prepared"}
    cfg["datasets"][0]["path"] = "curated/train.jsonl"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(cfg))
    done = run("axolotl", "preprocess", "config.yaml", cwd=tmp_path)
    assert re.search(r"s1K.*100 rows|100 rows.*s1K", done.stdout + done.stderr), (
        done.stdout + done.stderr
    )[-3000:]
