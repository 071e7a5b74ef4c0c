"""The task class, built without lm-eval's index."""

import json
from math import isnan

import datasets
import pytest

from s1_plugin import __version__
from s1_plugin.evaluation.problems import answers_digest, digest
from s1_plugin.evaluation.request import request
from s1_plugin.evaluation.task import S1Task, Ungradable


def made(rows, kind="integer", sampling=None, **config):
    return S1Task(
        config={
            "task": "sums",
            "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
            "output_type": "generate_until",
            "test_split": "test",
            "doc_to_text": "{{problem}}",
            "doc_to_target": "{{answer}}",
            "num_fewshot": 0,
            "generation_kwargs": {"until": [], "max_tokens_thinking": "auto", **(sampling or {})},
            "metadata": {"version": 1.0, "grader": kind},
            **config,
        }
    )


@pytest.fixture
def task():
    return made([{"problem": "1+1", "answer": "2"}])


def given(task, **kwargs):
    """What lm-eval does with `--gen_kwargs`."""
    task.set_config(key="generation_kwargs", value=kwargs, update=True)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"max_token_thinking": 8}, "did you mean max_tokens_thinking"),
        ({"max_tokens_thinking": [8, "many"]}, "whole number"),
        ({"thinking_n_ignore": [1, -2]}, "thinking_n_ignore"),
        ({"thinking_n_ignore": []}, "empty list"),
        ({"do_sample": False, "temperature": 0.7}, "contradicts"),
        ({"min_tokens_thinking": 9, "max_tokens_thinking": 8}, "contradicts"),
        ({"format": "s2"}, "think-tags"),
    ],
)
def test_wrong_generation_arguments_are_refused_when_they_are_given(task, kwargs, words):
    with pytest.raises(ValueError, match=words):
        given(task, **kwargs)


def test_right_ones_are_merged_with_the_tasks_own(task):
    given(task, thinking_n_ignore=[1, 2], max_gen_toks=64)
    (ctx, first, question), *rest = [
        i.arguments
        for i in task.construct_requests(task.eval_docs[0], "x", apply_chat_template=True)
    ]
    assert (ctx, question, len(rest)) == ("x", "1+1", 1)
    assert first["thinking_n_ignore"] == 1 and first["max_tokens_thinking"] == "auto"


def test_the_logged_prompt_is_the_prompt_that_is_asked(task):
    given(task, control="token", control_limit=[8, 16])
    context = "<|user|>1+1<|assistant|>"
    made = task.construct_requests(task.eval_docs[0], context, apply_chat_template=True)
    for instance, limit in zip(made, (8, 16), strict=True):
        logged, generation, question = instance.arguments
        assert question == f"1+1\n\nThink for up to {limit} tokens."
        assert logged == f"<|user|>{question}<|assistant|>"
        asked = request(logged, question, generation)  # as the hook reads it
        assert (asked.context, asked.question) == (logged, question)


def response(answer, ended="natural", thinking_tokens=10):
    return json.dumps(
        {
            "answer": answer,
            "ended": ended,
            "thinking_tokens": thinking_tokens,
            "answer_tokens": 3,
            "waits": 0,
        }
    )


def test_metrics_of_one_response(task):
    doc = task.eval_docs[0]
    found = task.process_results(doc, [response("Answer: 02")])
    assert found == {
        "failed": 0,
        "exact_match": 1,
        "unanswered": 0,
        "thinking_tokens": 10,
        "answer_tokens": 3,
        "waits": 0,
        "capped": 0,
        "out_of_context": 0,
        "forced": 0,
    }
    assert task.process_results(doc, [response(None, "open")])["unanswered"] == 1
    assert task.process_results(doc, [response(None, "failed")]) == {"failed": 1}


