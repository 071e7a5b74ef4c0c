r"""What an answer claims: the last ``\boxed{…}``, ``Answer: …`` or "the answer is …" in it.

Pure Python, and linear in the length of the text: what a model that loops writes is read too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from s1_plugin.formats import FORMATS

#: Characters of an answer that are read, from its end. The longest answer that fits s1's 32,768
#: tokens has about 100,000; more is a model that loops.
MOST_CHARACTERS = 100_000

#: Characters of a claim; nothing that is longer is the answer to one of our questions.
MOST_CLAIMED = 2_000

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,9}\{|\\.|[{}]", re.DOTALL)
_MARK = re.compile(r"\b(?P<final>final\s)?answers?\*{0,2}\s?(?P<how>:|(?:is|are)\b:?)", re.I)
_MARKUP = " \t*_"
_LINE = re.compile(rf"([^\n]{{0,{MOST_CLAIMED}}})(?:\n|\Z)")
_OPENING = re.compile(r"[\s*_#]*")
_BLANK = re.compile(r"[\s*_]*")
_VALUE = re.compile(r"[(\[$*_]*(?:-?\d|[B-D]\b|A[).:,*])|\\[(\[]|\\(?:boxed|text)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


@dataclass(frozen=True)
class Claim:
    """A place where an answer says what it is: ``boxed``, or the rest of a line. A box whose
    content is longer than `MOST_CLAIMED` is cut after one character more. It ``talks`` if its line
    begins with "the answer is", which need not be followed by a value.
    """

    start: int
    text: str
    boxed: bool
    talks: bool = False


def answer_of(response: str) -> str | None:
    """The answer in a whole response; None if its thinking never ended (see `parts_of`)."""
    return parts_of(response)[1]


def parts_of(response: str) -> tuple[str, str | None]:
    """The thinking in a whole response and its answer, which is None if the thinking never ended.

    The answer is what follows the last answer delimiter, up to the next delimiter or end token. The
    format is that whose thinking begins first; where none does, the delimiters of all formats
    count, and a text without any is an answer.
    """
    began = {response.find(fmt.think_start): fmt for fmt in FORMATS.values()}
    began.pop(-1, None)
    formats = [began[min(began)]] if began else list(FORMATS.values())
    at, thinking = -1, response if began else ""
    answer = None if began else response
    for fmt in formats:
        found = response.rfind(fmt.answer_start)
        if found > at:
            at, thinking = found, response[:found]
            answer = response[found + len(fmt.answer_start) :]
    for fmt in formats:
        thinking = thinking.removeprefix(fmt.think_start)
        for end in (fmt.think_start, *fmt.stop):
            answer = answer and answer.partition(end)[0]
    return thinking, answer


def boxes(text: str) -> list[Claim]:
    r"""Every complete ``\boxed{…}`` (or ``\fbox{…}``), braces balanced, in order of their ends."""
    open_braces: list[tuple[int, int] | None] = []  # a box and its content; None for other braces
    found = []
    for match in _BOX.finditer(text):
        token = match.group()
        if token == "{":
            open_braces.append(None)
        elif token == "}":
            box = open_braces.pop() if open_braces else None
            if box is not None:
                end = min(match.start(), box[1] + MOST_CLAIMED + 1)
                found.append(Claim(box[0], text[box[1] : end], boxed=True))
        elif token.endswith("{") and len(token) > 2:
            open_braces.append((match.start(), match.end()))
    return found


def claims(answer: str) -> list[Claim]:
    """What ``answer`` claims, last first; nothing where it only talks.

    An ``Answer:`` that opens several lines of prose claims nothing, unless it begins with a value:
    s1's training text puts it before answers that lack one, and its models write it before whole
    derivations.
    """
    found = boxes(answer)
    begins = _after(_OPENING, answer, 0)
    for match in _MARK.finditer(answer):
        colon = match["how"] == ":"
        line = _LINE.match(answer, match.end())
        if line and not line[1].strip(_MARKUP) and colon:
            line = _LINE.match(answer, _after(_BLANK, answer, line.end()))
        if line is None:  # longer than anything that could be meant by it
            continue
        text = line[1].strip(_MARKUP)
        opens = colon and not match["final"] and match.start() <= begins
        more = _after(_BLANK, answer, line.end()) < len(answer)
        if text and not (opens and more and is_prose(text) and not _VALUE.match(text)):
            found.append(Claim(match.start(), text, boxed=False, talks=not colon))
    return sorted(found, key=lambda claim: claim.start, reverse=True)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def is_prose(text: str) -> bool:
    """Three words or more, LaTeX commands not counted."""
    return sum(1 for _ in zip(range(3), _WORD.finditer(text), strict=False)) == 3
