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


def test_ranks_that_get_their_weights_from_another_take_no_memory_for_them(tmp_path, monkeypatch):
    """As transformers loads them under FSDP: uninitialised on all but a node's first rank."""
    import psutil
    from torch import distributed

    def grown(rank):
        monkeypatch.setenv("LOCAL_RANK", rank)
        model = torch.nn.Linear(8192, 8192, bias=False, device="meta", dtype=torch.bfloat16)
        model.to_empty(device="cpu")  # 128 MB, not touched
        before = psutil.Process().memory_info().rss
        assert precision.use_float32(model) == 8192**2 and model.weight.dtype == torch.float32
        return (psutil.Process().memory_info().rss - before) / 1e6

    for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.setenv(name, "true")
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        assert grown("0") > 200 and grown("1") < 20
    finally:
        distributed.destroy_process_group()


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
