import pytest
import torch

from s1_plugin.training import recompute
from tests import tiny

LAYERS = 6


@pytest.fixture
def model():
    made = tiny.qwen2(19, num_hidden_layers=LAYERS)
    made.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return made.train()


def again(model, tokens):
    """Which layers a micro-batch computes twice, and the gradient."""
    runs = [0] * LAYERS

    def seen(n):
        runs[n] += 1

    hooks = [
        layer.input_layernorm.register_forward_hook(lambda *_, n=n: seen(n))
        for n, layer in enumerate(model.model.layers)
    ]
    model.zero_grad()
    ids = torch.arange(tokens).unsqueeze(0) % 19
    model(input_ids=ids, labels=ids).loss.backward()
    for hook in hooks:
        hook.remove()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    return [n - 1 for n in runs], gradient


def test_short_micro_batches_recompute_less_and_the_gradient_is_the_same(model, capsys):
    want = {n: again(model, n) for n in (10, 25, 200)}
    assert all(runs == [1] * LAYERS for runs, _ in want.values())
    recompute.use_budget(model.model, per_token=100.0, budget=10_500.0)
    # 10.5, 4.2 and 0.5 layers fit, in an order in which nothing is left over from the one before
    for tokens, kept in ((25, 4), (200, 0), (10, 6), (25, 4)):
        runs, gradient = again(model, tokens)
        assert runs == [1] * (LAYERS - kept) + [0] * kept
        assert (gradient - want[tokens][1]).norm() <= 1e-6 * gradient.norm()
    (line,) = capsys.readouterr().err.splitlines()
    assert "25 tokens" in line and "4 of 6 layers" in line


def test_evaluation_is_left_alone(model):
    recompute.use_budget(model.model, per_token=1.0, budget=1e9)
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.ones((1, 5), dtype=torch.long))
    assert all(layer.gradient_checkpointing for layer in model.model.layers)


@pytest.mark.parametrize(
    ("cfg", "why"),
    [
        ({}, "gradient_checkpointing: true"),
        ({"gradient_checkpointing": "offload"}, "gradient_checkpointing: true"),
        (
            {"gradient_checkpointing": True, "fsdp_config": {"activation_checkpointing": True}},
            "fsdp_config.activation_checkpointing",
        ),
    ],
)
def test_a_config_without_checkpointing_of_layers_is_refused(cfg, why):
    with pytest.raises(ValueError, match=why):
        recompute.check(cfg)
    recompute.check({"gradient_checkpointing": True, "fsdp_config": {"offload_params": False}})
