import json
from dataclasses import replace

import pytest

from s1_plugin.plan import flops, lengths, memory, paper, roofline
from s1_plugin.plan.hardware import GPUS
from s1_plugin.plan.recipe import Recipe
from s1_plugin.plan.roofline import Constants, forecast

H100 = GPUS["H100"]
#: The paper's sixteen rows over 8 groups of 2 GPUs.
OURS = replace(
    paper.RECIPE,
    context=2,
    micro_batch=2,
    layout="balanced",
    recompute="needed",
    logits="chunks",
    fused=True,
    flat=False,
)


def test_the_fit_reproduces_the_papers_run():
    found = forecast(paper.SHAPE, paper.RECIPE, H100, paper.s1k(), roofline.fit())
    assert found.steps == paper.STEPS
    assert found.minutes == pytest.approx(paper.MINUTES, rel=1e-6)
    assert found.gpu_hours == pytest.approx(6.93, abs=0.01)  # "about 7"
    assert 0.35 < roofline.fit() < 0.5


def test_59k_rows_are_predicted_within_a_quarter():
    found = forecast(paper.SHAPE, paper.RECIPE, H100, paper.s59k(), roofline.fit())
    assert found.gpu_hours == pytest.approx(paper.HOURS_59K, rel=0.25)


def test_a_step_by_hand():
    """Two GPUs, one step: the one with the longer row decides."""
    recipe = Recipe(gpus=2, epochs=1)
    found = forecast(paper.SHAPE, recipe, H100, [1000, 3000], 0.5)
    moved = 64 * (829_440 + 1_816_576) + 36 * 152_064  # bytes per token
    work = [
        flops.of_rows(paper.SHAPE, [n]) / (H100.flops * 0.5)
        + (n * moved + 4 * paper.SHAPE.params()) / (0.9 * H100.bandwidth)
        for n in (1000, 3000)
    ]
    update = (2 * (4 + 8) + 2 * 4) * paper.SHAPE.params() / (0.9 * H100.bandwidth)
    gradients = 8 * paper.SHAPE.params() / 2 / H100.nvlink  # averaged over two
    assert found.seconds == pytest.approx(max(work[1], gradients) + update)
    assert found.waiting == pytest.approx(1 - sum(work) / (2 * max(work[1], gradients)))
    assert found.steps == 1
    assert found.mfu < 0.5


def test_recomputation_as_far_as_memory_asks():
    """A short micro-batch recomputes nothing, a long one nearly all; by hand, one row each."""
    recipe = replace(OURS, gpus=2, shards=(2, 2, 2), micro_batch=1, epochs=1)
    layer = memory.kept_per_token(paper.SHAPE, fused=True, product=False)
    kept = replace(recipe, keep=64 * layer * 1000.0)  # of both GPUs' 2,000 tokens, all layers
    for tokens, layers in ((2000, 64), (4000, 32), (32_768, 3)):
        pace = roofline.Pace.of(paper.SHAPE, kept, H100, 0.4, None)
        assert pace.kept([tokens]) == layers / 64
        all_again, none = (
            roofline.Pace.of(paper.SHAPE, other, H100, 0.4, None).load([tokens])
            for other in (recipe, replace(recipe, recompute="none"))
        )
        product = 6 * 27_648 * layers * tokens / 2 / (0.9 * H100.bandwidth)  # each layer that keeps
        expected = all_again + (none - all_again) * layers / 64 + product
        assert pace.load([tokens]) == pytest.approx(expected)
    assert forecast(paper.SHAPE, kept, H100, [2000, 2000], 0.4).kept == 1


def test_attention_of_the_shard_with_the_most():
    assert roofline.pairs([8], 1) == 64
    assert roofline.pairs([8], 2) == 64 - 16  # the second half sees the first
    assert roofline.pairs([8, 8], 2) == 64  # a row each
    assert roofline.pairs([4, 12], 2) == 144 - 16
    assert sum(roofline.pairs([7, 9], c) * c >= 49 + 81 for c in (2, 3, 4)) == 3


def test_each_micro_batch_gathers_and_copies_the_weights():
    once = replace(OURS, context=4, micro_batch=4)
    twice = replace(once, micro_batch=2, accumulation=2)
    paces = [roofline.Pace.of(paper.SHAPE, r, H100, 0.4, None) for r in (once, twice)]
    assert paces[0].fixed == paces[1].fixed == pytest.approx(12 * 32.76e9 / 3.015e12, rel=1e-3)
    found = [forecast(paper.SHAPE, r, H100, paper.s1k(), 0.4) for r in (once, twice)]
    assert found[1].transfer == pytest.approx(2 * found[0].transfer, rel=0.05)
    assert found[1].seconds > found[0].seconds


