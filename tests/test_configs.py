"""Every shipped config passes axolotl's own validation, with the hardware it is written for."""

import pytest
import yaml

from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "axolotl_configs").glob("*.yaml"))
HOPPER = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 16, "compute_capability": "sm_90"}
LAPTOP = {"bf16": False, "fp8": False, "tf32": False, "n_gpu": 1, "compute_capability": None}


@pytest.fixture(autouse=True)
def no_leftover_plugins():
    from axolotl.integrations.base import PluginManager

    yield
    PluginManager._instance = None


def validated(path, tmp_path, monkeypatch):
    from axolotl.cli.config import prepare_plugins
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault

    monkeypatch.chdir(tmp_path)
    cfg = DictDefault(yaml.safe_load(path.read_text(encoding="utf-8")))
    prepare_plugins(cfg)
    hardware = LAPTOP if "nano" in path.name else HOPPER
    return validate_config(cfg, capabilities=hardware, env_capabilities={"torch_version": "2.13.0"})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_axolotl_accepts_it(path, tmp_path, monkeypatch):
    cfg = validated(path, tmp_path, monkeypatch)
    assert cfg.s1["format"] == "s1"
    assert cfg.plugins == ["s1_plugin.S1Plugin"]
    assert cfg.datasets[0]["type"] == "s1_plugin.traces"


def test_the_papers_hyperparameters(tmp_path, monkeypatch):
    """https://arxiv.org/abs/2501.19393, section 4 and appendix D."""
    cfg = validated(ROOT / "axolotl_configs" / "s1.yaml", tmp_path, monkeypatch)
    assert cfg.base_model == "Qwen/Qwen2.5-32B-Instruct"
    assert (cfg.num_epochs, cfg.learning_rate, cfg.lr_scheduler) == (5, 1e-5, "cosine")
    assert (cfg.adam_beta1, cfg.adam_beta2, cfg.weight_decay) == (0.9, 0.95, 1e-4)
    assert cfg.sequence_len == 32768
    assert cfg.micro_batch_size * cfg.gradient_accumulation_steps * 16 == 16
    assert cfg.excess_length_strategy is None  # the plugin stops rather than cut
    assert not cfg.sample_packing


def test_every_config_keeps_data_and_outputs_apart():
    folders = [yaml.safe_load(p.read_text())["output_dir"] for p in CONFIGS]
    assert len(set(folders)) == len(folders)
