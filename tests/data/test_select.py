"""The law of selection, by simulation. Seeds are fixed, so that a test passes or fails for good;
`ALMOST_NEVER` is low, so that a change that draws other numbers by the same law passes, too."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from click.testing import CliRunner

from s1_plugin.commands.curate import curate
from s1_plugin.data import domains, select, stages
from s1_plugin.data.pipeline import Found
from tests.data import traced

ALMOST_NEVER = 1e-6
RANKS = 7  # the last stands for it and all after


def fits(observed, expected):
    """Whether counts follow expected counts; cells that expect fewer than 5 are one."""
    from scipy.stats import chisquare

    assert sum(observed[cell] for cell in observed if not expected.get(cell)) == 0
    rare = [cell for cell in expected if expected[cell] < 5]
    cells = [(observed[cell], expected[cell]) for cell in expected if expected[cell] >= 5]
    if sum(expected[cell] for cell in rare) > 0:
        cells.append((sum(observed[c] for c in rare), sum(expected[c] for c in rare)))
    return len(cells) == 1 or chisquare(*zip(*cells, strict=True)).pvalue > ALMOST_NEVER


def law_of_ranks(rows):
    """Of ``rows`` rows by length: the weights 2^-rank, as probabilities."""
    share = 1 / (2 - 2.0 ** (1 - rows))
    found = Counter()
    for rank in range(rows):
        found[min(rank, RANKS - 1)] += share * 2.0**-rank
    return found


def pool(domains=50, per=40):
    names = [f"d{i % domains:02}" for i in range(domains * per)]
    lengths = [(i * 7919) % 100_003 for i in range(domains * per)]
    return lengths, names


def ordered(lengths, names, without=()):
    """Of each domain its rows, longest first."""
    rows = sorted(set(range(len(names))) - set(without), key=lambda row: (-lengths[row], row))
    left = {}
    for row in rows:
        left.setdefault(names[row], []).append(row)
    return left


def test_ranks_are_drawn_with_weight_two_to_the_minus_rank():
    rng, n = random.Random(3), 20_000
    for rows in (1, 2, 5, 12):
        counts = Counter(select.rank(rng, rows) for _ in range(n))
        total = 2**rows - 1
        assert fits(counts, {r: n * 2 ** (rows - 1 - r) / total for r in range(rows)})
    assert max(select.rank(rng, 10**6) for _ in range(1000)) < 40


def test_every_draw_follows_the_law_given_what_is_left():
    """Ranks and domains of a thousand rows, a hundred draws at a time, in both phases."""
    lengths, names = pool(50, 60)
    lengths = [tokens // 50 for tokens in lengths]  # some are equal: the earlier row is longer
    # Domains that run out, in the one phase and in the other.
    few = {f"e{i:02}": rows for i, rows in enumerate([1, 3, 8, 14, 16, 17, 20, 20])}
    names += [name for name, rows in few.items() for _ in range(rows)]
    lengths += [(i * 31) % 97 for i in range(len(names) - len(lengths))]
    weights = {f"d{i:02}": (i + 1) / 2000 for i in range(50)} | dict.fromkeys(few, 0.04)
    direct, ran_out = list(range(0, 400, 4)), set()
    seen = {what: {} for what in ("ranks", "domains")}
    for seed in range(20):
        taken = select.s1(lengths, names, rows=1000, seed=seed, direct=direct, weights=weights)
        assert [(p.row, p.how) for p in taken[:100]] == [(row, "direct") for row in direct]
        assert [p.how for p in taken[100:]] == ["uniform"] * 600 + ["benchmark"] * 300
        left = ordered(lengths, names, without=direct)
        for at, picked in enumerate(taken[100:], 100):
            shares = {d: 1.0 if at < 700 else weights[d] for d in left}
            whole, name = sum(shares.values()), names[picked.row]
            rank = left[name].index(picked.row)
            for what, got, law in (
                ("ranks", min(rank, RANKS - 1), law_of_ranks(len(left[name]))),
                ("domains", name, {d: share / whole for d, share in shares.items()}),
            ):
                observed, expected = seen[what].setdefault(at // 100, (Counter(), Counter()))
                observed[got] += 1
                expected.update(law)
            left[name].pop(rank)
            if not left[name]:
                del left[name]
                ran_out.add((name, picked.how))
    assert {how for _, how in ran_out} == {"uniform", "benchmark"}
    for what, windows in seen.items():
        assert sorted(windows) == list(range(1, 10))
        for window, (observed, expected) in windows.items():
            assert sum(observed.values()) == 2000
            assert fits(observed, expected), f"{what} of draws {window}00 to {window}99"


def found(lengths, names, direct=()):
    taken = [row in set(direct) for row in range(len(names))]
    columns = {"domain": names, "trace_tokens": lengths, "direct": taken}
    return Found(None, list(range(len(names))), {**columns, "ungraded": [False] * len(names)})


def test_the_stage_follows_the_law():
    lengths, names = pool(20, 12)
    left = ordered(lengths, names)
    direct = left["d19"][:3]
    weights = {"d00": 0.5, "d01": 0.3, "d02": 0.2}
    laws = {"uniform": dict.fromkeys(left, 1 / 20), "benchmark": weights}
    every = found(lengths, names)
    some = found(lengths, names, direct)
    counts = {how: (Counter(), Counter()) for how in laws}
    n = 2000
    for seed in range(n):
        # The first draw, and the first after 70 %: the fourth of four, after three direct picks.
        for rows, given in ((1, every), (4, some)):
            stage = stages.selection("s1", rows, seed, weights=weights)
            outcome = stage.decide(given)
            picked = [(at, how) for at, how in enumerate(outcome.columns["picked"]) if how]
            assert [at for at, reason in enumerate(outcome.reasons) if not reason] == [
                at for at, _ in picked
            ]
            [(row, how)] = [(at, how) for at, how in picked if how != "direct"]
            assert len(picked) == rows and how == ("uniform" if rows == 1 else "benchmark")
            counts[how][0][names[row]] += 1
            counts[how][1][min(left[names[row]].index(row), RANKS - 1)] += 1
    for how, (by_domain, by_rank) in counts.items():
        assert fits(by_domain, {d: n * share for d, share in laws[how].items()}), how
        assert fits(by_rank, {r: n * share for r, share in law_of_ranks(12).items()}), how


def test_the_stage_takes_what_select_takes():
    lengths, names = pool(50, 60)
    weights = {f"d{i:02}": (i + 1) / 1275 for i in range(50)}
    direct = list(range(0, 384))
    outcome = stages.selection("s1", 1000, 5, weights=weights).decide(found(lengths, names, direct))
    taken = select.s1(lengths, names, rows=1000, seed=5, direct=direct, weights=weights)
    how = {picked.row: picked.how for picked in taken}
    assert outcome.columns["picked"] == [how.get(row, "") for row in range(3000)]
    assert [not reason for reason in outcome.reasons] == [row in how for row in range(3000)]


def test_the_command_takes_what_select_takes(data_dir, tmp_path, monkeypatch):
    """From lengths, domains and direct picks as another run of the command writes them."""
    monkeypatch.setenv("S1_EVAL_DATA", str(data_dir))
    traced.write(tmp_path / "in.jsonl", data_dir)

    def run(out, *options):
        arguments = [str(tmp_path / "in.jsonl"), "-o", str(tmp_path / out), *traced.WITHOUT]
        arguments += ["--length-column", "tokens", *options]
        result = CliRunner().invoke(curate, arguments)
        assert result.exit_code == 0, result.output
        lines = (tmp_path / out / "train.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    rows = run("all", "--select", "all")
    mine = run("mine", "--rows", "200", "--seed", "3")
    texts = []
    for name in ("aime24", "math500"):
        lines = (data_dir / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["problem"] for line in lines]
    direct = {row["place"] for row in mine if row["picked"] == "direct"}
    taken = select.s1(
        [row["trace_tokens"] for row in rows],
        [row["domain"] for row in rows],
        rows=200,
        seed=3,
        direct=[at for at, row in enumerate(rows) if row["place"] in direct],
        weights=select.by_domain([domains.classify(text) for text in texts]),
    )
    assert {(rows[p.row]["place"], p.how) for p in taken} == {
        (row["place"], row["picked"]) for row in mine
    }
    assert len(mine) == 200 and len(direct) > 5


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
