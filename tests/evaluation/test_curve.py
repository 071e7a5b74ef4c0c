"""From runs to the curve's dictionary, its warnings, and the command that writes it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from s1_plugin.commands.curve import curve as command
from s1_plugin.commands.curve import table
from s1_plugin.evaluation import metrics, noise, samples
from s1_plugin.evaluation.curve import build, sort
from s1_plugin.evaluation.names import short_models
from tests.evaluation import fake_samples

BUDGETS = {"max_tokens_thinking": [32, 256, "auto"], "thinking_n_ignore": [1, 4]}


@pytest.fixture
def runs(tmp_path):
    fake_samples.write(tmp_path / "a", BUDGETS, task="s1_aime24")
    return samples.read([tmp_path / "a"])


def test_points(runs):
    curve = build(runs, title="T", commands=["c"], notes=["n"])
    (task,) = curve["tasks"]
    assert (curve["title"], curve["commands"], curve["notes"]) == ("T", ["c"], ["n"])
    labels = [p["label"] for p in task["points"]]
    assert labels == ["cap32", "cap256", "auto", "auto+1xWait", "auto+4xWait"]
    tokens = [p["thinking_tokens"]["mean"] for p in task["points"]]
    assert tokens == sorted(tokens)
    for point, run in zip(task["points"], sort(runs), strict=True):
        assert point["accuracy"] == round(100 * run.accuracy, 6)
        assert point["standard_error"] == round(
            100 * metrics.binomial_error(run.accuracy, run.n), 6
        )
        assert point["wilson"][0] <= point["accuracy"] <= point["wilson"][1]
        assert (point["n"], point["repeats"]) == (30, 1)
        assert point["provenance"]["versions"]["lm_eval"] == "0.4.11"
    assert [p["series"] for p in task["points"]][2:] == ["cap", "wait:Wait", "wait:Wait"]
    assert task["points"][-1]["waits_used"] == 4
    json.dumps(curve, allow_nan=False)


def test_the_papers_curve_stands_beside_its_benchmark(runs, tmp_path):
    reference = build(runs, title="", commands=[])["tasks"][0]["reference"]
    assert [p["tokens"] for p in reference["points"]][:2] == [500, 1000]
    assert reference["points"][-1] == {
        "tokens": 7320,
        "accuracy": 56.7,
        "standard_error": 9.047201,
        "wilson": [39.197307, 72.622514],
    }
    assert round(reference["scaling"]) == 15 and round(reference["performance"], 1) == 56.7
    fake_samples.write(tmp_path / "b", BUDGETS, questions=3)
    assert (
        build(samples.read([tmp_path / "b"]), title="", commands=[])["tasks"][0]["reference"]
        is None
    )


def test_methods_join_caps_with_each_word(runs, tmp_path):
    fake_samples.write(
        tmp_path / "h",
        {"thinking_n_ignore": [1, 4], "thinking_n_ignore_str": "Hmm"},
        task="s1_aime24",
    )
    both = [*runs, *samples.read([tmp_path / "h"])]
    methods = build(both, title="", commands=[])["tasks"][0]["methods"]
    assert {m["method"]: len(m["runs"]) for m in methods} == {
        "caps and Wait": 5,
        "caps and Hmm": 5,
    }
    trials = [
        metrics.Trial(r.mean_thinking_tokens, 100 * r.accuracy)
        for r in both
        if not r.waits or r.wait_text == "Wait"
    ]
    wait = next(m for m in methods if m["method"] == "caps and Wait")
    assert wait["scaling"] == pytest.approx(metrics.scaling(trials))
    assert wait["control"] == 100
    kinds = {(p.kind) for p in noise.pairs(sort(both))}
    assert kinds == {"overall", "step", "wait", "word"}


def test_questions_say_which_points_solved_them(runs):
    task = build(runs, title="", commands=[])["tasks"][0]
    assert len(task["questions"]) == 30
    for i, point in enumerate(task["points"]):
        column = [q["scores"][i] for q in task["questions"]]
        assert round(100 * sum(column) / 30, 6) == point["accuracy"]


def test_warnings_say_what_is_noise(runs):
    task = build(runs, title="", commands=[])["tasks"][0]
    words = "\n".join(task["warnings"])
    assert "30 questions: one question is 3.3 points" in words
    assert "From the least to the most thinking, more than noise: cap32 → auto+4xWait" in words
    assert "Waits against none, under the same cap, within noise: auto → auto+1xWait" in words
    for c in task["comparisons"]:
        a, b = (task["points"][c[side]]["accuracy"] for side in "ab")
        assert c["difference"] == pytest.approx(b - a, abs=1e-2)


def test_runs_are_compared_on_their_common_questions(runs, tmp_path):
    path = fake_samples.write(tmp_path / "b", BUDGETS, task="s1_aime24", model="n")

    def fail(row):
        row["failed@cap32"] = 1.0
        del row["exact_match@cap32"]

    fake_samples.edit(path, fail, line=7)
    both = sort([*runs, *samples.read([tmp_path / "b"])])
    task = build(both, title="", commands=[])["tasks"][0]
    counts = {c["n"] for c in task["comparisons"] if "cap32" in (both[c["b"]].label,)}
    assert counts == {29}
    words = "\n".join(task["warnings"])
    assert "cap32 ±0 (the same questions solved), on the 29 common questions" in words
    assert "Not compared" not in words
    assert {c["n"] for c in task["comparisons"]} == {29, 30}


def test_runs_without_a_common_question_are_not_compared(runs, tmp_path):
    fake_samples.write(tmp_path / "b", BUDGETS, task="s1_aime24", model="n", text="Why {n}?")
    curve = build([*runs, *samples.read([tmp_path / "b"])], title="", commands=[])
    words = "\n".join(curve["tasks"][0]["warnings"])
    assert "Not compared, as they have no question in common: made/up cap32 and n cap32" in words
    assert {q["scores"][-1] is None for q in curve["tasks"][0]["questions"]} == {True, False}


def test_control_methods_are_methods_of_their_own(runs, tmp_path):
    for gen_kwargs in (
        {"control": "token", "control_limit": [64, 256, 1024]},
        {"control": "token", "control_limit": 64, "max_tokens_thinking": 128},
        {"control": "token", "control_limit": 64, "thinking_n_ignore": 1},
        {"control": "class", "control_limit": ["short", "long"]},
        {"control": "rejection", "control_limit": 600},
    ):
        date = f"2026-01-02T03-04-0{len(list(tmp_path.rglob('*.jsonl')))}.0"
        fake_samples.write(tmp_path / "c", gen_kwargs, task="s1_aime24", date=date)
    # Sampled, as rejection is; what is looked at here does not depend on it.
    both = sort([*runs, *samples.read([tmp_path / "c"])])
    task = build(both, title="", commands=[])["tasks"][0]
    lines = {}
    for p in task["points"]:
        lines.setdefault((p["series"], p["series_name"]), []).append(p["short"])
    assert lines == {
        ("cap", "thinking capped"): ["32", "256", "auto"],
        ("wait:Wait", "“Wait” in the place of the end"): ["1×", "4×"],
        ("control:class", "control=class"): ["class-long", "class-short"],
        ("control:rejection", "control=rejection"): ["rejection600"],
        ("control:token", "control=token"): ["token1024", "token256", "token64"],
        ("control:token+cap", "control=token, thinking capped"): ["token64 128"],
        ("control:token+wait:Wait", "control=token, “Wait” in the place of the end"): [
            "token64 1×"
        ],
    }
    found = {m["method"]: (len(m["runs"]), m["control"]) for m in task["methods"]}
    assert found == {
        "caps and Wait": (5, 100),
        "control=class": (2, None),
        "control=rejection": (1, 100),
        "control=token": (3, pytest.approx(100 / 3)),  # about 500 tokens, whatever is asked for
        "control=token, thinking capped": (1, 0),
        "control=token, “Wait” in the place of the end": (1, 0),
    }
    named = {(k, both[a].label, both[b].label) for k, a, b in noise.pairs(both)}
    assert ("wait", "auto", "auto+1xWait") in named
    assert ("wait", "token64+auto", "token64+auto+1xWait") in named
    assert ("step", "token1024+auto", "token256+auto") in named
    methods = {r.label: r.control.method if r.control else None for r in both}
    assert all(methods[a] == methods[b] for _, a, b in named)
    overall = {(a, b) for kind, a, b in named if kind == "overall"}
    assert overall == {("cap32", "auto+4xWait"), ("token1024+auto", "token64+auto")}
    assert sum(kind == "wait" for kind, *_ in named) == 3


def test_runs_without_counted_thinking_are_named_not_drawn(runs, tmp_path):
    path = fake_samples.write(tmp_path / "u", {}, task="s1_aime24", model="chat")
    fake_samples.edit(path, fake_samples.unforce)
    fake_samples.write(tmp_path / "n", {"max_tokens_thinking": 0}, task="s1_aime24")
    both = [*runs, *samples.read([tmp_path / "u", tmp_path / "n"])]
    task = build(both, title="", commands=[])["tasks"][0]
    points = {(p["model"], p["label"]): p for p in task["points"]}
    assert set(points["chat", "auto"]["thinking_tokens"].values()) == {None}
    assert set(points["chat", "auto"]["answer_tokens"].values()) == {None}
    assert points["made/up", "cap0"]["thinking_tokens"]["mean"] == 0
    assert (
        "Not in the chart and the three metrics: chat auto (nothing was forced and nobody counted "
        "their thinking); made/up cap0 (they have no thinking tokens)."
    ) in task["warnings"]
    assert {m["model"] for m in task["methods"]} == {"made/up"}
    steps = [c for c in task["comparisons"] if c["kind"] in ("overall", "step", "wait")]
    assert all(task["points"][c[end]]["model"] == "made/up" for c in steps for end in "ab")
    (row,) = [line for line in table(both) if "chat" in line]
    assert " – " in row


def test_errors_over_questions_and_over_repeats(tmp_path):
    path = fake_samples.write(tmp_path, {"max_tokens_thinking": 64}, questions=2)
    fake_samples.repeat(path, [[1, 1, 0, 1], [1, 0, 0, 0]], lengths=[10, 64])
    (point,) = build(samples.read([tmp_path]), title="", commands=[])["tasks"][0]["points"]
    assert point["standard_error"] == pytest.approx(100 * 0.25 / 2**0.5, abs=1e-4)
    # accuracies of the repeats: 1, 0.5, 0, 0.5
    assert point["error_over_repeats"] == pytest.approx(100 * (0.5 / 3) ** 0.5 / 2, abs=1e-4)
    assert point["thinking_tokens"]["mean"] == 37
    assert point["thinking_tokens"]["error"] == pytest.approx(27 / 2**0.5, abs=0.01)


def test_a_single_sample_has_no_error_over_repeats(runs):
    task = build(runs, title="", commands=[])["tasks"][0]
    assert {p["error_over_repeats"] for p in task["points"]} == {None}


def test_a_judged_run_says_so(tmp_path):
    path = fake_samples.write(tmp_path, {"max_tokens_thinking": 64}, questions=4)
    fake_samples.edit(path, lambda row: row.update(judged=0.0, judge_failed=0.0))
    fake_samples.edit(path, lambda row: row.update(judged=1.0), line=3)
    task = build(samples.read([tmp_path]), title="", commands=[])["tasks"][0]
    shares = task["points"][0]["shares"]
    assert (shares["judged"], shares["judge_failed"]) == (0.25, 0)
    words = [w for w in task["warnings"] if "judge" in w]
    assert words == ["In some answers a judge decided what they say, not the rules: cap64 25 %."]


@pytest.mark.parametrize("task, told", [("s1_gpqa_diamond", 1), ("s1_aime24", 0)])
def test_gpqas_questions_are_not_for_publication(tmp_path, task, told):
    fake_samples.write(tmp_path, {"max_tokens_thinking": 64}, questions=1, task=task)
    notes = build(samples.read([tmp_path]), title="", commands=[])["notes"]
    assert sum("authors ask not to reveal" in note for note in notes) == told


def test_a_lower_bound_is_a_limit_and_prolongs(tmp_path):
    fake_samples.write(tmp_path, {"max_tokens_thinking": ["auto"]}, questions=4)
    fake_samples.write(
        tmp_path / "m", {"min_tokens_thinking": 1200, "max_tokens_thinking": 2000}, questions=4
    )
    task = build(samples.read([tmp_path]), title="", commands=[])["tasks"][0]
    last = task["points"][-1]
    assert (last["series"], last["at_least"], last["label"]) == (
        "wait:Wait",
        1200,
        "cap2000+min1200",
    )
    assert last["thinking_tokens"]["mean"] >= 1200 and last["waits_used"] > 0
    assert task["methods"][0]["control"] == 100


def test_waits_that_were_not_used_are_mentioned(tmp_path):
    fake_samples.write(tmp_path, {"max_tokens_thinking": 64, "thinking_n_ignore": 2}, questions=4)
    words = "\n".join(
        build(samples.read([tmp_path]), title="", commands=[])["tasks"][0]["warnings"]
    )
    assert "Fewer Waits were put in than asked for" in words and "cap64+2xWait 0.0 of 2" in words


def test_short_names_stay_apart(tmp_path):
    for model in ("x/a/model", "x/b/model", "plain"):
        fake_samples.write(tmp_path / model, {"max_tokens_thinking": 32}, questions=1, model=model)
    names = short_models(samples.read([tmp_path]))
    assert names == {"x/a/model": "a/model", "x/b/model": "b/model", "plain": "plain"}


def test_no_runs_no_curve():
    with pytest.raises(ValueError, match="at least one run"):
        build([], title="", commands=[])


# -- the command --------------------------------------------------------------------------------


def test_command(tmp_path):
    fake_samples.write(tmp_path / "a", BUDGETS)
    fake_samples.write(tmp_path / "b", BUDGETS, skill=0.5)  # a model of the same name
    out = tmp_path / "new" / "folder"
    found = CliRunner().invoke(
        command,
        [
            str(tmp_path / "a"),
            "--compare",
            str(tmp_path / "b"),
            "--out",
            str(out),
            "--title",
            "Mine",
        ],
    )
    assert found.exit_code == 0, found.output
    assert "auto+4xWait" in found.output and "±" in found.output
    assert all(str(out / f"curve.{kind}") in found.output for kind in ("json", "png", "html"))
    curve = json.loads((out / "curve.json").read_text())
    assert curve["title"] == "Mine"
    assert {p["model"] for p in curve["tasks"][0]["points"]} == {
        "made/up · a/made__up",
        "made/up · b/made__up",
    }
    assert any(c["kind"] == "model" for c in curve["tasks"][0]["comparisons"])


def test_command_says_what_is_wrong(tmp_path):
    found = CliRunner().invoke(command, [str(tmp_path), "--out", str(tmp_path / "o")])
    assert found.exit_code == 1 and "no samples_" in found.output
    assert "Traceback" not in found.output and not (tmp_path / "o").exists()