def test_expressions_are_graded_and_what_cannot_be_is_counted():
    task = made([{"problem": "half of 1", "answer": "\\frac{1}{2}"}], "math")
    doc = task.eval_docs[0]
    graded = [task.process_results(doc, [response(a)]) for a in ("\\boxed{0.5}", "Answer: 9^{9^9}")]
    assert [(g["exact_match"], g["ungraded"]) for g in graded] == [(1, 0), (0, 1)]
    assert "ungraded" in task.aggregation()


def test_several_samples_give_coverage_and_votes():
    task = made([{"problem": "1+1", "answer": "2"}], repeats=4, sampling={"temperature": 1.0})
    doc = task.eval_docs[0]
    answers = ["Answer: 2", "\\boxed{02}", "Answer: 3", None]
    found = task.process_results(doc, [[response(a) for a in answers]])
    assert found["correct"] == [1, 1, 0, 0] and found["exact_match"] == 0.5
    assert found["unanswered"] == 0.25 and found["thinking_tokens"] == 10
    assert found["pass@2"] == pytest.approx(1 - 1 / 6) and found["pass@4"] == 1
    assert found["maj@4"] == 1  # 2 and 02 vote together, no answer has no vote
    assert task.higher_is_better()["maj@4"] and not task.higher_is_better()["waits"]
    assert set(found) <= set(task.aggregation())
    assert task.aggregation()["correct"]([[1.0, None], [0.0, 0.0]]) == pytest.approx(1 / 3)
    assert isnan(task.aggregation()["correct"]([[None]]))


def test_wrong_answers_vote_together_too():
    rows = [{"problem": "1-1", "answer": "0"}]
    task = made(rows, "math", repeats=4, sampling={"temperature": 1.0})
    answers = ["\\boxed{0}", "\\boxed{0.0}", "\\boxed{0.5}", "\\boxed{\\frac12}"]
    found = task.process_results(task.eval_docs[0], [[response(a) for a in answers]])
    assert found["correct"] == [1, 1, 0, 0]
    assert found["maj@4"] == 0.5  # two against two; by spelling it would be two, one and one


@pytest.mark.parametrize(
    ("ended", "waits", "marks"),
    [
        ("natural", 0, (0, 0, 0)),
        ("natural", 2, (0, 0, 1)),
        ("cap", 0, (1, 0, 1)),
        ("context", 0, (0, 1, 1)),
        ("open", 0, (0, 0, 0)),
    ],
)
def test_how_thinking_ended(task, ended, waits, marks):
    given = json.dumps({**json.loads(response("2", ended)), "waits": waits})
    found = task.process_results(task.eval_docs[0], [given])
    assert (found["capped"], found["out_of_context"], found["forced"]) == marks
    assert {"capped", "out_of_context", "forced"} <= set(task.aggregation())


def test_a_failed_sample_is_left_out_of_the_others_metrics():
    task = made([{"problem": "1+1", "answer": "2"}], repeats=4, sampling={"temperature": 1.0})
    given = [response("Answer: 2")] * 3 + [response(None, "failed")]
    found = task.process_results(task.eval_docs[0], [given])
    assert found["failed"] == 0.25 and found["exact_match"] == 1
    assert found["correct"] == [1, 1, 1, None]
    assert "pass@2" in found and "pass@4" not in found


def test_the_filter_hands_all_samples_to_the_task():
    task = made([{"problem": "1+1", "answer": "2"}], repeats=4, sampling={"temperature": 1.0})
    instances = task.construct_requests(
        task.eval_docs[0], "x", apply_chat_template=True, metadata=("sums", 0, 4)
    )
    for instance in instances:
        instance.resps = ["a", "b", "c", "d"]
    task._instances = instances
    task.apply_filters()
    assert instances[0].filtered_resps == {"none": ["a", "b", "c", "d"]}


def test_greedy_samples_are_refused():
    task = made([{"problem": "1+1", "answer": "2"}], repeats=4, sampling={"temperature": 1.0})
    with pytest.raises(ValueError, match="greedy samples"):
        given(task, temperature=0)


