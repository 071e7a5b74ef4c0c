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
_BLANK = str.maketrans("${}~", "    ")
_SAME = re.compile(r"\\(?:[dt](frac)|([lgn]e)q(?![a-z]))")
_WORD = re.compile(r"(?<![\\a-z])([^\W\d_]{3,})")
_ASCII_WORD = re.compile(r"(?<![\\a-z])([a-z]{3,})")  # the same on ASCII, and quicker
_EDGES = ".,;:!?'\"()"
_TOKEN = re.compile(r"\\?[^\W\d_]+|\d+|[^\w\s]")
_NUMBER = re.compile(r"\d+")


def paper_words(text: str) -> list[str]:
    """The words of the plain rule: lower case, split at white space."""
    return text.lower().split()


def plain(text: str) -> str:
    """``text`` in lower case, without what only spaces or delimits LaTeX."""
    text = (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower()
    if "\\" in text:
        text = _SAME.sub(lambda match: f"\\{match[1] or match[2]}", text)
        text = _NOISE.sub(" ", text)
    return text.translate(_BLANK)


def units(text: str) -> list[str]:
    """``text`` as words of three letters or more, and what stands between two of them as one unit
    without white space, so that ``$x + 1$`` and ``$x+1$`` are the same unit."""
    text = plain(text)
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


def tokens(text: str) -> list[str]:
    """Words, commands, numbers and single signs: the finer grain on which near copies are found."""
    return _TOKEN.findall(plain(text))


def numbers(text: str) -> list[str]:
    """The numbers in ``text``, sorted: two problems that differ in one are two problems."""
    return sorted(_NUMBER.findall(text))


def grams(words: list[str], n: int = NGRAM) -> list[str]:
    """Every run of ``n`` words, joined by a space; none if there are fewer."""
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
