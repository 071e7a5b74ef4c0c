"""Runs of one model by names that tell them apart."""

from __future__ import annotations

from pathlib import Path

from s1_plugin.evaluation.names import short_models, told_apart
from s1_plugin.evaluation.runs import Answer, Question, Run

QUESTION = Question(0, "q", "What?", "1", "f")
ANSWER = Answer(QUESTION, 0, 1.0, "", "", "1", 5, 1, 0, "natural", "stop", [], [])


def run(folder="", label="auto", model="m", task="t", **generation):
    provenance = {"generation": generation}
    if folder:
        provenance["file"] = str(Path(folder) / "samples.jsonl")
    return Run(task, model, label, "auto", 0, "Wait", [ANSWER], provenance=provenance)


def names(*runs):
    return [r.model for r in told_apart(runs)]


def test_runs_of_one_curve_keep_their_name():
    assert names(run("/a", "cap5"), run("/b", "auto"), run("/a", model="n")) == ["m", "m", "n"]
    assert names() == []


def test_by_their_sampling():
    greedy, sampled = run("/a"), run("/a", temperature=0.7, top_p=0.95)
    assert names(greedy, run("/b", "cap5"), sampled) == [
        "m · greedy",
        "m · greedy",
        "m · temperature 0.7, top_p 0.95",
    ]
    assert names(greedy, run("/a", do_sample=True)) == ["m · greedy", "m · temperature 1"]
    assert names(greedy, run("/a", temperature=0.0, seed=4, label="cap5")) == ["m", "m"]
    assert names(run(task="t"), run(task="u", temperature=1.0)) == ["m", "m · temperature 1"]


def test_rejection_sampling_is_not_greedy():
    assert run(control="rejection", control_limit=5).sampling == "temperature 1"
    assert run(control="rejection", control_limit=5, temperature=0.5).sampling == "temperature 0.5"


def test_by_their_folders():
    assert names(run("/r/one/x"), run("/r/two/x"), run("/r/two/x", "cap5")) == [
        "m · one/x",
        "m · two/x",
        "m · two/x",
    ]


def test_a_relative_and_an_absolute_path_of_one_folder_are_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names(run("a"), run(tmp_path / "a", "cap5"), run("./a/../a", "cap6")) == ["m"] * 3
    assert names(run("a"), run(tmp_path / "a")) == ["m", "m"]
    assert names(run("a"), run(tmp_path / "b")) == ["m · a", "m · b"]


def test_a_run_without_a_file_keeps_its_name():
    assert names(run(), run("/r/one"), run("/r/two")) == ["m", "m · one", "m · two"]
    assert names(run(), run()) == ["m", "m"]
    assert names(run(), run("/r/one")) == ["m", "m · ."]


def test_by_their_seeds():
    seeds = [run("/a", temperature=1.0, seed=n) for n in (1, 2)]
    assert names(*seeds) == ["m · temperature 1 · seed 1", "m · temperature 1 · seed 2"]
    # of different budgets they are one curve
    assert names(seeds[0], run("/a", "cap5", temperature=1.0, seed=2)) == [
        "m · temperature 1",
        "m · temperature 1",
    ]


def test_short_names_keep_what_tells_apart():
    full = "/home/me/outputs/model"
    apart = told_apart([run("/a", model=full), run("/b", model=full), run("/c", model="org/x")])
    assert list(short_models(apart).values()) == [
        "outputs/model · a",
        "outputs/model · b",
        "org/x",
    ]
