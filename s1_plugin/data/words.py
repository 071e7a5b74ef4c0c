"""Text as words: what counts as the same question, whatever its case, spacing and LaTeX spacing."""

from __future__ import annotations

import re
import unicodedata

#: The paper compares word 8-grams (arXiv 2501.19393, section 2.2).
NGRAM = 8

# What changes how LaTeX looks in the file and not what it says: delimiters of formulas, spacing
# commands, sizes; `\$`, as `$` goes, too. Patterns that begin with one literal sign are found
# quickly.
_LENGTH = r"-?[\d.]+\s*(?:mu|em|ex|pt|mm|cm|in)"
_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_NOISE = re.compile(
    r"\\(?:[()\[\],;:!>/$\s]"
    r"|(?:quad|qquad|enspace|enskip|thinspace|medspace|thickspace|negthinspace|negmedspace"
    r"|negthickspace|left|right|middle|limits|nolimits|displaystyle|textstyle|scriptstyle"
    r"|scriptscriptstyle|bigg?[lrm]?|strut|mathstrut|null|allowbreak|nobreak|noindent|smallskip"
    r"|medskip|bigskip|hfill|vfill)(?![a-z])"
    rf"|(?:hspace|mspace|vspace)\*?\s*{_GROUP}|(?:phantom|hphantom|vphantom)\s*{_GROUP}"
    rf"|(?:hskip|mskip|kern|mkern)\s*{_LENGTH}"
    r"|(?:begin|end)\s*\{(?:math|displaymath|equation)\*?\})"
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
# NFKC would write powers, indices, and fractions and numbers of one sign as digits of the number
# that stands before them.
_NUMERALS = re.compile(
    "(?:([⁰¹²³⁴-⁾ⁿⁱ]+)|([₀-₎]+)|([¼-¾\u2150-\u215f\u2189\u2460-\u249b\u24ea-\u24ff\u2776-\u2793]))"
)
_SAME = re.compile(
    rf"\\(?:\\(?:\[{_LENGTH}\])?|[dtc](frac|binom)|([lgn]e)q(?![a-z])|,(?=\d{{3}}(?!\d))(?<=\d\\,))"
)
# TeX takes single digits as arguments where there are no braces: `\frac12` is a half.
_ARGUMENTS = {
    name: re.compile(rf"\\{name}\s*(?:(\d)\s*(\d?)|(\{{[^{{}}]*\}})\s*(\d))")
    for name in ("frac", "binom")
}
_BRACED = re.compile(r"\{\s*(\d+|[^\W\d_]|\\[a-z]+|,|)\s*\}")
_LABEL = re.compile(
    r"\s*(?:(?:problem|question|exercise|example|task|q)\s*\d+(?:\.\d+)*\s*[.:)]\s+"
    r"|\d{1,3}[.)]\s+(?=[^\W\d_]))"
)
# Not in a pair, a set or an index: (1,200) is a point.
_THOUSANDS = re.compile(r"(?<![\d.,(\[{_^])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d|[)\]}])")
_COMMA = re.compile(r",(?=\d{3})")  # quickly found, and mostly not
# White space here tells two numbers from one: 12 3, and 3. 4
_APART = re.compile(r"(\d\.?)\s+(?=\.?\d)")
# The same on ASCII, and quicker: every digit as 0, white space and braces as a space.
_KINDS = bytes(
    ord("0" if chr(at).isdigit() else " " if chr(at).isspace() or chr(at) in "{}" else chr(at))
    for at in range(128)
) + bytes(128)
_KINDS_APART = re.compile(rb"0\.? +\.?0")
_SPACE = re.compile(r"(\\(?:[a-zA-Z]+\s?|.))|\s+", re.DOTALL)
# Runs of words with one space between: most of most questions.
_WORDS = re.compile(r"([^\W\d_](?<![\\a-z].)[^\W\d_]{2,}(?: [^\W\d_]{3,})*)")
_ASCII_WORDS = re.compile(r"([a-z](?<![\\a-z].)[a-z]{2,}(?: [a-z]{3,})*)")  # the same, and quicker
_EDGES = ".,;:!?'\"()"
_ENDS = '.,;:?"()'
# Factorials and derivatives, not exclamations and quotes: after a digit, a bracket, one letter, a
# command.
_MARKED = re.compile(r"(?:[\d)\]]|(?<![^\W\d_])(?<!')[^\W\d_]|\\[a-z]+)\s*[!'][!'\s.,;:?\"()]*$")
_DROPPED = {at: None for at in range(0x3001) if chr(at).isspace() or chr(at) in f"{_EDGES}{{}}\0"}
_DROPPED_BYTES = bytes(at for at in _DROPPED if at < 128)
#: Few questions begin with the same letters; this many are in the first 80 signs of most.
_FIRST, _AMONG = 16, 80
_NUMBER = re.compile(r"\d+")
_TOKEN = re.compile(r"\\?[^\W\d_]+|\d+|[^\w\s]|_")


def paper_words(text: str) -> list[str]:
    """The words of the plain rule: lower case, split at white space."""
    return text.lower().split()


def plain(text: str) -> str:
    """``text`` in lower case, without its label (``12.``, ``Problem 3:``) and what only spaces or
    delimits LaTeX, and with signs of Unicode as LaTeX and keyboards write them."""
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKC", _NUMERALS.sub(_numeral, text))
        text = text.lower().translate(_SIGNS)
    if "\\" in text:
        text = _SAME.sub(_same, text.replace(",\\!", ","))
        text = _NOISE.sub(" ", text)
        for name, arguments in _ARGUMENTS.items():
            if name in text:
                text = arguments.sub(rf"\\{name} \1\3 \2\4 ", text)
    for sign in "$~":  # quicker than translate
        text = text.replace(sign, " ")
    text = text.replace("{,}", ",").replace("`", "'")
    label = _LABEL.match(text)
    return text[label.end() :] if label else text


def _numeral(match: re.Match[str]) -> str:
    if match[3]:
        return f" {match[3]} "
    return f"^{{{match[1]}}}" if match[1] else f"_{{{match[2]}}}"


def _same(match: re.Match[str]) -> str:
    if match[1] or match[2]:
        return f"\\{match[1] or match[2]}"
    return "," if match[0] == "\\," else "\\cr "  # a new line of a table


def units(text: str) -> list[str]:
    """``text`` as words of three letters or more, and what stands between two of them as one unit
    without white space, so that ``$x + 1$`` and ``$x+1$`` are the same unit."""
    return units_of(plain(text))


def units_of(text: str) -> list[str]:
    """`units` of what `plain` gave."""
    ascii = text.isascii()
    apart = not ascii or _KINDS_APART.search(text.encode().translate(_KINDS))
    text = text.replace("{", " ").replace("}", " ")
    if apart:
        text = _APART.sub(_apart, text)
    # What stands before the first words, the words, what stands between, the second words, …
    parts = (_ASCII_WORDS if ascii else _WORDS).split(text)
    if "!" in text or "'" in text:
        parts[::2] = [_marked(signs) for signs in parts[::2]]
    else:
        parts[::2] = ["".join(signs.split()).strip(_EDGES) for signs in parts[::2]]
    return " ".join(parts).split()


def _marked(signs: str) -> str:
    """The unit of ``signs``, in which a factorial or a derivative stays at the end."""
    unit = "".join(signs.split())
    if ("!" in signs or "'" in signs) and _MARKED.search(signs):
        return unit.lstrip(_EDGES).rstrip(_ENDS)
    return unit.strip(_EDGES)


def whole(text: str) -> str:
    """All of what `plain` gave, in one word: what two copies have in common though words are joined
    or torn apart. Without braces around one number, letter, command or comma, and without the sign
    that ends the text; numbers that stand apart stay apart: equal texts have equal numbers."""
    text = _BRACED.sub(_unbraced, text).replace("''", '"')
    return "".join(_APART.sub(_apart, text).split()).rstrip(".?:")


# Quicker than templates.
def _apart(match: re.Match[str]) -> str:
    return f"{match[1]}\0"


def _unbraced(match: re.Match[str]) -> str:
    return f" {match[1]} "


def squeezed(text: str) -> str:
    """``text`` without white space, but for one sign after a command."""
    return _SPACE.sub(lambda match: match[1] or "", text)


def beginning(text: str) -> str:
    """The first signs of what `plain` gave: equal where `whole` is, and quickly had."""
    start = _undropped(text[:_AMONG])
    return (start if len(start) >= _FIRST else _undropped(text))[:_FIRST]


def _undropped(text: str) -> str:
    if text.isascii():  # the same, and quicker
        return text.encode().translate(None, _DROPPED_BYTES).decode()
    return text.translate(_DROPPED)


def fine(text: str) -> str:
    """``text`` as near copies are compared: braces as in `whole`, thousands without commas."""
    said = plain(text)
    if "{" in said:
        said = _BRACED.sub(_unbraced, said)
    if _COMMA.search(said):
        said = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), said)
    return said


def tokens(said: str) -> list[str]:
    """Words, commands, numbers and single signs of what `fine` gave."""
    return _TOKEN.findall(said)


def numbers(said: str) -> list[str]:
    """The numbers in what `fine` gave, in their order: two problems that differ in them are two."""
    return _NUMBER.findall(said)


def grams(words: list[str], n: int = NGRAM) -> list[str]:
    """Every run of ``n`` words, joined by a space; none if there are fewer."""
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
