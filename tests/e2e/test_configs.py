"""Every shipped config trains two steps on this CPU: a tiny Qwen2 with the vocabulary of Qwen2.5,
real questions with the beginnings of their traces, and nothing overridden but what is named here.
"""

import json
import math
import re

import pytest
import yaml

from tests import tiny
from tests.conftest import ROOT
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e

#: Keys that need a GPU, several GPUs or packages for them, and what stands for them here (None:
#: left out). A config may have some of them. Quantised weights need no GPU and are not here.
HARDWARE = {
    "bf16": False,
    "attn_implementation": "sdpa",
    "fsdp_version": None,
    "fsdp_config": None,
    "deepspeed": None,
    "context_parallel_size": None,
    "dp_shard_size": None,
    "heads_k_stride": None,
    "ring_attn_func": None,
    "optimizer": "adamw_torch_fused",
    "optim_args": None,
    "activation_offloading": None,
    "liger_rms_norm": False,
    "liger_rope": False,
    "liger_glu_activation": False,
}
#: Kernels that axolotl turns on by itself for adapters, where nothing is said of them.
ADAPTER_KERNELS = {f"lora_{part}_kernel": False for part in ("mlp", "qkv", "o", "embedding")}
#: What is on this machine, and two steps rather than all.
LOCAL = ("base_model", "datasets", "dataset_prepared_path", "output_dir", "max_steps")

NAMES = sorted(p.stem for p in (ROOT / "axolotl_configs").glob("*.yaml") if p.stem != "s1_nano")


def shipped(name):
    return yaml.safe_load((ROOT / "axolotl_configs" / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(qwen, traces, tmp_path_factory):
    """A model with random weights, sixteen rows, and the configs on them."""
    folder = tmp_path_factory.mktemp("configs")
    tiny.qwen2(152064).save_pretrained(folder / "tiny")
    qwen.save_pretrained(folder / "tiny")
    rows = [  # short, since 152,064 logits per token take their time on a CPU
        {
            "question": row["question"],
            "thinking_trajectories": [" ".join(row["thinking_trajectories"][0].split()[:25])],
            "attempt": " ".join(row["attempt"].split()[-8:]),
        }
        for row in sorted(traces[:582], key=lambda row: len(row["question"]))[:16]
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in NAMES:
        settings = shipped(name)
        for key in HARDWARE.keys() & settings.keys():
            settings[key] = HARDWARE[key]
        if "adapter" in settings:
            settings |= ADAPTER_KERNELS
        settings["base_model"] = str(folder / "tiny")
        settings["datasets"][0]["path"] = str(folder / "rows.jsonl")
        settings["dataset_prepared_path"] = str(folder / name / "prepared")
        settings["output_dir"] = str(folder / name / "model")
        settings["max_steps"] = 2
        here = {key: value for key, value in settings.items() if value is not None}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(here))
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """What was said of each config. The process is one that torchrun has started; one config is
    trained as under Ray."""
    script = str(ROOT / "tests" / "e2e" / "train_configs.py")
    paths = [str(folder / f"{name}.yaml") for name in NAMES]
    paths.insert(NAMES.index("s1_8xh200"), "--ray")
    done = run(
        "torchrun", "--standalone", "--nproc_per_node", "1", script, *paths, cwd=folder,
        AXOLOTL_DATASET_NUM_PROC="1",
    )  # fmt: skip
    parts = re.split(r"^== .*/(.*)\.yaml$", done.stderr, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is_overridden(folder, name):
    before, here = shipped(name), yaml.safe_load((folder / f"{name}.yaml").read_text())
    changed = {key for key in before | here if before.get(key) != here.get(key)}
    assert changed <= {*HARDWARE, *ADAPTER_KERNELS, *LOCAL}
    assert before["datasets"] == [{**here["datasets"][0], "path": before["datasets"][0]["path"]}]


def arguments(folder, name):
    """What axolotl gave to the trainer."""
    import torch

    path = folder / name / "model" / "checkpoint-2" / "training_args.bin"
    return torch.load(path, weights_only=False)  # of our own making


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_are_trained(trained, folder, name):
    from safetensors.torch import load_file

    said, settings, out = trained[name], shipped(name), folder / name / "model"
    state = json.loads((out / "checkpoint-2" / "trainer_state.json").read_text())
    steps = [entry for entry in state["log_history"] if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2]
    for entry in steps:  # random weights know nothing of the next token
        assert entry["loss"] == pytest.approx(math.log(152064), abs=0.1)
    # Of two steps a twentieth warms up: none.
    rate = settings["learning_rate"]
    assert [entry["learning_rate"] for entry in steps] == pytest.approx([rate, rate / 2])
    assert "max_steps: 2 ends the training after" in said
    assert "16 rows read as s1K, 16 to train on" in said
    assert "the loss is averaged per sequence" in said
    if settings["s1"].get("weights"):
        assert "weights are trained in float32" in said
    if settings["s1"].get("balance"):
        micro, times = settings["micro_batch_size"], settings["gradient_accumulation_steps"]
        assert f"{micro * times} rows a step, groups x micro-batches: 1 x {times}" in said
    if "adapter" in settings:
        adapter = load_file(out / "adapter_model.safetensors")
        ups = [value for key, value in adapter.items() if "lora_B" in key]
        assert len(ups) == 14 and all(value.any() for value in ups)
    else:
        before, after = (
            load_file(folder / "tiny" / "model.safetensors"),
            load_file(out / "model.safetensors"),
        )
        moved = {key: float((after[key] != before[key]).float().mean()) for key in before}
        assert min(share for key, share in moved.items() if "proj.weight" in key) > 0.9, moved


@pytest.mark.parametrize("name", NAMES)
def test_the_trainer_gets_what_the_paper_has(trained, folder, name):
    args, rate = arguments(folder, name), shipped(name)["learning_rate"]
    assert (args.learning_rate, args.lr_scheduler_type) == (rate, "cosine")
    assert (args.adam_beta1, args.adam_beta2, args.adam_epsilon) == (0.9, 0.95, 1e-8)
    assert (args.weight_decay, args.max_grad_norm) == (1e-4, 1.0)
    assert (args.max_steps, args.num_train_epochs, args.seed) == (2, 5, 42)


@pytest.mark.parametrize("name", NAMES)
def test_doctor_is_content(folder, name):
    from s1_plugin.doctor_config import check_config

    found = list(check_config(folder / f"{name}.yaml"))
    assert not [f for f in found if f.status == "fail"], found
