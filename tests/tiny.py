"""Qwen2 with random weights, small enough for any machine."""

from __future__ import annotations


def qwen2(vocabulary: int, seed: int = 0, kind=None, **changes):
    """A model of two layers and two heads; ``changes`` are fields of its config, and ``kind`` a
    subclass of `Qwen2ForCausalLM`."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": False,
    }
    return (kind or Qwen2ForCausalLM)(Qwen2Config(vocab_size=vocabulary, **(shape | changes)))
