import pytest

from s1_plugin.evaluation import hook
from s1_plugin.evaluation.request import request
from s1_plugin.forcing.budget import Budget

CONTEXT = "<|im_start|>user\nWhat is 1+1?<|im_end|>\n<|im_start|>assistant\n"


def ask(**kwargs):
    return request(CONTEXT, "What is 1+1?", kwargs)


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
    with pytest.raises(
        ValueError, match=r"max_token_thinking \(did you mean max_tokens_thinking\?"
    ):
        ask(max_token_thinking=500)
    with pytest.raises(ValueError, match=r"unknown --gen_kwargs xyz; s1 tasks know"):
        ask(xyz=1)


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"max_gen_toks": 500.7}, "max_gen_toks"),
        ({"max_gen_toks": "abc"}, "max_gen_toks"),
        ({"max_gen_toks": True}, "max_gen_toks"),
        ({"seed": 1.9}, "seed"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"do_sample": "false"}, "do_sample"),
        ({"do_sample": True, "temperature": 0}, "contradicts"),
        ({"top_p": 0.5}, "no effect"),
        ({"thinking_n_ignore": True}, "thinking_n_ignore"),
        ({"max_tokens_thinking": 500.0}, "max_tokens_thinking"),
        ({"max_tokens_thinking": "500"}, "max_tokens_thinking"),
        ({"format": "s2"}, "s2"),
    ],
)
def test_wrong_types_and_settings_without_effect_are_refused_by_name(kwargs, name):
    with pytest.raises(ValueError, match=name):
        ask(**kwargs)


def test_installing_twice_is_harmless():
    from lm_eval.api.model import LM

    hook.install()
    first = getattr(LM, hook.REQUEST_TYPE)
    hook.install()
    assert getattr(LM, hook.REQUEST_TYPE) is first


@pytest.mark.parametrize("name", ["SteeredModel", "LocalChatCompletion", "DummyLM"])
def test_a_class_that_generates_in_its_own_way_is_refused(name):
    """A steered model is an HFLM: its driver would go round the steering."""
    from lm_eval.models.huggingface import HFLM

    lm = object.__new__(type(name, (HFLM,), {}))
    with pytest.raises(NotImplementedError, match=f"{name}.*allow_unforced=true"):
        hook.generate(lm, [])


def test_a_model_is_refused_before_its_requests_are_read():
    """A chat endpoint's prompts are no text: that is not what is to be mended."""
    from types import SimpleNamespace

    instance = SimpleNamespace(arguments=(["not text"], {}, "1+1"))
    with pytest.raises(NotImplementedError, match="allow_unforced=true"):
        hook.generate(SimpleNamespace(), [instance])
