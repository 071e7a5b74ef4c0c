"""The transformers driver against the multi-round oracle and against exact laws."""

import itertools
import os
import random

import pytest
import torch

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.budget import Budget, plan
from s1_plugin.forcing.transformers import (
    BudgetForcing,
    ForcedDecoding,
    generate_arguments,
    newline_test,
    responses,
)
from s1_plugin.formats import S1
from tests.forcing.oracle import multi_round

FULL = os.environ.get("S1_TEST_FULL") == "1"
TIE = 1e-4


def biased_model(vocabulary, end_ids, every, seed=0):
    """A tiny random Qwen2 that ends its thinking at every ``every``-th position of the sequence.

    Left to itself a random model falls into a loop and either never ends or always does.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    class Biased(Qwen2ForCausalLM):
        def forward(self, *args, position_ids=None, **kwargs):
            out = super().forward(*args, position_ids=position_ids, **kwargs)
            ending = (position_ids[:, -out.logits.shape[1] :] % every == 0).to(out.logits)
            out.logits[..., end_ids] += 50 * ending.unsqueeze(-1)
            return out

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=end_ids[0],
    )
    return Biased(config).eval()


def forced(model, encoder, prompts, budgets, max_new_tokens, sampling=None, seed=0):
    start = encoder.scaffold_ids(S1.think_start)
    run = ForcedDecoding(
        [
            plan(b, encoder, S1, prompt_length=len(p) - len(start), max_new_tokens=max_new_tokens)
            for p, b in zip(prompts, budgets, strict=True)
        ],
        [str(p) for p in prompts],
        ends_with_newline=newline_test(encoder.tokenizer),
        vocabulary=len(encoder.tokenizer),
        seed=seed,
    )
    width = max(map(len, prompts))
    arguments = generate_arguments(run)
    pad = arguments["pad_token_id"]
    with torch.inference_mode():
        out = model.generate(
            input_ids=torch.tensor([[pad] * (width - len(p)) + p for p in prompts]),
            attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]),
            **(sampling or {"do_sample": False}),
            **arguments,
        )
    return responses(run, encoder, S1.think_start), out


def two_best_are_tied(model, ids, vocabulary, banned=()):
    with torch.inference_mode():
        positions = torch.arange(len(ids)).unsqueeze(0)
        logits = (
            model(torch.tensor([ids]), position_ids=positions)
            .logits[0, -1, :vocabulary]
            .float()
            .clone()
        )
    logits[list(banned)] = -torch.inf
    best = logits.topk(2).values
    return float(best[0] - best[1]) < TIE


def parity(model, tokenizer, questions, cells, max_new_tokens):
    """Compares every cell with the oracle; returns counts of how thinking ended, and ties."""
    encoder = TextEncoder(tokenizer)
    start = encoder.scaffold_ids(S1.think_start)
    prompts = [encoder.encode(encoder.prompt_pieces(q, S1)) + start for q in questions]
    seen = {"natural": 0, "cap": 0, "waits": 0, "ties": 0, "compared": 0}
    expected = {}
    for cap, waits, batch_size in cells:
        for first in range(0, len(prompts), batch_size):
            batch = prompts[first : first + batch_size]
            got, _ = forced(
                model, encoder, batch, [Budget(cap, waits)] * len(batch), max_new_tokens
            )
            for prompt, response in zip(batch, got, strict=True):
                key = (tuple(prompt), cap, waits)
                if key not in expected:
                    expected[key] = multi_round(
                        model,
                        tokenizer,
                        prompt,
                        cap=cap,
                        waits=waits,
                        wait_text="Wait",
                        max_new_tokens=max_new_tokens,
                        vocabulary=len(tokenizer),
                    )
                want = expected[key]
                seen["compared"] += 1
                if response.token_ids != want.tokens:
                    at = next(
                        i
                        for i, (a, b) in enumerate(
                            itertools.zip_longest(response.token_ids, want.tokens)
                        )
                        if a != b
                    )
                    prefix = prompt + want.tokens[:at]
                    assert two_best_are_tied(model, prefix, len(tokenizer)), (cap, waits, at)
                    seen["ties"] += 1
                    continue
                assert response.thinking_tokens == want.thinking_tokens <= cap
                assert (response.waits, response.ended) == (want.waits, want.ended)
                assert response.finished == want.finished
                seen[want.ended] += 1
                seen["waits"] += want.waits
    return seen


def covering(caps, waits, batch_sizes, full):
    cells = list(itertools.product(caps, waits, batch_sizes))
    if full:
        return cells
    # every pair of (cap, waits) once, batch sizes in turn
    pairs = itertools.product(caps, waits)
    return [(c, w, batch_sizes[i % len(batch_sizes)]) for i, (c, w) in enumerate(pairs)]


def test_greedy_equals_the_multi_round_procedure(nano_base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    ends = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|im_start|>")]
    # Spare ids beyond the tokenizer's, as in Qwen2.5: they must never be drawn.
    model = biased_model(len(tokenizer) + 8, ends, every=23)
    chance = random.Random(0)
    questions = ["+".join(str(chance.randint(0, 9)) for _ in range(n)) for n in range(2, 12)]
    caps = range(1, 201) if FULL else [1, 2, 5, 13, 34, 70, 110, 200]
    seen = parity(model, tokenizer, questions, covering(caps, range(5), [1, 8], FULL), 260)
    assert seen["natural"] >= 100 and seen["cap"] >= 100 and seen["waits"] >= 100, seen
    assert seen["ties"] <= seen["compared"] // 100, seen


def test_greedy_equals_the_multi_round_procedure_with_the_real_tokenizer(qwen):
    ends = [151645, 151644, 151643]
    model = biased_model(152064, ends, every=13)
    questions = ["What is 2+2?", "Find $x$.", "How many r in raspberry? " * 4, "Hi"] * 2
    cells = [(1, 0, 8), (3, 1, 8), (10, 2, 8), (10, 4, 1), (40, 1, 8), (40, 4, 8), (60, 0, 8)]
    seen = parity(model, qwen, questions, cells, 80)
    assert seen["natural"] and seen["cap"] and seen["waits"], seen
    assert seen["ties"] <= 1, seen


@pytest.fixture(scope="module")
def small(nano_base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    ends = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|im_start|>")]
    return biased_model(len(tokenizer) + 8, ends, every=23), TextEncoder(tokenizer)


def prompts_of(encoder, questions):
    start = encoder.scaffold_ids(S1.think_start)
    return [encoder.encode(encoder.prompt_pieces(q, S1)) + start for q in questions]


def test_an_empty_wait_string_goes_on_without_an_end(small):
    model, encoder = small
    prompts = prompts_of(encoder, ["1+2", "3+4+5", "7+7"])
    plain, _ = forced(model, encoder, prompts, [Budget(60)] * 3, 100)
    got, _ = forced(model, encoder, prompts, [Budget(60, 2, "")] * 3, 100)
    for before, after in zip(plain, got, strict=True):
        n = before.thinking_tokens
        assert after.token_ids[:n] == before.token_ids[:n]
        if before.ended == "natural":
            assert after.waits >= 1
            assert after.thinking_tokens > n


def test_a_draw_after_an_empty_wait_is_a_draw_of_its_own():
    """Four equal tokens and an end: after the end was dropped each must come as often."""
    from types import SimpleNamespace

    from transformers import LogitsProcessorList

    from s1_plugin.forcing.transformers import _Draw, _Row
    from tests.forcing.test_state import ends_with_newline, make_plan

    counts = [0, 0, 0, 0]
    logits = torch.full((1, 12), -torch.inf)
    logits[0, 0] = torch.tensor(0.4).log()
    logits[0, 5:9] = torch.tensor(0.15).log()
    for i in range(4000):
        from s1_plugin.forcing.state import Thinking

        row = _Row(Thinking(make_plan(9, 1, [[]]), ends_with_newline), [], f"{i}/0")
        run = SimpleNamespace(rows=[row], vocabulary=12, seed=1, on_token=None)
        _Draw(run, LogitsProcessorList(), True, [1])(torch.zeros(1, 1), logits.clone())
        if row.state.waits:
            counts[row.tokens[0] - 5] += 1
    expected = sum(counts) / 4
    assert sum(counts) > 1400
    assert sum((c - expected) ** 2 / expected for c in counts) < 16.3, counts  # p > 0.001, 3 d.f.


def test_sampling_does_not_depend_on_the_batch(small):
    model, encoder = small
    prompts = prompts_of(encoder, ["1+2", "3+4+5", "7+7", "1+1+1+1+1+1"])
    how = {"do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": 0}
    together, _ = forced(model, encoder, prompts, [Budget(40, 1)] * 4, 80, how, seed=5)
    for prompt, want in zip(prompts, together, strict=True):
        alone, _ = forced(model, encoder, [prompt], [Budget(40, 1)], 80, how, seed=5)
        assert alone[0].token_ids == want.token_ids
    other, _ = forced(model, encoder, prompts, [Budget(40, 1)] * 4, 80, how, seed=6)
    assert [r.token_ids for r in other] != [r.token_ids for r in together]


def test_spare_ids_of_the_embedding_are_never_drawn(small):
    model, encoder = small
    how = {"do_sample": True, "temperature": 5.0, "top_k": 0}
    prompts = prompts_of(encoder, [f"{i}+1" for i in range(10)])
    got, _ = forced(model, encoder, prompts, [Budget(40)] * 10, 80, how)
    drawn = {t for r in got for t in r.token_ids}
    assert max(drawn) < len(encoder.tokenizer)


def test_the_text_is_what_was_generated(small):
    model, encoder = small
    prompts = prompts_of(encoder, ["1+2", "3+4+5"])
    got, _ = forced(model, encoder, prompts, [Budget(2), Budget(50, 1)], 80)
    for response in got:
        assert response.text.startswith("<|im_start|>think")
        assert response.text.count("<|im_start|>answer") == 1
        assert response.thinking in response.text
        assert response.answer is not None and response.text.endswith(response.answer)
    assert (got[0].ended == "cap") == ("Final Answer:" in got[0].answer)


@pytest.mark.parametrize(
    "how", [{"num_beams": 2}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}]
)
def test_what_would_break_the_law_is_refused(small, how):
    model, encoder = small
    prompts = prompts_of(encoder, ["1+2"])
    with pytest.raises(ValueError, match="budget forcing"):
        forced(model, encoder, prompts, [Budget(5)], 80, {"do_sample": False, **how})


def test_the_two_line_interface(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=10, waits=1)
    ids = torch.tensor([forcing.prompt("1+2+3")])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model.generate(**inputs, **forcing.kwargs(inputs, max_new_tokens=80), do_sample=False)
    response = forcing.responses()[0]
    assert response.thinking_tokens <= 10
    assert response.answer is not None


def test_a_prompt_without_the_thinking_prefix_is_refused(small):
    _, encoder = small
    ids = torch.tensor([encoder.text_ids("1+2")])
    with pytest.raises(ValueError, match="does not end with"):
        BudgetForcing(encoder.tokenizer).kwargs({"input_ids": ids}, max_new_tokens=80)


def test_several_samples_of_one_prompt_differ_and_are_repeatable(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=30, waits=1, seed=3)
    ids = torch.tensor([forcing.prompt("1+2+3"), forcing.prompt("4+5+6")])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def sample():
        out = model.generate(
            **inputs,
            **forcing.kwargs(inputs, max_new_tokens=80),
            do_sample=True,
            num_return_sequences=4,
        )
        assert out.shape[0] == 8
        return [r.token_ids for r in forcing.responses()]

    first = sample()
    assert sample() == first
    assert len({tuple(r) for r in first}) > 4
    assert all(len(r) <= 80 for r in first)


def test_a_static_cache_gives_the_same_tokens(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=20, waits=1)
    ids = torch.tensor([forcing.prompt("1+2+3")])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    got = []
    for extra in ({}, {"cache_implementation": "static", "disable_compile": True}):
        model.generate(**inputs, **forcing.kwargs(inputs, max_new_tokens=80), **extra)
        got.append(forcing.responses()[0].token_ids)
    assert got[0] == got[1]


def test_tokens_stream_as_they_come(small):
    model, encoder = small

    class Streamer:
        def __init__(self):
            self.tokens = []

        def put(self, value):
            self.tokens += value.flatten().tolist()

        def end(self):
            self.ended = True

    forcing, streamer = BudgetForcing(encoder.tokenizer, cap=20, waits=1), Streamer()
    prompt = forcing.prompt("1+2+3")
    ids = torch.tensor([prompt])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model.generate(**inputs, **forcing.kwargs(inputs, 80, streamer=streamer))
    answer = forcing.responses()[0].token_ids
    assert streamer.ended
    assert streamer.tokens[: len(prompt) + len(answer)] == prompt + answer
