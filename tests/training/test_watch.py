import json
import subprocess
import sys

import pytest

from s1_plugin.plan.flops import of_rows
from s1_plugin.training import watch
from tests.conftest import ROOT
from tests.training.watched import rows, train

NEW = {"loss_thinking", "loss_answer", "tokens_per_second", "tokens"}


def logs(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", None),
        ("NVIDIA GH200 480GB", None),
    ],
)
def test_the_peak_is_that_of_the_very_gpu(name, peak):
    assert watch.peak_of(name) == peak


def test_on_a_cpu_losses_and_speed_are_logged_and_no_gpu_hours(tmp_path, capfd):
    trainer = train(tmp_path, dollars=2.0)
    for entry in logs(trainer):
        assert set(entry) >= NEW and not {"mfu", "gpu_hours", "dollars"} & set(entry)
        assert (entry["loss_thinking"], entry["loss_answer"]) == (1.0, 5.0)
        assert entry["tokens_per_second"] > 0
    said = capfd.readouterr().err
    assert "trained: 6 steps" in said and "(thinking 1.0000, answer 5.0000)" in said
    assert "GPU hours" not in said


def test_loggers_get_the_entries(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, report_to=["tensorboard"])
    events = EventAccumulator(str(next(tmp_path.rglob("events.out*")).parent)).Reload()
    assert {f"train/{name}" for name in NEW} <= set(events.Tags()["scalars"])


def test_a_resumed_run_goes_on_counting(tmp_path):
    trainer = train(tmp_path, gpus=1, dollars=1.0)
    state, (*_, last) = trainer.state, logs(trainer)
    again = watch.Watch(trainer, gpus=1, dollars=1.0)  # as the next process would make it
    again.on_train_begin(trainer.args, state, None)
    assert again.summary(state)["tokens"] == last["tokens"]
    assert last["gpu_hours"] <= again.summary(state)["gpu_hours"] < 2 * last["gpu_hours"] + 1e-3


def test_sums_are_over_ranks_and_cost_is_that_of_all(tmp_path):
    """Two processes over gloo; both log, none waits for the other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_port", "29731", "-m", "tests.training.watched", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, capture_output=True)
    one, two = (json.loads((tmp_path / f"log-{rank}.json").read_text()) for rank in (0, 1))
    one, two = ([e for e in found if "loss" in e] for found in (one, two))
    assert len(one) == len(two) == 3
    for mine, theirs in zip(one, two, strict=True):
        # rank 0 told of losses 1 and 5, rank 1 of twice that, over as many tokens
        for entry in (mine, theirs):
            assert (entry["loss_thinking"], entry["loss_answer"]) == (1.5, 7.5)
            assert entry["dollars"] == pytest.approx(entry["gpu_hours"] * 3.6, abs=1e-4)
            assert entry["tokens_per_second"] > 0 and entry["mfu"] > 0
        assert mine["tokens"] == theirs["tokens"]
    # 6 steps of 2 rows on each of 2 ranks are all 24 rows, once
    assert one[-1]["tokens"] == sum(len(row["input_ids"]) for row in rows())
    assert one[-1]["gpu_hours_left"] == 0 < one[0]["gpu_hours_left"]


def test_mfu_is_model_flops_over_time_and_peak(tmp_path):
    trainer = train(tmp_path, gpus=1, peak=1e6)
    shape = watch.shape_of(trainer)
    assert shape.params() == sum(p.numel() for p in trainer.model.parameters())
    lengths = [len(row["input_ids"]) for row in rows()]
    for entry in logs(trainer):
        flops_per_token = entry["mfu"] * 1e6 / entry["tokens_per_second"]
        low, high = (of_rows(shape, [n]) / n for n in (min(lengths), max(lengths)))
        assert 0.99 * low < flops_per_token < 1.01 * high


def test_an_adapter_has_no_mfu(tmp_path):
    trainer = train(tmp_path, steps=1)
    next(trainer.model.parameters()).requires_grad_(False)
    assert watch.shape_of(trainer) is None
