"""Reading sample folders: what is in a run, and what is said when something is wrong."""

from __future__ import annotations

import json

import pytest

from s1_plugin.evaluation import samples
from s1_plugin.evaluation.samples import SamplesError
from tests.evaluation import fake_samples
from tests.evaluation.fake_samples import edit

BUDGETS = {"max_tokens_thinking": [64, "auto"], "thinking_n_ignore": [2]}


def test_several_budgets_become_runs(tmp_path):
    fake_samples.write(tmp_path, BUDGETS, questions=5)
    runs = samples.read([tmp_path])
    assert [r.label for r in runs] == ["cap64", "auto", "auto+2xWait"]
    assert [(r.cap, r.waits) for r in runs] == [(64, 0), ("auto", 0), ("auto", 2)]
    assert all((r.n, r.repeats, r.model, r.task) == (5, 1, "made/up", "s1_made_up") for r in runs)
    capped, plain, waits = runs
    assert capped.mean_thinking_tokens == 64 and capped.shares["capped"] == 1
    assert plain.shares["forced"] == 0 and waits.shares["waited"] == 1
    assert all(a.waits == 2 and a.ended == "natural" for a in waits.answers)
    assert [q.name for q in plain.questions] == [f"made-up-{n}" for n in range(5)]
    assert plain.questions[3].target == "9" and "3 squared" in plain.questions[3].text
    assert capped.paired(waits) == (capped.correct, waits.correct)
    assert all(r.notes == [] for r in runs)


def test_one_budget_has_plain_metric_names(tmp_path):
    path = fake_samples.write(tmp_path, {"max_tokens_thinking": 100}, questions=3)
    assert "exact_match" in json.loads(path.read_text().splitlines()[0])
    (run,) = samples.read([path])  # a file does as well as a folder
    assert run.label == "cap100" and len(run.correct) == 3


def test_provenance(tmp_path):
    fake_samples.write(tmp_path, BUDGETS, questions=2)
    where = samples.read([tmp_path])[0].provenance
    assert where["versions"] == {
        "lm_eval": "0.4.11",
        "transformers": "5.0.0",
        "torch": "2.9.0+cpu",
        "python": "3.11.7",
        "s1_plugin": "0.1.0",
    }
    assert where["problems_from"] == "made/up-data at 0123" and where["problems_sha256"] == "ab12"
    assert where["judge_model"] == "a/judge"
    assert where["seeds"] == {"random_seed": 0, "torch_seed": 1234}
    assert where["date"] == "2026-01-02T03:04:05+00:00"
    assert where["generation"] == {"max_tokens_thinking": 64, "thinking_n_ignore": 0}
    assert where["command"].startswith("lm_eval --model hf --model_args pretrained=made/up,")
    assert """--gen_kwargs '{"max_tokens_thinking": [64, "auto"]""" in where["command"]
    assert where["seconds"] == 12.3 and where["device"] == "CPU"


def test_without_results_a_note_says_so(tmp_path):
    fake_samples.write(tmp_path, BUDGETS, questions=2, results=False)
    run = samples.read([tmp_path])[0]
    assert run.model == "made__up"
    assert any("versions, seeds and date unknown" in note for note in run.notes)


def test_the_newer_of_two_evaluations_counts_and_a_note_names_the_older(tmp_path):
    old = fake_samples.write(tmp_path, BUDGETS, questions=2)
    new = fake_samples.write(
        tmp_path, {"max_tokens_thinking": [64, 128]}, questions=3, date="2026-02-01T00-00-00.0"
    )
    runs = {r.label: r for r in samples.read([tmp_path])}
    assert set(runs) == {"cap64", "cap128", "auto", "auto+2xWait"}
    assert (runs["cap64"].n, runs["auto"].n) == (3, 2)
    assert runs["cap64"].provenance["file"] == str(new)
    (note,) = runs["cap64"].notes
    assert f"{old} (2 questions) is left out for {new} (3 questions)" in note
    assert "settings differ" not in runs["cap64"].notes[0]
    assert runs["auto"].notes == []


