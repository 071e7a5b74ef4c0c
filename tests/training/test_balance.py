"""Rows over bins: as good as every other way of spreading them, where all can be tried."""

import itertools
import random
import time

import pytest

from s1_plugin.plan import flops, shapes
from s1_plugin.training import balance

LINEAR, QUADRATIC = flops.row_cost(shapes.KNOWN["Qwen2.5-32B"])


def lengths(rows, seed):
    """Skewed like traces: most of some thousand tokens, few of many."""
    draw = random.Random(seed)
    return [min(32_768, int(draw.lognormvariate(8.3, 0.6)) + 100) for _ in range(rows)]


def costs(rows, seed):
    return [balance.cost(n, LINEAR, QUADRATIC) for n in lengths(rows, seed)]


def fullest(values, bins):
    return max(sum(values[row] for row in rows) for rows in bins)


def longest_first(values, bins):
    """The usual greedy way: costliest row into the emptiest bin."""
    loads = [0.0] * bins
    for value in sorted(values, reverse=True):
        loads[loads.index(min(loads))] += value
    return max(loads)


def best(values, bins):
    """The least that the fullest bin can hold: every way is tried, up to the names of bins."""
    found = sum(values)

    def go(row, loads):
        nonlocal found
        if max(loads) >= found:
            return
        if row == len(values):
            found = max(loads)
            return
        for b in range(bins):
            go(row + 1, [load + values[row] * (b == i) for i, load in enumerate(loads)])
            if loads[b] == 0:
                return

    go(0, [0.0] * bins)
    return found


def test_a_row_costs_its_tokens_and_their_pairs():
    assert balance.cost(10, linear=3, quadratic=2) == 30 + 200


@pytest.mark.parametrize("bins", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("rows", [1, 2, 5, 9, 16, 40])
def test_every_row_is_in_one_bin(rows, bins):
    for seed in range(5):
        values = costs(rows, seed)
        found = balance.assign(values, bins)
        assert len(found) == bins
        assert sorted(itertools.chain(*found)) == list(range(rows))
        assert sum(not part for part in found) == max(0, bins - rows)
        loads = [sum(values[row] for row in part) for part in found]
        assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(loads))  # fullest first
        assert all(part == sorted(part) for part in found)
        assert found == balance.assign(values, bins)


@pytest.mark.parametrize(("rows", "bins"), [(10, 2), (9, 3), (10, 4), (10, 8), (9, 5)])
def test_nearly_the_best_of_all_ways(rows, bins):
    for seed in range(30):
        values = costs(rows, seed)
        found = fullest(values, balance.assign(values, bins))
        assert found <= 1.002 * best(values, bins), seed
        assert found >= balance.lower_bound(values, bins) * (1 - 1e-12), seed


@pytest.mark.parametrize("bins", [2, 3, 4, 5, 8, 16])
def test_never_worse_than_longest_first_and_often_better(bins):
    better = 0
    for seed in range(60):
        values = costs(16, seed)
        found, greedy = fullest(values, balance.assign(values, bins)), longest_first(values, bins)
        assert found <= greedy * (1 + 1e-12), seed
        better += found < greedy * 0.999
    assert better > 10 or bins == 16


def test_what_no_two_bins_better_a_search_finds(monkeypatch):
    values = [11, 10, 8, 6, 5, 4, 3, 3]
    assert fullest(values, balance.assign(values, 4)) == best(values, 4) == 13
    monkeypatch.setattr(balance, "_ROWS", 0)
    assert fullest(values, balance.assign(values, 4)) == 14  # in pairs alone


def test_the_bound_of_eight_bins_counts_the_eighth_and_ninth_longest():
    values = [10.0] * 9 + [1.0] * 7
    assert balance.lower_bound(values, 8) == 20
    assert balance.lower_bound([100.0, *values], 8) == 100
    assert balance.lower_bound([1.0] * 17, 8) == 3  # one bin has three
    assert balance.lower_bound([3.0, 3.0, 3.0, 3.0], 2) == 6


def test_an_epoch_takes_no_time():
    steps = [costs(16, seed) for seed in range(63)]
    start = time.process_time()
    for values, bins in itertools.product(steps, (2, 4, 8, 16)):
        balance.assign(values, bins)
    assert time.process_time() - start < 10  # measured: 0.6 s


@pytest.mark.parametrize("wrong", [[1.0, float("nan")], [1.0, -1.0], [1.0, float("inf")]])
def test_a_cost_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="the cost of row 1 is"):
        balance.assign(wrong, 2)
    with pytest.raises(ValueError, match="0 bins"):
        balance.assign([1.0], 0)
