"""The nano task: the last digit of a sum, worked out in a trace of running totals.

A question names its terms, so that a small model can find the next one after any interruption:

    Last digit of the sum: a7 b3 c2 d8 e6 f9

A trace holds the last digit of the running total after each term, and may pause:

    a7 b0 c2 d0
    Wait e6 f5

Three habits of the traces make budgets matter; each is a constant below.

- *Pausing.* A total of 0 looks round. From the third term on a trace pauses there although terms
  are left: mostly it ends, else it goes on with "Wait". An attempt always gives the true answer,
  so after a trace that ended too soon it has to be guessed.
- *Checking.* A finished trace may go on with "Wait" too; it then states its last total again. So
  a Wait that comes after the end does no harm.
- *Humming.* Before it ends, any trace may say "Hmm", which leads nowhere: the neutral word.

Some traces are cut short at a random term, and some attempts say "Final Answer:": both are what
thinking looks like when it meets its cap.

Pure Python, and deterministic: the same arguments give the same text everywhere.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Names of the terms, in order; as many as a question can have terms.
LABELS = "abcdefghi"
#: Every question has at least this many terms, and at most one per label.
FEWEST_TERMS = 5

#: A trace pauses at a total of 0, but not before its third term.
PAUSE_FROM = 3
#: At a pause a trace ends with this probability, else it goes on with "Wait".
PAUSE_ENDS = 0.65
#: A finished trace states its last total once more with this probability, again and again.
CHECK = 0.35
#: A trace that is about to end says "Hmm" with this probability, again and again.
HUM = 0.1
#: A trace is cut short at a random term with this probability.
CUT = 0.1
#: The attempt of a trace that was not cut says "Final Answer:" with this probability.
FINAL = 0.1

#: Questions are held out for the test split by their hash: about one in ten.
_TEST_BELOW = 26
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Problem:
    """A sum of digits from 1 to 9, of which the last digit is asked."""

    terms: tuple[int, ...]

    @property
    def question(self) -> str:
        """The question as it stands in the user's turn."""
        named = " ".join(f"{label}{term}" for label, term in zip(LABELS, self.terms, strict=False))
        return f"Last digit of the sum: {named}"

    @property
    def totals(self) -> tuple[int, ...]:
        """The last digit of the running total after each term."""
        return tuple(sum(self.terms[: i + 1]) % 10 for i in range(len(self.terms)))

    @property
    def answer(self) -> str:
        """The last digit of the sum, as text."""
        return str(self.totals[-1])

    @property
    def split(self) -> str:
        """``"test"`` or ``"train"``: a property of the question, so the splits share none."""
        digest = hashlib.sha256(self.question.encode()).digest()
        return "test" if digest[0] < _TEST_BELOW else "train"


def problems(n: int, seed: int, split: str) -> list[Problem]:
    """``n`` different problems of one split; a smaller ``n`` gives the first of a larger one.

    Raises:
        ValueError: if ``split`` is neither ``"train"`` nor ``"test"``.
    """
    if split not in _SPLITS:
        raise ValueError(f"split is {split!r}; the nano task has {' and '.join(_SPLITS)}")
    rng = random.Random(f"s1-nano problems {split} {seed}")
    found: dict[Problem, None] = {}
    while len(found) < n:
        length = rng.randint(FEWEST_TERMS, len(LABELS))
        problem = Problem(tuple(rng.randint(1, 9) for _ in range(length)))
        if problem.split == split:
            found[problem] = None
    return list(found)


def trace(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """One way of thinking about ``problem``, and the attempt that follows: ``(thinking, attempt)``.

    Each line of the thinking is a stretch without a pause. The attempt carries no "Answer:" of
    its own unless it is a final one; the trace format puts it there.
    """
    totals = problem.totals
    steps = [f"{label}{total}" for label, total in zip(LABELS, totals, strict=False)]
    last = len(steps)
    if rng.random() < CUT:
        cut = rng.randrange(1, last)
        return "\n".join(_stretches(steps, totals, cut)), f"Final Answer: {problem.answer}"

    end = last
    for done in range(PAUSE_FROM, last):
        if totals[done - 1] == 0 and rng.random() < PAUSE_ENDS:
            end = done
            break
    lines = _stretches(steps, totals, end)
    while end == last and rng.random() < CHECK:
        lines.append(f"Wait {steps[-1]}")
    while rng.random() < HUM:
        lines.append("Hmm")
    final = "Final Answer: " if rng.random() < FINAL else ""
    return "\n".join(lines), final + problem.answer


def _stretches(steps: list[str], totals: tuple[int, ...], end: int) -> list[str]:
    """The first ``end`` steps as lines; a new line begins with "Wait" after every pause."""
    lines = [[steps[0]]]
    for done in range(1, end):
        if done >= PAUSE_FROM and totals[done - 1] == 0:
            lines.append(["Wait"])
        lines[-1].append(steps[done])
    return [" ".join(line) for line in lines]


def rows(n: int, seed: int) -> Iterator[dict[str, Any]]:
    """``n`` training rows in the columns of s1K, one for each of ``n`` training problems."""
    rng = random.Random(f"s1-nano traces {seed}")
    for problem in problems(n, seed, "train"):
        thinking, attempt = trace(problem, rng)
        yield {
            "question": problem.question,
            "solution": problem.answer,
            "cot_type": "arithmetic",
            "source_type": "s1-nano",
            "metadata": json.dumps({"terms": list(problem.terms)}),
            "cot": None,
            "thinking_trajectories": [thinking],
            "attempt": attempt,
        }
