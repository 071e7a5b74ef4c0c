"""Models in which nothing can be forced, asked on purpose."""

import json

import pytest
from lm_eval.api.instance import Instance

from s1_plugin.evaluation import hook
from s1_plugin.evaluation.request import request

CONTEXT = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"


class SomeChat:
    """A model of a kind that no driver knows."""

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def generate_until(self, instances):
        self.asked = [instance.args for instance in instances]
        return self.texts


def ask(lm, **kwargs):
    instances = [
        Instance(hook.REQUEST_TYPE, {}, (CONTEXT, kwargs, "1+1?"), i) for i in range(len(lm.texts))
    ]
    return [json.loads(response) for response in hook.generate(lm, instances)]


def test_it_must_be_allowed_and_the_responses_say_so(capsys):
    lm = SomeChat("The answer is 2.")
    with pytest.raises(NotImplementedError, match="allow_unforced=true"):
        ask(lm, max_tokens_thinking=5)
    assert not lm.asked
    (response,) = ask(lm, max_tokens_thinking=5, allow_unforced=True)
    assert response["ended"] == "unforced" and response["answer"] == "The answer is 2."
    assert "no budget is forced in SomeChat" in capsys.readouterr().err
    assert lm.asked[0][1]["max_gen_toks"] == 32768


def test_thinking_is_not_taken_for_the_answer():
    texts = (
        "<|im_start|>think\nIs it 3?\n<|im_start|>answer\n2",
        "<|im_start|>think\nIs it 3?",
    )
    done, open_ = ask(SomeChat(*texts), allow_unforced=True)
    assert (done["thinking"], done["answer"]) == ("\nIs it 3?\n", "\n2")
    assert open_["answer"] is None


def test_the_argument_is_a_switch():
    with pytest.raises(ValueError, match="allow_unforced must be true or false"):
        request(CONTEXT, "1+1?", {"allow_unforced": "yes"})
