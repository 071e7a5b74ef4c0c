"""The other control methods: what the model is told, and sampling until it fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1_plugin.evaluation import rejection
from s1_plugin.evaluation.budgets import expand
from s1_plugin.evaluation.request import request
from s1_plugin.forcing.budget import Budget
from s1_plugin.forcing.control import MOST_TRIES, Control
from s1_plugin.forcing.response import Response

QUESTION = "What is 1+1?"
CONTEXT = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"


def ask(**kwargs):
    return request(CONTEXT, QUESTION, kwargs)


@pytest.mark.parametrize(
    ("method", "limit", "sentence", "label"),
    [
        ("token", 1024, "Think for up to 1024 tokens.", "token1024+auto"),
        ("step", 16, "Think for up to 16 steps.", "step16+auto"),
        ("class", "short", "Answer after a short amount of thinking.", "class-short+auto"),
        ("class", "long", "Answer after a long amount of thinking.", "class-long+auto"),
    ],
)
def test_the_sentence_follows_the_question(method, limit, sentence, label):
    request = ask(control=method, control_limit=limit)
    assert request.question.startswith(f"{QUESTION}\n\n{sentence}")
    assert request.context == CONTEXT.replace(QUESTION, request.question)
    assert request.budget.label == label


def test_what_has_the_sentence_is_not_told_twice():
    kwargs = {"control": "token", "control_limit": 1024}
    once = ask(**kwargs)
    assert request(once.context, once.question, kwargs) == once
    assert once.context.count("Think for up to") == 1


def test_it_goes_together_with_budget_forcing():
    request = ask(control="token", control_limit=1024, max_tokens_thinking=1024)
    assert request.budget == Budget(1024, control=Control("token", 1024))
    assert request.budget.label == "token1024+cap1024"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"control": "tokens", "control_limit": 5}, "token, step, class or rejection"),
        ({"control": "token"}, "whole number"),
        ({"control": "token", "control_limit": "short"}, "whole number"),
        ({"control": "step", "control_limit": 0}, "whole number"),
        ({"control": "class", "control_limit": 100}, "short or long"),
        ({"control_limit": 100}, "set control"),
        ({"control": "rejection", "control_limit": 9, "max_tokens_thinking": 9}, "forces nothing"),
        ({"control": "rejection", "control_limit": 9, "thinking_n_ignore": 1}, "forces nothing"),
        ({"control": "rejection", "control_limit": 9, "temperature": 0}, "greedy"),
        ({"control": "rejection", "control_limit": 9, "do_sample": False}, "greedy"),
    ],
)
def test_what_makes_no_sense_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ask(**kwargs)


def test_limits_in_a_list_are_runs():
    runs = expand({"control": "token", "control_limit": [1024, 2048], "max_gen_toks": 5})
    assert [Budget.from_gen_kwargs(run).label for run in runs] == [
        "token1024+auto",
        "token2048+auto",
    ]
    with pytest.raises(ValueError, match="control_limit"):
        expand({"control": "token", "control_limit": [1, 2], "max_tokens_thinking": [1, 2]})


def response(length, ended):
    return Response("", "", "42", length, 1, 0, ended, "stop", [], [], [], [])


class Driver:
    """Thinks as long as told, by question and attempt; keeps what it was asked."""

    def __init__(self, lengths):
        self.lengths, self.rounds = lengths, []

    def __call__(self, requests):
        self.rounds.append([(r.question, r.sample) for r in requests])
        out = []
        for asked in requests:
            lengths = self.lengths[asked.question]
            cap = asked.budget.cap
            length = lengths[min(asked.sample % MOST_TRIES, len(lengths) - 1)]
            fits = cap == "auto" or length < cap
            out.append(response(length if fits else cap, "natural" if fits else "cap"))
        return out


def rejecting(question, limit, sample=0):
    context = CONTEXT.replace(QUESTION, question)
    kwargs = {"control": "rejection", "control_limit": limit}
    return request(context, question, kwargs, sample)


def test_only_what_is_missing_is_sampled_again():
    driver = Driver({"a": [30, 20, 10], "b": [10], "c": [99, 10]})
    requests = [rejecting(q, 10) for q in "abc"]
    got = rejection.sample(driver, requests)
    assert [(r.thinking_tokens, r.tries, r.ended) for r in got] == [
        (10, 3, "natural"),
        (10, 1, "natural"),
        (10, 2, "natural"),
    ]
    assert [[q for q, _ in asked] for asked in driver.rounds] == [
        ["a", "b", "c"],
        ["a", "c"],
        ["a"],
    ]
    assert dict(requests[0].sampling) == {"do_sample": True, "temperature": 1.0}


def test_every_attempt_of_every_sample_draws_on_its_own():
    driver = Driver({"a": [99]})
    rejection.sample(driver, [rejecting("a", 10, sample) for sample in range(3)])
    streams = [stream for asked in driver.rounds for stream in asked]
    assert len(set(streams)) == len(streams) == 3 * MOST_TRIES


def test_one_that_never_fits_has_no_answer(capsys):
    (got,) = rejection.sample(Driver({"a": [99]}), [rejecting("a", 10)])
    assert (got.answer, got.answer_tokens, got.ended, got.tries) == (None, 0, "cap", MOST_TRIES)
    assert "1 of 1 responses did not fit" in capsys.readouterr().err


@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=3, max_size=6),
        st.lists(st.integers(1, 60), min_size=1, max_size=70),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 60),
)
def test_the_first_sample_that_fits_is_taken(lengths, limit):
    driver = Driver(lengths)
    got = rejection.sample(driver, [rejecting(q, limit) for q in lengths])
    for (question, drawn), response in zip(lengths.items(), got, strict=True):
        drawn = drawn + drawn[-1:] * MOST_TRIES  # the driver repeats the last one
        first = next((n for n, d in enumerate(drawn[:MOST_TRIES]) if d <= limit), None)
        if first is None:
            assert (response.answer, response.tries) == (None, MOST_TRIES)
        else:
            assert (response.thinking_tokens, response.tries) == (drawn[first], first + 1)
        assert sum(q == question for asked in driver.rounds for q, _ in asked) == response.tries


def test_other_requests_pass_once_and_unchanged():
    driver = Driver({QUESTION: [99]})
    (got,) = rejection.sample(driver, [ask(max_tokens_thinking=10)])
    assert (got.answer, got.tries, len(driver.rounds)) == ("42", 1, 1)
