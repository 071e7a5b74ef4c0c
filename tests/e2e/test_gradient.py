"""The gradient of a step of the real `axolotl train` is that of the paper's objective.

One step of plain SGD at a learning rate of 1: what the weights have lost is the gradient. Sixteen
rows of mixed length, in several ways of putting them into micro-batches.
"""

import json
import re

import pytest
import torch
import yaml
from torch.nn import functional as F

from tests.conftest import ROOT
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Sixteen traces from short to four times as long, and a model with weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from s1_plugin.nano import world

    folder = world.build(tmp_path_factory.mktemp("world"), n_train=100, seed=0)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()[:16]]
    for i, row in enumerate(rows):
        row["thinking_trajectories"] = [" ".join(row["thinking_trajectories"] * (1 + i % 4))]
        row["question"] += f" ({i})"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder / "base"))
    model.save_pretrained(folder / "base")
    return folder


def gradient(world, folder, micro, **settings):
    """The gradient of one step, from the weights before and after it, and the prepared rows."""
    import datasets
    from safetensors.torch import load_file

    folder.mkdir()
    config = yaml.safe_load((ROOT / "axolotl_configs" / "s1_nano.yaml").read_text())
    config |= {
        "base_model": str(world / "base"),
        "reinit_weights": False,
        "s1": {"format": "s1", **settings},
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "model"),
        "sequence_len": 512,
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "lr_scheduler": "constant",
        "warmup_steps": 0,
        "max_grad_norm": 0.0,
        "max_steps": 1,
        "micro_batch_size": micro,
        "gradient_accumulation_steps": 16 // micro,
    }
    config["datasets"][0]["path"] = str(world / "rows.jsonl")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    said = run("axolotl", "train", path, "--launcher", "python", cwd=folder).stderr
    assert ("rows in balance" in said) == settings.get("balance", False)
    before = load_file(world / "base" / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    (state,) = (folder / "prepared").rglob("state.json")
    rows = list(datasets.load_from_disk(str(state.parent)))
    return {name: before[name] - after[name] for name in before}, rows


def reference(world, rows):
    """The paper's: each row alone, its mean loss; the mean over rows."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(world / "base", dtype=torch.float32)
    for row in rows:
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        logits = model(input_ids=ids).logits
        (F.cross_entropy(logits[0, :-1], labels[0, 1:]) / len(rows)).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def distance(one, other):
    top = sum(float((one[n] - other[n]).double().square().sum()) for n in other)
    return (top / sum(float(g.double().square().sum()) for g in other.values())) ** 0.5


def test_a_step_is_the_papers(world, tmp_path):
    alone, rows = gradient(world, tmp_path / "alone", 1)
    assert len(rows) == 16
    assert max(len(r["input_ids"]) for r in rows) > 2 * min(len(r["input_ids"]) for r in rows)
    want = reference(world, rows)
    found = {"one row per micro-batch": distance(alone, want)}
    ours, _ = gradient(world, tmp_path / "ours", 4, loss="sequence")
    found["four rows, loss: sequence"] = distance(ours, want)
    packed, _ = gradient(world, tmp_path / "packed", 4, loss="sequence", balance=True)
    found["rows in balance"] = distance(packed, want)
    plain, _ = gradient(world, tmp_path / "plain", 4)
    print(found, distance(plain, want))
    assert max(found.values()) <= 1e-5, found
    assert distance(plain, want) > 0.01  # without it, several rows are another objective


@pytest.fixture(scope="module")
def real(qwen, traces):
    """Sixteen real rows, the shortest to the longest of s1.1-32B's; their tokens are folded into
    the nano model's vocabulary, lengths and what is learned are as they are."""
    from s1_plugin.encoding import TextEncoder
    from s1_plugin.formats import get_format

    triples = [
        (row["question"], row["thinking_trajectories"][0], row["attempt"])
        for row in sorted(traces[:582], key=lambda r: len(r["thinking_trajectories"][0]))[::36][:16]
    ]
    found = []
    for row in TextEncoder(qwen).rows(triples, get_format("s1")):
        ids = [token % 455 for token in row.input_ids]
        masked = [i if label != -100 else -100 for i, label in zip(ids, row.labels, strict=True)]
        found.append({"input_ids": ids, "labels": masked, "attention_mask": [1] * len(ids)})
    return found


@pytest.mark.parametrize(("ranks", "rows_are"), [(2, "padded"), (4, "balanced")])
def test_so_is_one_over_several_ranks(world, real, tmp_path, ranks, rows_are):
    """Rows of mixed length over ranks of transformers' Trainer, in pairs: each rank's mean is of
    other lengths, and a mean of means of tokens would be another objective."""
    import datasets

    rows = real
    assert len(rows) == 16 and len(rows[-1]["labels"]) > 5 * len(rows[0]["labels"])
    datasets.Dataset.from_list(rows).save_to_disk(str(world / "rows"))
    launch = ("torchrun", "--standalone", "--nproc_per_node", ranks)
    script = ROOT / "tests" / "e2e" / "step_ranks.py"
    run(*launch, script, world, tmp_path, 2, rows_are, cwd=ROOT, ACCELERATE_USE_CPU="true")
    step = torch.load(tmp_path / "step.pt", weights_only=True)
    assert step["ranks"] == ranks
    assert distance(step["gradient"], reference(world, rows)) <= 1e-5


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "gathered"])
def test_so_is_one_of_a_model_that_ranks_share(kind):
    """FSDP2, packed rows, recomputation. In bfloat16 what is compared is the sum of the weights:
    FSDP casts what a model is given, and 1/300 is no bfloat16; and its float32 weights move by
    steps of 1e-5. Gathered: the head alone, as ZeRO-3 does it, whose calls are compared."""
    launch = ("torchrun", "--standalone", "--nproc_per_node", 2)
    script = ROOT / "tests" / "e2e" / "step_fsdp.py"
    done = run(*launch, script, kind, cwd=ROOT, PYTHONPATH=str(ROOT))
    assert float(re.search(r"off by (\S+)", done.stdout)[1]) <= 1e-5
