from __future__ import annotations

import pytest

from s1_plugin.data import output, report


def test_histogram_covers_all_rows():
    pool, chosen = list(range(0, 1000, 7)), [0, 994]
    bins = report.histogram(pool, chosen)
    assert sum(b[2] for b in bins) == len(pool) and sum(b[3] for b in bins) == 2
    assert len({high - low for low, high, *_ in bins}) == 1
    assert bins[0][0] == 0 and bins[-1][0] <= 994 < bins[-1][1] and bins[-1][3] == 1
    assert report.histogram([], []) == []
    assert report.histogram([0, 0], []) == [(0, 1, 2, 0)]


@pytest.mark.parametrize(
    ("text", "cell"),
    [("a | b\n<b>", "a \\| b &lt;b>"), ("[x](y) `z` $*_", "\\[x\\](y) \\`z\\` $\\*\\_")],
)
def test_cells_of_the_card_hold_text(text, cell):
    assert output._cell(text) == cell


def test_commands_keep_no_folders():
    assert output.shown(["s1", "curate", "/home/me/in put.jsonl", "-o", "out"]) == (
        "s1 curate 'in put.jsonl' -o out"
    )
