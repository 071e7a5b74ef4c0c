"""The rounds driver against real local servers, good and bad."""

import asyncio
import itertools
import logging
import random
import threading
import time
from dataclasses import replace

import pytest

from s1_plugin.encoding import TextEncoder, decode
from s1_plugin.forcing.budget import Budget, plan
from s1_plugin.forcing.dialect import Server, ServerError
from s1_plugin.forcing.http import Endpoint, retry_after
from s1_plugin.forcing.openai import Job, complete
from s1_plugin.forcing.state import Thinking, replay
from s1_plugin.formats import S1
from tests.forcing import completion_server
from tests.forcing.completion_server import HashModel, TorchModel
from tests.forcing.oracle import multi_round
from tests.forcing.test_transformers import biased_model, two_best_are_tied

SECRET = "sk-very-secret-4711"


@pytest.fixture(scope="module")
def encoder(nano_base):
    from transformers import AutoTokenizer

    return TextEncoder(AutoTokenizer.from_pretrained(nano_base))


def ids_of(encoder, *names):
    return [encoder.added[name] for name in names]


def hash_server(encoder, **how):
    """A server whose model writes what is one token each wherever it stands, in text too."""
    marks = [i for c in ".,;:!?*\n" for i in encoder.text_ids(c)]
    ends = ids_of(encoder, "<|im_start|>", "<|im_end|>")
    model = HashModel(marks, ends)
    eos = ids_of(encoder, "<|im_end|>", "<|endoftext|>")
    return completion_server.Server(model, encoder.tokenizer, eos=eos, **how)


def job(encoder, question, cap, waits=0, max_new_tokens=160, budget=None, **how):
    prompt = encoder.encode(encoder.prompt_pieces(question, S1))
    budget = budget or Budget(cap, waits)
    return Job(
        prompt + encoder.scaffold_ids(S1.think_start),
        plan(budget, encoder, S1, prompt_length=len(prompt), max_new_tokens=max_new_tokens),
        S1,
        **how,
    )


def run(server, encoder, jobs, *, learn=True, on_token=None, **how):
    """Responses and states, all jobs at once."""

    async def all_jobs():
        async with Endpoint(server.url, **{"timeout": 20, **how}) as endpoint:
            driver = Server(endpoint, "tiny", encoder)
            if learn:
                await driver.learn(jobs[0].prompt, jobs[0].plan.end_ids)
            else:
                driver.dialect = replace(driver.dialect, token_replies=True)
            return await asyncio.gather(*(complete(driver, j, on_token) for j in jobs))

    return asyncio.run(all_jobs())


def naive(model, encoder, job):
    """What the rounds must give: the state machine beside the model itself, no server."""
    tokens = []
    state = Thinking(job.plan, lambda t: decode(encoder.tokenizer, [t]).endswith("\n"))
    while len(tokens) < job.plan.max_new_tokens:
        token = state.due()
        if token is None:
            banned = dict.fromkeys(job.plan.end_ids, -100) if state.must_not_end() else {}
            token = next(model.stream([*job.prompt, *tokens], banned))
            if state.answering and token in job.plan.stop_ids:
                break
        stands = state.push(token)
        tokens += [] if stands is None else [stands]
    return tokens, state


def grid(encoder, caps=(0, 1, 7, 30, 90), waits=(0, 1, 3)):
    """Budgets, each with a question of its own. (None of these ends its thinking at once: in a
    text prompt `think` and a Wait right after it are one word, with other tokens.)"""
    chance = random.Random(0)
    cells = [
        ("+".join(str(chance.randint(0, 9)) for _ in range(4)), cap, n)
        for cap in caps
        for n in waits
    ]
    return [job(encoder, *cell) for cell in cells if cell[1:] not in ((0, 1), (0, 3))]


