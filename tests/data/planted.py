"""Near copies of questions: what changes how a text is written, and not what it asks."""

from __future__ import annotations

import random
import re

_FORMULA = re.compile(r"(?<!\\)\$(?:\\.|[^$\\])+\$|\\\[.*?\\\]|\\\(.*?\\\)", re.DOTALL)


def planted(text: str, rng: random.Random) -> str:
    """``text`` with other case, white space and LaTeX spacing."""
    text = _FORMULA.sub(lambda match: _respaced(match[0], rng), text)
    words = text.split(" ")
    spaces = [rng.choice((" ", "  ", "\n", " \t")) for _ in words]
    text = "".join(word + space for word, space in zip(words, spaces, strict=True))
    case = rng.choice((str, str.upper, str.lower, str.title))
    # A command in capitals is another command: case changes outside of commands only.
    return re.sub(r"\\[a-zA-Z]+|[^\\]+", lambda m: m[0] if m[0][0] == "\\" else case(m[0]), text)


def _respaced(formula: str, rng: random.Random) -> str:
    out = []
    for piece in re.findall(r"\\[a-zA-Z]+\s*|\\.|[a-zA-Z]+|\s+|.", formula, re.DOTALL):
        out.append(piece)
        if piece in "=+-<>," and rng.random() < 0.5:
            out.append(rng.choice((" ", "\\,", "\\;", "  ", "~")))
    text = "".join(out)
    if text.startswith("$") and rng.random() < 0.5:
        text = f"\\({text[1:-1]}\\)"
    return text.replace("\\frac", rng.choice(("\\frac", "\\dfrac", "\\tfrac")))
