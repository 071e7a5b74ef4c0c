"""Tiny random models on disk (vLLM loads real weights) whose greedy thinking ends now and then."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch


def random_model(
    folder: Path, tokenizer: Path, vocabulary: int, ends: list[int], kind="Qwen3", share=0.05
):
    """Saves and returns a model whose end tokens win in about ``share`` of all positions: a Qwen2,
    or a Qwen3 as the nano model is (transformers reads the nano tokenizer right for that kind
    only).

    Left to itself a random model never ends its thinking, or always does: the output rows of
    the end tokens get one common direction, as long as needed for that share.
    """
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        **({"head_dim": 32} if kind == "Qwen3" else {}),
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=ends[0],
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.inference_mode():
        tokens = torch.randint(0, vocabulary, (8, 256))
        hidden = model.model(tokens).last_hidden_state.reshape(-1, config.hidden_size)
        head = model.lm_head.weight
        direction = torch.randn(config.hidden_size)
        # The share of positions where the direction's logit beats all others grows with length.
        best, along = (hidden @ head.T).amax(dim=-1), hidden @ direction
        wins = (best / along.clamp_min(1e-6)).quantile(share)
        for n, end in enumerate(ends):
            head[end] = direction * wins * (1 - 0.01 * n)
    model.generation_config.eos_token_id = ends[0]
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "vocab.json",
        "merges.txt",
    ):
        if (Path(tokenizer) / name).exists():
            shutil.copy(Path(tokenizer) / name, folder / name)
    return model
