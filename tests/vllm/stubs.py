"""The processor in a world of 64 tokens (`tests.forcing.law`), without a model or a tokenizer."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import numpy as np
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessors
from vllm.v1.sample.logits_processor.builtin import MinPLogitsProcessor
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler

from s1_plugin.forcing.vllm import BudgetForcingProcessor
from tests.forcing.law import SIZE, SPARE, make_plan


class Processor(BudgetForcingProcessor):
    """Takes its plans from the test: ``thinking_n_ignore`` is the number of Waits."""

    def __init__(self, states=None, on_device=False, rows=64, history=1, **settings):
        self.vocabulary, self.engine_seed, self.eos, self.states = SIZE, 0, 1, states
        self.ends_with_newline = lambda token: False
        self.settings = settings
        self.seats, self._at, self._new, self._left = {}, {}, {}, deque(maxlen=4096)
        self._joined, self._free, self.board = 0, list(range(rows)), None
        if on_device:
            from s1_plugin.forcing.board import Board

            self.board = Board(
                rows,
                history=history,
                newlines=np.zeros(SIZE + SPARE, dtype=bool),
                vocabulary=SIZE,
                device=torch.device("cpu") if states is None else states.device,
                listener=self._hear,
            )

    def _plan(self, params, prompt):
        return make_plan(waits=params.extra_args["thinking_n_ignore"], **self.settings), []


def params(waits=1, seed=None, forced=True, **sampling):
    extra = {"thinking_n_ignore": waits} if forced else None
    return SamplingParams(**{"temperature": 0.0, "seed": seed, **sampling}, extra_args=extra)


def update(added=(), removed=(), moved=(), size=0):
    return BatchUpdate(batch_size=size, removed=list(removed), added=list(added), moved=list(moved))


class Pipeline:
    """vLLM's own V1 sampler with our processor, on logits of the test's."""

    def __init__(self, requests, processor=None):
        """``requests``: SamplingParams, one per row; all sample or all are greedy."""
        self.requests = requests
        self.tokens = [[] for _ in requests]
        rows = len(requests)
        config = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=rows))
        self.ours = processor or Processor()
        self.processors = LogitsProcessors(
            [MinPLogitsProcessor(config, torch.device("cpu"), False), self.ours]
        )
        added = [(i, p, [5], t) for i, (p, t) in enumerate(zip(requests, self.tokens, strict=True))]
        self._tell(update(added, size=rows))
        self.generators = {
            i: torch.Generator().manual_seed(p.seed)
            for i, p in enumerate(requests)
            if p.seed is not None
        }
        self.sampler = Sampler()

    def _tell(self, batch_update):
        for processor in self.processors.all:
            processor.update_state(batch_update)

    def sample(self, logits):
        """The tokens of one step, not yet kept; ``logits``: (rows, vocabulary)."""
        first, ones = self.requests[0], torch.ones(len(self.requests))
        greedy = first.temperature == 0
        width = logits.shape[1]
        metadata = SamplingMetadata(
            temperature=None if greedy else ones * first.temperature,
            all_greedy=greedy,
            all_random=not greedy,
            top_p=ones * first.top_p if first.top_p < 1 else None,
            top_k=(ones * min(first.top_k, width)).int() if first.top_k > 0 else None,
            generators=self.generators,
            max_num_logprobs=None,
            no_penalties=True,
            prompt_token_ids=None,
            frequency_penalties=ones * 0,
            presence_penalties=ones * 0,
            repetition_penalties=ones,
            output_token_ids=self.tokens,
            allowed_token_ids_mask=None,
            bad_words_token_ids={},
            logitsprocs=self.processors,
        )
        return self.sampler(logits, metadata).sampled_token_ids.squeeze(1).tolist()

    def step(self, logits):
        """One step whose tokens are kept."""
        self._tell(None)
        drawn = self.sample(logits)
        for tokens, token in zip(self.tokens, drawn, strict=True):
            tokens.append(token)
        return drawn
