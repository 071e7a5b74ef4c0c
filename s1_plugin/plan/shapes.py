"""The shape of a decoder, as far as parameters, FLOPs and memory depend on it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: model_type -> whether q, k, v have biases, whether q and k have norms of their own. What is not
#: here has other parts (experts, encoders), and its plan would be wrong.
_FAMILIES = {"qwen2": (True, False), "qwen3": (False, True), "llama": (False, False)}


@dataclass(frozen=True)
class Shape:
    """Dense decoder with grouped-query attention and a gated feed-forward, such as Qwen2."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool
    qkv_bias: bool = True
    qk_norm: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Shape:
        """From the contents of a Hugging Face ``config.json``.

        Raises:
            ValueError: for a model that is not Qwen2-, Qwen3- or Llama-like, or lacks a number.
        """
        family = config.get("model_type")
        if family not in _FAMILIES:
            raise ValueError(
                f"model_type {family!r} cannot be planned; known: {', '.join(_FAMILIES)}"
            )
        try:
            hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
            bias, norm = _FAMILIES[family]
            return cls(
                hidden=hidden,
                layers=int(config["num_hidden_layers"]),
                heads=heads,
                kv_heads=int(config.get("num_key_value_heads") or heads),
                head_dim=int(config.get("head_dim") or hidden // heads),
                ffn=int(config["intermediate_size"]),
                vocab=int(config["vocab_size"]),
                tied=bool(config.get("tie_word_embeddings", False)),
                qkv_bias=bias,
                qk_norm=norm,
            )
        except KeyError as error:
            raise ValueError(f"the model's config.json has no {error}") from None

    @property
    def q_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all keys, or of all values."""
        return self.kv_heads * self.head_dim

    def layer_matrices(self) -> int:
        """Weights of one layer that tokens are multiplied by: q, k, v, o, gate, up, down."""
        attention = self.hidden * (2 * self.q_width + 2 * self.kv_width)
        return attention + 3 * self.hidden * self.ffn

    def layer_params(self) -> int:
        """All parameters of one layer."""
        biases = (self.q_width + 2 * self.kv_width) * self.qkv_bias
        norms = 2 * self.hidden + 2 * self.head_dim * self.qk_norm
        return self.layer_matrices() + biases + norms

    def matrices(self) -> int:
        """Weights that a token is multiplied by in a forward pass, the output layer included (tied
        or not) and the embedding, which is looked up, not."""
        return self.layers * self.layer_matrices() + self.vocab * self.hidden

    def params(self) -> int:
        """All parameters."""
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer_params() + embeddings + self.hidden


def _qwen(kind: str, *sizes: int, tied: bool) -> Shape:
    hidden, layers, heads, kv_heads, head_dim, ffn, vocab = sizes
    bias, norm = _FAMILIES[kind]
    return Shape(hidden, layers, heads, kv_heads, head_dim, ffn, vocab, tied, bias, norm)


#: As in https://huggingface.co/Qwen/NAME/raw/main/config.json; -Instruct, -Coder, -Math the same.
KNOWN = {
    "Qwen2.5-0.5B": _qwen("qwen2", 896, 24, 14, 2, 64, 4864, 151_936, tied=True),
    "Qwen2.5-1.5B": _qwen("qwen2", 1536, 28, 12, 2, 128, 8960, 151_936, tied=True),
    "Qwen2.5-3B": _qwen("qwen2", 2048, 36, 16, 2, 128, 11_008, 151_936, tied=True),
    "Qwen2.5-7B": _qwen("qwen2", 3584, 28, 28, 4, 128, 18_944, 152_064, tied=False),
    "Qwen2.5-14B": _qwen("qwen2", 5120, 48, 40, 8, 128, 13_824, 152_064, tied=False),
    "Qwen2.5-32B": _qwen("qwen2", 5120, 64, 40, 8, 128, 27_648, 152_064, tied=False),
    "Qwen2.5-72B": _qwen("qwen2", 8192, 80, 64, 8, 128, 29_568, 152_064, tied=False),
    "Qwen3-0.6B": _qwen("qwen3", 1024, 28, 16, 8, 128, 3072, 151_936, tied=True),
    "Qwen3-1.7B": _qwen("qwen3", 2048, 28, 16, 8, 128, 6144, 151_936, tied=True),
    "Qwen3-4B": _qwen("qwen3", 2560, 36, 32, 8, 128, 9728, 151_936, tied=True),
    "Qwen3-8B": _qwen("qwen3", 4096, 36, 32, 8, 128, 12_288, 151_936, tied=False),
    "Qwen3-14B": _qwen("qwen3", 5120, 40, 40, 8, 128, 17_408, 151_936, tied=False),
    "Qwen3-32B": _qwen("qwen3", 5120, 64, 64, 8, 128, 25_600, 151_936, tied=False),
}


def known(name: str) -> Shape | None:
    """The shape of a published Qwen by its hub name (``Qwen/Qwen2.5-7B-Instruct``), or None."""
    plain = re.sub(r"^Qwen/|-Instruct$|-Base$", "", name)
    return KNOWN.get(re.sub(r"^Qwen2\.5-(Coder|Math)-", "Qwen2.5-", plain))


def of_model(name: str) -> Shape:
    """The shape of a model: a folder with a ``config.json``, a published Qwen, or a hub name.

    Raises:
        ValueError: when there is no such model here or on the hub, or it cannot be planned.
    """
    folder = Path(name)
    if folder.is_dir():
        try:
            text = (folder / "config.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ValueError(f"{folder} has no config.json; is it a model?") from None
        return Shape.from_config(json.loads(text))
    shape = known(name)
    if shape is not None:
        return shape
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(name, "config.json")
    except Exception as error:  # no network, no such model, or not a name: whatever the hub raises
        why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if isinstance(error, RuntimeError):  # httpx, of a client that a failed try has closed
            why = "it cannot be reached"
        raise ValueError(
            f"the config.json of {name} is wanted, and cannot be loaded from the hub ({why}). Set "
            "base_model to a folder that holds it, or to a model whose shape is known: "
            f"{', '.join(KNOWN)}"
        ) from None
    return Shape.from_config(json.loads(Path(path).read_text(encoding="utf-8")))
