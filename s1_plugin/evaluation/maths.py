r"""Mathematical answers (MATH500): any expression, compared as text and then by math-verify."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

from s1_plugin.evaluation.answers import MOST_CLAIMED, claims, is_prose

_DELIMITER = re.compile(r"\\\\|\\\$|\$\$|\$|\\[()\[\]]")
_CLOSES = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
# "$36. So it is **$" and "$40 = $": no formula stands between these dollar signs.
_MONEY = re.compile(r"\A\s|\s\Z|\n|\*\*|\A[\d.,]+[\s.,]+[A-Za-z]{2,}")
_NUMBER = re.compile(
    r"(?<![\w.])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+(?!\.?\d))?(?:\s?\\?%|\s?°)?(?![\w])"
)
_VALUE = re.compile(r"[\d\\$]|\b[A-Za-z]\b")
# Words after a number, such as a unit; not the names of functions and constants.
_UNIT = re.compile(r"\s+\(?(?!(?:sqrt|pi|sin|cos|tan|log|ln|exp|and|or)\b)[A-Za-z]{2,}")
_BETWEEN = re.compile(r"\s*(?:,|;|\band\b|\bor\b|,\s*and\b|,\s*or\b)\s*", re.IGNORECASE)
# What changes how an expression looks, not what it is.
_LOOKS = re.compile(
    r"\\(?:left|right|displaystyle|[!,;: ]|quad|qquad)(?![A-Za-z])|[\s$~]|\\\$|"
    r"\^\{?\\(?:circ|degree)\}?|\\degree|°"
)
_TEXT = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_BASE = re.compile(r"_\{?(\d+)\}?\s*\$?\Z")
# Numbers with more digits than anyone wants: towers of powers, exponents of five digits and more,
# factorials from 1000!, binomials and roots of as much.
_TOO_LARGE = re.compile(
    r"(?:\^|\*\*)[\s({]*(?:\d{5}|\d+\.?\d*[\s)}]*(?:\^|\*\*|!))|\d{4}[\s)}]*!|!\s*!|"
    r"\\[dt]?binom\s*\{?\s*\d{5}|\\sqrt\s*\[\s*\d{4}"
)
# The parser's time doubles with every function of a function, and with every open bracket.
_TOO_DEEP = re.compile(r"(?:\\(?:sin|cos|tan|cot|sec|csc|arc[a-z]+|log|ln|exp|sqrt)\s*|\|){9}")
_DEEPEST = 12
#: Characters that math-verify is given. The longest right answer of MATH500 has 53.
_MOST_PARSED = 300


def extract_math(answer: str | None) -> str | None:
    """The expression an answer gives: its last claim (see
    `s1_plugin.evaluation.answers.claims`), else the last formula or number in the text.
    """
    if not answer:
        return None
    for claim in claims(answer):
        if claim.talks and not _VALUE.search(claim.text):
            continue  # "the answer is correct"
        found = claim.text.strip() if claim.boxed else _of_line(claim.text)
        if found and len(found) <= MOST_CLAIMED:
            return found
        if claim.boxed and found:
            return None  # what it meant to say has no end
    return _last(answer)


def _of_line(line: str) -> str | None:
    """The expression in a line: its formulas if they are one or a list of them, else the line
    itself where it is short, else the last formula or number."""
    found = formulas(line)
    if found:
        between = (line[a[1] : b[0]] for a, b in pairwise(found))
        if all(_BETWEEN.fullmatch(text) for text in between):
            return ", ".join(text for *_, text in found)
        return found[-1][2]
    plain = line.strip(" \t*_$").removesuffix(".").rstrip(" *")
    number = _NUMBER.match(plain)
    if number and _UNIT.match(plain, number.end()):
        return number.group()
    return _last(line) if is_prose(plain) else plain or None


def _last(text: str) -> str | None:
    found = formulas(text)
    if found:
        return found[-1][2]
    numbers = _NUMBER.findall(text)
    return numbers[-1].rstrip(",") if numbers and len(numbers[-1]) <= MOST_CLAIMED else None


def formulas(text: str) -> list[tuple[int, int, str]]:
    r"""What stands between ``$…$``, ``$$…$$``, ``\(…\)`` or ``\[…\]``: start, end, content.

    A dollar sign before a space or after one is money: in "$40 = $36" nothing is a formula.
    Formulas longer than `MOST_CLAIMED` are left out.
    """
    found: list[tuple[int, int, str]] = []
    opened: re.Match[str] | None = None
    for token in _DELIMITER.finditer(text):
        mark = token.group()
        if opened is None or mark != _CLOSES[opened.group()]:
            if mark in _CLOSES and (opened is None or opened.group() == "$"):
                opened = token
            continue
        if token.start() - opened.end() <= MOST_CLAIMED:
            inside = text[opened.end() : token.start()]
            if mark == "$" and (_MONEY.search(inside) or is_prose(inside)):
                opened = token  # that was money; this may be the beginning of a formula
                continue
            if inside.strip():
                found.append((opened.start(), token.end(), inside.strip().removesuffix(".")))
        opened = None
    return found


def compare(extracted: str, gold: str) -> tuple[bool, str]:
    """Whether two expressions are equal, and why that could not be found out: "" if it could,
    "too long", "too deep", "too large" (never given to the parser), "time" or "memory".
    """
    if _looks(extracted) == _looks(gold):
        return True, ""
    bases = _BASE.search(extracted), _BASE.search(gold)
    if bases[0] and bases[1] and bases[0][1] != bases[1][1]:
        return False, ""  # math-verify drops the base of a numeral
    trouble = _unfit(extracted) or _unfit(gold)
    return (False, trouble) if trouble else _verified(extracted, gold)


@lru_cache(maxsize=10_000)
def _verified(extracted: str, gold: str) -> tuple[bool, str]:
    from s1_plugin.evaluation.verifier import VERIFIER

    reply = VERIFIER.ask("compare", gold, extracted)
    return bool(reply.get("equal")), reply.get("trouble", "")


def ballots(expressions: Sequence[str]) -> list[str]:
    """A name for each expression; those that look the same, or that math-verify reads as the same
    number or the same formula, have one name.

    Each spelling is read once and none is compared with another, as `compare` would: 64 different
    ones would take minutes. So "(x+1)^2" and "x^2+2x+1" have two names, and so has what cannot be
    read within the limits.
    """
    named: dict[str, str] = {}
    found = []
    for text in expressions:
        looks = _looks(text)
        if looks not in named:
            named[looks] = "" if _unfit(text) or _BASE.search(text) else _named(text)
        found.append(named[looks] or looks)
    return found


@lru_cache(maxsize=10_000)
def _named(text: str) -> str:
    from s1_plugin.evaluation.verifier import VERIFIER

    return str(VERIFIER.ask("name", text).get("name", ""))


def unreadable(gold: str) -> str:
    """Why math-verify does not read ``gold``, so that only the same text is right; "" if it does.
    Other than the reasons of `compare`: "it is no formula"."""
    from s1_plugin.evaluation.verifier import VERIFIER

    if why := _unfit(gold):
        return why
    reply = VERIFIER.ask("parse", gold)
    return "" if reply.get("parsed") else reply.get("trouble") or "it is no formula"


def _unfit(text: str) -> str:
    """Why ``text`` is not given to the parser; "" if it is."""
    if len(text) > _MOST_PARSED:
        return "too long"
    depths = accumulate((c in "([{") - (c in ")]}") for c in text)
    if max(depths, default=0) > _DEEPEST or _TOO_DEEP.search(text):
        return "too deep"
    return "too large" if _TOO_LARGE.search(text) else ""


def _looks(text: str) -> str:
    text = _LOOKS.sub("", _TEXT.sub(r"\1", text)).replace("dfrac", "frac").replace("tfrac", "frac")
    text = text.removesuffix(".").replace("\\%", "").replace("%", "")
    return text.casefold() if re.fullmatch(r"[A-Za-z]{2,}", text) else text
