"""The law of selection, by simulation at fixed seeds: a p-value that fails is a change."""

from __future__ import annotations

from collections import Counter

import pytest

from s1_plugin.data import select


def chi_square(observed, expected):
    from scipy.stats import chisquare

    return chisquare(observed, expected).pvalue


def pool(domains=50, per=40):
    names = [f"d{i % domains:02}" for i in range(domains * per)]
    lengths = [(i * 7919) % 100_003 for i in range(domains * per)]
    return lengths, names


def test_ranks_are_drawn_with_weight_two_to_the_minus_rank():
    import random

    rng, n = random.Random(3), 60_000
    for rows in (1, 2, 5, 12):
        counts = Counter(select.rank(rng, rows) for _ in range(n))
        assert set(counts) <= set(range(rows))
        if rows > 1:
            total = 2**rows - 1
            expected = [n * 2 ** (rows - 1 - r) / total for r in range(rows)]
            assert chi_square([counts[r] for r in range(rows)], expected) > 0.01
    assert max(select.rank(rng, 10**6) for _ in range(1000)) < 40


def test_first_draws_follow_the_law_over_domains_and_ranks():
    lengths, names = pool(50, 12)
    by_length = {
        name: sorted((i for i in range(len(names)) if names[i] == name), key=lambda i: -lengths[i])
        for name in set(names)
    }
    weights = {"d00": 0.5, "d01": 0.3, "d02": 0.2}
    direct = by_length["d49"][:3]
    uniform, weighted, ranks = Counter(), Counter(), Counter()
    n = 10_000
    for seed in range(n):
        first = select.s1(lengths, names, rows=1, seed=seed)[0]
        uniform[names[first.row]] += 1
        ranks[min(by_length[names[first.row]].index(first.row), 6)] += 1
        last = select.s1(lengths, names, rows=4, seed=seed, direct=direct, weights=weights)[3]
        assert last.how == "benchmark"
        weighted[names[last.row]] += 1
    assert chi_square([uniform[f"d{i:02}"] for i in range(50)], [n / 50] * 50) > 0.01
    total = 1 - 2.0**-12
    expected = [n * 2.0 ** -(r + 1) / total for r in range(6)]
    assert chi_square([ranks[r] for r in range(7)], [*expected, n - sum(expected)]) > 0.01
    assert set(weighted) == set(weights)
    assert chi_square([weighted[d] for d in weights], [n * w for w in weights.values()]) > 0.01


def test_a_thousand_rows_of_a_pool_follow_the_law():
    lengths, names = pool(50, 400)
    weights = {f"d{i:02}": (i + 1) / 1275 for i in range(50)}
    direct = list(range(0, 384))
    uniform, weighted = Counter(), Counter()
    for seed in range(20):
        taken = select.s1(lengths, names, rows=1000, seed=seed, direct=direct, weights=weights)
        assert [p.row for p in taken[:384]] == direct
        assert len({p.row for p in taken}) == 1000
        assert [p.how for p in taken[384:]] == ["uniform"] * 316 + ["benchmark"] * 300
        uniform.update(names[p.row] for p in taken[384:700])
        weighted.update(names[p.row] for p in taken[700:])
    assert chi_square([uniform[f"d{i:02}"] for i in range(50)], [20 * 316 / 50] * 50) > 0.01
    expected = [20 * 300 * w for w in weights.values()]
    assert chi_square([weighted[d] for d in weights], expected) > 0.01


def test_a_weight_of_a_domain_that_is_empty_does_not_stop_it():
    taken = select.s1([1, 2, 3], ["a", "a", "b"], rows=3, seed=0, weights={"c": 1.0})
    assert {p.row for p in taken} == {0, 1, 2}


def test_seeds():
    lengths, names = pool(5, 40)
    one = select.s1(lengths, names, rows=50, seed=1)
    assert one == select.s1(lengths, names, rows=50, seed=1)
    assert one != select.s1(lengths, names, rows=50, seed=2)


@pytest.mark.parametrize("mode", ["random", "longest", "diverse", "all"])
def test_ablations(mode):
    lengths, names = pool(5, 40)
    taken = select.ablation(mode, lengths, names, rows=50, seed=0)
    assert len({p.row for p in taken}) == (200 if mode == "all" else 50)
    if mode == "longest":
        assert min(lengths[p.row] for p in taken) >= sorted(lengths)[-50]
    if mode == "diverse":
        uneven = ["rare"] * 10 + ["often"] * 990
        got = Counter(
            uneven[p.row] for p in select.ablation(mode, [0] * 1000, uneven, rows=16, seed=0)
        )
        assert got["rare"] >= 4  # uniformly over rows it would be none or one


def test_an_unknown_mode_names_the_known():
    with pytest.raises(ValueError, match="random, longest"):
        select.ablation("best", [1], ["a"], rows=1, seed=0)
