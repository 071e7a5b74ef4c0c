"""The second interface in vLLM's own hands (`runner`): its slots, samplers and kernels on a GPU.

Without a GPU, `test_v2` runs a smaller round of this with interpreted kernels.
"""

# ruff: noqa: E402

import os
import random
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")
pytest.importorskip(
    "vllm.v1.worker.gpu.sample.logits_processor", reason="this vLLM has no second interface"
)
import torch

GPU = torch.cuda.is_available()
if not GPU and os.environ.get("S1_TEST_V2_INTERPRETED") != "1":
    pytest.skip("needs a GPU; test_v2 runs it interpreted", allow_module_level=True)

from tests.vllm.runner import DEVICE, Runner, slots_of  # isort: skip  (before all of vLLM)
from vllm import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors

from s1_plugin.forcing import vllm_request
from s1_plugin.forcing.lane import Lane
from s1_plugin.forcing.state import Thinking
from tests.forcing.law import (
    ENDS,
    SETTINGS,
    SIZE,
    SPARE,
    fixed_logits,
    law,
    name,
    p_value,
    with_wait,
)
from tests.vllm.stubs import Processor, make_plan, params

WIDTH, LENGTH, COUNT = SIZE + SPARE, 96, 40 if GPU else 30
SLOTS, REQUESTS, ROUNDS = (16, 60, 4) if GPU else (4, 5, 1)
#: vLLM's own order.
ORDER = ("min_p", "top_k", "top_p")
BUDGET = {"cap": 22, "wait_ids": ((7,), (30, 31, 32))}
SAMPLING = (
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.3, "top_k": 20, "min_p": 0.02},
)


def runner(slots=SLOTS, drafts=0, ours=True, length=LENGTH, **budget):
    """A runner, with a processor of ours or none."""

    def processors(states):
        view = slots_of(states)
        return [Processor(view, True, slots, 1 + drafts, **budget)] if ours else []

    made = Runner(processors, slots=slots, length=length, width=WIDTH, drafts=drafts)
    return made, made.sampler.logits_processors[-1]


class Request:
    """What is asked, and what the model says at each output position whatever stands before."""

    def __init__(self, number, chance):
        self.forced, sampling = number % 3 != 1, SAMPLING[number % 4]
        self.greedy = sampling["temperature"] == 0
        self.waits = chance.randint(0, 3)
        self.params = params(self.waits, seed=number, forced=self.forced, **sampling)
        self.prompt = [5, 6, *(chance.randrange(SIZE) for _ in range(chance.randint(0, 6))), number]
        generator = torch.Generator().manual_seed(number)
        self.logits = torch.randn((COUNT + 4, WIDTH), generator=generator) * 1.5
        for row in self.logits:
            if chance.random() < 0.4:
                row[chance.choice(ENDS)] = row[:SIZE].max() + chance.choice([-0.5, 0.5])
        self.logits[:, SIZE:] = 5.0  # tempting, where nobody masks them
        self.logits = self.logits.to(DEVICE)


def reference(plan, logits, size, newline=lambda token: False, prefix=()):
    """What the state machine makes of a greedy model with these logits, (tokens, width)."""
    thinking, tokens = Thinking(plan, newline), list(prefix)
    for row in logits[len(prefix) :, :size].cpu():
        other = row.clone()
        other[sorted(plan.end_ids)] = -torch.inf
        stands = thinking.push(int((other if thinking.must_not_end() else row).argmax()))
        tokens.append(thinking.push(int(other.argmax())) if stands is None else stands)
    return tokens


def step(engine, requests, scheduled, drafts=None):
    """One step, which may wait for the device only if a request joined."""
    if GPU and not engine.joined:
        torch.cuda.set_sync_debug_mode("error")
    try:
        engine.flush()
        batch = engine.batch(scheduled, drafts or {})
        ends = batch.cu_num_logits_np
        at = batch.positions[batch.logits_indices].split((ends[1:] - ends[:-1]).tolist())
        logits = [
            requests[n].logits[(places + 1 - len(requests[n].prompt)).clamp(0, COUNT + 3)]
            for n, places in zip(batch.req_ids, at, strict=True)
        ]
        return engine.sample(torch.cat(logits), batch)
    finally:
        if GPU:
            torch.cuda.set_sync_debug_mode("default")


