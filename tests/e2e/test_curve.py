"""`s1 curve --run`: one command from a model to its curve."""

import json

import pytest

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


def test_a_model_to_its_curve_and_again_for_nothing(demo, tmp_path):
    command = [
        *("s1", "curve", "--run", demo / "outputs" / "nano" / "model", "--task", "s1_nano"),
        *("--caps", "2,auto", "--waits", "1", "--out", tmp_path / "curve"),
        *("--lm-eval", "--limit 20 --device cpu"),
    ]
    first = run(*command, cwd=tmp_path)
    curve = json.loads((tmp_path / "curve" / "curve.json").read_text())
    assert [p["label"] for p in curve["tasks"][0]["points"]] == ["cap2", "auto", "auto+1xWait"]
    assert curve["tasks"][0]["points"][0]["n"] == 20
    assert "lm_eval run --model hf" in curve["commands"][0] and "lm_eval run" in first.stdout
    again = run(*command, cwd=tmp_path)
    assert "60 of 60 responses were generated before" in again.stderr
