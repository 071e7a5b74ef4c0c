"""Steps of 1e-5 arrive in the weights, or do not: the real `axolotl train` under `bf16: true`."""

import pytest
import torch
import yaml

from tests.conftest import ROOT
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The nano world with weights of the usual size, saved in bfloat16 as models are."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from s1_plugin.nano import world

    folder = world.build(tmp_path_factory.mktemp("world"), n_train=100, seed=0)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder / "base")
    config.initializer_range = 0.02
    model = AutoModelForCausalLM.from_config(config).bfloat16()
    model.save_pretrained(folder / "base")
    return folder


def moved(base, tmp_path, **settings):
    """Share of the matrices' weights that three steps at a learning rate of 1e-5 have changed, and
    the data types. (Norms and embeddings are float32 anyway where nothing is sharded.)"""
    from safetensors.torch import load_file

    config = yaml.safe_load((ROOT / "axolotl_configs" / "s1_nano.yaml").read_text())
    config |= {
        "base_model": str(base / "base"),
        "reinit_weights": False,
        "plugins": [*config["plugins"], "tests.e2e.cpu_only.CpuOnly"],
        "s1": {"format": "s1", **settings},
        "dataset_prepared_path": str(tmp_path / "prepared"),
        "output_dir": str(tmp_path / "model"),
        "bf16": True,
        "learning_rate": 1e-5,
        "lr_scheduler": "constant",
        "warmup_steps": 0,
        "max_steps": 3,
        "micro_batch_size": 2,
    }
    config["datasets"][0]["path"] = str(base / "train.jsonl")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    done = run("axolotl", "train", path, "--launcher", "python", cwd=tmp_path, PYTHONPATH=str(ROOT))
    before = load_file(base / "base" / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    names = [name for name in before if "proj" in name]
    changed = sum(int((after[n].float() != before[n].float()).sum()) for n in names)
    types = {after[name].dtype for name in names}
    return changed / sum(before[n].numel() for n in names), types, done


def test_bfloat16_weights_lose_them_and_float32_weights_keep_them(base, tmp_path):
    (tmp_path / "low").mkdir()
    (tmp_path / "high").mkdir()
    lost, types, _ = moved(base, tmp_path / "low")
    assert types == {torch.bfloat16}
    kept, types, done = moved(base, tmp_path / "high", weights="float32")
    assert types == {torch.float32}
    assert "weights are trained in float32" in done.stderr
    print(f"moved: {lost:.3f} of bfloat16 weights, {kept:.3f} of float32 weights")
    assert lost < 0.4 and kept > 0.99
