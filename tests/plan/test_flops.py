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
def test_against_the_count_of_a_real_step(length: int):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**CONFIG), attn_implementation="eager"
    )
    row = torch.randint(500, (1, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=row, labels=row).loss.backward()
    shape = Shape.from_config(CONFIG)
    # The counter sees whole matrices of scores, n² pairs where causal attention has n·(n+1)/2.
    unseen = 12 * shape.layers * shape.q_width * (length * length - length * (length + 1) / 2)
    # It also sees the rotary angles: one frequency per two dimensions, times the position, forward.
    angles = 2 * (shape.head_dim // 2) * length
    assert counter.get_total_flops() == flops.of_rows(shape, [length]) + unseen + angles


def test_row_cost_is_that_of_rows():
    shape = KNOWN["Qwen2.5-7B"]
    linear, quadratic = flops.row_cost(shape)
    rows = [1, 700, 32_768]
    expected = sum(linear * n + quadratic * n * n for n in rows)
    assert flops.of_rows(shape, rows) == pytest.approx(expected)


def test_full_recomputation_is_a_third_more_but_for_the_output_layer():
    shape = KNOWN["Qwen2.5-32B"]
    once = flops.recomputed(shape, [4096])
    head = 6 * shape.vocab * shape.hidden * 4096
    assert 3 * once == pytest.approx(flops.of_rows(shape, [4096]) - head)
