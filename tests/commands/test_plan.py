import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from s1_plugin.commands import plan as command
from s1_plugin.plan import lengths, paper, roofline
from s1_plugin.training import space
from tests.test_configs import HARDWARE

CONFIGS = sorted((Path(__file__).parents[2] / "axolotl_configs").glob("*.yaml"))


@pytest.fixture
def s1k(tmp_path) -> Path:
    path = tmp_path / "s1k.txt"
    path.write_text("\n".join(map(str, paper.s1k())))
    return path


def run(*arguments: object):
    return CliRunner().invoke(command.plan, [str(argument) for argument in arguments])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_planned(config: Path, s1k: Path):
    gpus, kind = HARDWARE.get(config.stem, (1, "H100"))
    where = ("--lengths", s1k, "--gpu-type", kind, "--gpus", gpus)
    found = run(config, *where, "--json")
    # s1K's rows stop the nano model, whose rows are of another world.
    assert found.exit_code == (config.stem == "s1_nano"), found.output
    plan = json.loads(found.output)
    assert plan["forecast"]["seconds"] > 0
    assert plan["dollars"] is None
    assert not [w for w in plan["warnings"] if "refuse" in w or "rows, not" in w]
    text = run(config, *where, "--rate", 2)
    assert text.exit_code == found.exit_code, text.output
    assert "at $2.00 per GPU hour" in text.output
    assert "precision:" in text.output


