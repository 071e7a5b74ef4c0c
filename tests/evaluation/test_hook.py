import pytest

from s1_plugin.evaluation import hook
from s1_plugin.forcing.budget import Budget

CONTEXT = "<|im_start|>user\nWhat is 1+1?<|im_end|>\n<|im_start|>assistant\n"


def ask(**kwargs):
    return hook.request(CONTEXT, "What is 1+1?", kwargs)


def test_the_question_is_data_and_the_rest_scaffold():
    parts = ask().prompt
    assert [p.data for p in parts] == [False, True, False]
    assert "".join(p.text for p in parts) == CONTEXT


def test_the_authors_command_carries_over():
    request = ask(
        max_gen_toks=32768,
        max_tokens_thinking="auto",
        thinking_n_ignore=2,
        thinking_n_ignore_str="Wait",
        until=[],
    )
    assert request.budget == Budget("auto", 2, "Wait")
    assert dict(request.sampling) == {"do_sample": False}


def test_a_temperature_samples():
    assert dict(ask(temperature=0.7).sampling) == {"do_sample": True, "temperature": 0.7}
    assert dict(ask(temperature=0).sampling) == {"do_sample": False}
    assert dict(ask(temperature=0.0, do_sample=False).sampling) == {"do_sample": False}


def test_a_contradiction_is_refused():
    with pytest.raises(ValueError, match="contradicts"):
        ask(do_sample=False, temperature=0.7)


def test_unknown_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match=r"max_token_thinking.*max_tokens_thinking"):
        ask(max_token_thinking=500)


def test_a_template_that_changes_the_question_is_refused():
    with pytest.raises(ValueError, match="chat template"):
        hook.request("something else", "What is 1+1?", {})


def test_installing_twice_is_harmless():
    from lm_eval.api.model import LM

    hook.install()
    first = getattr(LM, hook.REQUEST_TYPE)
    hook.install()
    assert getattr(LM, hook.REQUEST_TYPE) is first
