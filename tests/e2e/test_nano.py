"""`make demo`, and what it promises: a model that needs its thinking, and that Wait helps."""

import json
import os
import re

import pytest

from tests.conftest import FULL, ROOT
from tests.e2e.commands import responses, run, samples
from tests.evaluation.browser import (
    assert_nothing_missing_is_written,
    browse,
    needs_chromium,
    text_of,
)

pytestmark = pytest.mark.e2e


def gains(output):
    """Points and standard errors of the demo's two differences."""
    found = re.findall(r"(more thinking|Wait): .*: ([+-][\d.]+) ± ([\d.]+) points", output)
    return {name: (float(gain), float(error)) for name, gain, error in found}


def check(output):
    found = gains(output)
    assert found["more thinking"][0] >= 40, output[-2000:]
    assert found["Wait"][0] >= 10, output[-2000:]
    assert all(0 < error < 6 for _, error in found.values())


def test_the_model_needs_its_thinking_and_wait_helps(demo):
    check((demo / "demo.txt").read_text())


@pytest.mark.full
@pytest.mark.skipif(not FULL, reason="the default seed is tested; all three in make test-full")
@pytest.mark.parametrize("seed", [1, 2])
def test_so_it_is_for_other_training_seeds(tmp_path, seed):
    check(run("s1", "demo", "--seed", str(seed), cwd=tmp_path).stdout)


def test_the_curve_is_drawn_and_rises(demo):
    folder = demo / "outputs" / "nano"
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "curve.html").read_text(encoding="utf-8")
    assert "http://" not in re.sub(r"http://www\.w3\.org/\S+", "", page)
    assert "axolotl train" in page and "lm_eval" in page
    curve = json.loads((folder / "curve.json").read_text())
    points = {p["label"]: p["accuracy"] for task in curve["tasks"] for p in task["points"]}
    capped = [points[name] for name in ("cap2", "cap6", "cap7", "cap8", "cap9", "auto")]
    assert capped == sorted(capped), points


@needs_chromium
def test_the_page_shows_the_numbers_and_a_trace(demo, tmp_path):
    folder = demo / "outputs" / "nano"
    (task,) = json.loads((folder / "curve.json").read_text())["tasks"]
    r, point = next((i, p) for i, p in enumerate(task["points"]) if p["label"] == "auto+2xWait")
    page = folder / "curve.html"
    dom = browse(page, tmp_path, "--dump-dom", address=f"#t=0&q=7&r={r}&s=0")
    assert_nothing_missing_is_written(dom)
    said = re.search(rf'data-point="{r}"[^>]*aria-label="([^"]*)"', dom)[1]
    assert said.startswith(
        f"auto+2xWait: {point['accuracy']:.1f} ± {point['standard_error']:.1f} %"
    )
    row = samples(folder / "eval")[7]
    asked = [a["arg_1"]["thinking_n_ignore"] for a in row["arguments"].values()]
    (response,) = row["resps"][asked.index(2)]
    assert text_of(dom, r'<div class="trace"[^>]*>(.*?)</div>') == response["text"]
    assert dom.count('<mark class="wait"') == 2 + 1  # and its entry in the legend


def test_the_controls_show_that_it_is_honest(demo):
    output = (demo / "demo.txt").read_text()
    foreign, error = map(
        float, re.search(r"another question's thinking: ([\d.]+) ± ([\d.]+) %", output).groups()
    )
    assert abs(foreign - 10) < 4 * error  # chance is one in ten digits
    curve = json.loads((demo / "outputs" / "nano" / "curve.json").read_text())
    points = {p["label"]: p["accuracy"] for task in curve["tasks"] for p in task["points"]}
    wait, neutral = (
        max(a for name, a in points.items() if name.endswith(f"x{word}")) - points["auto"]
        for word in ("Wait", "Hmm")
    )
    assert wait - neutral > (0.1 if max(points.values()) <= 1 else 10), points


def test_every_response_obeys_its_budget(demo):
    for name in ("eval", "eval-control"):
        for row in samples(demo / "outputs" / "nano" / name):
            for i, (r,) in enumerate(row["resps"]):
                asked = row["arguments"][f"gen_args_{i}"]["arg_1"]
                cap, waits = asked["max_tokens_thinking"], asked["thinking_n_ignore"]
                cap = 10_000 if cap == "auto" else int(cap)
                assert r["thinking_tokens"] <= cap
                assert r["waits"] == int(waits) or r["ended"] == "cap"
                assert (r["thinking_tokens"] == cap) == (r["ended"] == "cap")
                assert "<|im_start|>" not in r["thinking"] and "<|im_start|>answer" in r["text"]
                assert r["answer"] is not None


def test_axolotl_lm_eval_runs_the_task_of_the_config(demo):
    run("axolotl", "lm-eval", str(ROOT / "axolotl_configs" / "s1_nano.yaml"), cwd=demo)
    (path,) = (demo / "outputs/nano/model/lm_eval_results").rglob("results_*.json")
    accuracy = json.loads(path.read_text())["results"]["s1_nano"]["exact_match,none"]
    assert accuracy > 0.2


def test_the_newest_lm_eval_gives_the_same_results(demo):
    """lm-eval 0.4.13 in an environment of its own, named by S1_LATEST_PYTHON."""
    python = os.environ.get("S1_LATEST_PYTHON")
    if not python:
        pytest.skip("set S1_LATEST_PYTHON to an environment with lm_eval 0.4.13 (make test does)")
    kwargs = json.dumps({"max_tokens_thinking": [2, 8, "auto"], "thinking_n_ignore": [1, 2]})
    got = {}
    for name, interpreter in (("pinned", None), ("latest", python)):
        out = demo / f"compare-{name}"
        run(
            "lm_eval", "run", "--model", "hf", "--model_args",
            "pretrained=outputs/nano/model,dtype=float32", "--tasks", "s1_nano",
            "--apply_chat_template", "--batch_size", "100", "--gen_kwargs", kwargs,
            "--output_path", str(out), "--log_samples", cwd=demo,
            **({"python": interpreter} if interpreter else {}),
        )  # fmt: skip
        got[name] = responses(out)
    assert len(got["pinned"]) == 300 * 5
    assert got["pinned"] == got["latest"]


def test_a_seed_repeats(tmp_path):
    """Random weights included: axolotl itself seeds nothing before the model is made."""
    weights = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        run(
            "axolotl", "train", str(ROOT / "axolotl_configs" / "s1_nano.yaml"),
            "--launcher", "python", "--max-steps", "5", cwd=tmp_path / name,
        )  # fmt: skip
        weights.append((tmp_path / name / "outputs/nano/model/model.safetensors").read_bytes())
    assert weights[0] == weights[1]
