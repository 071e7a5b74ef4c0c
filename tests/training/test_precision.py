import pytest
import torch

from s1_plugin.training import precision

LOW = {"bf16": True, "optimizer": "adamw_torch_fused", "learning_rate": 1e-5}
EIGHT = {**LOW, "optimizer": "adamw_torch_8bit"}


@pytest.mark.parametrize(
    ("cfg", "weights", "arrives", "words"),
    [
        (LOW, None, False, "bf16 weights and optimiser states; at learning_rate 1e-05"),
        (LOW, "float32", True, "float32 weights and optimiser states, multiplied in bf16"),
        ({**LOW, "bf16": False}, None, True, "float32 weights and optimiser states"),
        ({**LOW, "optimizer": "optimi_adamw"}, None, True, "kept by optimi_adamw"),
        ({**LOW, "deepspeed": "zero3.json"}, None, True, "DeepSpeed's float32 masters"),
        ({**LOW, "adapter": "qlora"}, None, True, "adapter weights"),
        ({**LOW, "bf16": None, "fp16": True}, None, False, "fp16 weights"),
        ({**EIGHT, "optim_args": {"bf16_stochastic_round": True}}, None, True, "on average"),
        ({**EIGHT, "optim_args": "a=1, bf16_stochastic_round=True"}, None, True, "on average"),
        ({**EIGHT, "optim_args": {"bf16_stochastic_round": False}}, None, False, "are lost"),
        (EIGHT, None, False, "are lost"),
    ],
)
def test_what_a_config_trains_in(cfg, weights, arrives, words):
    found, sentence = precision.of_config(cfg, weights)
    assert found is arrives and words in sentence


def test_the_cast_is_exact_and_whole():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)).bfloat16()
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert precision.use_float32(model) == 28
    for name, p in model.named_parameters():
        assert p.dtype == torch.float32 and p.requires_grad and torch.equal(p, before[name].float())


def test_a_step_of_the_papers_size_is_lost_in_bfloat16_and_not_in_float32():
    """The simulation behind it: 315 Adam steps at 1e-5 on weights of size 0.02."""
    shares = {}
    for dtype in (torch.bfloat16, torch.float32):
        torch.manual_seed(0)
        weight = torch.nn.Parameter((0.02 * torch.randn(2000)).to(dtype))
        start = weight.detach().clone()
        optimizer = torch.optim.AdamW([weight], lr=1e-5, betas=(0.9, 0.95), weight_decay=1e-4)
        for _ in range(315):
            weight.grad = torch.randn_like(weight)
            optimizer.step()
        shares[dtype] = float((weight != start).float().mean())
    assert shares[torch.bfloat16] < 0.4 and shares[torch.float32] > 0.99, shares


def test_adapters_and_quantised_models_are_refused():
    model = torch.nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="full fine-tuning, but weight is frozen"):
        precision.use_float32(model)
