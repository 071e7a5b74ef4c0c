"""The transformers driver against the multi-round oracle and against exact laws."""

import itertools
import os
import random
import warnings
from dataclasses import replace

import pytest
import torch
from transformers import LogitsProcessorList, TopPLogitsWarper

from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.forcing.budget import Budget, plan
from s1_plugin.forcing.state import Thinking
from s1_plugin.forcing.transformers import (
    WARPERS,
    BudgetForcing,
    ForcedDecoding,
    Row,
    _Draw,
    generate_arguments,
    left_padded,
    responses,
)
from s1_plugin.formats import S1
from tests import tiny
from tests.forcing.law import WARPER_SETTINGS, warpers_of_generate
from tests.forcing.oracle import multi_round
from tests.forcing.test_state import ends_with_newline, make_plan

FULL = os.environ.get("S1_TEST_FULL") == "1"
TIE = 1e-4


def biased_model(vocabulary, end_ids, every, seed=0):
    """A tiny random Qwen2 that ends its thinking at every ``every``-th position of the sequence.

    Left to itself a random model falls into a loop and either never ends or always does.
    """
    from transformers import Qwen2ForCausalLM

    class Biased(Qwen2ForCausalLM):
        def forward(self, *args, position_ids=None, **kwargs):
            out = super().forward(*args, position_ids=position_ids, **kwargs)
            ending = (position_ids[:, -out.logits.shape[1] :] % every == 0).to(out.logits)
            out.logits[..., end_ids] += 50 * ending.unsqueeze(-1)
            return out

    return tiny.qwen2(
        vocabulary,
        seed,
        Biased,
        hidden_size=32,
        intermediate_size=64,
        max_position_embeddings=2048,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=end_ids[0],
    ).eval()


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
    arguments = generate_arguments(run)
    ids, mask = left_padded(prompts, arguments["pad_token_id"])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
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
    model = biased_model(152064, ends, every=7)
    questions = ["What is 2+2?", "Find $x$.", "How many r in raspberry? " * 4, "Hi"]
    questions += [f"What is {'2 + ' * n}2?" for n in range(10)]
    cells = [(c, w, 7) for c in (1, 2, 3, 4, 5, 8) for w in (0, 4)]
    cells += [(c, w, 7) for c in (20, 25, 30) for w in (0, 1, 2)]
    if FULL:
        cells = [(c, w, 7) for c in (1, 2, 3, 5, 8, 13, 21, 30) for w in range(5)]
    seen = parity(model, qwen, questions, cells, 45)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen
    assert seen["ties"] <= 1 + seen["compared"] // 100, seen


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
    counts = [0, 0, 0, 0]
    logits = torch.full((1, 12), -torch.inf)
    logits[0, 0] = torch.tensor(0.4).log()
    logits[0, 5:9] = torch.tensor(0.15).log()
    run = ForcedDecoding([], [], ends_with_newline=ends_with_newline, vocabulary=12, seed=1)
    run.rows = [
        Row(Thinking(make_plan(9, 1, [[]]), ends_with_newline), [], f"{i}/0") for i in range(4000)
    ]
    _Draw(run, LogitsProcessorList(), True)(torch.zeros(4000, 1), logits.repeat(4000, 1))
    for row in run.rows:
        if row.state.waits:
            counts[row.tokens[0] - 5] += 1
    expected = sum(counts) / 4
    assert sum(counts) > 1400
    assert sum((c - expected) ** 2 / expected for c in counts) < 16.3, counts  # p > 0.001, 3 d.f.


def test_every_warper_of_transformers_is_known_and_tested():
    found = warpers_of_generate()
    assert len(found) >= 8
    assert found == WARPERS - {"InfNanRemoveLogitsProcessor", "LogitNormalization"}
    assert found == {name for _, name in WARPER_SETTINGS}


HOW = [setting for setting, _ in WARPER_SETTINGS] + [
    {"temperature": 1.5, "top_k": 30, "top_p": 0.9, "min_p": 0.02, "renormalize_logits": True},
    {"remove_invalid_values": True},
]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_sampling_does_not_depend_on_the_batch(small, how):
    model, encoder = small
    how = {"do_sample": True, "top_k": 0, **how}
    prompts = prompts_of(encoder, ["1+2", "3+4+5", "7+7", "1+1+1+1+1+1"])
    budgets = [Budget(40, 1), Budget(0), Budget(25, 2, ""), Budget(60, 3)]
    together, _ = forced(model, encoder, prompts, budgets, 80, how, seed=5)
    for prompt, budget, want in zip(prompts, budgets, together, strict=True):
        alone, _ = forced(model, encoder, [prompt], [budget], 80, how, seed=5)
        assert alone[0] == want
    other, _ = forced(model, encoder, prompts, budgets, 80, how, seed=6)
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