def test_links_that_are_slower_than_the_work_are_felt():
    slow = replace(H100, network=10e9)
    short = [100] * 16
    fast, found = (forecast(paper.SHAPE, paper.RECIPE, gpu, short, 0.4) for gpu in (H100, slow))
    moved = 3 * 2 * paper.SHAPE.params() * 15 / 16
    assert found.transfer == pytest.approx(moved / 10e9)
    assert found.seconds > 10 * fast.seconds
    assert found.felt > 0


def test_every_row_is_trained_once_an_epoch():
    rows = list(range(1, 161))
    cost = flops.row_cost(paper.SHAPE)
    for recipe in (OURS, replace(OURS, accumulation=4, layout="rows", micro_batch=1, context=4)):
        seen = [
            n
            for step in roofline.steps(recipe, rows, cost)
            for micro in step
            for group in micro
            for n in group
        ]
        assert sorted(seen) == rows
    groups = next(iter(roofline.steps(OURS, rows, cost)))[0]
    assert len(groups) == 8


def test_rows_of_a_micro_batch_are_padded_to_the_longest():
    recipe = Recipe(gpus=1, micro_batch=2, epochs=1)
    (step,) = roofline.steps(recipe, [10, 30], (1.0, 0.0))
    assert step == [[[30, 30]]]


def test_packing_fills_but_never_overfills():
    recipe = Recipe(gpus=2, layout="packed", sequence_len=100)
    found = list(roofline.steps(recipe, [30] * 20, (1.0, 0.0)))
    bins = [group for step in found for micro in step for group in micro]
    assert all(sum(rows) <= 100 for rows in bins)
    assert sum(map(len, bins)) == 20


def test_balance_and_less_recomputation_save_time_and_wider_lengths_more_of_it():
    """The fit of s1K's lengths is the narrowest: it promises the least."""
    saved = []
    for mean in (4700, 5100, 5500):
        rows = lengths.lognormal(mean, lengths.spread(mean, paper.LIMIT, paper.OVER), paper.ROWS)
        found = forecast(paper.SHAPE, OURS, H100, rows, roofline.fit(tuple(rows)))
        saved.append(paper.MINUTES - found.minutes)
    assert saved == sorted(saved)
    assert saved[0] > 6


def test_large_data_are_extrapolated(monkeypatch):
    rows = lengths.lognormal(2000, 0.4, 3200)
    whole = forecast(paper.SHAPE, paper.RECIPE, H100, rows, 0.4)
    monkeypatch.setattr(roofline, "_LOOK", 100)
    part = forecast(paper.SHAPE, paper.RECIPE, H100, rows, 0.4)
    assert part.steps == whole.steps == 1000
    assert part.seconds == pytest.approx(whole.seconds, rel=0.03)
    assert part.tokens == whole.tokens


@pytest.mark.parametrize("steps", [10, 1000])
def test_max_steps_decide_whatever_the_epochs(steps: int):
    whole = forecast(paper.SHAPE, paper.RECIPE, H100, paper.s1k(), 0.4)
    some = replace(paper.RECIPE, max_steps=steps)
    found = forecast(paper.SHAPE, some, H100, paper.s1k(), 0.4)
    assert found.steps == steps
    assert found.seconds / steps == pytest.approx(whole.seconds / whole.steps)


def test_measured_constants(tmp_path):
    path = tmp_path / "constants.json"
    good = {
        "device": "NVIDIA H100 80GB HBM3",
        "efficiency": {"authors": 0.4, "ours": 0.5},
        "versions": {},
        "command": "python benchmarks/train_step.py",
    }
    path.write_text(json.dumps(good))
    assert Constants.read(path).ratio == pytest.approx(1.25)
    for bad in ("", "[]", "{}", json.dumps({**good, "efficiency": {"authors": 40, "ours": 50}})):
        path.write_text(bad)
        with pytest.raises(ValueError, match=r"constants\.json"):
            Constants.read(path)
    path.write_text(json.dumps({name: good[name] for name in good if name != "command"}))
    with pytest.raises(ValueError, match=r'constants\.json: the field "command" is missing'):
        Constants.read(path)
