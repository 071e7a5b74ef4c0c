"""Integer answers (AIME): ``023`` is 23, ``0.5`` and ``1/2`` are none."""

from __future__ import annotations

import re

from s1_plugin.evaluation.answers import claims

# An integer that is not part of a decimal, a fraction, a power or a name.
_INTEGER = re.compile(r"(?<![\w./^\\-])-?\d+(?:,\d{3})*(?:\.0+)?(?![\w/^]|\.\d|,\d)")
# What may stand around an integer without changing it.
_DECORATION = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{|\\[,;!: ()]|[{}$]")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)")
# "12th", "12^{th}", "12^{\text{th}}": an ordinal is its number.
_ORDINAL = re.compile(
    r"(?<=\d)\^?\{?(?:\\(?:text|mathrm|textsuperscript) ?\{|\\rm )?"
    r"(?:st|nd|rd|th)(?![A-Za-z])\}{0,2}"
)
_SCRIPT = re.compile(r"[\^_]\s*\{[^{}]*\}")
_CALCULATION = re.compile(r"[^=]*(?:[+×*·]|\\times|\\cdot|\d\s*[-−/]\s*\d)[^=]*=")
_LEADING = re.compile(r"[\s$*\\(\[{]*-?\d")


def extract_integer(answer: str | None) -> int | None:
    """The integer an answer gives: that of its last claim with a digit in it (see
    `s1_plugin.evaluation.answers.claims`), else the last one in the text.

    A box must hold one integer and nothing that makes it another number; in a line that begins
    with an integer that one counts, in any other line the last one. Of "5 × 4 = 20" what follows
    the last sign counts.
    """
    if not answer:
        return None
    for claim in claims(answer):
        if re.search(r"\d", claim.text):
            text = claim.text
            if _CALCULATION.match(text):
                text = text.rpartition("=")[2]
            found = _integers(text)
            if claim.boxed:
                return found[0] if len(found) == 1 and "\\frac" not in text else None
            at = 0 if _LEADING.match(text) else -1
            return found[at] if found else None
    return next(reversed(_integers(answer)), None)


def _integers(text: str) -> list[int]:
    plain = _ORDINAL.sub(" ", text.replace("{,}", ",").replace("\\!", ""))
    plain = _DEGREES.sub(" ", plain)
    plain = _DECORATION.sub(" ", _SCRIPT.sub("^", plain))
    # int() refuses absurd lengths; no integer answer of ours has 20 digits
    digits = (n.split(".")[0].replace(",", "") for n in _INTEGER.findall(plain))
    return [int(n) for n in digits if len(n) <= 20]
