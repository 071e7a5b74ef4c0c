"""Grading: from the text after the answer delimiter to right or wrong.

What is graded is the answer alone, never the thinking; no answer is wrong. A kind of answer is a
file: `integers` (AIME), `maths` (MATH500), `letters` (GPQA).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from s1_plugin.evaluation import integers, letters, maths
from s1_plugin.evaluation.answers import MOST_CHARACTERS

KINDS = ("integer", "math", "letter")


@dataclass(frozen=True)
class Grade:
    """What an answer was found to say.

    Attributes:
        extracted: as text; None if there is no answer.
        correct: whether it is right.
        trouble: why it could not be compared, and so counts as wrong: "" if it could, "time",
            "memory", "too long", "too deep", "too large".
        cut: the answer had more than `MOST_CHARACTERS`, of which only the last were read.
    """

    extracted: str | None
    correct: bool
    trouble: str = ""
    cut: bool = False


def grade(answer: str | None, gold: str | int, kind: str) -> Grade:
    """Grades the text after the answer delimiter.

    Args:
        answer: None if there is none.
        gold: the right answer.
        kind: one of `KINDS`.

    Raises:
        ValueError: if ``gold`` is not of this kind, or there is no such kind.
    """
    gold = str(gold).strip()
    cut = len(answer or "") > MOST_CHARACTERS
    text = (answer or "")[-MOST_CHARACTERS:]
    trouble = ""
    extracted: str | None
    if kind == "integer":
        if not re.fullmatch(r"[+-]?\d{1,20}", gold):
            raise ValueError(f"the right answer must be an integer, got {gold[:80]!r}")
        number = integers.extract_integer(text)
        extracted, correct = None if number is None else str(number), number == int(gold)
    elif kind == "letter":
        if gold not in tuple(letters.LETTERS):
            known = ", ".join(letters.LETTERS)
            raise ValueError(f"the right choice must be one of {known}, got {gold!r}")
        extracted = letters.extract_letter(text)
        correct = extracted == gold
    elif kind == "math":
        if not gold:
            raise ValueError("the right answer is empty")
        extracted, correct = maths.extract_math(text), False
        if extracted is not None:
            correct, trouble = maths.compare(extracted, gold)
    else:
        raise ValueError(f"no kind of answer is called {kind!r}; there are {', '.join(KINDS)}")
    return Grade(extracted, correct, trouble, cut)


def check_gold(gold: str | int, kind: str) -> str:
    """Why ``gold`` cannot be graded as ``kind``; "" if it can: given as an answer it is right."""
    for answer in (f"\\boxed{{{gold}}}", f"Answer: {gold}"):
        try:
            found = grade(answer, gold, kind)
        except ValueError as error:
            return str(error)
        if not found.correct:
            return f"given as {answer[:80]!r} it is read as {found.extracted!r} and counts as wrong"
    return ""
