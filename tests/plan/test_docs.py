"""The tables of docs/plan.md, computed anew."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from s1_plugin.plan import lengths, paper, recipe, roofline
from s1_plugin.plan.hardware import GPUS, Gpu
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.run import Plan

TEXT = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
S1K = tuple(paper.s1k())


def layout(config: str, gpu: str, gpus: int) -> tuple[Gpu, Recipe]:
    """Of a shipped config."""
    path = Path(__file__).parents[2] / "axolotl_configs" / f"{config}.yaml"
    return GPUS[gpu], recipe.of_config(yaml.safe_load(path.read_text(encoding="utf-8")), gpus)


LAYOUTS = {
    "16 × H100": layout("s1", "H100", 16),
    "8 × H200": layout("s1_8xh200", "H200", 8),
    "8 × H100": layout("s1_8xh100", "H100", 8),
}


def forecast(name: str, rows=S1K, efficiency: float | None = None) -> roofline.Forecast:
    gpu, how = LAYOUTS[name]
    return roofline.forecast(
        paper.SHAPE, how, gpu, rows, roofline.fit() if efficiency is None else efficiency
    )


def cells(title: str) -> list[list[str]]:
    """The rows of the table under the header that starts with ``title``."""
    lines = TEXT.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith(f"| {title} |")]
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def number(cell: str) -> float:
    return float(re.search(r"[\d.,]+\d", cell)[0].replace(",", ""))


def test_forecasts():
    table = cells("run")
    authors = [
        roofline.forecast(paper.SHAPE, paper.RECIPE, GPUS["H100"], rows, roofline.fit())
        for rows in (S1K, paper.s59k())
    ]
    said = [number(row[2]) for row in table]
    ours = [forecast(name) for name in LAYOUTS]
    assert said == pytest.approx(
        [
            authors[0].minutes,
            authors[1].gpu_hours,
            ours[0].minutes,
            ours[1].gpu_hours,
            ours[2].gpu_hours,
        ],
        rel=3e-3,
    )
    for row, (_, how) in zip(table[2:], LAYOUTS.values(), strict=True):
        assert f"{how.keep / 1e9:.0f} GB kept" in row[0]
        # A target that is missed is said to be.
        wanted = re.search(r"at most ([\d.]+)", row[1])
        if wanted:
            assert number(row[2]) <= float(wanted[1]) or row[2].endswith(": missed"), row


def test_one_change_at_a_time():
    table = cells("one change at a time")
    for column, name in ((1, "16 × H100"), (2, "8 × H200")):
        gpu, how = LAYOUTS[name]
        plan = Plan(
            "32B", paper.SHAPE, how, gpu, S1K, "fit", None, None, "", True, None, of_s1k=True
        )
        said = [number(row[column]) for row in table if row[column]]
        chain = [f.minutes if column == 1 else f.gpu_hours for _, f in plan.chain()]
        assert said == pytest.approx(chain, rel=3e-3)


def test_how_much_hangs_on_the_lengths():
    for mean, *said in cells("mean of a row"):
        sigma = lengths.spread(number(mean), paper.LIMIT, paper.OVER)
        rows = tuple(lengths.lognormal(number(mean), sigma, paper.ROWS))
        efficiency = roofline.fit(rows)
        ours = [forecast(name, rows, efficiency) for name in ("16 × H100", "8 × H200")]
        found = [sigma, efficiency, ours[0].minutes, ours[1].gpu_hours]
        assert [number(cell) for cell in said] == pytest.approx(found, rel=0.02)


def test_how_much_hangs_on_the_memory_s_rate(monkeypatch):
    for reach, *said in cells("share of the memory's rate"):
        monkeypatch.setattr(roofline, "REACH", number(reach))
        efficiency = roofline.fit.__wrapped__(S1K)
        ours = [forecast(name, S1K, efficiency) for name in ("16 × H100", "8 × H200")]
        found = [efficiency, ours[0].minutes, ours[1].gpu_hours]
        assert [number(cell) for cell in said] == pytest.approx(found, rel=5e-3)


def test_the_26_minutes_hold_no_evaluation_on_the_training_rows():
    """Six of them, 63 forward passes each: a forward pass is what recomputation adds."""
    without = replace(paper.RECIPE, recompute="none")

    def minutes(efficiency: float) -> tuple[float, float]:
        whole, less = (
            roofline.forecast(paper.SHAPE, how, GPUS["H100"], S1K, efficiency).minutes
            for how in (paper.RECIPE, without)
        )
        return whole + 6 * 63 / paper.STEPS * (whole - less), whole

    low, high = 0.1, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if minutes(middle)[0] > paper.MINUTES else (low, middle)
    found = roofline.forecast(paper.SHAPE, paper.RECIPE, GPUS["H100"], paper.s59k(), low)
    off = found.gpu_hours / paper.HOURS_59K - 1
    assert off == pytest.approx(-0.33, abs=0.005)
    assert "33 % too low" in TEXT
