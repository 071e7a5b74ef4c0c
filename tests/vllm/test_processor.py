"""The processor by itself: exact laws through vLLM's own sampler, and what an engine does to it."""

import random

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

import torch
from vllm.v1.sample.logits_processor import MoveDirectionality

from tests.forcing.law import (
    DRAWS,
    ENDS,
    SETTINGS,
    SIZE,
    SPARE,
    WAIT,
    fixed_logits,
    law,
    name,
    p_value,
    with_wait,
)
from tests.vllm.stubs import Pipeline, Processor, params, update

#: vLLM's own order.
ORDER = ("min_p", "top_k", "top_p")


@pytest.mark.parametrize("setting", SETTINGS, ids=name)
def test_the_draw_and_the_draw_after_a_wait(setting):
    torch.manual_seed(0)  # for rows that are left to the engine
    logits = fixed_logits()
    pipeline = Pipeline([params(seed=i, **setting) for i in range(DRAWS)])
    first = pipeline.step(logits.repeat(DRAWS, 1))
    assert p_value(first, with_wait(law(logits, ORDER, **setting))) > 0.001
    waited = [i for i, seat in pipeline.ours.seats.items() if 0 in seat.events]
    assert all(first[i] == WAIT for i in waited)
    second = pipeline.step(logits.repeat(DRAWS, 1))
    after = law(logits, ORDER, banned=ENDS, **setting)
    assert p_value([second[i] for i in waited], after) > 0.001


@pytest.mark.parametrize("setting", [{"top_p": 0.5}, {"top_k": 3}, {"min_p": 0.3}], ids=name)
def test_rows_in_which_no_end_survives_are_left_to_the_engine(setting):
    torch.manual_seed(0)
    logits = fixed_logits()
    logits[0] = logits[:SIZE].median()
    setting = {"temperature": 1.0, **setting}
    pipeline = Pipeline([params(seed=i, **setting) for i in range(DRAWS)])
    rows = logits.repeat(DRAWS, 1)
    given = rows.clone()
    pipeline.ours.apply(given)
    assert torch.equal(given[:, :SIZE], rows[:, :SIZE])
    assert p_value(pipeline.step(rows), law(logits, ORDER, **setting)) > 0.001


def test_a_draw_depends_on_its_seed_and_position_alone():
    logits = fixed_logits()
    alone = [Pipeline([params(seed=i, temperature=1.0)]) for i in range(20)]
    together = Pipeline([params(seed=i, temperature=1.0) for i in reversed(range(20))])
    for _ in range(5):
        rows = logits.repeat(20, 1)
        want = [p.step(logits.clone().unsqueeze(0))[0] for p in alone]
        assert together.step(rows)[::-1] == want


def scripted(tokens_so_far, ending):
    """Logits of one row whose greedy token is 20 + its position, or an end."""
    row = torch.zeros(SIZE + SPARE)
    row[0 if ending else 20 + len(tokens_so_far) % 40] = 10.0
    row[SIZE:] = 50.0
    return row


def reference(waits, script):
    """Output tokens of one request, alone in its batch."""
    pipeline = Pipeline([params(waits)])
    for ending in script:
        pipeline.step(scripted(pipeline.tokens[0], ending).unsqueeze(0))
    return pipeline.tokens[0]


@pytest.mark.parametrize("on_device", [False, True])
def test_an_engine_that_repeats_moves_and_preempts(on_device):
    """Random batches: requests come at any time, steps are repeated with other logits and thrown
    away (chunked prefill), rows move and swap, requests leave and come back."""
    chance = random.Random(0)
    for _ in range(6 if on_device else 60):
        processor = Processor(on_device=on_device, rows=6)
        wanted = [
            (chance.randint(0, 3), [chance.random() < 0.3 for _ in range(25)]) for _ in range(6)
        ]
        tokens = [[] for _ in wanted]
        batch, waiting = [], list(range(6))  # batch: request in each row
        while waiting or batch:
            removed, added, moved = [], [], []
            if batch and chance.random() < 0.15:  # preempted; the last row takes its place
                row = chance.randrange(len(batch))
                waiting.append(batch[row])
                last = batch.pop()
                if row < len(batch):  # vLLM then says nothing else about the row
                    batch[row] = last
                    moved.append((len(batch), row, MoveDirectionality.UNIDIRECTIONAL))
                else:
                    removed.append(row)
            elif waiting and chance.random() < 0.6:
                i = waiting.pop(0)
                tokens[i] = list(tokens[i])  # a new list, as under asynchronous scheduling
                added.append((len(batch), params(wanted[i][0]), [i], tokens[i]))
                batch.append(i)
            elif len(batch) > 1 and chance.random() < 0.2:
                a, b = chance.sample(range(len(batch)), 2)
                batch[a], batch[b] = batch[b], batch[a]
                moved.append((a, b, MoveDirectionality.SWAP))
            changed = removed or added or moved
            processor.update_state(update(added, removed, moved) if changed else None)
            if not batch:
                continue
            discarded = {r for r in range(len(batch)) if chance.random() < 0.2}
            rows = torch.stack(
                [
                    scripted(
                        tokens[i],
                        chance.random() < 0.5 if r in discarded else wanted[i][1][len(tokens[i])],
                    )
                    for r, i in enumerate(batch)
                ]
            )
            best = processor.apply(rows).argmax(dim=-1).tolist()
            for r, i in enumerate(batch):
                if r not in discarded:
                    tokens[i].append(best[r])
            gone = [r for r, i in enumerate(batch) if len(tokens[i]) == 25]
            removed, moved = [], []
            while gone:  # vLLM fills the lowest row from the highest
                last = batch.pop()
                if gone[-1] == len(batch):
                    removed.append(gone.pop())
                else:
                    batch[gone[0]] = last
                    moved.append((len(batch), gone.pop(0), MoveDirectionality.UNIDIRECTIONAL))
            if removed or moved:
                processor.update_state(update(removed=removed, moved=moved))
        assert tokens == [reference(waits, script) for waits, script in wanted]


def test_requests_without_arguments_cost_nothing_and_change_nothing():
    pipeline = Pipeline([params(forced=False) for _ in range(3)])
    assert not pipeline.ours.seats
    logits = fixed_logits().repeat(3, 1)
    given = logits.clone()
    assert pipeline.ours.apply(given) is given
    assert torch.equal(given, logits)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_foreign_token_ends_the_request_and_no_other(on_device):
    pipeline = Pipeline([params(0), params(0)], Processor(on_device=on_device))
    pipeline.step(torch.stack([scripted([], True), scripted([], True)]))
    assert pipeline.tokens == [[2], [2]]
    pipeline.tokens[0][-1] = 30  # somebody else put this in place of the forced delimiter
    assert pipeline.step(torch.zeros(2, SIZE)) == [1, 9]


def test_placeholders_are_refused_with_the_remedy():
    pipeline = Pipeline([params()])
    pipeline.tokens[0].append(-1)
    with pytest.raises(RuntimeError, match="logits_processors="):
        pipeline.ours.apply(torch.zeros(1, SIZE))


def test_an_end_right_after_a_wait_is_foreign_too():
    """Forcing had banned it: another processor put it there, and the engine must live on."""
    pipeline = Pipeline([params(1), params(1)])
    pipeline.step(torch.stack([scripted([], True), scripted([], True)]))
    assert pipeline.tokens == [[WAIT], [WAIT]]
    pipeline.tokens[0].append(0)
    pipeline.tokens[1].append(25)
    assert pipeline.step(torch.stack([scripted([], False)] * 2))[0] == 1