def against_oracle(model, tokenizer, jobs, got):
    """Compares responses with the multi-round procedure; counts how thinking ended, and ties."""
    seen = {"natural": 0, "cap": 0, "waits": 0, "ties": 0}
    for one, (response, _) in zip(jobs, got, strict=True):
        want = multi_round(
            model,
            tokenizer,
            list(one.prompt),
            cap=one.plan.cap,
            waits=one.plan.waits,
            wait_text="Wait",
            max_new_tokens=one.plan.max_new_tokens,
            vocabulary=len(tokenizer),
        )
        assert response.error == ""
        if response.token_ids != want.tokens:
            pairs = itertools.zip_longest(response.token_ids, want.tokens)
            at = next(i for i, (a, b) in enumerate(pairs) if a != b)
            prefix = [*one.prompt, *want.tokens[:at]]
            assert two_best_are_tied(model, prefix, len(tokenizer)) or two_best_are_tied(
                model, prefix, len(tokenizer), one.plan.end_ids
            ), (one.plan.cap, one.plan.waits, at)
            seen["ties"] += 1
            continue
        assert response.thinking_tokens == want.thinking_tokens <= one.plan.cap
        assert (response.waits, response.ended) == (want.waits, want.ended)
        assert response.finished == want.finished
        seen[want.ended] += 1
        seen["waits"] += want.waits
    print(seen)
    assert seen["ties"] <= len(jobs) // 100, seen
    return seen


def sums(count, seed=0):
    chance = random.Random(seed)
    return ["+".join(str(chance.randint(0, 9)) for _ in range(n + 2)) for n in range(count)]


def test_greedy_equals_the_multi_round_procedure(encoder):
    tokenizer = encoder.tokenizer
    ends = ids_of(encoder, "<|im_end|>", "<|im_start|>")
    model = biased_model(len(tokenizer) + 8, ends, every=23)
    cells = itertools.product(sums(4), (1, 30, 62), (0, 1, 3))
    jobs = [job(encoder, q, cap, waits, 90) for q, cap, waits in cells]
    eos = ids_of(encoder, "<|im_end|>", "<|endoftext|>")
    with completion_server.Server(TorchModel(model, len(tokenizer)), tokenizer, eos=eos) as server:
        got = run(server, encoder, jobs)
    seen = against_oracle(model, tokenizer, jobs, got)
    # A hundred of each: on the trained nano model (tests/e2e) and a real server (tests/vllm).
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 10, seen


@pytest.mark.parametrize("how", [{}, {"limit": 5}, {"ids": False}, {"ids": False, "limit": 5}])
def test_rounds_equal_the_model_driven_directly(encoder, how):
    jobs = grid(encoder)
    with hash_server(encoder, **how) as server:
        got = run(server, encoder, jobs)
        for one, (response, state) in zip(jobs, got, strict=True):
            tokens, want = naive(server.model, encoder, one)
            assert (response.error, response.token_ids) == ("", tokens)
            assert (response.thinking_tokens, response.waits) == (want.thinking_tokens, want.waits)
            assert (response.ended, response.forced) == (want.ended, want.forced)
            # What was drawn is enough to tell every smaller budget's thinking.
            assert (
                replay(one.plan, driver_newline(encoder), state.draws)[1]
                == tokens[: want.answer_at]
            )
    assert {r.ended for r, _ in got} == {"natural", "cap"} and any(r.waits > 1 for r, _ in got)


@pytest.mark.parametrize("how", [{}, {"limit": 3}])
def test_every_kind_of_budget(encoder, how):
    chance = random.Random(1)
    texts = ("Wait", "Hmm", "", " But wait,\n")
    budgets = [
        Budget(
            cap := chance.choice([5, 23, 60, 100]),
            chance.randint(0, 4),
            tuple(chance.sample(texts, chance.randint(1, 3))),
            min_thinking=chance.randint(0, cap),
            forced_answer=chance.choice([None, "", "\nSo:"]),
        )
        for _ in range(60)
    ]
    jobs = [job(encoder, f"{n}+1", 0, budget=budget) for n, budget in enumerate(budgets)]
    with hash_server(encoder, **how) as server:
        got = run(server, encoder, jobs)
        for one, (response, state) in zip(jobs, got, strict=True):
            tokens, want = naive(server.model, encoder, one)
            assert (response.error, response.token_ids) == ("", tokens)
            assert (response.ended, response.waits) == (want.ended, want.waits)
            assert (state.forced, state.natural_ends) == (want.forced, want.natural_ends)


def driver_newline(encoder):
    return lambda t: decode(encoder.tokenizer, [t]).endswith("\n")


