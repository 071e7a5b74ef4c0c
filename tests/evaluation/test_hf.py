"""One trajectory for many budgets gives what separate runs give, response for response."""

from types import SimpleNamespace

import pytest
import torch

from s1_plugin.evaluation import hf
from s1_plugin.evaluation.budgets import expand
from s1_plugin.evaluation.request import request
from tests.forcing.law import WARPER_SETTINGS
from tests.forcing.test_transformers import biased_model

QUESTIONS = ["1+2", "3+4+5", "7+7+1+1", "2+2+2+2+2", "9"]
BUDGETS = {"max_tokens_thinking": [0, 3, 20, 45, "auto"], "thinking_n_ignore": [1, 2, 4]}


@pytest.fixture(scope="module")
def lm(nano_base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    ends = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|im_start|>")]
    model = biased_model(len(tokenizer) + 8, ends, every=23)
    return SimpleNamespace(
        tokenizer=tokenizer,
        model=model,
        device=torch.device("cpu"),
        batch_size=4,
        batch_size_per_gpu=4,
        max_length=1024,
    )


def requests(lm, **kwargs):
    out = []
    for question in QUESTIONS:
        context = lm.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for one in expand({"max_gen_toks": 300, **BUDGETS, **kwargs}):
            out.append(request(context, question, one))
    return out


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 1.0, "top_p": 0.95, "seed": 3}, {"min_tokens_thinking": 10}]
)
def test_shared_trajectories_equal_separate_runs(lm, sampling, monkeypatch):
    budgets = {**BUDGETS, "max_tokens_thinking": [12, 20, 45, "auto"]} if sampling else {}
    wanted = requests(lm, **{**budgets, **sampling})
    thought = []
    original = hf.ForcedDecoding

    def recording(plans, *args, begun=None, **kwargs):
        thought.extend([] if begun else plans)
        return original(plans, *args, begun=begun, **kwargs)

    monkeypatch.setattr(hf, "ForcedDecoding", recording)
    shared = hf.run(lm, wanted)
    assert len(thought) == len(QUESTIONS)  # one trajectory each, for seven or eight budgets
    separate = [hf.run(lm, [request])[0] for request in wanted]
    assert shared == separate
    assert len({r.ended for r in shared}) == 2 and max(r.waits for r in shared) >= 2
    assert len(thought) == len(QUESTIONS) + len(wanted)


def test_batches_of_automatic_size(lm):
    automatic = SimpleNamespace(**{**vars(lm), "batch_size_per_gpu": "auto"})
    assert hf.run(automatic, requests(lm)[:6]) == hf.run(lm, requests(lm)[:6])


def test_a_tokenizer_without_the_formats_tokens_is_refused(lm):
    with pytest.raises(ValueError, match="</think>"):
        hf.run(lm, requests(lm, format="think-tags")[:1])


def test_a_newline_drawn_under_one_cap_and_forced_under_a_smaller_one(lm):
    """Every cap in a row, so that caps just before and after a newline end in the same text."""
    wanted = requests(lm, max_tokens_thinking=list(range(1, 23)), thinking_n_ignore=[0])
    shared = hf.run(lm, wanted)
    assert shared == [hf.run(lm, [one])[0] for one in wanted]
    for one, response in zip(wanted, shared, strict=True):
        if one.budget.cap != "auto" and response.ended == "cap":
            assert response.thinking_tokens == one.budget.cap


def test_sampling_defaults_of_the_model_have_no_part(lm, monkeypatch):
    """Those of its generation_config.json: every warper that transformers has, and a penalty."""
    kwargs = {"max_tokens_thinking": [45], "thinking_n_ignore": 1, "temperature": 1.0, "seed": 3}
    wanted = requests(lm, **kwargs)
    plain = hf.run(lm, wanted)
    assert plain == hf.run(lm, wanted)
    settings = [setting for setting, _ in WARPER_SETTINGS]
    for name, value in [*(next(iter(s.items())) for s in settings), ("repetition_penalty", 1.3)]:
        with monkeypatch.context() as patch:
            patch.setattr(lm.model.generation_config, name, value)
            assert hf.run(lm, wanted) == plain, name
