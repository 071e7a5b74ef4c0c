"""The task class, built without lm-eval's index."""

import datasets
import pytest

from s1_plugin.evaluation.task import S1Task


@pytest.fixture
def task():
    rows = [{"problem": "1+1", "answer": "2"}]
    return S1Task(
        config={
            "task": "sums",
            "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
            "output_type": "generate_until",
            "test_split": "test",
            "doc_to_text": "{{problem}}",
            "doc_to_target": "{{answer}}",
            "num_fewshot": 0,
            "generation_kwargs": {"until": [], "max_tokens_thinking": "auto"},
            "metadata": {"version": 1.0, "grader": "integer"},
        }
    )


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
