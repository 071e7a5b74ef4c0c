"""The whole road with a real teacher: traces distilled from `vllm serve`, curated, trained on by
axolotl, the model evaluated. vLLM and axolotl cannot share an environment, so this test needs
both."""

import json
import os
from pathlib import Path

import pytest
import yaml

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from s1_plugin.nano.task import problems
from tests.conftest import ROOT
from tests.e2e.commands import run
from tests.vllm.server import MODEL, serve

pytestmark = pytest.mark.e2e

TRAINING = Path(os.environ.get("S1_TRAIN_PYTHON", ROOT / ".venv" / "bin" / "python"))
ASKED, KEPT = 400, 128


def test_from_a_teacher_to_a_model(tmp_path):
    teacher = os.environ.get("S1_NANO_MODEL")
    if not teacher:
        pytest.skip("run `make demo` first, or set S1_NANO_MODEL to the folder of its model")
    if not TRAINING.exists():
        pytest.skip("run `make setup` first, or set S1_TRAIN_PYTHON to a Python that has axolotl")
    python = str(TRAINING)
    rows = [
        json.dumps({"question": p.question, "solution": str(p.answer)})
        for p in problems(ASKED, 1, "train")
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(rows))

    with serve(teacher, tmp_path / "serve.log", "--max-model-len", "256") as url:
        run(
            "s1", "distill", "questions.jsonl", "--out", "traces", "--teacher", MODEL,
            "--base-url", url.removesuffix("/completions"), "--format", "s1",
            "--tokenizer", teacher, "--temperature", "0.7", "--max-tokens", "60",
            cwd=tmp_path, python=python,
        )  # fmt: skip
    ledger = (tmp_path / "traces" / "traces.jsonl").read_text().splitlines()
    assert len(ledger) == len(set(rows))

    benchmarks = ("aime24", "aime25", "math500", "gpqa_diamond")
    without = [word for name in benchmarks for word in ("--without-benchmark", name)]
    run(
        "s1", "curate", "traces/traces.jsonl", "--out", "curated", "--rows", str(KEPT),
        "--tokenizer", teacher, *without, cwd=tmp_path, python=python,
    )  # fmt: skip
    curated = (tmp_path / "curated" / "train.jsonl").read_text().splitlines()
    assert len(curated) == KEPT

    config = yaml.safe_load((ROOT / "axolotl_configs" / "s1_nano.yaml").read_text())
    config["datasets"][0]["path"] = "curated/train.jsonl"
    config |= {
        "base_model": teacher,
        "reinit_weights": True,  # what it learns it learns from these traces
        "dataset_prepared_path": "prepared",
        "output_dir": "model",
        "micro_batch_size": 16,
        "num_epochs": 6,
        "warmup_steps": 5,
        "logging_steps": 8,
    }
    del config["s1"]["nano"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run("axolotl", "train", "config.yaml", "--launcher", "python", cwd=tmp_path, python=python)
    record = json.loads((tmp_path / "model" / "s1_run.json").read_text())
    assert record["finished"] and record["steps"] == 6 * KEPT // 16
    # Of 455 tokens a model that knows nothing has a loss of 6.
    assert record["losses"]["loss_thinking"] < 4.5 and record["losses"]["loss_answer"] < 4.5

    arguments = "pretrained=model,dtype=float32"
    run(
        "lm_eval", "run", "--model", "hf", "--model_args", arguments, "--tasks", "s1_nano",
        "--apply_chat_template", "--batch_size", "100", "--limit", "100",
        "--gen_kwargs", json.dumps({"max_tokens_thinking": [4, 16]}), "--output_path", "results",
        "--log_samples", cwd=tmp_path, python=python,
    )  # fmt: skip
    (results,) = (tmp_path / "results").rglob("results_*.json")
    found = json.loads(results.read_text())["results"]["s1_nano"]
    print({name: value for name, value in found.items() if "tokens" in name or "match" in name})
    run("s1", "curve", "results", "--out", "curve", cwd=tmp_path, python=python)
    points = json.loads((tmp_path / "curve" / "curve.json").read_text())
    assert "s1_nano" in json.dumps(points) and (tmp_path / "curve" / "curve.html").exists()
