"""The nano world on disk: a tokenizer, a model configuration and training traces.

``build`` writes ``base/`` (everything of a Hugging Face model but its weights) and
``train.jsonl``. axolotl makes the weights itself: ``reinit_weights: true`` draws them from the
configuration and the training seed.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from s1_plugin.nano import task

#: Control tokens, in the order of their ids after the vocabulary; the last is the padding, which
#: Qwen's tokenizer counts as an added token but not as a special one.
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PADDING = "<|fim_pad|>"

#: Whole words with a token each. All other text is spelt in bytes, so nothing is unknown.
WORDS = (
    *("Last", " digit", " of", " the", " sum"),
    *("system", "user", "assistant", "think", "answer"),
    *("Answer", " Answer", "Final", "Wait", "Hmm"),
)

#: Qwen's ChatML, without the system message that Qwen puts in when none is given.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_MAX_LENGTH = 1024


def build(folder: str | os.PathLike[str], *, n_train: int, seed: int) -> Path:
    """Writes the nano world into ``folder`` and returns the folder.

    The same arguments give the same bytes. A file appears whole or not at all, and one that is
    right already is left alone, so building again is harmless and several processes may do it.
    """
    folder = Path(folder)
    tokenizer = make_tokenizer()
    size = tokenizer.get_vocab_size()
    ids = {token: tokenizer.token_to_id(token) for token in (*SPECIAL, PADDING)}
    _write(folder / "base" / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    _write(folder / "base" / "tokenizer_config.json", _json(tokenizer_config(ids)))
    _write(folder / "base" / "config.json", _json(model_config(size, ids)))
    _write(folder / "base" / "generation_config.json", _json(generation_config(ids)))
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in task.rows(n_train, seed))
    _write(folder / "train.jsonl", "".join(lines))
    return folder


def make_tokenizer() -> Any:
    """A byte-level tokenizer (``tokenizers.Tokenizer``) in which a thinking step is one token.

    The vocabulary is the 256 bytes, `WORDS`, and every label with every digit, with and without
    a space before it. There are no merges: a piece of text is one token if it stands in the
    vocabulary, and is spelt byte by byte if it does not.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    steps = [f"{label}{digit}" for label in task.LABELS for digit in range(10)]
    words = [*WORDS, *steps, *(f" {step}" for step in steps)]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(w.replace(" ", "Ġ") for w in words)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    # A step is cut off first, then words, then single characters.
    pattern = rf" ?[{task.LABELS[0]}-{task.LABELS[-1]}][0-9]| ?[A-Za-z]+|[0-9]|\s|[^\sA-Za-z0-9]"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(PADDING, normalized=False, special=False)])
    return tokenizer


def tokenizer_config(ids: dict[str, int]) -> dict[str, Any]:
    """What transformers needs beside ``tokenizer.json``; ``ids`` are those of the added tokens."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {
            str(number): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": token in SPECIAL,
            }
            for token, number in ids.items()
        },
        "additional_special_tokens": list(SPECIAL),
        "eos_token": "<|im_end|>",
        "pad_token": PADDING,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": _MAX_LENGTH,
    }


def model_config(vocab_size: int, ids: dict[str, int]) -> dict[str, Any]:
    """A Qwen3 of 0.14 M parameters.

    Two settings decide whether it learns at all from random weights: a wide
    ``initializer_range`` and output embeddings of its own. It is not a Qwen2 because
    transformers 5 gives every ``qwen2`` model Qwen's own splitting of text, whatever
    ``tokenizer.json`` says, and there a step could not be one token.
    """
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "attention_bias": False,
        "max_position_embeddings": _MAX_LENGTH,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids[PADDING],
        "torch_dtype": "float32",
    }


def generation_config(ids: dict[str, int]) -> dict[str, Any]:
    """Greedy decoding up to the end of the turn."""
    return {
        "do_sample": False,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids[PADDING],
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    """Puts ``text`` at ``path`` in one step, unless it is there already."""
    content = text.encode("utf-8")
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)  # mkstemp makes files that only their owner may read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
