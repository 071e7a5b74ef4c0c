import pytest

from s1_plugin.plan import flops
from s1_plugin.plan.shapes import KNOWN, Shape

CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 500,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize("length", [16, 100])
@pytest.mark.parametrize("checkpoints", ["none", "reentrant", "early stop"])
def test_against_the_count_of_a_real_step(length: int, checkpoints: str):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**CONFIG), attn_implementation="eager"
    )
    if checkpoints != "none":
        model.gradient_checkpointing_enable({"use_reentrant": checkpoints == "reentrant"})
        model.enable_input_require_grads()
    row = torch.randint(500, (1, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=row, labels=row, use_cache=False).loss.backward()
    shape = Shape.from_config(CONFIG)
    expected = flops.of_rows(shape, [length])
    passes = 3
    if checkpoints != "none":
        more = flops.recompute_cost(shape, early_stop=checkpoints == "early stop")
        expected, passes = expected + flops.total(more, [length]), 4
    # The counter sees whole matrices of scores, n² pairs where causal attention has n·(n+1)/2.
    unseen = passes * 4 * shape.layers * shape.q_width * (length**2 - length * (length + 1) / 2)
    # It also sees the rotary angles: one frequency per two dimensions, times the position, forward.
    angles = 2 * (shape.head_dim // 2) * length
    assert counter.get_total_flops() == expected + unseen + angles


def test_frozen_weights_have_no_gradients():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**CONFIG), attn_implementation="eager"
    )
    model.requires_grad_(False)
    model.enable_input_require_grads()
    row = torch.randint(500, (1, 100))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=row, labels=row, use_cache=False).loss.backward()
    shape = Shape.from_config(CONFIG)
    expected = flops.total(flops.row_cost(shape, frozen=True), [100])
    unseen = 12 * shape.layers * shape.q_width * (100**2 - 100 * 101 / 2)
    assert counter.get_total_flops() == expected + unseen + 2 * 8 * 100


def test_row_cost_is_that_of_rows():
    shape = KNOWN["Qwen2.5-7B"]
    linear, quadratic = flops.row_cost(shape)
    rows = [1, 700, 32_768]
    expected = sum(linear * n + quadratic * n * n for n in rows)
    assert flops.of_rows(shape, rows) == pytest.approx(expected)


def test_kept_attention_is_not_done_again():
    shape = KNOWN["Qwen2.5-7B"]
    whole = flops.recompute_cost(shape, early_stop=False)
    kept = flops.recompute_cost(shape, early_stop=False, keep_attention=True)
    assert kept == (2.0 * shape.layers * shape.layer_matrices(), 0.0)
    assert whole[0] > kept[0]
    assert whole[1] > 0
