"""Grading: from the text after the answer delimiter to right or wrong.

Pure Python. What is graded is the answer alone, never the thinking; no answer is wrong.
"""

from __future__ import annotations

import re

# The last of these in the answer counts. `Answer:` covers s1's `Final Answer:` and `Answer:`.
_MARK = re.compile(r"Answer:[^\S\n]*\**(?P<text>[^\n]*\S[^\n]*)")
# An integer that is not part of a decimal, a fraction, a power or a name.
_INTEGER = re.compile(r"(?<![\w./^\\-])-?\d+(?:,\d{3})*(?:\.0+)?(?![\w/^]|\.\d|,\d)")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
# What may stand around an integer without changing it.
_DECORATION = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{|\\[,;!: ()]|[{}$]")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)")
_SCRIPT = re.compile(r"[\^_]\s*\{[^{}]*\}")


def boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{…}`` (or ``\fbox{…}``), braces balanced."""
    open_braces: list[int | None] = []  # where the content of a box begins; None for other braces
    last = None
    for match in _BOX.finditer(text):
        token = match.group()
        if token == "{":
            open_braces.append(None)
        elif token == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None:
                last = text[start : match.start()]
        elif token.endswith("{") and len(token) > 2:
            open_braces.append(match.end())
    return last


def extract_integer(answer: str | None) -> int | None:
    """The integer an answer gives: the boxed one, else the first after the last ``Answer:``, else
    the last one in the text.

    ``023`` is 23, ``1,234`` is 1234, ``\\boxed{\\text{Final: } 42}`` is 42; ``0.5``, ``1/2`` and
    ``2^{10}`` give none.
    """
    if not answer:
        return None
    inside = boxed(answer)
    if inside is not None and re.search(r"\d", inside):
        found = _integers(inside)
        return found[0] if len(found) == 1 and "\\frac" not in inside else None
    marked = [m["text"] for m in _MARK.finditer(answer)]
    if marked:
        return next(iter(_integers(marked[-1])), None)
    return next(reversed(_integers(answer)), None)


def _integers(text: str) -> list[int]:
    plain = _DEGREES.sub(" ", text.replace("{,}", ",").replace("\\!", ""))
    plain = _DECORATION.sub(" ", _SCRIPT.sub("^", plain))
    # int() refuses absurd lengths; no integer answer of ours has 20 digits
    digits = (n.split(".")[0].replace(",", "") for n in _INTEGER.findall(plain))
    return [int(n) for n in digits if len(n) <= 20]


def integer_correct(answer: str | None, gold: str | int) -> bool:
    """Whether ``answer`` gives the integer ``gold``.

    Raises:
        ValueError: if ``gold`` is no integer.
    """
    return extract_integer(answer) == int(str(gold).strip())
