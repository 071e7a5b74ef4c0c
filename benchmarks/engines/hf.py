"""transformers: ``model.generate`` in every arm."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from engines import BATCH, SHAPES, Made, clock, lock_step
from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.forcing.budget import Plan
from s1_plugin.forcing.transformers import (
    ForcedDecoding,
    generate_arguments,
    left_padded,
)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
versions = f"transformers {transformers.__version__}, torch {torch.__version__}"


#: Of (b)'s model.
LAYERS = 2


class Steps:
    """(a): a model of Qwen2.5-0.5B's shapes with random weights."""

    # Ids as in Qwen2.5's tokenizer: the end tokens, "\n", "answer", "Wait"; 151,665 ids are real.
    PLAN = Plan(
        cap=400,
        context_bound=False,
        waits=1,
        min_thinking=0,
        wait_ids=((14190,),),
        end_ids=frozenset({151643, 151644, 151645}),
        natural_end=(151644, 9217),
        capped_end=(151644, 9217, 198, 19357, 21806, 25),
        newline=(198,),
        stop_ids=frozenset({151643, 151645}),
        max_new_tokens=500,
    )

    def __init__(self, folder: Path, base: Path) -> None:
        torch.manual_seed(0)
        self.model = Qwen2ForCausalLM(Qwen2Config(**SHAPES)).eval()
        # A prompt of one token: its prefill costs what a step costs.
        self.prompt = torch.randint(0, 1000, (BATCH, 1))

    def step(self, forced: bool, sample: bool, steps: int = 4) -> float:
        """Median seconds of a step."""
        watch = _Watch()
        arguments: dict[str, Any] = {"eos_token_id": None, "pad_token_id": 0}
        if forced:
            run = ForcedDecoding(
                [self.PLAN] * BATCH,
                [str(i) for i in range(BATCH)],
                ends_with_newline=lambda token: False,
                vocabulary=151665,
            )
            arguments = generate_arguments(run)
        if sample:
            arguments |= {"do_sample": True, "temperature": 0.7, "top_k": 0}
        self.model.generate(
            input_ids=self.prompt,
            attention_mask=torch.ones_like(self.prompt),
            stopping_criteria=[watch],  # behind everything else: it sees whole steps
            **{**arguments, "max_new_tokens": steps},
        )
        return watch.median()


class _Watch:
    """A stopping criterion that never stops and notes the time after every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    def median(self) -> float:
        return statistics.median(b - a for a, b in zip(self.times, self.times[1:], strict=False))


class Rounds:
    """(b)."""

    def __init__(self, folder: Path, encoder: TextEncoder, prompts: Sequence[list[int]]) -> None:
        torch.set_num_threads(1)  # as fast for a batch of 8, and steadier
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        self.prompts, self.ends_with_newline = prompts, newline_test(encoder.tokenizer)
        self.vocabulary = len(encoder.tokenizer)

    def one_pass(self, plans: Sequence[Plan]) -> Made:
        """Budget forcing inside ``generate``."""
        made = Made([], sum(map(len, self.prompts)), 0.0)
        with clock(made):
            run = ForcedDecoding(
                plans,
                [str(i) for i in range(len(plans))],
                ends_with_newline=self.ends_with_newline,
                vocabulary=self.vocabulary,
            )
            arguments = generate_arguments(run)
            ids, mask = left_padded(self.prompts, arguments["pad_token_id"])
            self.model.generate(input_ids=ids, attention_mask=mask, **arguments)
            made.tokens = [row.tokens for row in run.rows]
        return made

    def rounds(self, plans: Sequence[Plan], cached: bool) -> Made:
        """One ``generate`` call per round. With ``cached`` the key-value cache is kept between them
        (padding columns masked), as by a perfect prefix cache; else all is prefilled again."""
        made = Made([], 0, 0.0)
        kept = _Kept(self.model, self.prompts)

        def complete(which, ids, limits, stops, banned):  # type: ignore[no-untyped-def]
            if cached:
                return kept.complete(which, ids, limits, stops, banned, made)
            made.prefilled += sum(map(len, ids))
            batch, mask = left_padded(ids, 0)
            width = batch.shape[1]
            out = _generate(self.model, batch, mask, limits, stops, banned)
            return [
                _cut(row[width:], n, stops) for row, n in zip(out.tolist(), limits, strict=True)
            ]

        with clock(made):
            made.tokens = lock_step(self.prompts, plans, self.ends_with_newline, complete)
        return made


class _Kept:
    """Rounds over one growing cache. A row is the columns whose mask is 1."""

    def __init__(self, model: Any, prompts: Sequence[list[int]]) -> None:
        self.model, self.cache = model, DynamicCache()
        self.ids = torch.zeros((len(prompts), 0), dtype=torch.long)
        self.mask = torch.zeros_like(self.ids)

    def complete(  # type: ignore[no-untyped-def]
        self, which, ids, limits, stops, banned, made
    ) -> list[list[int]]:
        count = self.ids.shape[0]
        known = self.mask.sum(dim=1).tolist()
        fresh: list[list[int]] = [[] for _ in range(count)]
        for i, row in zip(which, ids, strict=True):
            fresh[i] = row[known[i] :]
        pieces, real = left_padded(fresh, 0)
        self.ids = torch.cat([self.ids, pieces], dim=1)
        self.mask = torch.cat([self.mask, real], dim=1)
        made.prefilled += int(self.mask[which, self.cache.get_seq_length() :].sum())
        limit, ban = [0] * count, [False] * count
        for i, n, b in zip(which, limits, banned, strict=True):
            limit[i], ban[i] = n, b
        width = self.ids.shape[1]
        out = _generate(self.model, self.ids, self.mask, limit, stops, ban, self.cache)
        new = [_cut(row[width:], n, stops) for row, n in zip(out.tolist(), limit, strict=True)]
        # A stop token is dropped: what stands in its place comes with the next round.
        lengths = [len(row) - (bool(row) and row[-1] in stops) for row in new]
        steps = torch.arange(out.shape[1] - width)
        self.ids = out
        self.mask = torch.cat(
            [self.mask, (steps < torch.tensor(lengths).unsqueeze(1)).long()], dim=1
        )
        return [new[i] for i in which]


def _generate(model, ids, mask, limits, stops, banned, cache=None):  # type: ignore[no-untyped-def]
    """Greedy ``generate`` with a limit for each row; rows of limit 0 take no part."""
    width = ids.shape[1]
    most = torch.tensor(limits)

    def reached(sequence: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return sequence.shape[1] - width >= most

    def ban(sequence: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if sequence.shape[1] == width and any(banned):
            scores[torch.tensor(banned).nonzero(), sorted(stops)] = -torch.inf
        return scores

    return model.generate(
        input_ids=ids,
        attention_mask=mask,
        past_key_values=cache,
        do_sample=False,
        eos_token_id=sorted(stops),
        pad_token_id=min(stops),
        max_new_tokens=max(limits),
        stopping_criteria=[reached],
        logits_processor=[ban],
    )


def _cut(row: list[int], limit: int, stops: frozenset[int]) -> list[int]:
    """``row`` up to its limit or its first stop token, that included."""
    row = row[:limit]
    ends = [i for i, token in enumerate(row) if token in stops]
    return row[: ends[0] + 1] if ends else row
