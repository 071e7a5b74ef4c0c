"""One trajectory for many budgets gives what separate runs give, response for response."""

from types import SimpleNamespace

import pytest
import torch

from s1_plugin.evaluation import hf
from s1_plugin.evaluation.budgets import expand
from s1_plugin.evaluation.request import request
from tests import tiny
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


def count_generated(monkeypatch):
    """Tokens that the model's forward passes have seen, prompts included."""
    seen = []
    original = hf.ForcedDecoding.__call__

    def counting(run, model, input_ids, *args, **kwargs):
        cache = kwargs.get("past_key_values")
        cached = cache.get_seq_length() if cache is not None else 0
        seen.append((len(input_ids), input_ids.shape[1] - cached, run.begun is not None))
        return original(run, model, input_ids, *args, **kwargs)

    monkeypatch.setattr(hf.ForcedDecoding, "__call__", counting)
    return seen


def test_answers_fork_off_the_cache_of_the_thinking(lm, monkeypatch):
    """A few forced tokens are all that goes through the model before an answer is drawn."""
    seen = count_generated(monkeypatch)
    wanted = requests(lm)
    shared = hf.run(lm, wanted)
    forks = [(rows, columns) for rows, columns, begun in seen if begun]
    assert forks and max(columns for _, columns in forks) <= 12, seen
    longest = len(lm.tokenizer(wanted[0].context)["input_ids"]) + 40
    assert all(columns < longest for _, columns in forks)
    # Without a cache to fork from the prefixes are prefilled again; nothing else changes.
    monkeypatch.setattr(hf.Forks, "possible", False)
    seen.clear()
    assert hf.run(lm, wanted) == shared
    assert max(columns for _, columns, begun in seen if begun) > 40


def test_a_model_with_sliding_windows_is_not_forked_from(nano_base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    model = tiny.qwen2(
        len(tokenizer), use_sliding_window=True, sliding_window=16, max_window_layers=0
    )
    lm = SimpleNamespace(
        tokenizer=tokenizer,
        model=model.eval(),
        device=torch.device("cpu"),
        batch_size=4,
        batch_size_per_gpu=4,
        max_length=1024,
    )
    wanted = requests(lm, max_tokens_thinking=[5, 30, 60], thinking_n_ignore=[0])
    assert hf.run(lm, wanted) == [hf.run(lm, [one])[0] for one in wanted]


def test_running_out_of_memory_halves_the_batch_and_repeats_nothing(lm, monkeypatch):
    """Memory that runs out in the middle of a batch, and in the middle of a forked one."""
    automatic = SimpleNamespace(**{**vars(lm), "batch_size_per_gpu": "auto"})
    wanted = requests(lm, temperature=1.0, seed=3)
    calm = hf.run(lm, wanted)
    finished = []
    original, calls = hf._Batches._done, [0]

    def failing(self, job, row):
        calls[0] += 1
        if calls[0] in (3, 12):
            raise torch.OutOfMemoryError
        finished.append((job.family, job.plan))
        return original(self, job, row)

    monkeypatch.setattr(hf._Batches, "_done", failing)
    assert hf.run(automatic, wanted) == calm
    assert len(finished) == len(set(finished)) and calls[0] > 12


def test_a_model_is_known_by_its_weights(lm):
    """Of one name, and of none at all (a model object), there may be several models."""
    from lm_eval.models.huggingface import HFLM

    same = HFLM(lm.model, tokenizer=lm.tokenizer, device="cpu")
    before = hf.identity(same)
    assert before == hf.identity(same) and before["name"] == type(lm.model).__name__
    weights = lm.model.get_output_embeddings().weight
    kept = weights[0, 0].item()
    with torch.no_grad():
        weights[0, 0] += 1
        try:
            assert hf.identity(same) != before
        finally:
            weights[0, 0] = kept


def test_lm_evals_own_autocast_is_refused(lm):
    mixed = SimpleNamespace(**vars(lm), mixed_precision_dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="mixed_precision_dtype"):
        hf.run(mixed, requests(lm)[:1])