def test_a_newer_smoke_run_does_not_replace_a_whole_one(tmp_path):
    whole = fake_samples.write(tmp_path, BUDGETS, questions=5)
    dates = ("2026-02-01T00-00-00.0", "2026-03-01T00-00-00.0")
    smoke = [fake_samples.write(tmp_path, BUDGETS, questions=2, date=date) for date in dates]
    runs = samples.read([tmp_path])
    assert [r.n for r in runs] == [5, 5, 5]
    for run in runs:
        assert run.provenance["file"] == str(whole)
        assert len(run.notes) == 2
        for note, file in zip(run.notes, smoke, strict=True):
            assert f"{file} (2 questions) is left out for {whole} (5 questions)" in note
    again = samples.read([smoke[1], tmp_path, whole.parent / ".." / whole.parent.name])
    assert [(r.n, len(r.notes)) for r in again] == [(5, 2)] * 3


def test_runs_that_are_sampled_otherwise_replace_nothing(tmp_path):
    ways = [
        {},
        {"temperature": 0.7},
        {"temperature": 0.7, "seed": 3},
        {"temperature": 1, "seed": 3},
    ]
    for day, way in enumerate(ways, 1):
        date = f"2026-02-0{day}T00-00-00.0"
        fake_samples.write(tmp_path, {"max_tokens_thinking": 64, **way}, questions=2, date=date)
    runs = samples.read([tmp_path])
    assert [(r.sampling, r.seed) for r in runs] == [
        ("greedy", ""),
        ("temperature 0.7", "seed 0"),
        ("temperature 0.7", "seed 3"),
        ("temperature 1", "seed 3"),
    ]
    assert all(r.notes == [] for r in runs)


def test_the_hub_and_a_local_file_ask_the_same_questions(tmp_path):
    hub = fake_samples.write(tmp_path / "hub", {"max_tokens_thinking": 64}, questions=3)
    local = fake_samples.write(tmp_path / "local", {"max_tokens_thinking": 64}, questions=3)
    edit(hub, lambda row: row.update(doc_hash="other", doc={**row["doc"], "solution": "Long."}))
    edit(local, lambda row: row.update(target="0"), line=3)
    one, two = ([q.fingerprint for q in r.questions] for r in samples.read([hub, local]))
    assert one[:2] == two[:2] and one[2] != two[2] and len(set(one)) == 3


@pytest.mark.parametrize("control", [("token", 64), ("class", "short"), ("rejection", 64)])
def test_what_a_model_is_told_of_its_thinking_is_not_the_question(tmp_path, control):
    told = dict(zip(("control", "control_limit"), control, strict=True))
    for name, gen_kwargs in (("told", told), ("plain", {})):
        fake_samples.write(tmp_path / name, gen_kwargs, questions=2)
    one, two = samples.read([tmp_path / "told", tmp_path / "plain"])
    assert one.questions == two.questions and one.control and not two.control


def test_what_was_logged_of_an_answer_counts(tmp_path):
    path = fake_samples.write(tmp_path, BUDGETS, questions=4)
    before = samples.read([tmp_path])[0].shares
    assert (before["unanswered"], before["out_of_context"]) == (0, 0)
    assert "judged" not in before
    edit(path, lambda row: row.update({"unanswered@cap64": 0.0, "judged@cap64": 0.0}))
    logged = {"unanswered@cap64": 1.0, "out_of_context@cap64": 1.0, "judged@cap64": 1.0}
    edit(path, lambda row: row.update({**logged, "ungraded@auto": 1.0}), line=2)
    capped, plain, _ = (r.shares for r in samples.read([tmp_path]))
    assert (capped["unanswered"], capped["out_of_context"], capped["judged"]) == (0.25, 0.25, 0.25)
    assert "ungraded" not in capped and plain["ungraded"] == 1


