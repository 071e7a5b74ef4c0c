"""The domain of a question, by the words in it: no model, no network, and no more than a guess.

Each domain has words (domains.yaml). A question scores, for every domain, the weights of its words
that occur, each divided by the number of domains that list it; the highest score wins, and among
equals the earlier domain. How often that is right is measured in tests/data/test_domains.py.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

from s1_plugin.data.engine import Batch

#: Of a question that holds none of the words.
NONE = "General"
_WORD = re.compile(r"\\?[^\W\d_]+(?:[-/][^\W\d_]+)*|\\%")
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
    """The domain of a question; `NONE` if no word of it is known."""
    names, known = table()
    stems = [stem(word) for word in _WORD.findall(question)]
    counts = Counter(stems)
    # Two words that stand together.
    counts.update(map(" ".join, pairwise(stems)))
    scores: dict[int, float] = {}
    for word, count in counts.items():
        for number, weight in known.get(word, ()):
            scores[number] = scores.get(number, 0.0) + weight * (1 + math.log(count))
    if not scores:
        return NONE
    return names[min(scores, key=lambda number: (-round(scores[number], 9), number))]


def classified(batch: Batch) -> dict[str, list[str]]:
    return {"domain": [classify(question) for question in batch["question"]]}
