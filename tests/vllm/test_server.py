"""`vllm serve` with our processor under load: 64 requests at a time, forced and not."""

import asyncio
import itertools
import random

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

import aiohttp

from s1_plugin.encoding import TextEncoder
from s1_plugin.formats import S1
from tests.forcing.oracle import multi_round
from tests.forcing.test_openai import ids_of, sums
from tests.forcing.test_transformers import two_best_are_tied
from tests.vllm.server import MODEL, serve

AT_ONCE, LIMIT = 64, 200
PROCESSOR = "s1_plugin.forcing.vllm:BudgetForcingProcessor"


@pytest.fixture(scope="module")
def forcing_server(small, tmp_path_factory):
    log = tmp_path_factory.mktemp("serve") / "forcing.log"
    with serve(small[0], log, "--logits-processors", PROCESSOR) as url:
        yield url


@pytest.fixture(scope="module")
def encoder(nano_tokenizer):
    return TextEncoder(nano_tokenizer)


def complete(url, requests):
    """The choices that answer ``requests``, `AT_ONCE` at a time; errors as they come."""

    async def every():
        gate = asyncio.Semaphore(AT_ONCE)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one(request):
                async with gate, session.post(url, json=request) as reply:
                    body = await reply.json()
                    return body["choices"][0] if reply.status == 200 else body

            return await asyncio.gather(*map(one, requests))

    return asyncio.run(every())


def unforced(prompt):
    return {
        "model": MODEL,
        "prompt": prompt,
        "max_tokens": LIMIT,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }


def forced(encoder, prompt, cap, waits, **sampling):
    return {
        **unforced(prompt),
        "stop_token_ids": ids_of(encoder, "<|im_end|>", "<|endoftext|>"),
        "vllm_xargs": {"max_tokens_thinking": cap, "thinking_n_ignore": waits},
        **sampling,
    }


def found_of(got, last):
    """The ``last`` choices, by the requests' order."""
    return [got[i] for i in range(len(got) - last, len(got))]


def test_forced_requests_obey_and_the_others_do_not_notice(
    small, plain_server, forcing_server, encoder
):
    model, size = small[1], len(encoder.tokenizer)
    prefix = encoder.scaffold_ids(S1.think_start)
    prompts = [encoder.encode(encoder.prompt_pieces(q, S1)) + prefix for q in sums(16)]
    free = [unforced(prompt) for prompt in prompts * 6]
    budgets = list(itertools.product(prompts, (5, 20, 60, 140), (0, 1, 3)))
    greedy = [forced(encoder, *budget) for budget in budgets]
    how = {"temperature": 1.0, "top_p": 0.9}
    drawn = [forced(encoder, *budget, **how, seed=n) for n, budget in enumerate(budgets)]
    # Requests of others that sample with seeds: their draws must stay what they are.
    seeded = [{**unforced(p), **how, "seed": n} for n, p in enumerate(prompts)]
    requests = [*free, *greedy, *drawn, *seeded]
    order = random.Random(0).sample(range(len(requests)), len(requests))
    found = complete(forcing_server, [requests[i] for i in order])
    got = dict(zip(order, found, strict=True))
    assert not [choice for choice in got.values() if "token_ids" not in choice]

    ties = 0
    alone = complete(plain_server, free[: len(prompts)])
    for i, request in enumerate(free):
        ours, theirs = got[i]["token_ids"], alone[i % len(prompts)]["token_ids"]
        if ours != theirs:
            at = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
            prefix_ids = request["prompt"] + theirs[:at]
            assert two_best_are_tied(model, prefix_ids, model.config.vocab_size), at
            ties += 1

    same = [
        ours["token_ids"] == theirs["token_ids"]
        for ours, theirs in zip(
            found_of(got, len(seeded)), complete(plain_server, seeded), strict=True
        )
    ]
    # A draw may fall on the other side of a rounding that the rest of the batch has changed.
    assert sum(same) >= len(same) - 1, same

    seen = {"natural": 0, "cap": 0, "waits": 0}
    ends = ids_of(encoder, "<|im_end|>", "<|im_start|>")
    for n, (prompt, cap, waits) in enumerate(budgets):
        want = multi_round(
            model,
            encoder.tokenizer,
            prompt,
            cap=cap,
            waits=waits,
            wait_text="Wait",
            max_new_tokens=LIMIT,
            vocabulary=size,
        )
        choice = got[len(free) + n]
        assert choice["finish_reason"] == want.finished
        tokens = choice["token_ids"][:-1] if want.finished == "stop" else choice["token_ids"]
        if tokens != want.tokens:
            pairs = itertools.zip_longest(tokens, want.tokens)
            at = next(i for i, (a, b) in enumerate(pairs) if a != b)
            ids = prompt + want.tokens[:at]
            tied = two_best_are_tied(model, ids, size) or two_best_are_tied(model, ids, size, ends)
            assert tied, (cap, waits, at)
            ties += 1
            continue
        seen[want.ended] += 1
        seen["waits"] += want.waits
    print(seen, {"ties": ties})
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 40 and ties <= 3, (seen, ties)

    for n, (_, cap, waits) in enumerate(budgets):
        obeys(encoder, got[len(free) + len(greedy) + n]["token_ids"], cap, waits)


def obeys(encoder, tokens, cap, waits):
    """One delimiter, where the budget says; as many Waits as asked for, unless the cap came."""
    (start,), (newline,) = ids_of(encoder, "<|im_start|>"), encoder.text_ids("\n")
    delimiter, suffix = encoder.scaffold_ids(S1.answer_start), encoder.text_ids(S1.forced_answer)
    wait = encoder.text_ids("Wait")
    thinking, rest = tokens[: tokens.index(start)], tokens[tokens.index(start) :]
    assert rest[: len(delimiter)] == delimiter
    assert encoder.added["<|im_end|>"] not in thinking and max(tokens) < len(encoder.tokenizer)
    if rest[len(delimiter) :][: len(suffix)] == suffix:  # cut
        if len(thinking) == cap + 1:
            assert thinking.pop() == newline
        assert cap - len(wait) < len(thinking) <= cap  # less where a Wait did not fit
    else:
        assert len(thinking) <= cap
        found = sum(thinking[i : i + len(wait)] == wait for i in range(len(thinking)))
        assert found >= waits


def test_what_cannot_be_honoured_is_refused_by_the_server(forcing_server, encoder):
    request = forced(encoder, [5, 6, 7], 10, 0)
    (penalty, negative, nested, good) = complete(
        forcing_server,
        [
            {**request, "presence_penalty": 1.0},
            {**request, "vllm_xargs": {"max_tokens_thinking": -1}},
            {**request, "vllm_xargs": {"max_tokens_thinking": {"a": 1}}},
            request,
        ],
    )
    assert "presence_penalty" in penalty["error"]["message"] and penalty["error"]["code"] == 400
    assert "whole number" in negative["error"]["message"] and negative["error"]["code"] == 400
    assert nested["error"]["code"] == 400
    assert good["token_ids"]
