import pytest

from s1_plugin.plan import shapes
from s1_plugin.plan.shapes import KNOWN, Shape


@pytest.mark.parametrize(
    ("name", "count"),
    [  # as the hub counts the tensors of the safetensors files
        ("Qwen2.5-0.5B", 494_032_768),
        ("Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen2.5-3B", 3_085_938_688),
        ("Qwen2.5-7B", 7_615_616_512),
        ("Qwen2.5-14B", 14_770_033_664),
        ("Qwen2.5-32B", 32_763_876_352),
        ("Qwen2.5-72B", 72_706_203_648),
        ("Qwen3-0.6B", 596_049_920),
        ("Qwen3-8B", 8_190_735_360),
        ("Qwen3-32B", 32_762_123_264),
    ],
)
def test_parameters_of_published_models(name: str, count: int):
    assert KNOWN[name].params() == count


def _config(**changed) -> dict:
    return {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "vocab_size": 500,
        "tie_word_embeddings": True,
        **changed,
    }


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_as_transformers_builds_the_model(family: str, tied: bool):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = _config(tie_word_embeddings=tied, **({"head_dim": 32} if family == "qwen3" else {}))
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(family, **config)
        )
    shape = Shape.from_config({"model_type": family, **config})
    assert shape.params() == sum(p.numel() for p in model.parameters())


def test_another_architecture_is_refused():
    with pytest.raises(ValueError, match=r"mixtral.*qwen2, qwen3, llama"):
        Shape.from_config(_config(model_type="mixtral"))
    with pytest.raises(ValueError, match="no 'hidden_size'"):
        Shape.from_config({"model_type": "qwen2"})


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen2.5-32B-Instruct", "Qwen/Qwen2.5-32B", "Qwen/Qwen2.5-Coder-32B-Instruct"]
)
def test_published_names(name: str):
    assert shapes.of_model(name) is KNOWN["Qwen2.5-32B"]


def test_a_model_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"no config\.json"):
        shapes.of_model(str(tmp_path))
    with pytest.raises(ValueError, match=r"wanted.*folder.*Qwen3-32B"):
        shapes.of_model("nobody/nothing-1B")