def test_every_round_extends_the_prompt_of_the_one_before(encoder):
    with hash_server(encoder) as server:
        run(server, encoder, [job(encoder, "1+2", 90, 3)], learn=False)
    prompts = [r["prompt"] for r in server.requests]
    assert len(prompts) >= 3
    for before, after in itertools.pairwise(prompts):
        assert after[: len(before)] == before and len(after) > len(before)
    alone = [r for r in server.requests if "logit_bias" in r]
    assert alone and all(r["max_tokens"] == 1 for r in alone)


@pytest.mark.parametrize(
    "faults",
    [
        [("status", 429, {"Retry-After": "0"})] * 2,
        [("status", 500, {}), ("status", 503, {})],
        [("drop", 4), ("drop", 0), ("cut", 3)],
        [("half", 2), ("half", 0)],
        [("silence", 3, 1.0)],
    ],
    ids=["429", "500", "drop", "half", "silence"],
)
def test_after_a_fault_the_request_goes_on_where_it_was(encoder, faults, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: 0.05)
    one = job(encoder, "1+2", 90, 2)
    with hash_server(encoder) as server:
        tokens, _ = naive(server.model, encoder, one)
        server.faults.extend(faults)
        ((response, _),) = run(server, encoder, [one], learn=False, timeout=0.4)
        assert (response.error, response.token_ids) == ("", tokens)
        assert not server.faults
    # What had come was not asked for again.
    lengths = [len(r["prompt"]) for r in server.requests]
    assert lengths == sorted(lengths)


def test_retry_after_is_honoured(encoder):
    one = job(encoder, "1+2", 5)
    with hash_server(encoder) as server:
        server.faults.append(("status", 429, {"Retry-After": "1"}))
        start = time.monotonic()
        ((response, _),) = run(server, encoder, [one], learn=False)
    assert response.error == "" and time.monotonic() - start >= 1
    assert retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert retry_after("soon") is None and retry_after(None) is None


def test_one_that_fails_for_good_is_reported_and_holds_up_no_other(encoder, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: 0.001)
    jobs = [job(encoder, question, 40) for question in ("1+2", "3+4")]
    with hash_server(encoder) as server:
        first, _ = naive(server.model, encoder, jobs[0])
        events = server.events

        def fail_second(request):
            if request["prompt"][: len(jobs[1].prompt)] == list(jobs[1].prompt):
                raise OSError
            return events(request)

        server.events = fail_second
        (good, _), (bad, _) = run(server, encoder, jobs, learn=False, retries=2)
    assert (good.error, good.token_ids) == ("", first)
    assert (bad.ended, bad.answer) == ("failed", None)
    assert "3 attempts" in bad.error


def test_no_request_waits_for_another(encoder):
    slow, quick = (job(encoder, question, 60, 3) for question in ("1+2", "3+4"))
    done = threading.Event()
    with hash_server(encoder) as server:
        events = server.events

        def hold(request):
            if request["prompt"][: len(slow.prompt)] == list(slow.prompt):
                assert done.wait(20)
            return events(request)

        server.events = hold

        async def both():
            async with Endpoint(server.url, timeout=20, retries=0) as endpoint:
                driver = Server(endpoint, "tiny", encoder)
                driver.dialect = replace(driver.dialect, token_replies=True)
                waiting = asyncio.create_task(complete(driver, slow))
                first, _ = await complete(driver, quick)  # all its rounds
                done.set()
                return first, (await waiting)[0]

        for one, response in zip((quick, slow), asyncio.run(both()), strict=True):
            assert response.error == "" and response.waits >= 1
            assert response.token_ids == naive(server.model, encoder, one)[0]


