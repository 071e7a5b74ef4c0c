"""What teachers' terms say about training on their output, said before the first question is paid.

A pointer, not legal advice: terms change, and a host adds its own.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Terms(NamedTuple):
    """``allowed`` is None where it has to be read up."""

    whose: str
    allowed: bool | None
    said: str
    url: str


_R1 = "https://huggingface.co/deepseek-ai/DeepSeek-R1#7-license"
_MIT = "R1 is MIT-licensed and distillation from it is expressly allowed"
#: Patterns of host ("" is none) and model, tried in this order: those that forbid go first.
_TABLE: tuple[tuple[str, str, Terms], ...] = (
    (
        r"(^|\.)(generativelanguage|([\w-]+-)?aiplatform)\.googleapis\.com$",
        r"gemini",
        Terms(
            "Gemini",
            False,
            "the terms forbid to develop models that compete with Google's services",
            "https://ai.google.dev/gemini-api/terms",
        ),
    ),
    (
        r"(^|\.)(openai\.com|openai\.azure\.com)$",
        r"chatgpt|\bgpt-(?!oss)|\bo[134](-|$)",
        Terms(
            "OpenAI",
            False,
            "the terms forbid to use output to develop models that compete with OpenAI",
            "https://openai.com/policies/terms-of-use",
        ),
    ),
    (
        r"(^|\.)anthropic\.com$",
        r"claude|anthropic",
        Terms(
            "Anthropic",
            False,
            "the terms forbid to build competing products, models included",
            "https://www.anthropic.com/legal/commercial-terms",
        ),
    ),
    (
        "",
        r"deepseek.*(distill|qwen|llama)",
        Terms(
            "DeepSeek-R1-Distill",
            True,
            "MIT for the weights; those made of Llama or Qwen keep the licence of their base "
            "model too, so read that one",
            _R1,
        ),
    ),
    (
        r"^api\.deepseek\.com$",
        r"(?!)",
        Terms("DeepSeek", True, f"{_MIT}; DeepSeek's API terms allow it too", _R1),
    ),
    ("", r"deepseek.*(?<![a-z\d])r1(?![a-z\d])", Terms("DeepSeek", True, _MIT, _R1)),
    (
        "",
        r"deepseek.*(?<![a-z\d])v3(\.\d|-0324)",
        Terms(
            "DeepSeek",
            True,
            "the weights of V3 are MIT-licensed since V3-0324",
            "https://huggingface.co/deepseek-ai/DeepSeek-V3-0324",
        ),
    ),
)


def of(model: str, host: str) -> Terms:
    """The terms for ``model`` as served by ``host``."""
    for at, called, terms in _TABLE:
        if (at and re.search(at, host.lower())) or re.search(called, model.lower()):
            return terms
    return Terms(
        model, None, "not known here: read the model's licence and the terms of its host", ""
    )


def sentence(terms: Terms, host: str) -> str:
    """One line for the terminal and the data card."""
    verdict = {True: "allow", False: "RESTRICT", None: "may restrict"}[terms.allowed]
    where = f" ({terms.url})" if terms.url else ""
    also = "" if host == "local" or terms.allowed is False else f"; {host} may add terms of its own"
    return (
        f"the terms of {terms.whose} {verdict} training on this output: {terms.said}{where}{also}"
    )
