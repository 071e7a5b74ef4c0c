"""Why questions brought no trace: counted by status and kind, each with what helps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from s1_plugin.console import printable
from s1_plugin.distill.limits import REMEDIES

#: Kinds that are told apart, for flat memory; kinds that are said; characters of a reason.
_MOST, _SAID, _LONG = 200, 8, 200


class Reasons:
    """Counts of reasons; two that differ in their numbers alone are of one kind."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], str] = {}

    def add(self, status: str, reason: str) -> None:
        # Refusals are in the teacher's own words: each is another.
        kind = (status, "" if status == "refused" else re.sub(r"\d+", "0", reason)[:80])
        if kind not in self._first and len(self._first) >= _MOST:
            kind = (status, "")
        self._counts[kind] += 1
        self._first.setdefault(kind, " ".join(printable(reason).split())[:_LONG])

    def lines(self) -> Iterator[str]:
        """The most frequent kinds, with the first reason of each and the remedy."""
        for kind, count in self._counts.most_common(_SAID):
            yield f"{count:,} × {kind[0]}: {self._first[kind].rstrip('. ')}. {REMEDIES[kind[0]]}"
        rest = self._counts.most_common()[_SAID:]
        if rest:
            count = sum(count for _, count in rest)
            yield f"{count:,} × {len(rest):,} other kinds: their `reason` in the ledger says which"
