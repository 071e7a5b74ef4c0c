"""Near copies of questions: what changes how a text is written, and not what it asks."""

from __future__ import annotations

import random
import re

# Written down here and not taken from words.py: what LaTeX leaves between two signs, and nobody
# sees; and what stands around a formula.
SPACING = (
    *(" ", "  ", "~", "{}", r"\ ", r"\,", r"\:", r"\;", r"\!", r"\>", r"\/"),
    *(r"\thinspace ", r"\negthinspace ", r"\enspace ", r"\enskip ", r"\quad ", r"\qquad "),
    *(r"\hspace{1mm}", r"\hspace*{-0.5em}", r"\mspace{2mu}", r"\hskip 1pt ", r"\mskip3mu "),
    *(
        r"\kern-.2em ",
        r"\mkern 2mu ",
        r"\phantom{}",
        r"\hphantom{x^{2}}",
        r"\vphantom{\frac{1}{2}}",
    ),
    *(r"\displaystyle ", r"\textstyle ", r"\mathstrut ", r"\allowbreak "),
)
DELIMITERS = (
    *(("$", "$"), ("$$", "$$"), (r"\(", r"\)"), (r"\[", r"\]")),
    *((rf"\begin{{{e}}}", rf"\end{{{e}}}") for e in ("math", "displaymath", "equation*")),
)
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


_SIGNS = (
    (r"\^\{\\circ\}|\^\\circ(?![a-zA-Z])", "°"),
    (r"\\times(?![a-zA-Z])", "×"),
    (r"\\cdot(?![a-zA-Z])", "·"),
    (r"\\pi(?![a-zA-Z])", "π"),
    (r"\\leq?(?![a-zA-Z])", "≤"),
    (r"\\geq?(?![a-zA-Z])", "≥"),
    (r"\\theta(?![a-zA-Z])", "θ"),
    (r"-", "−–—"),
    (r"'", "’‘"),
    (r'"', "“”"),
)
_UNSEEN = ("\u200b", "\u200c", "\u200d", "\u00ad", "\ufeff", "\u2060")


def pasted(text: str, rng: random.Random) -> str:
    """``text`` as it comes out of a page or a PDF: signs of Unicode, and some that are not seen."""
    for pattern, signs in _SIGNS:
        text = re.sub(pattern, lambda match, signs=signs: rng.choice(signs), text)
    pieces = re.findall(r"\\[a-zA-Z]+|\\.|.", text, re.DOTALL)
    return "".join(piece + (rng.choice(_UNSEEN) if rng.random() < 0.05 else "") for piece in pieces)


def squeezed(text: str, rng: random.Random) -> str:
    """``text`` without spaces, but for one after a command."""
    return re.sub(r"(\\[a-zA-Z]*\s?)|\s+", lambda match: match[1] or "", text)


def _respaced(formula: str, rng: random.Random) -> str:
    out = []
    for piece in re.findall(r"\\[a-zA-Z]+\s*|\\.|[a-zA-Z]+|\s+|.", formula, re.DOTALL):
        out.append(piece)
        if piece in "=+-<>," and rng.random() < 0.5:
            out.append(rng.choice(SPACING))
    text = "".join(out)
    if text.startswith("$") and rng.random() < 0.5:
        begin, end = rng.choice(DELIMITERS)
        text = f"{begin}{text[1:-1]}{end}"
    return text.replace("\\frac", rng.choice(("\\frac", "\\dfrac", "\\tfrac")))
