"""The numbers, against hand-worked values and the paper's own table."""

from __future__ import annotations

import json
import random
from itertools import combinations
from math import comb, isclose, sqrt

import pytest
from click.testing import CliRunner

from s1_plugin.commands.metrics import metrics as command
from s1_plugin.evaluation import metrics
from s1_plugin.evaluation.metrics import Trial, exact_accuracy
from s1_plugin.evaluation.published import published
from s1_plugin.evaluation.repeats import maj_at_k, pass_at_k

# arXiv 2501.19393, AIME24: asked-for tokens, average thinking tokens, accuracy as printed.
TCC = [(1024, 7939, 26.7), (2048, 7158, 30.0), (4096, 8263, 33.3), (8192, 7108, 33.3)]
TCC += [(16384, 7500, 40.0)]
TCC_BF = [(1024, 1024, 3.3), (2048, 2048, 30.0), (4096, 4031, 33.3), (8192, 5664, 33.3)]
TCC_BF += [(16384, 6330, 40.0)]
BF = [(500, 500, 0.0), (1000, 1000, 13.3), (2000, 2000, 30.0), (None, 3933, 43.3)]
BF += [(None, 5300, 50.0), (None, 6657, 53.3), (None, 7320, 56.7)]


def trials(rows, questions=None):
    return [
        Trial(t, exact_accuracy(a, questions) if questions else a, high=high) for high, t, a in rows
    ]


# -- the paper's three --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows, control, scaling, performance",
    [(BF, 100, 15, 56.7), (TCC, 40, -24, 40.0), (TCC_BF, 100, 13, 40.0)],
    ids=["budget forcing", "TCC", "TCC + budget forcing"],
)
def test_the_papers_table_comes_out(rows, control, scaling, performance):
    found = metrics.paper_metrics(trials(rows, questions=30))
    assert round(found["control"]) == control
    assert round(found["scaling"]) == scaling
    assert round(found["performance"], 1) == performance


def test_which_reading_gives_the_papers_scaling():
    # log2 of the tokens, and 8/30 rather than 26.7: each is needed for one of the three figures.
    assert metrics.scaling(trials(TCC)) == pytest.approx(-23.445, abs=1e-3)
    assert metrics.scaling(trials(TCC, 30)) == pytest.approx(-23.767, abs=1e-3)
    assert metrics.scaling(trials(BF)) == pytest.approx(14.848, abs=1e-3)
    assert metrics.scaling(trials(TCC_BF)) == pytest.approx(13.183, abs=1e-3)
    linear = [(b[2] - a[2]) / (b[1] - a[1]) for a, b in combinations(BF, 2)]
    assert abs(sum(linear) / len(linear)) < 1  # nowhere near 15, in any unit the paper names


def test_the_published_curve_is_the_tabulated_one():
    curve = published("s1_aime24")
    assert curve is not None and curve.questions == 30
    assert list(curve.points) == [(t, a) for _, t, a in BF]
    assert published("s1_aime24_agg64") is curve
    assert published("s1_aime25") is None and published("s1_nano") is None


def test_scaling_by_hand():
    assert metrics.scaling([Trial(100, 10), Trial(200, 16), Trial(400, 20)]) == pytest.approx(
        (6 + 4 + 10 / 2) / 3
    )
    # equal tokens give no slope; a single run has none at all
    assert metrics.scaling([Trial(100, 10), Trial(100, 90), Trial(200, 30)]) == pytest.approx(-20)
    assert metrics.scaling([Trial(100, 10)]) is None
    assert metrics.scaling([Trial(100, 10), Trial(100, 20)]) is None
    with pytest.raises(ValueError, match="more than 0 thinking tokens"):
        metrics.scaling([Trial(0, 0), Trial(1, 1)])


def test_control_counts_both_limits_and_their_edges():
    runs = [Trial(10, 0, 10, 20), Trial(20, 0, 10, 20), Trial(9, 0, 10, 20), Trial(21, 0, 10, 20)]
    assert metrics.control(runs) == 50
    assert metrics.control([Trial(5, 0), Trial(5, 0, high=4), Trial(5, 0, low=6)]) == (
        pytest.approx(100 / 3)
    )
    with pytest.raises(ValueError, match="at least one run"):
        metrics.control([])


# -- errors and intervals -----------------------------------------------------------------------


