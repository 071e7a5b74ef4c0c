"""Killed at any moment, the same `axolotl train` goes on, and ends as if nothing had been."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e

STEPS, SEED, KILLS = 70, 5, 5


def config(folder, **ours):
    """The nano config with 35 steps an epoch, and a checkpoint every ten steps."""
    folder.mkdir()
    cfg = yaml.safe_load((ROOT / "axolotl_configs" / "s1_nano.yaml").read_text())
    cfg["s1"] |= {"loss": "sequence", "balance": True, "weights": "float32", **ours}
    cfg["s1"]["nano"] |= {"folder": str(folder.parent / "nano"), "rows": 35 * 16}
    cfg["datasets"][0]["path"] = str(folder.parent / "nano" / "train.jsonl")
    cfg |= {
        "base_model": str(folder.parent / "nano" / "base"),
        "dataset_prepared_path": str(folder.parent / "prepared"),
        "output_dir": str(folder / "model"),
        "micro_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_epochs": 2,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 10,
        "save_total_limit": 2,
        "auto_resume_from_checkpoints": True,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(cfg))
    return path


def losses(history):
    names = ("loss", "loss_thinking", "loss_answer", "grad_norm", "learning_rate")
    return {e["step"]: {n: e[n] for n in names} for e in history if "loss" in e}


def test_five_kills_leave_no_trace(tmp_path):
    from safetensors.torch import load_file

    calm, rough = tmp_path / "calm", tmp_path / "rough"
    asked = {"tasks": ["s1_nano"], "batch_size": 300}
    asked["gen_kwargs"] = {"max_tokens_thinking": 2, "max_gen_toks": 16}
    said = run(
        "axolotl", "train", config(calm, evaluate=asked), "--launcher", "python", cwd=tmp_path,
        RANK="0", WORLD_SIZE="1", MASTER_ADDR="localhost", MASTER_PORT="29763",
    ).stderr  # fmt: skip
    assert f"trained: {STEPS} steps" in said and "FAILED" not in said
    (results,) = (calm / "model" / "eval").rglob("results_*.json")
    assert json.loads(results.read_text())["n-samples"]["s1_nano"]["effective"] == 300
    assert "lm_eval run" in (calm / "model" / "README.md").read_text()
    killed = run(
        "python", Path(__file__).with_name("killed_training.py"), SEED, KILLS, STEPS,
        config(rough), rough / "model", cwd=tmp_path, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    kills = re.findall(r"killed (?:at|while).*", killed.stderr)
    print(kills)
    assert len(kills) == KILLS
    assert "incomplete-checkpoint" in killed.stderr  # the one that was being written
    (state,) = (calm / "model").glob(f"checkpoint-{STEPS}/trainer_state.json")
    want = losses(json.loads(state.read_text())["log_history"])
    assert set(want) == set(range(1, STEPS + 1))
    # every step of every start, also those that were lost with it and came again
    starts = [rough / f"steps-{n}.jsonl" for n in range(KILLS + 1)]
    runs = [losses(map(json.loads, path.read_text().splitlines())) for path in starts]
    assert max(runs[-1]) == STEPS and len(runs) == KILLS + 1
    assert min(runs[-1]) > STEPS // 2  # gone on from within the second epoch
    for found in runs:
        for step, entry in found.items():
            assert entry == pytest.approx(want[step], abs=1e-4, rel=1e-4), step
    assert abs(runs[-1][STEPS]["loss"] - want[STEPS]["loss"]) < 1e-4
    one, other = (load_file(path / "model" / "model.safetensors") for path in (calm, rough))
    record = json.loads((rough / "model" / "s1_run.json").read_text())
    assert record["finished"] and record["resumed_from"]["step"] == min(runs[-1]) - 1
    assert record["tokens"] == json.loads((calm / "model" / "s1_run.json").read_text())["tokens"]
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-4