def alone(requests, forced):
    """The tokens of those requests that are forced, or are not, by name: all there from the start,
    whole prompts, never preempted; where none is forced, without our processor."""
    chosen = {n: r for n, r in requests.items() if r.forced == forced}
    engine, _ = runner(slots=len(chosen), ours=forced, **(BUDGET if forced else {}))
    for n, r in chosen.items():
        engine.add(n, r.prompt, r.params)
    tokens = {n: [] for n in chosen}
    for i in range(COUNT):
        fed = {n: 1 if i else len(r.prompt) for n, r in chosen.items()}
        for n, new in engine.read(*step(engine, chosen, fed)).items():
            tokens[n] += new
    return tokens


def drive(engine, requests, chance, drafting=None, done=lambda name: None):
    """Requests come at any time and in chunks, are left out and preempted. Without drafts the
    tokens are read when the next step is under way."""
    tokens = {n: [] for n in requests}
    waiting, running, late = list(requests), [], []

    def read():
        for new in late:
            for n, some in engine.read(*new).items():
                tokens[n] += some
        late.clear()

    while waiting or running:
        if waiting and engine.states.free_indices and chance.random() < 0.6:
            n = waiting.pop(chance.randrange(len(waiting)))
            engine.add(n, requests[n].prompt, requests[n].params, tokens[n])
            running.append(n)
        batch = chance.sample(running, len(running))
        if len(batch) > 1 and chance.random() < 0.3:
            batch.pop()
        fed, drafts = {}, {}
        for n in batch:
            left = engine.left(n)
            if drafting and left <= 0:
                drafts[n] = drafting(n, tokens[n])
            fed[n] = chance.randint(1, left) if left > 0 else 1 + len(drafts.get(n, ()))
        made = [step(engine, requests, fed, drafts)] if fed else []
        read()
        late += made
        if drafting:
            read()
        for n in [n for n in running if len(tokens[n]) >= COUNT]:
            read()
            done(n)
            engine.remove(n)
            running.remove(n)
        if running and chance.random() < 0.08:
            read()
            n = running.pop(chance.randrange(len(running)))
            engine.remove(n)
            waiting.append(n)
    return {n: some[:COUNT] for n, some in tokens.items()}


def rounds(seed):
    chance = random.Random(seed)
    for round_ in range(ROUNDS):
        numbers = range(round_ * REQUESTS, (round_ + 1) * REQUESTS)
        requests = {f"r{i}": Request(i, chance) for i in numbers}
        yield chance, requests, {**alone(requests, True), **alone(requests, False)}


def test_requests_draw_what_they_draw_alone():
    """Batch, slots, chunks and preemption change nothing, and a plain request draws what it draws
    where our processor is not. Greedy forced ones do as the state machine does."""
    for chance, requests, wanted in rounds(0):
        engine, _ = runner(**BUDGET)
        assert drive(engine, requests, chance) == wanted
        closed = 0
        for n, r in requests.items():
            if r.forced:
                assert max(wanted[n]) < SIZE
                closed += 9 in wanted[n]
            if r.forced and r.greedy:
                plan = make_plan(waits=r.waits, **BUDGET)
                assert wanted[n] == reference(plan, r.logits[:COUNT], SIZE)
        assert closed


@pytest.mark.parametrize("wrong", [0.0, 0.5] if GPU else [0.3])
def test_draft_tokens_are_verified(wrong):
    """Through vLLM's rejection sampler: greedy requests give what they give without drafts, and
    what is sampled obeys the budget."""
    for chance, requests, wanted in rounds(1):
        engine, ours = runner(drafts=3, **BUDGET)
        events = {}

        def draft(n, tokens, chance=chance, wanted=wanted):
            guess = wanted[n][len(tokens) :][: chance.randint(0, 3)]
            return [33 if i == 1 and chance.random() < wrong else t for i, t in enumerate(guess)]

        def done(n, engine=engine, ours=ours, events=events):
            ours.board.flush()
            if seat := ours.seats.get(engine.states.req_id_to_index[n]):
                events[n] = seat.events
                assert seat.refused is None

        got = drive(engine, requests, chance, draft, done)
        for n, r in requests.items():
            if r.greedy:
                assert got[n] == wanted[n]
            if r.forced:
                lane = Lane(make_plan(waits=r.waits, **BUDGET), lambda token: False, (), events[n])
                lane.follow(got[n])
                assert lane.answering and max(got[n]) < SIZE


