"""What `forcing.py` measures, once for each engine.

An engine's module has ``versions``; ``Steps``, whose ``step(forced, sample)`` is the seconds of
one decode step; ``Rounds``, whose ``one_pass(plans)`` and ``rounds(plans, cached)`` make a `Made`.
"""

from __future__ import annotations

import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.budget import Budget, Plan, plan
from s1_plugin.forcing.state import Thinking
from s1_plugin.formats import S1

#: Qwen2.5-0.5B (its config.json), for (a).
SHAPES = {
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}
BATCH = 8  # of (a)


@dataclass
class Made:
    """Tokens after the thinking prefix, row by row; prompt tokens prefilled; seconds."""

    tokens: list[list[int]]
    prefilled: int
    seconds: float


@contextmanager
def clock(made: Made) -> Iterator[None]:
    """Adds the time it is open to ``made.seconds``."""
    began = time.perf_counter()
    yield
    made.seconds += time.perf_counter() - began


def plans_of(
    encoder: TextEncoder, prompts: Sequence[Sequence[int]], cap: int, waits: int
) -> list[Plan]:
    """One plan per prompt, with 60 tokens for delimiters and answer."""
    return [
        plan(Budget(cap, waits), encoder, S1, prompt_length=len(p), max_new_tokens=cap + 60)
        for p in prompts
    ]


#: (rows to go on with, ids so far, most new tokens, stops, first token must be none of the stops)
#: -> the new tokens of each row, a stop token included.
Complete = Callable[
    [list[int], list[list[int]], list[int], frozenset[int], list[bool]], list[list[int]]
]


def lock_step(
    prompts: Sequence[Sequence[int]],
    plans: Sequence[Plan],
    ends_with_newline: Callable[[int], bool],
    complete: Complete,
) -> list[list[int]]:
    """Multi-round budget forcing: a round is one batch, the next begins when all are through."""
    states = [Thinking(p, ends_with_newline) for p in plans]
    tokens: list[list[int]] = [[] for _ in plans]
    while True:
        for state, out in zip(states, tokens, strict=True):
            while (due := state.due()) is not None:
                out.append(due)
                state.push(due)
        thinking = [i for i, state in enumerate(states) if not state.answering]
        if not thinking:
            break
        new = complete(
            thinking,
            [[*prompts[i], *tokens[i]] for i in thinking],
            [plans[i].cap - states[i].thinking_tokens for i in thinking],
            plans[0].end_ids,
            [states[i].must_not_end() for i in thinking],
        )
        for i, drawn in zip(thinking, new, strict=True):
            stands = [states[i].push(token) for token in drawn]
            tokens[i] += [token for token in stands if token is not None]
    everyone = list(range(len(plans)))
    left = [p.max_new_tokens - len(out) for p, out in zip(plans, tokens, strict=True)]
    ids = [[*p, *out] for p, out in zip(prompts, tokens, strict=True)]
    answers = complete(everyone, ids, left, plans[0].stop_ids, [False] * len(plans))
    for out, new, p in zip(tokens, answers, plans, strict=True):
        out += new[:-1] if new and new[-1] in p.stop_ids else new
    return tokens


def ending_model(folder: Path, base: Path, encoder: TextEncoder, share: float, layers: int) -> Any:
    """Saves a random model to ``folder`` that draws ``<|im_end|>`` in a ``share`` of all places.

    Left to itself a random model never ends its thinking, or always does. The output row of the
    end token is a random direction, as long as needed for it to win in that share of places. So
    rounds are of every length, as geometric draws are. Its ``layers`` are Qwen2.5-0.5B's, but
    fewer, so that hundreds of steps take seconds.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    (end,) = encoder.scaffold_ids("<|im_end|>")
    config = Qwen3Config(
        **SHAPES
        | {
            "vocab_size": len(encoder.tokenizer),
            "num_hidden_layers": layers,
            "tie_word_embeddings": False,
        },
        head_dim=64,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=end,
    )
    model = Qwen3ForCausalLM(config).eval()
    with torch.inference_mode():
        ids = torch.randint(0, config.vocab_size, (16, 256))
        hidden = model.model(ids).last_hidden_state.reshape(-1, config.hidden_size)
        for text in ("<|im_start|>", "<|endoftext|>"):
            model.lm_head.weight[encoder.scaffold_ids(text)] = 0.0
        direction = torch.randn(config.hidden_size)
        along = hidden @ direction
        best = (hidden @ model.lm_head.weight.T).amax(dim=-1)
        model.lm_head.weight[end] = direction * (best / along.clamp_min(1e-6)).quantile(share)
    model.save_pretrained(folder)
    for path in base.iterdir():
        if path.name != "config.json":
            shutil.copy(path, folder / path.name)
    return model


def interval(values: list[float], draws: int = 2000) -> str:
    """Median and its 95 % bootstrap interval."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(draws))
    low, high = medians[int(0.025 * draws)], medians[int(0.975 * draws)]
    return f"{statistics.median(values):.3f} ({low:.3f} to {high:.3f})"


class Targets:
    """What a benchmark must show; `check` says what was missed, and ends with status 1 if any."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def __call__(self, what: str, met: bool) -> None:
        """Notes a target."""
        if not met:
            self.missed.append(what)

    def check(self) -> None:
        """Prints the targets that were missed, and leaves with them."""
        if self.missed:
            raise SystemExit("MISSED: " + "; ".join(self.missed))
        print("all targets met")
