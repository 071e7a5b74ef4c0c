import pytest

from s1_plugin.plan import traffic
from s1_plugin.plan.shapes import KNOWN, Shape

#: Counted as FLOPs; attention's own reading and writing is its kernel's.
MATRICES = {"mm", "addmm", "bmm"} | {
    f"_scaled_dot_product_flash_attention_for_cpu{kind}" for kind in ("", "_backward")
}


def _counted(family: str, sizes: dict, layers: int, tokens: int) -> list[int]:
    """Bytes that PyTorch reads and writes between the matrices: forward, backward."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def size(tensor) -> int:
        """In memory: what is only repeated (stride 0) counts once."""
        found = tensor.element_size()
        for n, stride in zip(tensor.shape, tensor.stride(), strict=True):
            found *= n if stride else 1
        return found

    class Count(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            name = func._schema.name.split("::")[1]
            if name in MATRICES or func.is_view or name in ("detach", "_unsafe_view"):
                return out
            if name.startswith("embedding"):
                return out  # of the table it reads a few rows, and its gradient is per step
            read, written = (
                sum(size(t) for t in tree_leaves(tree) if isinstance(t, torch.Tensor))
                for tree in ((args, kwargs), out)
            )
            if name == "slice_backward":
                written += read  # zeros first, then what was sliced
            if name.startswith("nll_loss"):
                read = 0  # of all logits it looks at one
            self.bytes += read + written
            return out

    config = transformers.AutoConfig.for_model(family, num_hidden_layers=layers, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model = model.bfloat16().train()
    row = torch.randint(sizes["vocab_size"], (1, tokens))
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        with Count() as forward:
            loss = model(input_ids=row, labels=row, use_cache=False).loss
        with Count() as backward:
            loss.backward()
    return [forward.bytes, backward.bytes]


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize(("hidden", "ffn"), [(256, 640), (384, 512)])
def test_the_authors_code_moves_what_pytorch_dispatches(family: str, hidden: int, ffn: int):
    sizes = {
        "hidden_size": hidden,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "intermediate_size": ffn,
        "vocab_size": 4096,
    }
    tokens = 256
    one, three = (_counted(family, sizes, layers, tokens) for layers in (1, 3))
    layer = [(b - a) / 2 / tokens for a, b in zip(one, three, strict=True)]
    shape = Shape.from_config({"model_type": family, "num_hidden_layers": 1, **sizes})
    assert layer == pytest.approx(traffic.of_layer(shape, fused=False), rel=0.02)
    # The rest is the loss, the last norm, and small things.
    norm = 128 * hidden
    rest = (sum(one) / tokens - sum(layer)) - norm
    assert rest == pytest.approx(traffic.of_loss(shape, chunks=False), rel=0.02)


def test_fused_kernels_move_a_third():
    shape = KNOWN["Qwen2.5-32B"]
    eager, fused = (
        2 * forward + backward
        for forward, backward in (traffic.of_layer(shape, fused) for fused in (False, True))
    )
    assert eager == 2 * 829_440 + 1_816_576  # bytes per token, computed again once
    assert 0.3 < fused / eager < 0.35
    assert traffic.of_loss(shape, chunks=True) - traffic.of_loss(shape, chunks=False) == (
        14 * shape.vocab
    )