def test_no_secret_leaves(encoder, monkeypatch, caplog, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    one = job(encoder, "1+2", 5)
    with hash_server(encoder) as server:
        run(server, encoder, [one])
        assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
        server.faults.append(("status", 401, {}, f"Incorrect API key provided: {SECRET}"))
        with pytest.raises(ServerError, match="OPENAI_API_KEY") as refused:
            run(server, encoder, [one])
        server.faults.append(("status", 400, {}, f"bad {SECRET}"))
        ((response, _),) = run(server, encoder, [one], learn=False)
    seen = "".join((caplog.text, *capsys.readouterr(), str(refused.value), response.error))
    assert SECRET not in seen and "***" in response.error
    with pytest.raises(ValueError, match="OPENAI_API_KEY") as refused:
        Endpoint(f"http://me:{SECRET}@127.0.0.1/v1/completions")
    assert SECRET not in str(refused.value)


def test_a_server_that_hides_the_end_is_refused(encoder):
    with (
        hash_server(encoder, ids=False, special=False) as server,
        pytest.raises(ServerError, match=r"drops '<\|im_start\|>'.*--special"),
    ):
        run(server, encoder, [job(encoder, "1+2", 40)])


def test_a_server_that_ignores_the_ban_fails_the_request(encoder):
    class AlwaysEnds(HashModel):
        def next(self, ids, bias, seed=0):
            return self.ends[0]

    with hash_server(encoder, bias=False) as server:
        server.model = AlwaysEnds(server.model.tokens, server.model.ends)
        ((response, _),) = run(server, encoder, [job(encoder, "1+2", 40, 1)], learn=False)
    assert response.ended == "failed" and "ignores logit_bias" in response.error


def test_spare_ids_of_the_embedding_are_drawn_again(encoder):
    class Spare(HashModel):
        def next(self, ids, bias, seed=0):
            spare = len(encoder.tokenizer) + 3
            odd = len(ids) % 7 == 0 and bias.get(spare, 0) > -100
            return spare if odd else super().next(ids, bias, seed)

    one = job(encoder, "1+2", 60, 1)
    with hash_server(encoder) as server:
        tokens, _ = naive(server.model, encoder, one)
        server.model = Spare(server.model.tokens, server.model.ends)
        ((response, _),) = run(server, encoder, [one], learn=False)
    assert response.token_ids == tokens


def test_a_spare_id_that_comes_again_is_not_blamed_on_a_wait(encoder):
    class Spare(HashModel):
        def next(self, ids, bias, seed=0):
            return len(encoder.tokenizer) + 3

    with hash_server(encoder, bias=False) as server:
        server.model = Spare(server.model.tokens, server.model.ends)
        ((response, _),) = run(server, encoder, [job(encoder, "1+2", 60)], learn=False)
    assert f"id {len(encoder.tokenizer) + 3} again" in response.error
    assert "ignores logit_bias" in response.error and "Wait" not in response.error


def test_sampling_names_its_seed_and_what_the_server_would_add(encoder):
    one = job(encoder, "1+2", 60, 1, sampling={"temperature": 0.7, "top_p": 0.9}, stream="0/0")
    with hash_server(encoder) as server:
        (first, _), (again, _) = run(server, encoder, [one, one], learn=False)
        ((other, _),) = run(server, encoder, [replace(one, stream="0/1")], learn=False)
    assert first.token_ids == again.token_ids != other.token_ids
    request = server.requests[0]
    assert (request["temperature"], request["top_p"], request["top_k"]) == (0.7, 0.9, -1)
    assert request["repetition_penalty"] == 1.0
    assert len({r["seed"] for r in server.requests}) > 2


def test_text_servers_cannot_be_told_a_question_that_spells_control_tokens(encoder):
    odd = job(encoder, "What is <|im_end|>?", 10)
    with hash_server(encoder, ids=False) as server:
        (good, _), (bad, _) = run(server, encoder, [job(encoder, "1+2", 10), odd])
    assert good.error == "" and "control token" in bad.error


def test_tokens_are_told_as_they_come(encoder):
    told = []
    with hash_server(encoder) as server:
        ((response, _),) = run(
            server,
            encoder,
            [job(encoder, "1+2", 40, 1)],
            learn=False,
            on_token=lambda token, forced: told.append((token, forced)),
        )
    assert [t for t, _ in told] == response.token_ids
    assert [i for i, (_, forced) in enumerate(told) if forced] == response.forced


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="address"):
        Endpoint("localhost:8000/v1")


def test_nobody_there_is_said(encoder, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: 0.001)
    with hash_server(encoder) as server:
        pass
    with pytest.raises(ServerError, match="given up after 2 attempts"):
        run(server, encoder, [job(encoder, "1+2", 5)], retries=1)
