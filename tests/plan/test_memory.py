from dataclasses import replace

import pytest

from s1_plugin.plan import memory
from s1_plugin.plan.hardware import GPUS
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.shapes import KNOWN, Shape
from s1_plugin.training import recompute

BIG = KNOWN["Qwen2.5-32B"]
OURS = Recipe(
    gpus=16, shards=(16, 16, 16), recompute="needed", logits="chunks", fused=True, layout="balanced"
)


@pytest.mark.parametrize(("gpus", "size"), [(16, 32.8e9), (8, 65.5e9)])
def test_float32_masters_take_16_bytes_per_parameter(gpus: int, size: float):
    states = memory.states(BIG, replace(OURS, gpus=gpus, shards=(gpus,) * 3))
    assert sum(states.values()) == pytest.approx(size, rel=2e-3)


def test_checkpoints_of_the_longest_row():
    assert memory.kept(BIG, OURS, 32_768) == pytest.approx(21.5e9, rel=2e-3)


def test_logits_of_the_longest_row():
    full = memory.parts(BIG, replace(OURS, logits="all"), GPUS["H100"], 32_768)["logits"]
    assert 50e9 <= full <= 60e9
    assert memory.parts(BIG, OURS, GPUS["H100"], 32_768)["logits"] < 4e9


def test_kahan_summation_takes_ten_bytes_per_parameter():
    states = memory.states(BIG, replace(OURS, weight=2, optimiser=6.0))
    assert sum(states.values()) == pytest.approx(10 * BIG.params() / 16)


def test_where_32b_fits():
    row = 32_768

    def fits(gpu: str, gpus: int, **changed) -> bool:
        recipe = replace(OURS, gpus=gpus, shards=(gpus,) * 3, **changed)
        return memory.longest(BIG, recipe, GPUS[gpu]) >= row

    assert memory.longest(BIG, OURS, GPUS["H100"]) == pytest.approx(row, rel=0.05)  # barely
    assert not fits("H100", 8)
    assert fits("H200", 8)
    assert fits("H100", 16, context=2)
    assert not fits("H100", 16, recompute="none", context=2)


def test_an_adapter_on_one_gpu():
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    lora = replace(
        OURS, gpus=1, shards=(1, 1, 1), frozen=2.0, rank=16, targets=targets, optimiser=8.0
    )
    states = memory.states(BIG, lora)
    assert states["weights"] == pytest.approx(2 * BIG.params() + 4 * lora.trained(BIG))
    assert states["optimiser"] == 8 * lora.trained(BIG)
    assert lora.trained(BIG) < 0.01 * BIG.params()
    quantised = memory.states(BIG, replace(lora, frozen=4.127 / 8))
    assert quantised["weights"] < 0.31 * states["weights"]


def test_kept_activations_stay_in_their_budget():
    ours = replace(OURS, context=4, keep=20e9)
    layer = memory.kept_per_token(BIG, fused=True, product=False)
    whole = memory.kept_per_token(BIG, fused=True)
    assert (layer, whole) == (176_296, 231_592)
    for tokens in (100, 1400, 4000, 8192):
        layers = memory.kept_layers(BIG, ours, tokens)
        assert layers == min(64, int(20e9 / (layer * tokens)))
        there = layers * layer * tokens + (64 - layers) * 10_240 * tokens
        assert there <= memory.kept(BIG, ours, tokens) <= there + layer * tokens
        # The worst of all micro-batches up to these tokens.
        assert memory.kept(BIG, ours, tokens) <= memory.kept(BIG, ours, tokens + 50)
    assert memory.kept(BIG, replace(ours, recompute="none", keep=0.0), 100) == 64 * whole * 100


@pytest.mark.parametrize(("gpu", "gpus", "context"), [("H100", 16, 4), ("H200", 8, 4)])
def test_the_largest_budget_that_fits(gpu: str, gpus: int, context: int):
    ours = replace(OURS, gpus=gpus, shards=(gpus,) * 3, context=context)
    tokens = 32_768 // context
    best = memory.budget(BIG, ours, GPUS[gpu], tokens)

    def used(gigabytes: int) -> float:
        kept = replace(ours, keep=gigabytes * 1e9)
        return sum(memory.parts(BIG, kept, GPUS[gpu], tokens).values())

    assert used(best) <= GPUS[gpu].memory < used(best + 1)
    assert memory.budget(BIG, ours, GPUS[gpu], 100) == 2  # all 64 layers: 1.5 GB
    assert memory.budget(BIG, replace(ours, recompute="none"), GPUS[gpu], tokens) == 0


def test_gradients_that_are_not_reduced_are_kept_whole():
    twice = replace(OURS, accumulation=2, sync_each=False)
    more = memory.states(BIG, twice)["gradients"] - memory.states(BIG, OURS)["gradients"]
    assert more == 2 * BIG.params()
    assert memory.states(BIG, replace(twice, sync_each=True)) == memory.states(BIG, OURS)


TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize("targets", [(), ("q_proj", "v_proj"), TARGETS], ids=["full", "two", "all"])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_what_a_layer_keeps_is_what_pytorch_keeps(family: str, targets: tuple[str, ...]):
    """To the byte, in bf16 under autocast, of the authors' kernels."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.nn.attention import SDPBackend, sdpa_kernel

    config = {
        "model_type": family,
        "hidden_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 640,
        "vocab_size": 64,
    }
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config), attn_implementation="sdpa"
    ).bfloat16()
    layer = model.model.layers[0]
    if targets:
        peft = pytest.importorskip("peft")
        peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=list(targets)))

    def kept(tokens: int) -> int:
        hidden = torch.randn(1, tokens, 128, dtype=torch.bfloat16, requires_grad=True)
        positions = model.model.rotary_emb(hidden, torch.arange(tokens)[None])
        angles = {tensor.data_ptr() for tensor in positions}  # those of all layers
        found: dict[int, int] = {}

        def keep(tensor):
            if tensor.data_ptr() not in angles:
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            sdpa_kernel(SDPBackend.FLASH_ATTENTION),
            torch.autocast("cpu", dtype=torch.bfloat16),
        ):
            alive = layer(hidden, position_embeddings=positions, attention_mask=None)
        assert alive is not None
        return sum(found.values())

    shape = Shape.from_config(config)
    found = memory.kept_per_token(shape, False, targets, 4)
    assert kept(512) - kept(256) == 256 * found  # weights, the same in both, drop out
    if not targets:
        recompute.drop_product(layer)
        layer.train().gradient_checkpointing = False
        found = memory.kept_per_token(shape, False, product=False)
        assert kept(512) - kept(256) == 256 * found