def test_binomial_error():
    assert metrics.binomial_error(0.5, 30) == pytest.approx(sqrt(0.25 / 30))
    scores = [1.0] * 17 + [0.0] * 13
    assert metrics.clustered_error(scores) == pytest.approx(metrics.binomial_error(17 / 30, 30))


@pytest.mark.parametrize(
    "right, n, low, high",
    # scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
    [(17, 30, 0.3920, 0.7262), (0, 30, 0.0, 0.1135), (30, 30, 0.8865, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_wilson(right, n, low, high):
    found = metrics.wilson(right / n, n)
    assert found == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_wilson_covers():
    n = 30
    intervals = [metrics.wilson(k / n, n) for k in range(n + 1)]

    def coverage(p):
        chances = (comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1))
        return sum(c for c, (low, high) in zip(chances, intervals, strict=True) if low <= p <= high)

    exact = [coverage(i / 200) for i in range(1, 200)]
    assert 0.945 < sum(exact) / len(exact) < 0.96
    assert min(exact) > 0.83  # Wilson's known dips near 0 and 1


# -- paired comparison --------------------------------------------------------------------------


def test_paired_difference():
    assert metrics.paired_difference([0, 0, 1, 1], [1, 0, 1, 1]) == (
        0.25,
        pytest.approx(0.2165, abs=1e-4),
    )
    with pytest.raises(ValueError, match="same questions"):
        metrics.paired_difference([0.0], [0.0, 1.0])


def test_two_questions_of_thirty_are_noise():
    a = [1.0] * 15 + [0.0] * 15
    b = [1.0] * 17 + [0.0] * 13
    assert metrics.paired_bootstrap(a, b).within_noise


def test_a_large_difference_is_not():
    found = metrics.paired_bootstrap([0.0] * 30, [1.0] * 15 + [0.0] * 15)
    assert not found.within_noise
    assert 0.3 < found.low < 0.5 < found.high < 0.7
    assert (found.better, found.worse, found.n) == (15, 0, 30)


def test_the_bootstrap_is_seeded_and_agrees_with_the_analytic_error():
    rng = random.Random(3)
    a = [float(rng.random() < 0.5) for _ in range(300)]
    b = [float(rng.random() < 0.6) for _ in range(300)]
    one, two = metrics.paired_bootstrap(a, b, seed=1), metrics.paired_bootstrap(a, b, seed=1)
    assert one == two
    assert one != metrics.paired_bootstrap(a, b, seed=2)
    assert isclose((one.high - one.low) / (2 * metrics.Z95), one.error, rel_tol=0.05)


def test_few_questions_are_never_sure():
    # Three of three changed: the bootstrap alone would be certain.
    found = metrics.paired_bootstrap([0.0] * 3, [1.0] * 3)
    assert found.low == found.high == 1.0
    assert found.within_noise


@pytest.mark.parametrize(
    "better, worse, p", [(0, 0, 1), (5, 0, 0.0625), (6, 0, 0.03125), (3, 3, 1)]
)
def test_sign_test(better, worse, p):
    assert metrics.sign_test(better, worse) == p == metrics.sign_test(worse, better)


# -- repeats and tokens -------------------------------------------------------------------------


@pytest.mark.parametrize("n, c, k", [(5, 2, 1), (5, 2, 3), (6, 1, 6), (4, 0, 2), (4, 4, 3)])
def test_pass_at_k_is_the_share_of_subsets(n, c, k):
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_majority():
    answers = ["7", "7", "8", "9", None]
    correct = [True, True, False, False, False]
    assert maj_at_k(answers, correct, 5) == 1.0
    assert maj_at_k(answers, correct, 1) == pytest.approx(0.4)
    assert maj_at_k(["7", "8"], [True, False], 2) == 0.5  # a tie
    assert maj_at_k([None, None], [False, False], 2) == 0.0
    exact = 0.0
    subsets = list(combinations(zip(answers, correct, strict=True), 3))
    for subset in subsets:
        exact += maj_at_k([a for a, _ in subset], [c for _, c in subset], 3) / len(subsets)
    assert maj_at_k(answers, correct, 3, draws=4000) == pytest.approx(exact, abs=0.03)
    assert maj_at_k(answers, correct, 3) == maj_at_k(answers, correct, 3)


@pytest.mark.parametrize("bad", [(3, 1, 0), (3, 1, 4), (3, 4, 1)])
def test_impossible_k(bad):
    with pytest.raises(ValueError, match="needs"):
        pass_at_k(*bad)


def test_token_statistics():
    found = metrics.token_statistics([[1], [2], [3], [4], [100]])
    assert (found.mean, found.median, found.max) == (22, 3, 100)
    assert found.p95 == pytest.approx(80.8)  # numpy.percentile([1, 2, 3, 4, 100], 95)
    assert metrics.token_statistics([[7]]).p95 == 7


def test_samples_of_one_question_are_not_independent():
    once = metrics.token_statistics([[100], [300]])
    often = metrics.token_statistics([[100] * 50, [300] * 50])
    assert (often.mean, often.error) == (once.mean, once.error)
    assert once.error == pytest.approx(100 / sqrt(2))


# -- the command --------------------------------------------------------------------------------


def invoke(tmp_path, text, *options):
    file = tmp_path / "table.jsonl"
    file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(command, [str(file), *options])


def table(**methods):
    rows = [
        {"method": name, "tokens": t, "accuracy": a, **({"max": high} if high else {})}
        for name, rows in methods.items()
        for high, t, a in rows
    ]
    return "\n".join(map(json.dumps, rows)) + "\n\n"


def test_command_gives_the_papers_figures_for_the_printed_tables(tmp_path):
    given = invoke(tmp_path, table(BF=BF, TCC=TCC, TCC_BF=TCC_BF), "--json")
    found = json.loads(given.stdout)
    rounded = {
        name: (round(r["control"]), round(r["scaling"]), r["performance"])
        for name, r in found.items()
    }
    assert rounded == {"BF": (100, 15, 56.7), "TCC": (40, -24, 40.0), "TCC_BF": (100, 13, 40.0)}
    assert "shares of 30 problems" in given.stderr
    plain = invoke(tmp_path, table(TCC=TCC))
    assert plain.exit_code == 0 and "40 %" in plain.output and "-23.8" in plain.output


def test_other_accuracies_are_taken_as_they_are_printed(tmp_path):
    rows = [*TCC, (None, 9000, 41.0)]
    given = invoke(tmp_path, table(other=rows), "--json")
    assert json.loads(given.stdout)["other"]["scaling"] == metrics.scaling(trials(rows))
    assert "shares of 30" not in given.stderr
    # nothing was lost in printing these
    assert (
        "shares of 30" not in invoke(tmp_path, table(a=[(None, 1, 30.0), (None, 2, 50.0)])).stderr
    )


def test_thirtieths_are_found_method_by_method(tmp_path):
    math500 = [(None, 500, 80.2), (None, 1000, 93.0)]
    given = invoke(tmp_path, table(TCC=TCC, MATH500=math500, BF=BF), "--json")
    found = json.loads(given.stdout)
    assert round(found["TCC"]["scaling"]) == -24
    assert found["MATH500"]["scaling"] == metrics.scaling(trials(math500))
    assert "read as shares of 30 problems: TCC, BF\n" in given.stderr


@pytest.mark.parametrize(
    "row, words",
    [
        ("{", ["line 2", "not JSON"]),
        ("[1]", ["line 2", "not an object"]),
        ('{"tokens": 1, "accuracy": 2}', ["line 2", "`method`"]),
        ('{"method": "a", "accuracy": 2}', ["line 2", "`tokens`", "is missing"]),
        ('{"method": "a", "tokens": "9", "accuracy": 2}', ["line 2", "`tokens`", "'9'"]),
        ('{"method": "a", "tokens": 0, "accuracy": 2}', ["line 2", "`tokens`", "leave runs"]),
        ('{"method": "a", "tokens": 9, "accuracy": 200}', ["line 2", "`accuracy`", "0 to 100"]),
        ('{"method": "a", "tokens": NaN, "accuracy": 2}', ["line 2", "`tokens`"]),
        ('{"method": "a", "tokens": 9, "accuracy": 2, "max": true}', ["line 2", "`max`"]),
    ],
)
def test_bad_rows_are_named(tmp_path, row, words):
    found = invoke(tmp_path, '{"method": "a", "tokens": 1, "accuracy": 2}\n' + row + "\n")
    assert found.exit_code == 1
    assert all(word in found.output for word in ["table.jsonl", *words]), found.output
    assert "Traceback" not in found.output


def test_empty_table_and_unused_fields(tmp_path):
    assert "no rows" in invoke(tmp_path, "\n").output
    found = invoke(tmp_path, '{"method": "a", "tokens": 1, "accuracy": 2, "note": "x"}\n')
    assert found.exit_code == 0 and "not used: note" in found.output
