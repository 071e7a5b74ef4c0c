r"""Multiple choice (GPQA): one letter, or none. No answer is wrong; it is never taken for "A"."""

from __future__ import annotations

import re

from s1_plugin.evaluation.answers import Claim, claims

LETTERS = "ABCD"

# What may stand before a letter: LaTeX and Markdown, and the words that introduce it.
_BEFORE = re.compile(
    r"(?:[\s$*_(\[{:]|\\[(\[]|\\(?:textbf|textrm|text|mathrm|mathbf|mathsf|rm|bf|boxed)\s*|\\\s|"
    r"(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\b(?:\s+is\b)?)*",
    re.IGNORECASE,
)
_LETTER = re.compile(rf"([{LETTERS}])(?![A-Za-z0-9'’])")
_ANOTHER = re.compile(
    rf"[\s)\]}}$*.]*(?:,|/|&|\band\b|\bor\b)[\s(\[{{$*]*(?:or\s|and\s)?[{LETTERS}](?![A-Za-z0-9])"
)
# A letter that stands alone: (C), **C**, "C)" at the beginning of a line, a line of its own
# ("Option C"), or one that is chosen in so many words ("I pick C").
_ALONE = re.compile(
    rf"\bI\s+(?:pick|choose|select)\s+(?:option\s+)?\(?([{LETTERS}])\b(?!['’])|"
    rf"^[ \t]*[Oo]ption[ \t]+([{LETTERS}])[.)]?[ \t]*$|"
    rf"\(([{LETTERS}])\)|\*\*\(?([{LETTERS}])\b[).:]?|^[ \t]*([{LETTERS}])(?:[).][^\n]*)?[ \t]*$",
    re.MULTILINE,
)
# "A proton …": an article, not a choice.
_ARTICLE = re.compile(r"A\s+[a-z]")


def extract_letter(answer: str | None) -> str | None:
    """The letter an answer chooses: that of its last claim that names one (see
    `s1_plugin.evaluation.answers.claims`), else the last that stands alone; None for two at once.
    """
    if not answer:
        return None
    for claim in claims(answer):
        chosen = _claimed(claim)
        if chosen is not None:
            return chosen or None
    alone = [next(filter(None, match.groups())) for match in _ALONE.finditer(answer)]
    return alone[-1] if alone else None


def _claimed(claim: Claim) -> str | None:
    """The letter; "" if several are named; None if the claim names none."""
    start = _BEFORE.match(claim.text).end()  # type: ignore[union-attr]
    text = claim.text[start:]
    if re.fullmatch(rf"[{LETTERS.lower()}][\s).$}}*]*", text):
        text = text[0].upper() + text[1:]
    letter = _LETTER.match(text)
    if letter is None or (not claim.boxed and _ARTICLE.match(text)):
        return None
    return "" if _ANOTHER.match(text, letter.end()) else letter[1]
