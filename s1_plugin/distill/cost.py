"""What a distillation costs: before, from stated guesses; then from the tokens counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from s1_plugin.distill.questions import first_line

#: Mean of a row of s1K: 4.7 million tokens in 1,000 rows (https://arxiv.org/abs/2501.19393, its
#: training set). R1 writes longer traces than the Gemini model of that set.
EXPECTED_TOKENS = 4700
#: Of 912 questions of s1K and the 500 of MATH500 under Qwen2.5's tokenizer: 2.98 and 2.76.
_CHARACTERS_PER_TOKEN = 2.8


@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens; None where they were not given."""

    prompt: float | None = None
    completion: float | None = None

    def dollars(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        if self.prompt is None or self.completion is None:
            return None
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


def money(dollars: float | None) -> str:
    return "no price given" if dollars is None else f"${dollars:,.2f}"


def counter(tokenizer: str | None) -> tuple[Callable[[str], float], str]:
    """Counts a question's tokens; and how, in words."""
    if tokenizer is None:
        return (
            lambda text: len(text) / _CHARACTERS_PER_TOKEN,
            f"guessed at {_CHARACTERS_PER_TOKEN} characters each; --tokenizer counts them",
        )
    loaded = load_tokenizer(tokenizer)
    return lambda text: float(len(loaded(text)["input_ids"])), f"counted with {tokenizer}"


def load_tokenizer(name: str) -> Any:
    """The one of ``--tokenizer``.

    Raises:
        ValueError: if it cannot be had.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ValueError(
            f"--tokenizer {name}: cannot be had ({first_line(error)}); name a folder with a "
            "tokenizer, or the hub id of a model that you can reach"
        ) from None
