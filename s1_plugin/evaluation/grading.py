"""Grading: from the text after the answer delimiter to right or wrong.

Pure Python. What is graded is the answer alone, never the thinking; no answer is wrong.
"""

from __future__ import annotations

import re

# The last of these in the answer counts. `Answer:` covers s1's `Final Answer:` and `Answer:`.
_MARK = re.compile(r"Answer:(?P<text>[^\n]*)")
_INTEGER = re.compile(r"-?\d+(?:,\d{3})*(?:\.0+)?(?![\d.]*\d)")


def boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{…}`` (or ``\fbox{…}``), braces balanced."""
    best = None
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text):
        depth, start = 1, match.end()
        for i in range(start, len(text)):
            if text[i] == "\\":
                continue
            if text[i] in "{}" and text[i - 1] != "\\":
                depth += 1 if text[i] == "{" else -1
                if depth == 0:
                    best = text[start:i]
                    break
    return best


def extract_integer(answer: str | None) -> int | None:
    """The integer an answer gives: boxed, else after the last ``Answer:``, else the last one.

    ``023`` is 23, ``1,234`` is 1234, ``\\boxed{\\text{Final: } 42}`` is 42.
    """
    if not answer:
        return None
    inside = boxed(answer)
    candidates = [inside] if inside is not None else []
    marked = [m["text"] for m in _MARK.finditer(answer) if m["text"].strip()]
    candidates += marked[-1:]
    candidates.append(answer)
    for text in candidates:
        numbers = _INTEGER.findall(text.replace("\\,", "").replace("{,}", ","))
        if numbers:
            digits = numbers[-1].split(".")[0].replace(",", "")
            # int() refuses absurd lengths; no integer answer of ours has 20 digits
            return int(digits) if len(digits) <= 20 else None
    return None


def integer_correct(answer: str | None, gold: str | int) -> bool:
    """Whether ``answer`` gives the integer ``gold``."""
    return extract_integer(answer) == int(str(gold).strip())
