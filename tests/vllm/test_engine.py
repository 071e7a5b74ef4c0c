"""A real engine: seeds, neighbours, preemption, several samples of one prompt, plain prompts."""

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from vllm import SamplingParams, TokensPrompt
from vllm.exceptions import VLLMValidationError

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.budget import Budget
from s1_plugin.forcing.vllm import BudgetForcingProcessor
from s1_plugin.formats import S1
from tests.vllm.engine import forced, prompts_of, start

QUESTIONS = [f"{a}+{b}" for a in range(4) for b in range(4)]
SAMPLED = {"temperature": 1.0, "top_p": 0.95, "seed": 5}


@pytest.fixture(scope="module")
def prompts(nano_tokenizer):
    return prompts_of(TextEncoder(nano_tokenizer), QUESTIONS)


def plain(llm, prompts, **kwargs):
    outputs = llm.generate(
        [TokensPrompt(prompt_token_ids=p) for p in prompts],
        SamplingParams(max_tokens=60, ignore_eos=True, **{"temperature": 0.0, **kwargs}),
        use_tqdm=False,
    )
    return [list(o.token_ids) for output in outputs for o in output.outputs]


def test_a_seed_gives_the_same_draws_whatever_else_is_in_the_batch(
    small, processor, nano_tokenizer, prompts
):
    # vLLM itself fails on a CPU where a seeded prompt is prefilled in chunks (0.32).
    engine = start(small[0], processor, max_num_batched_tokens=1024)
    budgets = [Budget(40, 2)] * len(prompts)
    together = forced(engine, nano_tokenizer, prompts, budgets, 80, **SAMPLED)
    assert sum(r.waits for r in together) > 5
    for prompt, want in list(zip(prompts, together, strict=True))[:6]:
        (alone,) = forced(engine, nano_tokenizer, [prompt], [Budget(40, 2)], 80, **SAMPLED)
        assert alone == want
    other = forced(engine, nano_tokenizer, prompts, budgets, 80, **{**SAMPLED, "seed": 6})
    assert [r.token_ids for r in other] != [r.token_ids for r in together]


def test_ids_that_the_tokenizer_does_not_know_are_never_drawn(engine, nano_tokenizer, prompts):
    got = forced(engine, nano_tokenizer, prompts, [Budget(40)] * len(prompts), 90, temperature=2.0)
    assert max(t for r in got for t in r.token_ids) < len(nano_tokenizer)


def test_unforced_requests_are_those_of_an_engine_without_us(small, engine, prompts):
    other = start(small[0], processor=None)
    assert plain(engine, prompts) == plain(other, prompts)


def test_preempted_requests_go_on_where_they_were(
    small, processor, engine, nano_tokenizer, prompts, monkeypatch
):
    resumed = []
    earlier = BudgetForcingProcessor._earlier

    def spy(self, name, planned, prefix, tokens):
        events = earlier(self, name, planned, prefix, tokens)
        if tokens:
            resumed.append(events)
        return events

    monkeypatch.setattr(BudgetForcingProcessor, "_earlier", spy)
    tight = start(small[0], processor, num_gpu_blocks_override=5, block_size=128)
    budgets = [Budget(100, 3)] * len(prompts)
    want = forced(engine, nano_tokenizer, prompts, budgets, 250)
    got = forced(tight, nano_tokenizer, prompts, budgets, 250)
    assert got == want
    assert len(resumed) > 3 and any(resumed), "nothing was preempted"


def test_samples_of_one_prompt_differ_and_obey(engine, nano_tokenizer, prompts):
    extra = {"max_tokens_thinking": 20, "thinking_n_ignore": 1}
    got = plain(engine, prompts[:1], n=8, temperature=1.0, extra_args=extra)
    assert len({tuple(tokens) for tokens in got}) > 4
    answer = nano_tokenizer.encode("<|im_start|>answer", add_special_tokens=False)
    for tokens in got:
        starts = [i for i in range(len(tokens)) if tokens[i : i + len(answer)] == answer]
        assert starts and starts[0] <= 21


def test_a_prompt_without_the_thinking_prefix_gets_it(engine, nano_tokenizer, prompts):
    prefix = TextEncoder(nano_tokenizer).scaffold_ids(S1.think_start)
    extra = {"max_tokens_thinking": 15, "thinking_n_ignore": 2}
    whole = plain(engine, prompts, extra_args=extra)
    for missing in range(1, len(prefix) + 1):
        cut = plain(engine, [p[:-missing] for p in prompts], extra_args=extra)
        for tokens, want in zip(cut, whole, strict=True):
            assert tokens == (prefix[-missing:] + want)[:60]


def test_a_request_that_is_refused_late_ends_and_leaves_the_others(engine, prompts):
    extra = {"max_tokens_thinking": 55}  # fits max_tokens, but not with an answer
    both = engine.generate(
        [TokensPrompt(prompt_token_ids=p) for p in prompts[:2]],
        [
            SamplingParams(max_tokens=60, temperature=0.0, extra_args=extra),
            SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True),
        ],
        use_tqdm=False,
    )
    assert both[0].outputs[0].text == "" and len(both[0].outputs[0].token_ids) == 1
    assert len(both[1].outputs[0].token_ids) == 60


def test_a_refusal_reaches_the_caller(engine, prompts):
    params = SamplingParams(stop=["x"], extra_args={"max_tokens_thinking": 5})
    with pytest.raises(VLLMValidationError, match="stop"):
        engine.generate([TokensPrompt(prompt_token_ids=prompts[0])], params, use_tqdm=False)


def test_a_cap_beyond_the_context_ends_there(engine, nano_tokenizer, prompts):
    """No max_tokens: vLLM fills in what the context leaves, and the context binds."""
    params = SamplingParams(
        temperature=0.0, max_tokens=None, ignore_eos=True,
        extra_args={"max_tokens_thinking": 5000, "thinking_n_ignore": 500},
    )  # fmt: skip
    (output,) = engine.generate([TokensPrompt(prompt_token_ids=prompts[0])], params, use_tqdm=False)
    tokens = list(output.outputs[0].token_ids)
    assert len(prompts[0]) + len(tokens) == 512
    final = nano_tokenizer.encode("<|im_start|>answer\nFinal Answer:", add_special_tokens=False)
    assert any(tokens[i : i + len(final)] == final for i in range(len(tokens)))


def test_stop_tokens_that_forcing_puts_in_are_refused(engine, nano_tokenizer, prompts):
    params = SamplingParams(
        temperature=0.0, max_tokens=60,
        stop_token_ids=[nano_tokenizer.convert_tokens_to_ids("<|im_start|>")],
        extra_args={"max_tokens_thinking": 9},
    )  # fmt: skip
    (output,) = engine.generate([TokensPrompt(prompt_token_ids=prompts[0])], params, use_tqdm=False)
    assert len(output.outputs[0].token_ids) == 1