def test_a_note_says_what_the_older_evaluation_had_set_otherwise(tmp_path):
    fake_samples.write(tmp_path, {"max_tokens_thinking": 64, "max_gen_toks": 300}, questions=1)
    fake_samples.write(
        tmp_path,
        {"max_tokens_thinking": 64, "max_gen_toks": 400},
        questions=1,
        date="2026-02-01T00-00-00.0",
    )
    (run,) = samples.read([tmp_path])
    assert "settings differ: max_gen_toks 300, here 400" in run.notes[0]


def test_several_wait_strings(tmp_path):
    path = fake_samples.write(tmp_path, {"thinking_n_ignore": 2}, questions=1)
    edit(
        path,
        lambda row: row["arguments"]["gen_args_0"]["arg_1"].update(
            thinking_n_ignore_str=["Wait", "Hmm"]
        ),
    )
    (run,) = samples.read([path])
    assert (run.label, run.wait_text, run.series) == (
        "auto+2xWait|Hmm",
        "Wait|Hmm",
        "wait:Wait|Hmm",
    )


def test_several_folders_and_a_choice_of_tasks(tmp_path):
    fake_samples.write(tmp_path / "a", BUDGETS, questions=2)
    fake_samples.write(tmp_path / "b", BUDGETS, questions=2, task="s1_other", model="n")
    assert len(samples.read([tmp_path / "a", tmp_path / "b"])) == 6
    assert {r.task for r in samples.read([tmp_path], tasks=["s1_other"])} == {"s1_other"}
    assert len(samples.read([tmp_path / "a", tmp_path / "a"])) == 3  # the same folder twice


def test_lists_of_grades_are_repeats(tmp_path):
    path = fake_samples.write(tmp_path, {"max_tokens_thinking": 64}, questions=2)
    for line, grades in ((1, [1, 0, 0, 1]), (2, [0, 0, 0, 0])):
        edit(path, lambda row, g=grades: row.update(correct=g, resps=[row["resps"][0] * 4]), line)
    (run,) = samples.read([path])
    assert (run.n, run.repeats, run.correct, run.accuracy) == (2, 4, [0.5, 0.0], 0.25)
    assert [a.repeat for a in run.answers] == [0, 1, 2, 3] * 2
    assert run.standard_error == pytest.approx(0.125 * 2**0.5)
    low, high = run.interval
    assert 0 <= low < 0.25 < high <= 1


def test_a_repeat_that_failed_for_good_has_null_for_its_grade(tmp_path):
    path = fake_samples.write(tmp_path, {"max_tokens_thinking": 64}, questions=1)
    edit(path, lambda row: row.update(correct=[1, None, 0], resps=[row["resps"][0] * 3]))
    (run,) = samples.read([path])
    assert [answer.repeat for answer in run.answers] == [0, 2] and run.correct == [0.5]
    assert any("1 requests failed for good" in note for note in run.notes)


def test_ungraded_repeats_are_counted_in_a_note(tmp_path):
    path = fake_samples.write(tmp_path, {"max_tokens_thinking": 64}, questions=1)
    edit(path, lambda row: row.update(resps=[row["resps"][0] * 3]))
    (run,) = samples.read([path])
    assert len(run.answers) == 1
    assert any("2 further samples" in note for note in run.notes)


def test_requests_that_failed_for_good_are_counted_not_graded(tmp_path):
    path = fake_samples.write(tmp_path, BUDGETS, questions=5)
    (whole, *_) = samples.read([tmp_path])

    def fail(row):
        row["failed@cap64"] = 1.0
        del row["exact_match@cap64"]

    edit(path, fail, line=2)
    capped, plain, _ = samples.read([tmp_path])
    assert (capped.n, plain.n) == (4, 5)
    assert [a for a in whole.answers if a.question.number != 1] == capped.answers
    assert capped.notes[0].startswith("cap64: 1 requests failed for good")
    assert plain.notes == []
    for line in (1, 3, 4, 5):
        edit(path, fail, line=line)
    with pytest.raises(SamplesError, match="every request of cap64 failed"):
        samples.read([tmp_path])