def test_the_results_say_which_problems_these_were(tmp_path, monkeypatch, capsys):
    for name in ("S1_JUDGE_URL", "S1_JUDGE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "sums.jsonl").write_text('{"problem": "1+1", "answer": 2}\n')
    monkeypatch.setenv("S1_EVAL_DATA", str(tmp_path))
    expected = digest([("1+1", "2")])
    metadata = {"grader": "integer", "local": "sums.jsonl", "problems_sha256_expected": expected}
    logged = made([], metadata=metadata, dataset_path="o/n").dump_config()["metadata"]
    assert logged == metadata | {
        "problems_from": str(tmp_path / "sums.jsonl"),
        "problems_sha256": expected,
        "s1_plugin": __version__,
    }
    assert capsys.readouterr().err == ""
    (tmp_path / "sums.jsonl").write_text('{"problem": "1+2", "answer": 3}\n')
    logged = made([], metadata=metadata).dump_config()["metadata"]
    assert logged["problems_sha256"] == digest([("1+2", "3")])
    (line,) = capsys.readouterr().err.splitlines()
    assert "WARNING: sums" in line and logged["problems_sha256"][:12] in line
    assert expected[:12] in line and "white space" in line


def test_other_answers_than_the_benchmarks_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("S1_EVAL_DATA", str(tmp_path))
    rows = ['{"problem": "a", "answer": "023"}', '{"problem": "b", "answer": 7}']
    metadata = {"grader": "integer", "local": "sums.jsonl"}
    metadata["answers_sha256_expected"] = answers_digest(["7", "23"])
    (tmp_path / "sums.jsonl").write_text("\n".join(rows))
    made([], metadata=metadata)
    assert "WARNING" not in capsys.readouterr().err
    for other in (rows[:1], [rows[0], '{"problem": "b", "answer": 8}']):
        (tmp_path / "sums.jsonl").write_text("\n".join(other))
        made([], metadata=metadata)
        assert "are not those of this benchmark" in capsys.readouterr().err


def test_problems_of_a_data_set_name_it(tmp_path, monkeypatch):
    file = tmp_path / "sums.jsonl"
    file.write_text('{"problem": "1+1", "answer": "2"}\n')
    monkeypatch.setenv("S1_JUDGE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("S1_JUDGE_MODEL", "some-judge")
    kwargs = {"data_files": {"test": str(file)}, "cache_dir": str(tmp_path / "cache")}
    loaded = made([], custom_dataset=None, dataset_path="json", dataset_kwargs=kwargs)
    logged = loaded.dump_config()["metadata"]
    assert logged["problems_from"] == "json at unknown revision"
    assert logged["problems_sha256"] == digest([("1+1", "2")])
    assert logged["judge_model"] == "some-judge"


@pytest.mark.parametrize(("kind", "gold"), [("integer", "two"), ("letter", "E"), ("math", "")])
def test_problems_that_cannot_be_graded_stop_the_task(kind, gold):
    rows = [{"problem": "1+1", "answer": a} for a in ({"letter": "A"}.get(kind, "2"), gold, gold)]
    with pytest.raises(Ungradable, match=r"problem 2 cannot be graded .* 1 more cannot") as caught:
        made(rows, kind)
    assert [number for number, _ in caught.value.rows] == [2, 3]


def test_a_judges_share_of_the_verdicts_is_a_metric(monkeypatch):
    # Nothing listens there: the rules' grade stands, and it is counted.
    monkeypatch.setenv("S1_JUDGE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("S1_JUDGE_MODEL", "m")
    monkeypatch.setattr("s1_plugin.evaluation.judge._RETRIES", 0)
    task = made([{"problem": "1+1", "answer": "2"}], repeats=4, sampling={"temperature": 1.0})
    answers = ["Answer: 2", "\\boxed{02}", "Answer: 3", None]
    found = task.process_results(task.eval_docs[0], [[response(a) for a in answers]])
    assert (found["judged"], found["judge_failed"], found["exact_match"]) == (0, 0.25, 0.5)
