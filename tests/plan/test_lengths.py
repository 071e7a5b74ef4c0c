import json
from statistics import NormalDist

import pytest

from s1_plugin.plan import lengths, paper


def test_the_fit_of_s1k_has_what_is_known_of_it():
    rows = paper.s1k()
    assert len(rows) == 1000
    assert sum(rows) / 1000 == pytest.approx(4700, rel=1e-3)
    assert sum(n > 4096 for n in rows) / 1000 == pytest.approx(0.74, abs=0.005)


@pytest.mark.parametrize(("mean", "share"), [(4700, 0.74), (5500, 0.74), (4200, 0.4)])
def test_spread_solves_its_equation(mean: float, share: float):
    sigma = lengths.spread(mean, 4096, share)
    rows = lengths.lognormal(mean, sigma, 20_000)
    assert sigma > 0
    assert sum(n > 4096 for n in rows) / len(rows) == pytest.approx(share, abs=2e-3)
    middle = NormalDist(0, 1).inv_cdf(1 - share)
    assert rows[round((1 - share) * len(rows))] == pytest.approx(4096, rel=1e-3), middle


def test_all_59k_rows():
    rows = paper.s59k()
    assert len(rows) == 59_029
    assert sum(rows) / len(rows) == pytest.approx(3600, rel=0.02)  # table 6: 3.6K


@pytest.mark.parametrize("text", ["5\n7\n\n7\n", json.dumps({"5": 1, "7": 2})])
def test_files(tmp_path, text: str):
    path = tmp_path / "lengths"
    path.write_text(text)
    assert sorted(lengths.of_file(path)) == [5, 7, 7]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5\nsix\n", "line 2: 'six'"),
        ("", "length over 0"),
        ("5\n0\n", "line 2: '0'.*over 0"),
        ("5\n\n-7\n", "line 3: '-7'.*over 0"),
        ('{"5": 1, "0": 2}', "0 is not over 0"),
        ('{"a": 3}', "whole numbers"),
        ('{"5": ', "whole numbers"),
        ('{"5": null}', "whole numbers"),
    ],
)
def test_bad_files_are_named(tmp_path, text: str, said: str):
    path = tmp_path / "lengths.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"lengths\.txt.*" + said):
        lengths.of_file(path)