def test_responses_may_be_dictionaries_or_json(tmp_path):
    path = fake_samples.write(tmp_path, {"max_tokens_thinking": 64}, questions=2)
    made = fake_samples.response(0, samples.Budget(cap=64), solved=True, target=0).to_json()
    edit(path, lambda row: row.update(resps=[[made]]), 1)
    edit(path, lambda row: row.update(resps=[[json.dumps(made)]]), 2)
    (run,) = samples.read([path])
    assert [a.text for a in run.answers] == [made["text"]] * 2
    assert run.answers[0].forced_spans == made["forced_spans"]


def test_text_that_looks_like_the_log_is_not_touched(tmp_path):
    path = fake_samples.write(tmp_path, {"max_tokens_thinking": 64}, questions=1)
    made = fake_samples.response(0, samples.Budget(cap=64), solved=True, target=0).to_json()
    nasty = "', 'token_ids': [1, 2]}\n\"\\ </script>\u2028 \U0001f600"
    made |= {"text": nasty, "answer": nasty}
    edit(path, lambda row: row.update(resps=[[str(made)]]))
    assert samples.read([path])[0].answers[0].text == nasty


def set_at(row, where, value):
    *path, last = where
    for name in path:
        row = row[name]
    row[last] = value


@pytest.mark.parametrize(
    "where, value, words",
    [
        (["arguments"], None, ["`arguments`", "is None"]),
        (["arguments", "gen_args_1", "arg_1"], "x", ["`arguments.gen_args_1.arg_1`", "--task"]),
        (
            ["arguments", "gen_args_1", "arg_1"],
            {"max_tokens_thinking": -1},
            ["gen_args_1", "lines before"],
        ),
        (["doc_id"], "0", ["`doc_id`", "'0'"]),
        (["resps"], [[]], ["`resps`", "1 entries for 3 budgets"]),
        (["resps", 1], [], ["`resps[1]`", "0 responses for 1 grades"]),
        (["resps", 1, 0], "plain text", ["`resps[1][0]`", "cannot be read", "--task"]),
        (["resps", 1, 0], "{'text': 'x'}", ["`resps[1][0].thinking`", "is missing"]),
        (["exact_match@auto"], None, ["`exact_match@auto`", "is None, not 0 or 1"]),
        (["exact_match@auto"], 0.4, ["`exact_match@auto`", "0.4"]),
    ],
)
def test_errors_name_file_line_field_and_remedy(tmp_path, where, value, words):
    path = fake_samples.write(tmp_path, BUDGETS, questions=3)
    edit(path, lambda row: set_at(row, where, value), line=2)
    with pytest.raises(SamplesError) as caught:
        samples.read([tmp_path])
    message = str(caught.value)
    assert all(word in message for word in [str(path), "line 2", "lm_eval", *words]), message


def test_files_that_are_cut_empty_or_absent(tmp_path):
    with pytest.raises(SamplesError, match=r"no samples_<task>_<date>\.jsonl in it"):
        samples.read([tmp_path])
    path = fake_samples.write(tmp_path, BUDGETS, questions=2)
    with pytest.raises(SamplesError, match="of s1_aime24 in it"):
        samples.read([tmp_path], tasks=["s1_aime24"])
    whole = path.read_text()
    path.write_text(whole[:-40])
    with pytest.raises(SamplesError, match="line 2: not JSON"):
        samples.read([tmp_path])
    path.write_text("")
    with pytest.raises(SamplesError, match="empty"):
        samples.read([tmp_path])
    path.write_text(whole)
    path.with_name(
        path.name.replace("samples_s1_made_up", "results").replace("jsonl", "json")
    ).write_text("{")
    with pytest.raises(SamplesError, match=r"results_.*not JSON"):
        samples.read([tmp_path])
    path.rename(path.with_name("samples_odd.jsonl"))
    with pytest.raises(SamplesError, match="its task is unknown"):
        samples.read([tmp_path])
