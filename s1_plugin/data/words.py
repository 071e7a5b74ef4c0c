"""Text as words: what counts as the same question, whatever its case, spacing and LaTeX spacing."""

from __future__ import annotations

import re
import unicodedata

#: The paper compares word 8-grams (arXiv 2501.19393, section 2.2).
NGRAM = 8

# What changes how LaTeX looks in the file and not what it says: delimiters of formulas, spacing
# commands, braces, sizes. `\(` and `\[` only where no `\` stands before (`\\[2pt]` breaks lines).
# Patterns that begin with one literal sign are found quickly.
_NOISE = re.compile(
    r"\\(?:(?<!\\\\)[()\[\]]|[,;:!>\s]"
    r"|(?:quad|qquad|left|right|displaystyle|textstyle|limits|[bB]igg?[lr]?)(?![a-zA-Z]))"
)
# Signs that are typed and signs that are pasted say the same. After NFKC and in lower case, so that
# `Δ` and `\Delta` are `\delta`, both.
_COMMANDS = (
    "× times,· cdot,⋅ cdot,÷ div,± pm,∘ circ,≤ le,≥ ge,≠ ne,≈ approx,∞ infty,∠ angle,△ triangle,"
    "√ sqrt,∈ in,∪ cup,∩ cap,→ to,∆ delta,α alpha,β beta,γ gamma,δ delta,ε epsilon,ζ zeta,η eta,"
    "θ theta,ι iota,κ kappa,λ lambda,μ mu,ν nu,ξ xi,π pi,ρ rho,σ sigma,ς sigma,τ tau,υ upsilon,"
    "φ phi,χ chi,ψ psi,ω omega"
)
_SIGNS = {
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u00ad\ufeff\u2060"), None),  # not to be seen
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-"),
    **dict.fromkeys(map(ord, "\u2018\u2019\u2032"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d"), '"'),
    **{ord(sign): f"\\{name} " for sign, name in map(str.split, _COMMANDS.split(","))},
    ord("°"): "^\\circ ",
    ord("\u2044"): "/",  # of NFKC's ½
}
#: NFKC would write the power as a digit of the number.
_POWERS = {ord(sign): f"^{digit}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_SAME = re.compile(r"\\(?:[dt](frac)|([lgn]e)q(?![a-z]))")
_WORD = re.compile(r"(?<![\\a-z])([^\W\d_]{3,})")
_ASCII_WORD = re.compile(r"(?<![\\a-z])([a-z]{3,})")  # the same on ASCII, and quicker
_EDGES = ".,;:!?'\"()"
_LOOSE = re.compile(r"(?<!\d)[.,;:!?'\"()]|[.,;:!?'\"()](?!\d)")
_DROPPED = {at: None for at in range(0x3001) if chr(at).isspace() or chr(at) in _EDGES}
#: Few questions begin with the same letters; this many are in the first 80 signs of most.
_FIRST, _AMONG = 16, 80
_TOKEN = re.compile(r"\\?[^\W\d_]+|\d+|[^\w\s]")
_NUMBER = re.compile(r"\d+")


def paper_words(text: str) -> list[str]:
    """The words of the plain rule: lower case, split at white space."""
    return text.lower().split()


def plain(text: str) -> str:
    """``text`` in lower case, without what only spaces or delimits LaTeX, and with signs of Unicode
    as LaTeX and keyboards write them."""
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKC", text.translate(_POWERS)).lower().translate(_SIGNS)
    if "\\" in text:
        text = _SAME.sub(lambda match: f"\\{match[1] or match[2]}", text)
        text = _NOISE.sub(" ", text)
    for sign in "${}~":  # quicker than translate
        text = text.replace(sign, " ")
    return text.replace("`", "'")


def units(text: str) -> list[str]:
    """``text`` as words of three letters or more, and what stands between two of them as one unit
    without white space, so that ``$x + 1$`` and ``$x+1$`` are the same unit."""
    return units_of(plain(text))


def units_of(text: str) -> list[str]:
    """`units` of what `plain` gave."""
    # What stands before the first word, the word, what stands between, the second word, …
    parts = (_ASCII_WORD if text.isascii() else _WORD).split(text)
    out = []
    for between, word in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if between != " ":  # as nearly everywhere
            unit = "".join(between.split()).strip(_EDGES)
            if unit:
                out.append(unit)
        out.append(word)
    out.pop()
    return out


def whole(text: str) -> str:
    """All of what `plain` gave in one word, without signs that end words and clauses (not those
    between two digits): what two copies have in common though words are joined or torn apart."""
    return _LOOSE.sub("", "".join(text.split()))


def beginning(text: str) -> str:
    """The first signs of what `plain` gave: equal where `whole` is, and quickly had."""
    start = text[:_AMONG].translate(_DROPPED)
    return (start if len(start) >= _FIRST else text.translate(_DROPPED))[:_FIRST]


def tokens(text: str) -> list[str]:
    """Words, commands, numbers and single signs: the finer grain on which near copies are found."""
    return _TOKEN.findall(plain(text))


def numbers(text: str) -> list[str]:
    """The numbers in ``text``, sorted: two problems that differ in one are two problems."""
    return sorted(_NUMBER.findall(text))


def grams(words: list[str], n: int = NGRAM) -> list[str]:
    """Every run of ``n`` words, joined by a space; none if there are fewer."""
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
