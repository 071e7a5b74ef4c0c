"""Models in which nothing can be forced, asked on purpose."""

import json

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr

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


def ask(lm, context=CONTEXT, **kwargs):
    instances = [
        Instance(hook.REQUEST_TYPE, {}, (context, kwargs, "1+1?"), i) for i in range(len(lm.texts))
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


def test_a_thinking_in_another_format_is_none_the_less_a_thinking():
    cut = "<think>\nThe answer is \\boxed{204}. Wait"
    done = f"{cut}, no.</think>\n\n205"
    first, second = ask(SomeChat(cut, done), allow_unforced=True)
    assert (first["answer"], first["thinking"]) == (None, cut.removeprefix("<think>"))
    assert second["answer"] == "\n\n205" and "boxed{204}" in second["thinking"]


def test_a_thinking_that_the_prompt_has_opened_is_one():
    lm = SomeChat("\\boxed{204}. Wait", "2? Yes.</think>2")
    cut, done = ask(lm, CONTEXT + "<think>\n", allow_unforced=True)
    assert (cut["answer"], done["answer"], done["thinking"]) == (None, "2", "2? Yes.")


@pytest.mark.parametrize("control", [("token", 1024), ("class", "short"), ("rejection", 1024)])
@pytest.mark.parametrize("context", [CONTEXT, JsonChatStr("[]")])
def test_a_control_that_would_not_be_applied_is_refused(control, context):
    lm = SomeChat("2")
    method, limit = control
    with pytest.raises(ValueError, match=rf"control={method} is not applied .* remove"):
        ask(lm, context, allow_unforced=True, control=method, control_limit=limit)
    assert not lm.asked


def test_the_argument_is_a_switch():
    with pytest.raises(ValueError, match="allow_unforced must be true or false"):
        request(CONTEXT, "1+1?", {"allow_unforced": "yes"})
