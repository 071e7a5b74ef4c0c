"""Which rows are taken, as the paper takes them (arXiv 2501.19393, algorithm 1), and its ablations.

Pure Python on lengths and domains: the same rows for the same input and seed, on any machine.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Of 1,000 rows the first 700 (direct picks among them) are drawn over all domains alike, the rest
#: by the domains of the benchmarks' questions.
UNIFORM_SHARE = 0.7
MODES = ("s1", "random", "longest", "diverse", "all")
#: Beyond this rank the weight 2^-rank is below one in 10^18.
_RANKS = 64


@dataclass(frozen=True)
class Picked:
    """A row that was taken, and by what: "direct", "uniform", "benchmark", or the mode's name."""

    row: int
    how: str


def rank(rng: random.Random, rows: int) -> int:
    """A rank from 0 to ``rows`` - 1, drawn with weight 2^-rank: of the integers from 1 to
    2^rows - 1, 2^(rows - rank - 1) have rows - rank binary digits."""
    digits = min(rows, _RANKS)
    return digits - rng.randrange(1, 2**digits).bit_length()


def s1(
    lengths: Sequence[int],
    domains: Sequence[str],
    *,
    rows: int,
    seed: int,
    direct: Sequence[int] = (),
    weights: Mapping[str, float] | None = None,
) -> list[Picked]:
    """The paper's selection: direct picks first; then a domain, and in it a row by length.

    Args:
        lengths: thinking tokens of each row.
        domains: of each row.
        rows: how many to take (fewer, if there are fewer).
        direct: rows taken whatever their domain; in order, as far as ``rows`` goes.
        weights: of the domains, after `UNIFORM_SHARE` of the rows; uniform if None, or once no
            domain with a weight has rows left.

    Returns:
        The rows in the order in which they were taken.
    """
    rng = random.Random(f"s1 curate {seed}")
    taken = [Picked(row, "direct") for row in dict.fromkeys(direct)][:rows]
    gone = {picked.row for picked in taken}
    left: dict[str, list[int]] = {}
    # Longest first; among equals the earlier row.
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if row not in gone:
            left.setdefault(domains[row], []).append(row)
    names = sorted(left)
    while len(taken) < rows and names:
        weighted = [(weights or {}).get(name, 0.0) for name in names]
        by_weight = len(taken) >= UNIFORM_SHARE * rows and sum(weighted) > 0
        name = rng.choices(names, weighted)[0] if by_weight else names[rng.randrange(len(names))]
        mine = left[name]
        how = "benchmark" if by_weight else "uniform"
        taken.append(Picked(mine.pop(rank(rng, len(mine))), how))
        if not mine:
            names.remove(name)
    return taken


def ablation(
    mode: str, lengths: Sequence[int], domains: Sequence[str], *, rows: int, seed: int
) -> list[Picked]:
    """The paper's 1K-random, 1K-longest, 1K-diverse (section 5.1), and "all".

    Diverse draws the domain uniformly and the row in it uniformly.

    Raises:
        ValueError: for a mode that is none of `MODES`.
    """
    rng = random.Random(f"s1 curate {mode} {seed}")
    every = list(range(len(domains)))
    if mode == "all":
        return [Picked(row, mode) for row in every]
    if mode == "random":
        return [Picked(row, mode) for row in rng.sample(every, min(rows, len(every)))]
    if mode == "longest":
        ordered = sorted(every, key=lambda row: (-lengths[row], row))
        return [Picked(row, mode) for row in ordered[:rows]]
    if mode != "diverse":
        raise ValueError(f"no selection is called {mode!r}; there are {', '.join(MODES)}")
    left: dict[str, list[int]] = {}
    for row in every:
        left.setdefault(domains[row], []).append(row)
    names = sorted(left)
    taken: list[Picked] = []
    while len(taken) < rows and names:
        name = names[rng.randrange(len(names))]
        mine = left[name]
        taken.append(Picked(mine.pop(rng.randrange(len(mine))), mode))
        if not mine:
            names.remove(name)
    return taken


def by_domain(domains: Sequence[str]) -> dict[str, float]:
    """The share of each domain, as weights."""
    return {name: count / len(domains) for name, count in sorted(Counter(domains).items())}
