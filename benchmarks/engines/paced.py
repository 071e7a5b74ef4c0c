"""A small model whose thinking is as long as s1-32B's, in proportion.

Its lengths decide what sharing one trajectory can save, so they follow the paper: thinking by
itself about 6,700 tokens on AIME24, little more after each Wait, an answer of a few hundred tokens
(arXiv 2501.19393, figures 1 and 4), all at 1/100. It is trained for seconds to count down from the
number that the question gives, which is all that it says.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import torch

from s1_plugin.encoding import TextEncoder
from s1_plugin.formats import S1
from s1_plugin.nano.task import LABELS

#: The paper's caps at 1/100, and its numbers of Waits.
CAPS = (5, 10, 20, 40, 80, 160, "auto")
WAITS = (1, 2, 4, 6)
#: The numbers that questions give, and so the lengths of thinking; 67 in the mean.
_LEAST, _MOST = 45, 89
_ANSWER = "54321"
_STEPS, _BATCH = 300, 32


def train(folder: Path, base: Path, seed: int = 0) -> Path:
    """Saves the model, with the nano world's tokenizer in ``base``, to ``folder``."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    encoder = TextEncoder(AutoTokenizer.from_pretrained(base))
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=_STEPS)
    chance = random.Random(seed)
    for _ in range(_STEPS):
        rows = [_trace(encoder, chance) for _ in range(_BATCH)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        labels = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    for path in base.iterdir():
        if path.name != "config.json":
            shutil.copy(path, folder / path.name)
    return folder


def questions(count: int, seed: int = 1) -> list[str]:
    """What to ask it; no two alike."""
    chance = random.Random(seed)
    return [f"{i} {_step(chance.randint(_LEAST, _MOST))}" for i in range(count)]


def _step(number: int) -> str:
    """A number below 90 as one token of the nano world: a0, a1 … i9."""
    return LABELS[number // 10] + str(number % 10)


def _trace(encoder: TextEncoder, chance: random.Random) -> list[int]:
    number = chance.randint(_LEAST, _MOST)
    cut = chance.random() < 0.3  # as under a cap
    end = chance.randint(0, number) if cut else 0
    thinking = "".join(_step(n) for n in range(number, end - 1, -1))
    while not cut and chance.random() < 0.4:
        thinking += "Wait" + _step(0)
    prompt = encoder.prompt_pieces(f"{chance.randint(0, 99)} {_step(number)}", S1)
    return [
        *encoder.encode(prompt),
        *encoder.scaffold_ids(S1.think_start),
        *encoder.text_ids(thinking),
        *(encoder.text_ids("\n") if cut else []),
        *encoder.scaffold_ids(S1.answer_start),
        *encoder.text_ids(("\nFinal Answer:" if cut else "\n") + _ANSWER),
        *encoder.scaffold_ids("<|im_end|>"),
    ]
