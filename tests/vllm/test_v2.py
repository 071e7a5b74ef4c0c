"""The second interface (vLLM 0.31 and later, the default on GPUs), with stub buffers."""

import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")
pytest.importorskip(
    "vllm.v1.worker.gpu.sample.logits_processor", reason="this vLLM has no second interface"
)

import numpy as np
import torch
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor

from s1_plugin.forcing.vllm import BudgetForcingProcessor
from tests.forcing.law import SIZE
from tests.vllm.stubs import Pipeline, Processor, params
from tests.vllm.test_processor import reference, scripted

SLOTS, LENGTH, PROMPT = 8, 64, 3


class Engine:
    """Slots with token buffers as the second model runner keeps them."""

    def __init__(self, **settings):
        self.all = torch.zeros(SLOTS, LENGTH, dtype=torch.int32)
        self.prefill = np.full(SLOTS, PROMPT, dtype=np.int32)
        self.length = [PROMPT] * SLOTS
        states = SimpleNamespace(
            device=torch.device("cpu"),
            all_token_ids=SimpleNamespace(gpu=self.all),
            prompt_len=SimpleNamespace(np=np.full(SLOTS, PROMPT, dtype=np.int32)),
            prefill_len=SimpleNamespace(np=self.prefill),
        )
        self.processor = Processor(states, on_device=True, rows=SLOTS, history=4, **settings)

    def add(self, slot, request, prompt=(5, 6, 7), output=()):
        tokens = [*prompt, *output]
        self.all[slot, : len(tokens)] = torch.tensor(tokens)
        self.prefill[slot] = self.length[slot] = len(tokens)
        self.processor.add_request(slot, request)
        self.processor.apply_staged_writes()

    def output(self, slot):
        return self.all[slot, PROMPT : self.length[slot]].tolist()

    def logits_for(self, batch, make, drafts, chunk=()):
        """Runs `apply`; ``drafts[slot]`` are draft tokens, ``make(slot, tokens)`` the logits."""
        rows, slots, local, pos, fed = [], [], [], [], []
        for slot in batch:
            seen = [*self.output(slot)]
            end = self.length[slot] - (2 if slot in chunk else 1)
            for n, token in enumerate([None, *drafts.get(slot, [])]):
                if token is not None:
                    seen.append(token)
                rows.append(make(slot, seen))
                slots.append(slot)
                local.append(n)
                pos.append(end + n)
                fed.append(int(self.all[slot, end]) if token is None else token)
        context = LogitsContext(
            expanded_idx_mapping=torch.tensor(slots, dtype=torch.int32),
            idx_mapping=torch.tensor(batch, dtype=torch.int32),
            idx_mapping_np=np.array(batch, dtype=np.int32),
            expanded_local_pos=torch.tensor(local, dtype=torch.int32),
            input_ids=torch.tensor(fed, dtype=torch.int32),
            pos=torch.tensor(pos),
            seq_lens_upper_bound_np=np.array([self.length[s] for s in batch]),
        )
        best = self.processor.apply(torch.stack(rows), context).argmax(dim=-1).tolist()
        out = {}
        for slot, token in zip(slots, best, strict=True):
            out.setdefault(slot, []).append(token)
        return out

    def keep(self, slot, best, drafts):
        """Rejection sampling, greedy: drafts stand as long as they are the best token."""
        for n, token in enumerate(best):
            self.all[slot, self.length[slot]] = token
            self.length[slot] += 1
            if n < len(drafts) and drafts[n] != token:
                break


def test_one_class_serves_both_interfaces():
    assert issubclass(BudgetForcingProcessor, LogitsProcessor)


@pytest.mark.parametrize("drafting", [False, True])
def test_slots_chunks_preemption_and_draft_tokens(drafting):
    chance = random.Random(1)
    for _ in range(12):
        engine = Engine()
        wanted = {
            i: (chance.randint(0, 3), [chance.random() < 0.3 for _ in range(40)]) for i in range(5)
        }
        where, left, results = {}, {i: [] for i in wanted}, {}
        while left or where:
            free = [s for s in range(SLOTS) if s not in where.values()]
            if left and chance.random() < 0.5:
                i = chance.choice(list(left))
                where[i] = chance.choice(free)
                engine.add(where[i], params(wanted[i][0]), (5, 6, i), left.pop(i))
            elif where and chance.random() < 0.15:
                i = chance.choice(list(where))
                left[i] = engine.output(where.pop(i))
            if not where:
                continue
            owner = {slot: i for i, slot in where.items()}
            batch = chance.sample(list(owner), len(owner))
            chunk = {s for s in batch if engine.prefill[s] == engine.length[s]}
            chunk = {s for s in chunk if chance.random() < 0.4}
            drafts = {}
            if drafting:
                for s in batch:
                    if s not in chunk and chance.random() < 0.7:
                        # sometimes right, sometimes not
                        want = reference(*wanted[owner[s]])[len(engine.output(s)) :]
                        wrong = chance.random() < 0.4
                        drafts[s] = [30 if wrong and n == 1 else t for n, t in enumerate(want[:3])]

            def make(slot, seen, owner=owner, wanted=wanted):
                return scripted(seen, wanted[owner[slot]][1][min(len(seen), 39)])

            best = engine.logits_for(batch, make, drafts, chunk)
            for slot in batch:
                if slot in chunk:
                    continue
                engine.keep(slot, best[slot], drafts.get(slot, []))
                i = owner[slot]
                if len(engine.output(slot)) >= 30:
                    results[i] = engine.output(slot)[:30]
                    del where[i]
        for i, (waits, script) in wanted.items():
            assert results[i] == reference(waits, script)[:30]


def test_unforced_slots_are_declined_and_cost_nothing():
    engine = Engine()
    assert engine.processor.add_request(0, params(forced=False)) is False
    assert engine.processor.add_request(1, params()) is True
    rows = torch.randn(1, SIZE)
    context = SimpleNamespace(idx_mapping_np=np.array([0]))
    assert engine.processor.apply(rows, context) is rows


def test_a_slot_is_taken_over_by_the_next_request():
    engine = Engine()
    engine.add(0, params(0))
    engine.keep(0, engine.logits_for([0], lambda s, seen: scripted(seen, True), {})[0], [])
    assert engine.output(0) == [2]
    engine.add(0, params(1))
    engine.keep(0, engine.logits_for([0], lambda s, seen: scripted(seen, True), {})[0], [])
    assert engine.output(0) == Pipeline([params(1)]).step(scripted([], True).unsqueeze(0))


def test_batch_sharded_sampling_is_refused():
    config = SimpleNamespace(
        model_config=None, parallel_config=SimpleNamespace(enable_batch_sharded_sampling=True)
    )
    with pytest.raises(ValueError, match="without --enable-batch-sharded-sampling"):
        BudgetForcingProcessor(config, Engine().processor.states)


@pytest.mark.skipif(torch.cuda.is_available(), reason="test_v2_gpu runs by itself")
def test_vllms_own_samplers_with_interpreted_kernels():
    """A process of its own, since vLLM must believe in Triton there (`runner`)."""
    file = Path(__file__).with_name("test_v2_gpu.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env={**os.environ, "S1_TEST_V2_INTERPRETED": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
