from pathlib import Path

import pytest
import yaml

from s1_plugin.plan import recipe

FSDP = {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}


@pytest.mark.parametrize(
    ("cfg", "gpus"),
    [
        ({"micro_batch_size": 1}, 16),
        ({"micro_batch_size": 2, "context_parallel_size": 2}, 16),
        ({"micro_batch_size": 2, "gradient_accumulation_steps": 8}, 1),
        ({"micro_batch_size": 64}, 1),
        ({"micro_batch_size": 3, "context_parallel_size": 2}, 2),
    ],
)
def test_gpus_that_make_the_papers_batch(cfg: dict, gpus: int):
    assert recipe.of_config(cfg).gpus == gpus


def test_precision_of_the_weights():
    assert recipe.of_config({"bf16": True}).weight == 2
    assert recipe.of_config({"bf16": True, "s1": {"weights": "float32"}}).weight == 4
    assert recipe.of_config({}).weight == 4
    kahan = recipe.of_config({"bf16": True, "optimizer": "optimi_adamw"})
    assert (kahan.weight, kahan.optimiser) == (2, 6.0)
    zero3 = {"bf16": True, "deepspeed": {"zero_optimization": {"stage": 3}}}
    deep = recipe.of_config(zero3, gpus=8)
    assert (deep.weight, deep.master, deep.optimiser, deep.shards) == (2, 4, 8.0, (8, 8, 8))


@pytest.mark.parametrize(
    ("cfg", "kind"),
    [
        ({}, "none"),
        ({"gradient_checkpointing": True}, "whole"),  # axolotl's default is reentrant
        (
            {
                "gradient_checkpointing": True,
                "gradient_checkpointing_kwargs": {"use_reentrant": False},
            },
            "needed",
        ),
        ({"fsdp_config": {"activation_checkpointing": True}}, "needed"),
        ({"gradient_checkpointing": True, "activation_offloading": "hidden_states"}, "needed"),
        ({"gradient_checkpointing": True, "selective_checkpointing": True}, "needed"),
    ],
)
def test_recomputation(cfg: dict, kind: str):
    assert recipe.of_config(cfg).recompute == kind


def test_shards():
    assert recipe.of_config({**FSDP}, gpus=16).shards == (16, 16, 16)
    assert recipe.of_config({**FSDP, "dp_replicate_size": 2}, gpus=16).shards == (8, 8, 8)
    assert recipe.of_config({**FSDP, "context_parallel_size": 4}, gpus=16).shards[0] == 16
    assert recipe.of_config({}, gpus=8).shards == (1, 1, 1)
    assert recipe.of_config({"deepspeed": "configs/zero2.json"}, gpus=8).shards == (1, 8, 8)


def test_accumulation_reduces_each_micro_batch_where_accelerate_is_told_to():
    sync = {"accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}}}
    assert not recipe.of_config({**FSDP}).sync_each
    assert recipe.of_config({**FSDP, **sync}).sync_each
    assert recipe.of_config({"deepspeed": "zero3.json"}).sync_each
    assert recipe.of_config({"s1": {"keep_activations_gb": 26}}).keep == 26e9
    assert not recipe.of_config({**FSDP}).flat
    assert recipe.of_config({"fsdp_config": FSDP["fsdp_config"]}).flat


@pytest.mark.parametrize(
    ("cfg", "steps", "count"),
    [
        ({"save_steps": 0.5}, 315, 2),
        ({"save_steps": 100}, 315, 4),
        ({"save_strategy": "steps"}, 315, 1),
        ({"save_strategy": "steps"}, None, None),
        ({"saves_per_epoch": 2, "num_epochs": 5}, None, 10),
        ({"save_strategy": False, "num_epochs": 5}, 315, 0),
        ({"num_epochs": 5}, 315, 5),
    ],
)
def test_checkpoints_that_are_written(cfg: dict, steps: int | None, count: int | None):
    assert recipe.of_config(cfg).checkpoints(steps) == count


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"optimizer": "lion"}, r"`optimizer: lion`.*adamw_torch_fused"),
        ({"tensor_parallel_size": 2}, "tensor_parallel_size"),
        ({"context_parallel_size": 3}, "does not divide 16"),
        ({"deepspeed": "nowhere.json"}, r"nowhere\.json"),
        ({"adapter": "lora", "lora_target_modules": ["w1"]}, "w1"),
    ],
)
def test_what_cannot_be_planned_is_refused(cfg: dict, said: str):
    with pytest.raises(ValueError, match=said):
        recipe.of_config(cfg, gpus=16)


def test_the_optimisers_of_the_shipped_configs_are_known():
    folder = Path(__file__).parents[2] / "axolotl_configs"
    for path in sorted(folder.glob("*.yaml")):
        found = recipe.of_config(yaml.safe_load(path.read_text()))
        assert found.rows_per_step % 16 == 0, path
