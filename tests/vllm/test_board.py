"""The kernel against the state machine and exact laws: on a GPU, or interpreted in Python."""

import os
import random

import pytest
import torch

if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU, or Triton's interpreter: make test-vllm", allow_module_level=True)
pytest.importorskip("triton")

import numpy as np

from s1_plugin.forcing import kernel
from s1_plugin.forcing.board import Board, Warpers
from s1_plugin.forcing.budget import Plan
from s1_plugin.forcing.state import Thinking
from tests.forcing.law import (
    ENDS,
    SETTINGS,
    SIZE,
    SPARE,
    WAIT,
    fixed_logits,
    law,
    make_plan,
    name,
    p_value,
    with_wait,
)

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
SPECS, LENGTH, PROMPT = (50_000, 60, 3) if GPU else (80, 40, 3)
NEWLINES = (11, 12)
#: The kernel takes the warpers in vLLM's order.
ORDER = ("min_p", "top_k", "top_p")


def random_plan(chance):
    cap = chance.choice([0, 1, 2, 3, chance.randint(4, 20), chance.randint(20, 60)])
    strings = [
        tuple(chance.randint(20, 40) for _ in range(chance.choice([0, 1, 1, 2, 3])))
        for _ in range(chance.choice([1, 1, 2, 3]))
    ]
    return Plan(
        cap=cap,
        context_bound=chance.random() < 0.2,
        waits=chance.randint(0, 4),
        min_thinking=chance.choice([0, 0, chance.randint(0, cap)]),
        wait_ids=tuple(strings),
        end_ids=frozenset(chance.sample(ENDS, chance.randint(1, 3))),
        natural_end=chance.choice([(2,), (2, 9), (0, 9, 8)]),
        capped_end=(2, 9, 10),
        newline=chance.choice([(11,), (13, 11), ()]),
        stop_ids=frozenset({0, 1}),
        max_new_tokens=200,
    )


def want(plan, prefix, script):
    """What the state machine makes of a model that would draw ``script``, and the ends drawn."""
    thinking, tokens, events = Thinking(plan, NEWLINES.__contains__), list(prefix), {}
    while len(tokens) < len(script):
        drawn, other = script[len(tokens)]
        ends = thinking.must_not_end() and drawn in plan.end_ids
        if not ends and thinking.watching and drawn in plan.end_ids:
            events[len(tokens)] = drawn
        stands = thinking.push(other if ends else drawn)
        tokens.append(thinking.push(other) if stands is None else stands)
    return tokens, events


def new_board(slots, listener=lambda *_: None, **settings):
    table = np.zeros(SIZE + SPARE, dtype=bool)
    table[list(NEWLINES)] = True
    return Board(
        slots,
        **{"history": 1, "newlines": table, "vocabulary": SIZE, **settings},
        device=DEVICE,
        listener=listener,
    )


def told(exact, logits, key, setting):
    """What may stand at position 0: drawn among what min-p keeps until the other warpers keep it
    (two tokens where rounding could decide)."""
    everything = law(logits, ("min_p",), **setting)
    for attempt in range(8):
        at, cumulative = uniform(key, attempt << 32), 0.0
        near = set()
        for token in sorted(everything):
            if cumulative - 1e-5 < at < cumulative + everything[token] + 1e-5:
                near.add(token)
            cumulative += everything[token]
        if near & set(exact):
            return {WAIT if token in ENDS else token for token in near}
    raise AssertionError("nothing drawn in eight attempts")