@pytest.mark.parametrize("setting", SETTINGS if GPU else SETTINGS[7:8], ids=name)
def test_the_draw_and_the_draw_after_a_wait(setting):
    """The first draw is ours, the one after the Wait is vLLM's: both follow the exact law."""
    count = 2500 if GPU else 60
    engine, ours = runner(slots=count, length=8)
    for i in range(count):
        engine.add(str(i), [5], params(seed=i, **setting))
    drawn = []
    for _ in range(2):
        engine.flush()
        batch = engine.batch({str(i): 1 for i in range(count)}, {})
        rows = fixed_logits().to(DEVICE).repeat(count, 1)
        drawn.append(engine.read(*engine.sample(rows, batch)))
    exact = with_wait(law(fixed_logits(), ORDER, **setting))
    assert p_value([token for (token,) in drawn[0].values()], exact) > 0.001
    ours.board.flush()
    slots = engine.states.req_id_to_index
    waited = [n for n in drawn[1] if 0 in ours.seats[slots[n]].events]
    assert len(waited) > count // 20
    after = law(fixed_logits(), ORDER, banned=ENDS, **setting)
    assert p_value([drawn[1][n][0] for n in waited], after) > 0.001


def test_it_is_built_by_vllm(nano_base):
    """From its name, by vLLM's loader, with a real tokenizer and real budgets."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    size = len(tokenizer)
    config = SimpleNamespace(
        model_config=SimpleNamespace(
            tokenizer=str(nano_base), tokenizer_mode="auto", trust_remote_code=False,
            tokenizer_revision=None, max_model_len=LENGTH, seed=0, get_vocab_size=lambda: size + 8,
        ),
        speculative_config=None,
        parallel_config=SimpleNamespace(enable_batch_sharded_sampling=False),
    )  # fmt: skip
    engine = Runner(
        lambda states: build_custom_logits_processors(
            config, states, False, [vllm_request.PROCESSOR]
        ),
        slots=4, length=LENGTH, width=size + 8,
    )  # fmt: skip
    ours = engine.sampler.logits_processors[-1]
    prompt = tokenizer("<|im_start|>user\nLast digit<|im_end|>\n<|im_start|>assistant\n").input_ids
    ends = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|im_start|>")]
    requests = {}
    for i in range(4):
        generator = torch.Generator().manual_seed(i)
        logits = torch.randn((COUNT + 4, size + 8), generator=generator)
        logits[i + 4 :: 5, ends[i % 2]] = 9.0
        logits[:, size:] = 20.0
        extra = {"max_tokens_thinking": 12 + i, "thinking_n_ignore": i}
        requests[f"r{i}"] = SimpleNamespace(
            prompt=prompt, logits=logits.to(DEVICE),
            params=SamplingParams(temperature=0.0, max_tokens=COUNT, extra_args=extra),
        )  # fmt: skip
        ours.validate_params(requests[f"r{i}"].params)
    got = drive(engine, requests, random.Random(0))
    for n, r in requests.items():
        plan, prefix = ours._plan(r.params, r.prompt)
        want = reference(plan, r.logits[:COUNT], size, ours.ends_with_newline, prefix)
        assert got[n] == want
        assert prefix


@pytest.mark.skipif(not GPU, reason="nothing runs ahead on a CPU")
def test_the_host_runs_ahead():
    """While the device is busy the host gets through two more steps."""
    engine, _ = runner(slots=8, **BUDGET)
    requests = {f"r{i}": Request(i, random.Random(i)) for i in range(8)}
    for n, r in requests.items():
        engine.add(n, r.prompt, r.params)
    step(engine, requests, {n: len(r.prompt) for n, r in requests.items()})
    for _ in range(5):
        step(engine, requests, dict.fromkeys(requests, 1))
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # about a second
    busy = torch.cuda.Event()
    busy.record()
    began = time.monotonic()
    for _ in range(2):
        step(engine, requests, dict.fromkeys(requests, 1))
    took = time.monotonic() - began
    assert not busy.query(), f"two steps took {took:.3f} s: they waited for the device"
    torch.cuda.synchronize()
