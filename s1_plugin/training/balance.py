"""Rows spread over bins by their cost, so that no GPU waits long for the one with the longest row.

Pure: numbers in, numbers out. A row of n tokens costs ``linear * n + quadratic * n * n``: the
matrices work per token, causal attention per pair of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

#: Rows of two bins that are moved at once: 2 x 2^8 sums are a millisecond.
_FREE = 16
#: A gain below this share of a load is rounding, not a gain.
_GAIN = 1e-9
#: The search after it: how near to the bound is enough, how many choices are looked at per try
#: (1 ms), and of how many rows (with more of them, pairs of bins come near enough).
_NEAR, _CHOICES, _ROWS = 1e-3, 4_000, 64


def cost(length: int, linear: float, quadratic: float) -> float:
    """What a row of ``length`` tokens costs. Only ratios matter; `s1_plugin.plan.flops.row_cost`
    gives the two of a model in FLOPs."""
    return (linear + quadratic * length) * length


def lower_bound(costs: Sequence[float], bins: int) -> float:
    """What the fullest of ``bins`` bins holds at least, however the rows are spread: the mean; the
    costliest row; and, as one of the ``k * bins + 1`` costliest rows is the ``k + 1``-th of its
    bin, the sum of the ``k + 1`` cheapest among those."""
    _check(costs, bins)
    falling = sorted(costs, reverse=True)
    found = [math.fsum(falling) / bins]
    for first in range(0, len(falling), bins):  # first = k * bins: that row, and k before it
        k = first // bins
        found.append(math.fsum(falling[first - k : first + 1]))
    return max(found)


def assign(costs: Sequence[float], bins: int) -> list[list[int]]:
    """Spreads rows over ``bins`` bins so that the fullest holds as little as possible.

    Costliest row first into the emptiest bin; then every two bins are split anew, as well as they
    can be, until no two can be split better; where that leaves the fullest far from the bound, a
    search over all bins. The same costs always give the same bins.

    Args:
        costs: one per row, finite, not negative.

    Returns:
        The rows' numbers, rising, bin by bin; fullest bin first. A bin is empty only where there
        are fewer rows than bins.
    """
    _check(costs, bins)
    falling = sorted(range(len(costs)), key=lambda row: (-costs[row], row))
    found: list[list[int]] = [[] for _ in range(bins)]
    loads = [0.0] * bins
    for row in falling:
        target = min(range(bins), key=lambda b: (loads[b], len(found[b]), b))
        found[target].append(row)
        loads[target] += costs[row]
    found = _pairwise(costs, found)
    if bins < len(costs) <= _ROWS:
        found = _pairwise(costs, _search(costs, falling, found))
    return [sorted(rows) for rows in sorted(found, key=lambda rows: (-_load(costs, rows), rows))]


def _load(costs: Sequence[float], rows: Sequence[int]) -> float:
    return math.fsum(costs[row] for row in rows)


def _pairwise(costs: Sequence[float], found: list[list[int]]) -> list[list[int]]:
    """``found`` after splitting two bins anew, fullest first, until that betters no two."""
    found = list(found)
    loads = [_load(costs, rows) for rows in found]
    bins = range(len(found))
    better = True
    while better:
        better = False
        for one, other in combinations(sorted(bins, key=lambda b: (-loads[b], b)), 2):
            pair = _split(costs, found[one], found[other])
            new = [_load(costs, rows) for rows in pair]
            if max(new) < max(loads[one], loads[other]) * (1 - _GAIN):
                found[one], found[other] = pair
                loads[one], loads[other] = new
                better = True
    return found


def _search(
    costs: Sequence[float], falling: Sequence[int], found: list[list[int]]
) -> list[list[int]]:
    """``found``, or better: halves the way between the fullest bin and the bound, again and again,
    asking whether all bins can be kept below it."""
    bins = len(found)
    most, least = max(_load(costs, rows) for rows in found), lower_bound(costs, bins)
    while most > least * (1 + _NEAR):
        target = (most + least) / 2
        better = _filled(costs, falling, bins, target, [_CHOICES])
        if better is None:  # there is none, or none was found in time
            least = target
        else:
            found, most = better, max(_load(costs, rows) for rows in better)
    return found


def _filled(
    costs: Sequence[float], falling: Sequence[int], bins: int, most: float, left: list[int]
) -> list[list[int]] | None:
    """Bins that hold at most ``most`` each, or None. Bin by bin: the costliest row that is left,
    with the others that fill the bin best first; together the bins may leave so much unused and no
    more. ``left`` counts down the choices that may still be looked at."""
    unused = bins * most - _load(costs, falling)
    if unused < 0 or costs[falling[0]] > most:
        return None
    if bins == 1:
        return [list(falling)]
    first, others = falling[0], falling[1:]
    after = [_load(costs, others[i:]) for i in range(len(others) + 1)]
    choices: list[tuple[float, int]] = []

    def choose(i: int, load: float, taken: int) -> None:
        left[0] -= 1
        if left[0] < 0 or load + after[i] < most - unused:
            return
        if i == len(others):
            choices.append((load, taken))
            return
        with_it = load + costs[others[i]]
        if with_it <= most:
            choose(i + 1, with_it, taken | 1 << i)
        choose(i + 1, load, taken)

    choose(0, costs[first], 0)
    for _, taken in sorted(choices, reverse=True):
        if left[0] < 0:
            break
        rest = [row for i, row in enumerate(others) if not taken >> i & 1]
        if len(rest) < bins - 1:  # no bin stays empty
            continue
        filled = _filled(costs, rest, bins - 1, most, left)
        if filled is not None:
            return [[first, *(row for i, row in enumerate(others) if taken >> i & 1)], *filled]
    return None


def _split(costs: Sequence[float], one: list[int], other: list[int]) -> tuple[list[int], list[int]]:
    """The rows of two bins, spread over the two anew as evenly as can be. Of more than `_FREE`
    rows the cheapest are spread: they are what evens out.

    All sums of one half of the rows, rising, and all of the other, falling (Horowitz and Sahni,
    https://doi.org/10.1145/321812.321823): the pair that comes closest to half is found in one
    walk along both.
    """
    rows = sorted([*one, *other], key=lambda row: (costs[row], row))
    free, stay = rows[:_FREE], set(rows[_FREE:])
    kept_one = [row for row in one if row in stay]
    kept_other = [row for row in other if row in stay]
    target = math.fsum(costs[r] for r in rows) / 2 - math.fsum(costs[r] for r in kept_one)
    left, right = _sums(costs, free[::2]), _sums(costs, free[1::2])
    best, chosen = math.inf, (0, 0)
    at = len(right) - 1
    for value, mask in left:
        while at > 0 and value + right[at][0] > target:
            if abs(value + right[at][0] - target) < best:
                best, chosen = abs(value + right[at][0] - target), (mask, right[at][1])
            at -= 1
        if abs(value + right[at][0] - target) < best:
            best, chosen = abs(value + right[at][0] - target), (mask, right[at][1])
    moved = {row for i, row in enumerate(free[::2]) if chosen[0] >> i & 1}
    moved |= {row for i, row in enumerate(free[1::2]) if chosen[1] >> i & 1}
    return (
        [*kept_one, *(row for row in free if row in moved)],
        [*kept_other, *(row for row in free if row not in moved)],
    )


def _sums(costs: Sequence[float], rows: Sequence[int]) -> list[tuple[float, int]]:
    """The cost of every choice of ``rows``, rising, with the choice as bits."""
    found = [(0.0, 0)]
    for i, row in enumerate(rows):
        found += [(value + costs[row], mask | 1 << i) for value, mask in found]
    return sorted(found)


def _check(costs: Sequence[float], bins: int) -> None:
    if bins < 1:
        raise ValueError(f"rows cannot be spread over {bins} bins; at least 1 is needed")
    for row, value in enumerate(costs):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"the cost of row {row} is {value}; it must be finite and >= 0")