# -- what generate offers besides -----------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"num_beams": 2},
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 3},
        {"suppress_tokens": [1]},
        {"prompt_lookup_num_tokens": 2},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"prefix_allowed_tokens_fn": lambda batch, ids: [1]},
        {"logits_processor": [lambda ids, scores: scores]},
    ],
    ids=lambda how: next(iter(how)),
)
def test_what_would_break_the_law_is_refused(small, how):
    model, encoder = small
    prompts = prompts_of(encoder, ["1+2"])
    with pytest.raises(ValueError, match=r"cannot be combined with budget forcing.*(set|remove)"):
        forced(model, encoder, prompts, [Budget(5)], 80, {"do_sample": False, **how})


@pytest.mark.parametrize("name", ["assistant_model", "streamer"])
def test_what_generate_would_not_hand_on_cannot_be_given_to_it(small, name):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=10)
    with pytest.raises(TypeError, match=f"multiple values for keyword argument '{name}'"):
        model.generate(**forcing.inputs("1+2"), **forcing, max_new_tokens=80, **{name: object()})


def ask(model, forcing, *questions, **how):
    """The README's three lines."""
    model.generate(**forcing.inputs(*questions), **forcing, max_new_tokens=80, **how)
    return forcing.responses()


def test_the_two_line_interface(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=10, waits=1)
    questions = ["1+2+3", "4", "5+6+7+8+9+1+2"]
    got = ask(model, forcing, *questions)
    want, _ = forced(model, encoder, prompts_of(encoder, questions), [Budget(10, 1)] * 3, 80)
    assert got == want
    assert {r.ended for r in got} <= {"natural", "cap"}
    assert all(r.thinking_tokens <= 10 and r.answer is not None for r in got)


def test_settings_reach_the_budget(small):
    _, encoder = small
    forcing = BudgetForcing(
        encoder.tokenizer,
        cap=50,
        waits=2,
        wait_text=["Wait", "Hmm"],
        min_thinking=7,
        forced_answer="So:",
        answer_reserve=9,
    )
    assert forcing.budget == Budget(50, 2, ("Wait", "Hmm"), 7, "So:", 9)
    with pytest.raises(ValueError, match="cap"):
        BudgetForcing(encoder.tokenizer, cap="Auto")
    with pytest.raises(ValueError, match="known formats"):
        BudgetForcing(encoder.tokenizer, format="s2")
    with pytest.raises(ValueError, match="nothing generated yet"):
        forcing.responses()


def test_a_prompt_that_lacks_the_thinking_prefix_gets_it(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=30, waits=1, seed=4)
    how = {"do_sample": True, "top_k": 0}
    want = ask(model, forcing, "1+2", "3+4+5", **how)
    encoder.tokenizer.padding_side = "left"
    inputs = encoder.tokenizer.apply_chat_template(
        [[{"role": "user", "content": q}] for q in ("1+2", "3+4+5")],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        padding=True,
    )
    out = model.generate(**inputs, **forcing, max_new_tokens=80, **how)
    start = encoder.scaffold_ids(S1.think_start)
    width = inputs["input_ids"].shape[1]
    assert out[:, width : width + len(start)].tolist() == [start] * 2
    for got, response in zip(forcing.responses(), want, strict=True):
        # max_new_tokens holds the prefix now
        assert got.token_ids == response.token_ids[: 80 - len(start)]
        assert (got.thinking_tokens, got.waits) == (response.thinking_tokens, response.waits)


def test_padding_on_the_right_and_embeddings_are_refused(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=10)
    inputs = forcing.inputs("1+2", "1+2+3")
    flipped = {name: tensor.flip(1) for name, tensor in inputs.items()}
    with pytest.raises(ValueError, match="padding_side='left'"):
        model.generate(**flipped, **forcing, max_new_tokens=80)
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    with pytest.raises(ValueError, match="needs input_ids"):
        model.generate(inputs_embeds=embeddings, **forcing, max_new_tokens=80)


def test_without_room_for_an_answer_the_remedy_is_said(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=100)
    with pytest.raises(ValueError, match=r"max_new_tokens\) 50; raise"):
        model.generate(**forcing.inputs("1+2"), **forcing, max_new_tokens=50)


def test_the_models_context_binds(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=500, waits=9)
    inputs = forcing.inputs("+".join("1" * 975))
    width = inputs["input_ids"].shape[1]
    assert 0 < 2048 - width < 100
    out = model.generate(**inputs, **forcing, max_new_tokens=900)
    assert out.shape[1] <= 2048
    (response,) = forcing.responses()
    assert response.ended == "context"
    assert response.answer_tokens > 0


