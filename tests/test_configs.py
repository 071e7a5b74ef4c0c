"""Every shipped config passes axolotl's own validation, with the hardware it is written for, and
all that train s1 agree with the paper and with one another, but for what is named here."""

import os
import re
import sys
import types

import pytest
import yaml

from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "axolotl_configs").glob("*.yaml"))
HOPPER = {"bf16": True, "fp8": True, "tf32": True, "compute_capability": "sm_90"}
LAPTOP = {"bf16": False, "fp8": False, "tf32": False, "compute_capability": None}

#: Config -> its GPUs. The nano config is of another world and has no place here.
HARDWARE = {
    "s1": (16, "H100"),
    "s1.1": (16, "H100"),
    "s1_zero3": (16, "H100"),
    "s1_8xh100": (8, "H100"),
    "s1_8xh200": (8, "H200"),
    "s1_1.5b": (1, "H100"),
    "s1_3b": (1, "H100"),
    "s1_7b": (1, "H100"),
    "s1_lora": (1, "H200"),
    "s1_qlora": (1, "H100"),
}
GPUS = {name: gpus for name, (gpus, _) in HARDWARE.items()}

#: https://arxiv.org/abs/2501.19393, section 4 and appendix D.
PAPER = {
    "base_model": "Qwen/Qwen2.5-32B-Instruct",
    "num_epochs": 5,
    "learning_rate": 1e-5,
    "lr_scheduler": "cosine",
    "max_steps": None,  # 315, as the plugin makes of the epochs: tests/training/test_steps.py
    "warmup_steps": None,
    "warmup_ratio": 0.05,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "adam_epsilon": None,  # 1e-8, as `transformers` has it
    "weight_decay": 1e-4,
    "optimizer": "adamw_torch_fused",
    "optim_args": None,
    "adapter": None,
    "sequence_len": 32768,
    "special_tokens": {"pad_token": "<|fim_pad|>"},
    "data": "simplescaling/s1K",
    "weights": "float32",
}

#: The same in all, though not the paper's to say.
OURS = {
    "bf16": True,
    "sample_packing": False,
    "attn_implementation": "flash_attention_2",
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "liger_rms_norm": True,
    "liger_rope": True,
    "seed": 42,
    "max_grad_norm": None,  # 1.0, as `transformers` has it
    "excess_length_strategy": None,  # the plugin stops rather than cut
}

ADAPTER = {"learning_rate": 1e-4, "weights": None}

#: Every deviation, each named in a comment of its config.
DEVIATIONS = {
    "s1.1": {"data": "simplescaling/s1K-1.1"},
    "s1_zero3": {"weights": None},  # DeepSpeed keeps float32 masters itself
    "s1_8xh100": {"optimizer": "optimi_adamw", "weights": None, "adam_epsilon": 1e-8},
    "s1_1.5b": {"base_model": "Qwen/Qwen2.5-1.5B-Instruct"},
    "s1_3b": {"base_model": "Qwen/Qwen2.5-3B-Instruct"},
    "s1_7b": {
        "base_model": "Qwen/Qwen2.5-7B-Instruct",
        "optimizer": "adamw_torch_8bit",
        "optim_args": {"bf16_stochastic_round": True},
        "weights": None,
    },
    "s1_lora": {"adapter": "lora", **ADAPTER},
    "s1_qlora": {"adapter": "qlora", **ADAPTER},
}


@pytest.fixture(autouse=True)
def no_leftover_plugins():
    from axolotl.integrations.base import PluginManager

    yield
    PluginManager._instance = None


@pytest.fixture
def validated(tmp_path, monkeypatch):
    """A config by name, as axolotl's validation leaves it on the hardware it is written for."""
    from axolotl.cli.config import prepare_plugins
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault

    def validate(name, **changes):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("WORLD_SIZE", str(GPUS.get(name, 1)))
        # axolotl asks whether ring-flash-attn is there, which needs CUDA to be installed.
        monkeypatch.setitem(sys.modules, "ring_flash_attn", types.ModuleType("ring_flash_attn"))
        text = (ROOT / "axolotl_configs" / f"{name}.yaml").read_text(encoding="utf-8")
        cfg = DictDefault({**yaml.safe_load(text), **changes})
        prepare_plugins(cfg)
        hardware = {**(HOPPER if name in GPUS else LAPTOP), "n_gpu": GPUS.get(name, 1)}
        return validate_config(
            cfg, capabilities=hardware, env_capabilities={"torch_version": "2.13.0"}
        )

    return validate