def _config(tmp_path: Path, **changed) -> Path:
    cfg = yaml.safe_load((Path(CONFIGS[0]).parent / "s1.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**cfg, **changed}))
    return path


def test_the_papers_layout_takes_the_papers_minutes(tmp_path, s1k):
    config = _config(
        tmp_path,
        s1={"weights": "float32"},
        micro_batch_size=1,
        context_parallel_size=1,
        gradient_checkpointing_kwargs={"use_reentrant": True},
        liger_rms_norm=False,
        fsdp_version=1,
    )
    plan = json.loads(run(config, "--lengths", s1k, "--gpus", 16, "--json").output)
    assert plan["forecast"]["minutes"] == pytest.approx(26, abs=0.01)
    assert plan["chain"][0]["minutes"] == pytest.approx(26, abs=0.01)
    assert any("groups stood idle" in warning for warning in plan["warnings"])


def test_measured_kernels_replace_the_counted_ones_of_what_uses_them(tmp_path, s1k):
    def constants(ratio: float) -> Path:
        path = tmp_path / f"{ratio}.json"
        found = {
            "device": "a GPU",
            "efficiency": {"authors": 0.4, "ours": 0.4 * ratio},
            "versions": {},
            "command": "measure",
        }
        path.write_text(json.dumps(found))
        return path

    def minutes(config: Path, *more: object) -> float:
        found = run(config, "--lengths", s1k, "--json", *more)
        return json.loads(found.output)["forecast"]["minutes"]

    ours = _config(tmp_path)
    same, faster = (minutes(ours, "--constants", constants(ratio)) for ratio in (1.0, 1.25))
    assert same / faster == pytest.approx(1.25, rel=0.05)  # all but links, copies and optimiser
    assert faster < minutes(ours) < same
    assert "x 1.25 of the authors', measured on a GPU" in run(
        ours, "--lengths", s1k, "--constants", constants(1.25)
    ).output.replace("\n", " ")
    plain = _config(tmp_path, liger_glu_activation=False)
    assert minutes(plain) == minutes(plain, "--constants", constants(1.25))


def test_kept_activations_are_proposed_and_spare_time(tmp_path, s1k):
    def found(**changed) -> dict:
        settings = {"weights": "float32", "loss": "sequence", "balance": True, **changed}
        config = _config(
            tmp_path,
            s1=settings,
            context_parallel_size=4,
            ring_attn_func="varlen_llama3",
            micro_batch_size=4,
        )
        result = run(config, "--lengths", s1k, "--gpus", 16, "--json")
        plan = json.loads(result.output)
        full = sum(plan["memory"].values()) > plan["memory_of_gpu"]
        assert result.exit_code == full, result.output
        return plan

    without = found()
    fits, spared = (without["keep_activations_gb"][name] for name in ("fits", "minutes"))
    assert fits > 10
    kept = found(keep_activations_gb=fits)
    assert without["forecast"]["minutes"] - kept["forecast"]["minutes"] == pytest.approx(spared)
    assert 0 < kept["forecast"]["kept"] < 1
    assert kept["keep_activations_gb"] == {"fits": fits, "minutes": 0.0}
    assert not [w for w in kept["warnings"] if "fit" in w]
    assert [w for w in found(keep_activations_gb=2 * fits)["warnings"] if f": {fits}" in w]
    assert any(f"{fits} GB are kept" in stage["change"] for stage in kept["chain"])


@pytest.mark.parametrize(
    ("changed", "arguments", "status", "said"),
    [
        ({"dp_shard_size": 1}, ["--gpus", 4, "--gpu-type", "A100"], 1, "does not fit"),
        ({}, ["--gpus", 8], 1, "training will refuse: 8 processes are not context_parallel_size 4"),
        ({}, ["--gpus", 8], 1, "set `dp_shard_size: 2`"),
        ({}, ["--gpus", 8], 1, "8 rows, not the paper's 16"),
        ({}, ["--gpus", 8], 1, "Helps: gradient_accumulation_steps: 2"),
        (
            {"dp_shard_size": 8},
            ["--gpus", 32],
            0,
            "Helps: micro_batch_size: 2, gradient_accumulation_steps: 1",
        ),
        ({"dp_shard_size": 6}, ["--gpus", 24], 0, "that divides 16"),
        ({"plugins": []}, [], 0, "`plugins` lacks s1_plugin.S1Plugin"),
        ({"sequence_len": 6000}, [], 1, "rows are longer than sequence_len 6,000 and stop the run"),
        (
            {"sequence_len": 6000, "excess_length_strategy": "truncate"},
            [],
            0,
            "lose their end, the answer among it",
        ),
        (
            {
                "gradient_accumulation_steps": 2,
                "micro_batch_size": 2,
                "sequence_len": 20_000,
                "s1": {"weights": "float32", "loss": "sequence", "balance": True},
            },
            ["--gpus", 16],
            1,
            "kept whole on each GPU until the last of 2 micro-batches, 65.5 GB. Helps: "
            "accelerator_config: {gradient_accumulation_kwargs: {sync_each_batch: true}}",
        ),
        ({"s1": {"loss": "sequence"}}, [], 0, "most updates are smaller"),
    ],
)
def test_warnings(tmp_path, s1k, changed: dict, arguments: list, status: int, said: str):
    found = run(_config(tmp_path, **changed), "--lengths", s1k, *arguments)
    assert found.exit_code == status, found.output
    assert f"{said}" in " ".join(found.output.split()), found.output


def test_the_constant_is_not_fitted_on_lengths_of_a_file(tmp_path):
    """As many rows as s1K has, but of someone else: longer ones are no faster GPU."""
    file = tmp_path / "mine.txt"
    found = []
    for rows in (999, 1000, 1001):
        file.write_text("\n".join(str(9000 + i % 8000) for i in range(rows)))
        found.append(json.loads(run(_config(tmp_path), "--lengths", file, "--json").output))
    assert [plan["efficiency"] for plan in found] == [roofline.fit()] * 3
    assert found[1]["forecast"]["seconds"] == pytest.approx(found[0]["forecast"]["seconds"], 0.02)
    assert not [w for plan in found for w in plan["warnings"] if "believed" in w]


def test_s1k_s_own_rows_fit_the_constant_and_an_impossible_one_is_said(tmp_path, monkeypatch):
    wider = lengths.lognormal(5100, lengths.spread(5100, paper.LIMIT, paper.OVER), paper.ROWS)
    monkeypatch.setattr(lengths, "of_config", lambda cfg: wider)
    plan = json.loads(run(_config(tmp_path), "--json").output)
    assert plan["efficiency"] == roofline.fit(tuple(wider)) > roofline.fit()
    assert not [w for w in plan["warnings"] if "believed" in w]
    monkeypatch.setattr(lengths, "of_config", lambda cfg: [2 * n for n in wider])
    found = run(_config(tmp_path)).output
    (said,) = [line for line in found.splitlines() if "too low to be believed" in line]
    assert "these rows of s1K" in said
    other = _config(tmp_path, datasets=[{"path": "me/mine", "type": "s1_plugin.traces"}])
    assert json.loads(run(other, "--json").output)["efficiency"] == roofline.fit()


def test_loading_and_saving_are_beside_the_price_and_as_doctor_counts_them(tmp_path, s1k):
    config = _config(tmp_path)
    text = run(config, "--lengths", s1k, "--rate", 2).output
    assert "131.1 GB of the result and 2 x 393.2 GB of checkpoints" in text
    bytes_, _ = space.needed(yaml.safe_load(config.read_text()))
    plan = json.loads(run(config, "--lengths", s1k, "--rate", 2, "--json").output)
    once = plan["once"]
    assert once["written"] == bytes_
    assert once["minutes"] == pytest.approx((bytes_ + 2 * plan["parameters"]) / 2e9 / 60)
    price, beside = text.splitlines()[(at := _line(text, "  price: $")) : at + 2]
    assert f"${plan['dollars']:.2f}" in price
    dollars = 2 * once["minutes"] / 60 * plan["forecast"]["gpus"]
    assert f"loading and saving, {once['minutes']:.1f} minutes (${dollars:.2f})" in beside
    only = _config(tmp_path, save_only_model=True)
    assert "and 2 x 131.1 GB of checkpoints" in run(only, "--lengths", s1k).output


def _line(text: str, start: str) -> int:
    return [line.startswith(start) for line in text.splitlines()].index(True)


def test_measured_kernels_that_no_gpu_has_are_said(tmp_path, s1k):
    path = tmp_path / "constants.json"
    found = {"device": "a GPU", "efficiency": {"authors": 0.1, "ours": 0.9}, "command": "measure"}
    path.write_text(json.dumps(found))
    said = run(_config(tmp_path), "--lengths", s1k, "--constants", path).output
    assert "too low to be believed" in said
    assert "--constants" in said


def test_a_model_that_is_not_known_without_network_is_one_error(tmp_path):
    """In a process of its own: the hub's address is read when it is imported."""
    config = _config(tmp_path, base_model="someone/model-x")
    found = subprocess.run(
        [sys.executable, "-m", "s1_plugin.cli", "plan", str(config)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},
    )
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    error = found.stderr.splitlines()[-1]
    for said in ("mine.yaml: the config.json of someone/model-x", "a folder", "Qwen2.5-7B"):
        assert said in error


@pytest.mark.parametrize(("gigabytes", "said"), [(28, {"left", "row"}), (18, set())])
def test_little_room_is_said_beside_a_row_that_would_not_fit(tmp_path, s1k, gigabytes, said):
    settings = yaml.safe_load((CONFIGS[0].parent / "s1.yaml").read_text())["s1"]
    config = _config(tmp_path, s1={**settings, "keep_activations_gb": gigabytes})
    found = run(config, "--lengths", s1k)
    assert found.exit_code == 0, found.output
    texts = {"left": "2.1 GB are left", "row": "a row of sequence_len 32,768 tokens would not"}
    assert {name for name, text in texts.items() if text in found.output} == said


def test_a_budget_that_never_fits_is_to_be_removed(tmp_path, s1k):
    config = _config(tmp_path, dp_shard_size=1)
    found = run(config, "--lengths", s1k, "--gpus", 4, "--gpu-type", "A100").output
    assert "Helps: remove keep_activations_gb;" in found
    assert "none" not in found.split("does not fit", 1)[1].splitlines()[0]


def test_data_that_cannot_be_read_here_are_said_to_be_a_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(lengths, "of_config", _unreachable)
    text = run(_config(tmp_path)).output
    assert "a fit of s1K's known lengths (mean 4,700" in text
    assert "--lengths FILE" in text
    other = _config(tmp_path, datasets=[{"path": "me/mine", "type": "s1_plugin.traces"}])
    assert "NOT those of your data" in run(other).output


def _unreachable(cfg: object) -> list[int]:
    raise ValueError("me/mine: no network")


def _own(tmp_path: Path) -> Path:
    """A config of three rows and a small model."""
    rows = [{"question": "1+1?", "thinking": "two " * n, "answer": "2"} for n in (5, 50, 500)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = tmp_path / "model"
    model.mkdir()
    for file in Path(_tokenizer()).iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    shape = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "vocab_size": 152_064,
    }
    (model / "config.json").write_text(json.dumps(shape))
    data = {
        "path": str(tmp_path / "rows.jsonl"),
        "ds_type": "json",
        "type": "s1_plugin.traces",
        "field_human": "question",
        "field_thinking": "thinking",
        "field_model": "answer",
    }
    return _config(tmp_path, datasets=[data], base_model=str(model))


def test_the_config_s_own_data_are_measured(tmp_path):
    config = _own(tmp_path)
    plan = json.loads(run(config, "--json").output)
    assert plan["lengths_from"] == "the config's, tokenised as in training"
    assert plan["rows"] == 3
    assert plan["forecast"]["largest"] > 500


def test_the_documentation_s_lines_write_the_lengths_that_are_planned_with(tmp_path, monkeypatch):
    config = _own(tmp_path)
    text = (CONFIGS[0].parents[1] / "docs" / "plan.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert config.name == "mine.yaml"
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    read, given = (
        json.loads(run(config, "--json", *more).output)
        for more in ((), ("--lengths", "lengths.txt"))
    )
    assert given["rows"] == 3
    assert given["forecast"] == read["forecast"]


def _tokenizer() -> str:
    folder = Path(os.environ.get("S1_TEST_DATA", "../shared/data")) / "qwen2.5-tokenizer"
    if not folder.is_dir():
        pytest.skip("S1_TEST_DATA has no qwen2.5-tokenizer")
    return str(folder.absolute())


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "is not YAML"), ("bf16: true", "names no model"), ("base_model: a/b", "a/b")],
)
def test_bad_configs_are_named(tmp_path, monkeypatch, text: str, said: str):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    found = run(path)
    assert found.exit_code == 1
    assert "bad.yaml" in found.output
    assert said in found.output