def test_sampling_defaults_of_a_qwen_model_are_followed_but_for_its_penalty(small):
    model, encoder = small
    model.generation_config.update(
        do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05
    )
    try:
        forcing = BudgetForcing(encoder.tokenizer, cap=30, waits=1)
        with pytest.warns(UserWarning, match=r"leaves out repetition_penalty=1.05"):
            got = ask(model, forcing, "1+2")
        with pytest.raises(ValueError, match=r"set repetition_penalty=1.0"):
            ask(model, forcing, "1+2", repetition_penalty=1.3)
    finally:
        model.generation_config.update(
            do_sample=False, temperature=1.0, top_p=1.0, top_k=50, repetition_penalty=1.0
        )
    how = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    assert ask(model, forcing, "1+2", **how) == got
    assert ask(model, forcing, "1+2") != got


def test_several_samples_of_one_prompt_differ_and_are_repeatable(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=30, waits=1, seed=3)
    how = {"do_sample": True, "num_return_sequences": 4}
    first = ask(model, forcing, "1+2+3", "4+5", **how)
    assert ask(model, forcing, "1+2+3", "4+5", **how) == first
    assert len(first) == 8
    assert len({tuple(r.token_ids) for r in first[:4]}) > 2
    # rows of one prompt stand together, and do not depend on the other prompt
    assert ask(model, forcing, "4+5", **how) == first[4:]
    assert all(len(r.token_ids) <= 80 for r in first)


@pytest.mark.parametrize("how", [{}, {"do_sample": True, "top_p": 0.9}], ids=str)
def test_a_static_cache_gives_the_same_tokens(small, how):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=20, waits=1)
    questions = ("1+2+3", "4", "5+6+7+8+9+1")
    want = ask(model, forcing, *questions, **how)
    assert ask(model, forcing, *questions, cache_implementation="static", **how) == want
    assert ask(model, forcing, *questions, use_cache=False, **how) == want


def test_tokens_stream_as_they_come(small):
    from transformers import TextIteratorStreamer

    model, encoder = small
    streamer = TextIteratorStreamer(encoder.tokenizer, timeout=0)
    forcing = BudgetForcing(encoder.tokenizer, cap=20, waits=1, streamer=streamer)
    (response,) = ask(model, forcing, "1+2+3")
    prompt = encoder.tokenizer.decode(forcing.prompt("1+2+3"))
    text = "".join(streamer)
    assert text.startswith(prompt.removesuffix(S1.think_start) + response.text)
    assert streamer.text_queue.empty()


def test_logits_are_the_models_and_scores_are_one_hot(small):
    model, encoder = small
    forcing = BudgetForcing(encoder.tokenizer, cap=5)
    inputs = forcing.inputs("1+2")
    out = model.generate(
        **inputs,
        **forcing,
        max_new_tokens=80,
        return_dict_in_generate=True,
        output_logits=True,
        output_scores=True,
    )
    with torch.inference_mode():
        first = model(**inputs, position_ids=torch.arange(inputs["input_ids"].shape[1])[None])
    assert torch.allclose(out.logits[0], first.logits[:, -1], atol=1e-5)
    for step, score in enumerate(out.scores):
        (token,) = (score[0] > -torch.inf).nonzero().flatten().tolist()
        assert token == out.sequences[0, inputs["input_ids"].shape[1] + step]


def test_a_format_of_ones_own_with_a_delimiter_of_several_tokens(small):
    model, encoder = small
    own = replace(
        S1,
        name="mine",
        answer_start="<|im_start|>1+2:",
        end_of_thinking=("<|im_start|>1+2:", "<|im_end|>"),
        forced_answer="=",
    )
    questions = ["1+2+3", "4", "5+6+7+8+9+1", "3+3"]
    got = ask(model, BudgetForcing(encoder.tokenizer, cap=11, format=own), *questions)
    usual = ask(model, BudgetForcing(encoder.tokenizer, cap=11), *questions)
    assert {r.ended for r in got} == {"natural", "cap"}
    for response, s1 in zip(got, usual, strict=True):
        assert response.thinking == s1.thinking
        closing = "<|im_start|>1+2:" + ("=" if response.ended == "cap" else "")
        newline = "" if response.ended == "natural" or s1.thinking.endswith("\n") else "\n"
        assert response.text.startswith(S1.think_start + s1.thinking + newline + closing)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("how", [{}, {"do_sample": True, "top_p": 0.9}], ids=str)
def test_the_host_waits_for_the_device_once_per_step(how):
    rows = [Row(Thinking(make_plan(99, 1, [[7]]), ends_with_newline), [], n) for n in "1234"]
    run = ForcedDecoding([], [], ends_with_newline=ends_with_newline, vocabulary=120)
    run.rows = rows
    chain = LogitsProcessorList([TopPLogitsWarper(0.9)] if how else [])
    draw, ids = _Draw(run, chain, bool(how)), torch.zeros(4, 1, device="cuda", dtype=torch.long)
    logits = torch.randn(4, 128, device="cuda")
    draw(ids, logits.clone())
    torch.cuda.set_sync_debug_mode("warn")
    try:
        for _ in range(20):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                draw(ids, logits.clone())
            assert len(said) <= 1, [str(w.message) for w in said]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(len(row.tokens) == 21 for row in rows)