def test_the_gpus_of_every_config_are_known():
    assert {path.stem for path in CONFIGS} == {*GPUS, "s1_nano"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_axolotl_accepts_it(path, validated):
    cfg = validated(path.stem)
    assert cfg.s1["format"] == "s1"
    assert cfg.plugins[0] == "s1_plugin.S1Plugin"
    assert cfg.datasets[0]["type"] == "s1_plugin.traces"


@pytest.mark.parametrize("name", GPUS)
def test_the_papers_hyperparameters_but_for_what_is_named(name, validated):
    cfg = validated(name)
    seen = {**cfg, "data": cfg.datasets[0]["path"], "weights": cfg.s1["weights"]}
    expected = {**PAPER, **OURS, **DEVIATIONS.get(name, {})}
    assert {key: seen.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", GPUS)
def test_a_step_is_sixteen_rows_averaged_as_in_the_paper(name, validated):
    cfg = validated(name)
    groups = GPUS[name] // (cfg.context_parallel_size or 1)
    assert cfg.micro_batch_size * cfg.gradient_accumulation_steps * groups == 16
    assert cfg.s1["loss"] == "sequence"
    several = cfg.micro_batch_size * cfg.gradient_accumulation_steps > 1
    assert cfg.s1["balance"] == several  # of one row there is nothing to spread


@pytest.mark.parametrize("name", GPUS)
def test_updates_of_the_learning_rates_size_arrive(name):
    from s1_plugin.training import precision

    cfg = yaml.safe_load((ROOT / "axolotl_configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    arrives, sentence = precision.of_config(cfg, cfg["s1"].get("weights"))
    assert arrives, sentence


def test_several_gpus_share_the_states():
    for name, gpus in GPUS.items():
        cfg = yaml.safe_load((ROOT / "axolotl_configs" / f"{name}.yaml").read_text())
        sharded = cfg.get("fsdp_version") == 2 or "deepspeed" in cfg
        assert sharded == (gpus > 1), name


def test_every_config_keeps_data_and_outputs_apart():
    for path in CONFIGS:
        cfg = yaml.safe_load(path.read_text(encoding="utf-8"))
        folder = "nano" if path.stem == "s1_nano" else path.stem
        assert cfg["output_dir"] == f"outputs/{folder}/model"
        assert cfg["dataset_prepared_path"] == f"outputs/{folder}/prepared"
        if path.stem in GPUS:
            assert f"axolotl_configs/{path.name}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GPUS)
def test_the_table_of_the_documentation_is_what_plan_says(name):
    from s1_plugin.plan import hardware, memory, recipe, shapes

    cfg = yaml.safe_load((ROOT / "axolotl_configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    (gpus, kind), shape = HARDWARE[name], shapes.of_model(cfg["base_model"])
    gpu, plan = hardware.GPUS[kind], recipe.of_config(cfg, gpus)
    states = sum(memory.states(shape, plan).values())
    full = sum(memory.parts(shape, plan, gpu, cfg["sequence_len"] // plan.context).values())
    longest = memory.longest(shape, plan, gpu)
    assert longest > 0.97 * cfg["sequence_len"]  # s1K's rows are shorter

    rows = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").splitlines()
    (row,) = [row for row in rows if row.startswith(f"| `{name}.yaml` |")]
    model, where, *numbers = [cell.strip() for cell in row.split("|")[2:7]]
    size = re.search(r"Qwen2.5-([0-9.]+B)", cfg["base_model"])[1]
    assert (model, where) == (size, f"{gpus} × {kind}")
    said = [float(number.replace(",", "")) for number in numbers]
    assert said == pytest.approx([states / 1e9, full / 1e9, longest], rel=0.02)


@pytest.mark.parametrize("name", [name for name, gpus in GPUS.items() if gpus > 1])
def test_accelerate_finds_groups_for_all_gpus(name, validated, monkeypatch):
    """axolotl tells it by the environment, and not all that it has worked out itself."""
    from accelerate import ParallelismConfig
    from axolotl.utils.trainer import setup_parallelism_envs

    from s1_plugin.training import parallel

    for key in [key for key in os.environ if key.startswith("PARALLELISM_CONFIG_")]:
        monkeypatch.delenv(key)
    cfg = validated(name)
    parallel.check(cfg)
    before = dict(os.environ)
    try:
        setup_parallelism_envs(cfg)
        found = ParallelismConfig()
        context = cfg.context_parallel_size or 1
        assert found.cp_size == context
        assert found.total_size == (GPUS[name] if context > 1 else 1)
    finally:
        os.environ.clear()
        os.environ.update(before)
