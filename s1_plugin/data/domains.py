"""The domain of a question: by its words, or as a model names it.

By words needs no model and is no more than a guess. Each domain has words (domains.yaml). For every
domain, a question scores the weights of its words that occur, each divided by the number of domains
that list it; the highest score wins, and among equals the earlier domain. A question without any
such word is `ALGEBRA` if it holds an equation or a power, else `NONE`, which is a domain of its own
beside the fifty: drawn and weighed like them, and said. How often that is right is measured in
tests/data/test_domains.py.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

from s1_plugin.data.attempts import Attempts
from s1_plugin.data.engine import Batch

#: Of a question that holds none of the words: without a formula, and with one.
NONE, ALGEBRA = "General", "Algebraic systems"
_WORD = re.compile(r"\\?[^\W\d_]+(?:[-/][^\W\d_]+)*|\\%")
# How competitions ask for a fraction or a root, whatever the question is about.
_ANSWER = re.compile(
    r"relatively[\s-]+prime\s+(?:positive\s+)?integers?"
    r"|divisible\s+by\s+the\s+(?:square|cube)\s+of\s+any\s+prime",
    re.IGNORECASE,
)
_STRONG, _WEAK = 3.0, 1.0


@lru_cache(maxsize=1)
def table() -> tuple[tuple[str, ...], dict[str, list[tuple[int, float]]]]:
    """The names of the domains, and for each word (or two) the domains it speaks for."""
    import yaml

    source = files("s1_plugin.data").joinpath("domains.yaml")
    data = yaml.safe_load(source.read_text(encoding="utf-8"))
    words: dict[str, dict[int, float]] = {}
    for number, entry in enumerate(data.values()):
        for kind, weight in (("words", _WEAK), ("strong", _STRONG)):
            for word in entry[kind]:
                words.setdefault(" ".join(map(stem, str(word).split())), {})[number] = weight
    return tuple(data), {
        word: [(number, weight / len(of)) for number, weight in of.items()]
        for word, of in words.items()
    }


def stem(word: str) -> str:
    """``word`` in lower case, without the s of a plural."""
    word = word.lower()
    if len(word) > 3 and word[0] != "\\" and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def classify(question: str) -> str:
    """The domain of a question; `NONE` if nothing in it tells."""
    names, known = table()
    stems = [stem(word) for word in _WORD.findall(_ANSWER.sub(" ", question))]
    counts = Counter(stems)
    # Two words that stand together.
    counts.update(map(" ".join, pairwise(stems)))
    scores: dict[int, float] = {}
    for word, count in counts.items():
        for number, weight in known.get(word, ()):
            scores[number] = scores.get(number, 0.0) + weight * (1 + math.log(count))
    if not scores:
        return ALGEBRA if "=" in question or "^" in question else NONE
    return names[min(scores, key=lambda number: (-round(scores[number], 9), number))]


def classified(batch: Batch) -> dict[str, list[str]]:
    return {"domain": [classify(question) for question in batch["question"]]}


def prompt(question: str) -> str:
    """What a model is asked to have the domain of a question named (`s1 distill --ask domain`)."""
    names = "\n".join(f"- {name}" for name in table()[0])
    return (
        "Which one of these fields does the problem below belong to? It is not to be solved.\n\n"
        f"{names}\n\nThe problem:\n\n{question}\n\n"
        "Reply with the name of one field, as it stands in the list, and with nothing else."
    )


def named(reply: str) -> str | None:
    """The domain that a reply names; None if it names none of ours, or several."""
    text, found = reply.lower(), []
    # The longest first: "Differential geometry" does not name "Geometry".
    for name in sorted(table()[0], key=len, reverse=True):
        text, count = re.subn(rf"(?<![\w-]){re.escape(name.lower())}(?![\w-])", " ", text)
        if count:
            found.append(name)
    return found[0] if len(found) == 1 else None


def told(attempts: Attempts, question: str) -> str | None:
    """The domain that a model named first, of its replies to a question; None if it named none."""
    return next(filter(None, map(named, attempts.of(question))), None)


def told_or_classified(attempts: Attempts, batch: Batch) -> dict[str, list]:
    """Domains as a model names them, where it does; and whether it did."""
    names = [told(attempts, question) for question in batch["question"]]
    domains = [
        name or classify(question) for name, question in zip(names, batch["question"], strict=True)
    ]
    return {"domain": domains, "told": [name is not None for name in names]}