def uniform(key, position):
    """SplitMix64 at a position, with plain integers."""
    z = (key + (position + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return ((z ^ (z >> 31)) >> 11) / 2**53


def columns(*lists):
    return [torch.tensor(x, device=DEVICE) for x in lists]


def test_it_decides_as_the_state_machine_does():
    chance = random.Random(0)
    heard, slots = {}, 2048 if GPU else 40

    def listener(slot, position, event):
        if event < 0:
            assert event == -1, "a token of ours was taken for a foreign one"
            heard[slot].pop(position, None)
        else:
            heard[slot][position] = event

    board = new_board(slots, listener)
    for _ in range(-(-SPECS // slots)):
        plans = [random_plan(chance) for _ in range(slots)]
        prefixes = [chance.choice([(), (), (50,), (50, 51)]) for _ in range(slots)]
        often = chance.choice([0.1, 0.3, 0.6])
        scripts = [
            [
                (
                    chance.choice(sorted(plan.end_ids))
                    if chance.random() < often
                    else chance.choice([11, 12, *range(20, 50)]),
                    chance.randint(20, 49),
                )
                for _ in range(LENGTH)
            ]
            for plan in plans
        ]
        wanted = [
            want(*case, script) for *case, script in zip(plans, prefixes, scripts, strict=True)
        ]
        heard = {slot: {} for slot in range(slots)}
        for slot, (plan, prefix) in enumerate(zip(plans, prefixes, strict=True)):
            board.put(
                slot, "forced", Warpers(0.0), prompt=PROMPT, refused=1, plan=plan, prefix=prefix
            )
        first, second = (torch.tensor([[s[k] for s in script] for script in scripts]).to(DEVICE)
                         for k in (0, 1))  # fmt: skip
        fed, out = torch.full((slots,), 5, device=DEVICE), []
        everyone, none = columns(range(slots), [0] * slots)
        for step in range(LENGTH):
            logits = torch.zeros((slots, SIZE + SPARE), device=DEVICE)
            logits.scatter_(1, second[:, step : step + 1], 5.0)
            logits.scatter_(1, first[:, step : step + 1], 10.0)
            logits[:, SIZE:] = 50.0
            # Sometimes a step is made twice: the engine throws the first one away.
            for _ in range(1 + (step % 7 == 3)):
                changed = logits.clone()
                at = torch.full_like(everyone, PROMPT - 1 + step)
                board.step(changed, everyone, none, at, fed)
            # A spare id may win only once forcing has nothing to say: nobody masks the answer here.
            fed = changed[:, :SIZE].argmax(dim=-1)
            assert bool((changed[:, SIZE:] == -torch.inf).all())
            out.append(fed)
        board.flush()
        got = torch.stack(out, dim=1).tolist()
        for slot, (tokens, events) in enumerate(wanted):
            assert got[slot] == tokens, (plans[slot], prefixes[slot], scripts[slot])
            assert heard[slot] == events, (plans[slot], prefixes[slot], scripts[slot])


def test_a_request_is_taken_up_at_any_token():
    chance = random.Random(1)
    for _ in range(2000 if GPU else 60):
        plan = random_plan(chance)
        ends, prefix = sorted(plan.end_ids), chance.choice([(), (50,)])
        script = [
            (chance.choice([*ends, *range(20, 27)]), chance.randint(20, 49)) for _ in range(LENGTH)
        ]
        tokens, events = want(plan, prefix, script)
        start = chance.randint(0, LENGTH - 2)
        board = new_board(1)
        board.put(
            0, "forced", Warpers(0.0), prompt=PROMPT, refused=1, plan=plan, prefix=prefix,
            tokens=tokens[:start], events={at: e for at, e in events.items() if at < start},
        )  # fmt: skip
        made = tokens[:start]
        while len(made) < min(LENGTH, start + 8):
            logits = torch.zeros((1, SIZE + SPARE), device=DEVICE)
            logits[0, script[len(made)][1]] = 5.0
            logits[0, script[len(made)][0]] = 10.0
            board.step(logits, *columns([0], [0], [PROMPT - 1 + len(made)], [(made or [5])[-1]]))
            made.append(int(logits[0, :SIZE].argmax()))
        assert made == tokens[: len(made)], (plan, prefix, script, start)


@pytest.mark.parametrize("setting", SETTINGS, ids=name)
def test_the_draw_and_the_draw_after_a_wait(setting):
    """Rows where an end may be drawn are drawn here, by the exact law."""
    count = 20_000 if GPU else 30
    plan = make_plan(waits=1)
    board = new_board(count)
    keys = torch.randint(-(2**63), 2**63 - 1, (count,), generator=torch.Generator().manual_seed(0))
    for slot in range(count) if not GPU else ():
        board.put(
            slot, "forced", Warpers(**setting, key=int(keys[slot])), prompt=1, refused=1, plan=plan
        )
    if GPU:  # one at a time takes a minute
        board.put(0, "forced", Warpers(**setting), prompt=1, refused=1, plan=plan)
        for table in (board.programs, board.states, board.marks, board.warpers):
            table[1:] = table[0]
        board.keys.copy_(keys)
    logits = fixed_logits().to(DEVICE).repeat(count, 1)
    everyone, none, place, fed = columns(range(count), [0] * count, [0] * count, [5] * count)
    board.step(logits, everyone, none, place, fed)
    exact = law(fixed_logits(), ORDER, **setting)
    assert bool(((logits > -torch.inf).sum(dim=1) == 1).all())  # every row was drawn
    first = logits.argmax(dim=-1)
    if GPU:
        assert p_value(first.tolist(), with_wait(exact)) > 0.001
    for key, token in list(zip(keys.tolist(), first.tolist(), strict=True))[:200]:
        assert token in told(exact, fixed_logits(), key, setting)
    # After the Wait the ends are banned, and the engine draws.
    logits = fixed_logits().to(DEVICE).repeat(count, 1)
    board.step(logits, everyone, none, place + 1, first)
    waited = board.states[:, 0, kernel.WAITED.value] == 1
    assert bool((logits[waited][:, list(ENDS)] == -torch.inf).all())
    others = [i for i in range(SIZE) if i not in ENDS]
    assert torch.equal(logits[waited][0, others].cpu(), fixed_logits()[others])


@pytest.mark.parametrize("setting", [{"top_p": 0.5}, {"top_k": 3}, {"min_p": 0.3}], ids=name)
def test_rows_in_which_no_end_survives_are_left_to_the_engine(setting):
    logits = fixed_logits()
    logits[0] = logits[:SIZE].median()
    plan = random_plan(random.Random(3))
    board = new_board(1)
    board.put(
        0, "forced", Warpers(1.0, **setting), prompt=1, refused=1,
        plan=Plan(**{**plan.__dict__, "cap": 9, "min_thinking": 0, "end_ids": frozenset(ENDS)}),
    )  # fmt: skip
    rows = logits.to(DEVICE).unsqueeze(0).clone()
    board.step(rows, *columns([0], [0], [0], [5]))
    assert torch.equal(rows[0, :SIZE].cpu(), logits[:SIZE])
    assert bool((rows[0, SIZE:] == -torch.inf).all())


def test_what_cannot_be_honoured_is_ended_and_what_is_answering_is_only_masked():
    board = new_board(3)
    board.put(0, "ending", Warpers(0.0), prompt=1, refused=33)
    board.put(1, "masked", Warpers(0.0), prompt=1, refused=33)
    given = torch.randn((3, SIZE + SPARE), device=DEVICE)
    for step in range(3):
        rows = given.clone()
        board.step(rows, *columns([0, 1, 2], [0] * 3, [step] * 3, [5] * 3))
        assert rows[0].argmax() == 33 and int((rows[0] > -torch.inf).sum()) == 1
        assert torch.equal(rows[1, :SIZE], given[1, :SIZE])
        assert bool((rows[1, SIZE:] == -torch.inf).all())
        assert torch.equal(rows[2], given[2])  # nobody of ours


def plain_law(logits, top_p, top_k):
    """Probabilities of ids under temperature 1, top-k and top-p; for any vocabulary."""
    order = np.argsort(-logits, kind="stable")[: top_k or len(logits)]
    weights = np.exp(logits[order].astype(np.float64) - logits.max())
    weights /= weights.sum()
    kept = np.cumsum(weights) - weights < top_p
    return dict(
        zip(order[kept].tolist(), (weights[kept] / weights[kept].sum()).tolist(), strict=True)
    )


@pytest.mark.parametrize(("top_k", "top_p"), [(20, 0.9), (200, 0.5), (2000, 0.97), (0, 0.3)])
def test_a_wide_vocabulary(top_k, top_p):
    """Both searches for the k-th greatest value, and cuts that leave little to be drawn."""
    size, count = (151_665, 300) if GPU else (3000, 6)
    plan = make_plan(waits=0)
    logits = np.random.default_rng(0).normal(size=size).astype(np.float32) * 2
    logits[0] = np.sort(logits)[-3]
    exact, everything = plain_law(logits, top_p, top_k), plain_law(logits, 1.0, 0)
    tokens = sorted(everything)
    cumulative = np.cumsum([everything[token] for token in tokens])
    board = new_board(count, newlines=np.zeros(size, dtype=bool), vocabulary=size)
    for slot in range(count):
        board.put(
            slot, "forced", Warpers(1.0, top_p, top_k, key=slot), prompt=1, refused=1, plan=plan
        )
    rows = torch.from_numpy(logits).to(DEVICE).repeat(count, 1)
    board.step(rows, *columns(range(count), [0] * count, [0] * count, [5] * count))
    seen = 0
    for key, token in enumerate(rows.argmax(dim=-1).tolist()):
        for attempt in range(8):
            at = uniform(key, attempt << 32)
            low, high = np.searchsorted(cumulative, [at - 2e-6, at + 2e-6])
            near = set(tokens[low : high + 1])
            if near <= set(exact):
                assert token in {2 if t in ENDS else t for t in near}
                seen += 1
            if near & set(exact):
                break  # kept; or rounding could decide whether it is
        else:  # what is cut weighs too much: the cut was searched for
            assert token in {2 if t in ENDS else t for t in exact}
    assert seen
