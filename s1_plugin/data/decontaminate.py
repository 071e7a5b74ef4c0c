"""Questions that are, or hold part of, a benchmark's questions.

Two rules, and a question goes if either holds:

1. The paper's: one run of 8 words in common (lower case, split at white space).
2. The same over `words.units`, or the whole question equal by `words.whole`: copies with other
   LaTeX spacing, Unicode for LaTeX, or no spaces at all, and questions of fewer than 8 words, which
   the first rule cannot see.

So whatever the paper's rule removes is removed, and copies that it misses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from s1_plugin.data.words import (
    NGRAM,
    beginning,
    grams,
    paper_words,
    plain,
    squeezed,
    units,
    units_of,
    whole,
)

_PART = 4


class Benchmark(NamedTuple):
    """Questions to keep out of the training data, and where they were read from."""

    name: str
    source: str
    questions: tuple[str, ...]
    ids: tuple[str, ...]


class Match(NamedTuple):
    """Where a question meets a benchmark's: its n-gram, or "" where the whole question is equal."""

    benchmark: str
    question: str
    ngram: str
    stock: bool  # several questions of the benchmarks share the n-gram: a stock phrase

    def __str__(self) -> str:
        what = f"{self.ngram!r}" if self.ngram else "the whole question"
        return f"{self.benchmark} {self.question}: {what}"


@dataclass
class Index:
    """Every n-gram of some benchmarks, and the first question that holds it."""

    words: dict[str, int] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    whole: dict[str, int] = field(default_factory=dict)
    beginnings: set[str] = field(default_factory=set)
    names: list[tuple[str, str]] = field(default_factory=list)
    stock: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)

    @classmethod
    def build(cls, benchmarks: Iterable[Benchmark]) -> Index:
        index = cls()
        for benchmark in benchmarks:
            for identity, text in zip(benchmark.ids, benchmark.questions, strict=True):
                number = len(index.names)
                index.names.append((benchmark.name, identity))
                said = plain(text)
                parts = units_of(said)
                # Without white space two numbers that stand side by side are one.
                for form in (said, plain(squeezed(text))):
                    index.whole.setdefault(whole(form), number)
                    index.beginnings.add(beginning(form))
                for table, words in ((index.words, paper_words(text)), (index.units, parts)):
                    index.parts.update(grams(words, _PART))
                    for gram in grams(words):
                        if table.setdefault(gram, number) != number:
                            index.stock.add(gram)
        return index

    def find(self, question: str) -> Match | None:
        """The strongest match of ``question``, or None.

        A whole question before an n-gram, and an n-gram of one question before a stock phrase.
        """
        said = plain(question)
        if beginning(said) in self.beginnings:
            number = self.whole.get(whole(said))
            if number is not None:
                return Match(*self.names[number], "", False)
        stock = None
        # The second rule only where the first finds nothing: it takes most of the time.
        for table, split, text in (
            (self.words, paper_words, question),
            (self.units, units_of, said),
        ):
            for gram in self._shared(table, split(text)):
                match = Match(*self.names[table[gram]], gram, gram in self.stock)
                if not match.stock:
                    return match
                stock = stock or match
        return stock

    def _shared(self, table: Mapping[str, int], words: list[str]) -> Iterator[str]:
        """The n-grams of ``words`` that are in ``table``, in order.

        Every run of 8 holds a run of 4 that begins at a multiple of 5: where none of those is a
        benchmark's, which is nearly everywhere, there is nothing to look up.
        """
        known, done = self.parts, 0
        for at in range(0, len(words) - _PART + 1, NGRAM - _PART + 1):
            if " ".join(words[at : at + _PART]) in known:
                for start in range(max(done, at - NGRAM + _PART), at + 1):
                    gram = " ".join(words[start : start + NGRAM])
                    if gram in table:
                        yield gram
                done = at + 1


def nearest(
    questions: Sequence[str], benchmarks: Iterable[Benchmark], n: int = 3
) -> list[tuple[float, str, str]]:
    """For each question the benchmark question nearest to it, by the share of the question's runs
    of ``n`` units that it holds: ``(share, "benchmark id", its text)``; share 0.0 and "" for none.

    A help for the eye: what is near and was kept.
    """
    texts: list[str] = []
    names: list[str] = []
    holds: dict[str, list[int]] = {}
    for benchmark in benchmarks:
        for identity, text in zip(benchmark.ids, benchmark.questions, strict=True):
            for gram in set(grams(units(text), n)):
                holds.setdefault(gram, []).append(len(texts))
            texts.append(text)
            names.append(f"{benchmark.name} {identity}")
    out = []
    for question in questions:
        mine = set(grams(units(question), n))
        shared: dict[int, int] = {}
        for gram in mine:
            for number in holds.get(gram, ()):
                shared[number] = shared.get(number, 0) + 1
        if not shared:
            out.append((0.0, "", ""))
            continue
        best = min(shared, key=lambda number: (-shared[number], number))
        out.append((shared[best] / len(mine), names[best], texts[best]))
    return out


def summary(benchmarks: Iterable[Benchmark]) -> Mapping[str, str]:
    """Name -> number of questions and source, for the data card."""
    return {b.name: f"{len(b.questions)} questions from {b.source}" for b in benchmarks}
