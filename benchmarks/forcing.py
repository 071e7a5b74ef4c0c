"""What budget forcing costs in transformers, and what one pass saves over rounds.

(a) A decode step with forcing on against off, Qwen2.5-0.5B shapes with random weights, batch 8,
    interleaved pairs: median ratio and its 95 % bootstrap interval.
(b) One pass against the multi-round procedure in lock step (every round is one batch that waits
    for its slowest member), same model, same outputs, at 1, 2, 4 and 6 Waits: prompt tokens
    prefilled and wall time, with the rounds' key-value cache kept ("prefix cache") and not.

    python benchmarks/forcing.py [--pairs 30] [--skip-a | --skip-b]
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, DynamicCache, Qwen2Config, Qwen2ForCausalLM

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.budget import Budget, plan
from s1_plugin.forcing.transformers import (
    ForcedDecoding,
    generate_arguments,
    newline_test,
)
from s1_plugin.formats import S1
from s1_plugin.nano import world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--skip-a", action="store_true")
    parser.add_argument("--skip-b", action="store_true")
    options = parser.parse_args()
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, float32"
    )
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        base = world.build(Path(folder), n_train=1, seed=0) / "base"
        encoder = TextEncoder(AutoTokenizer.from_pretrained(base))
        if not options.skip_a:
            decode_step(encoder, options.pairs)
        if not options.skip_b:
            rounds(encoder)


# -- (a) ----------------------------------------------------------------------------------------


def decode_step(encoder: TextEncoder, pairs: int, batch: int = 8, steps: int = 6) -> None:
    """Prints the cost of a decode step with forcing relative to one without."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=151936,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    ).eval()
    prompt = torch.randint(0, 256, (batch, 8))
    mask = torch.ones_like(prompt)

    def once(forced: bool, sample: bool) -> float:
        clock = _Clock()
        arguments: dict = {"eos_token_id": None, "pad_token_id": 0, "max_new_tokens": steps + 1}
        if forced:
            arguments |= generate_arguments(_run(encoder, [[0] * 8] * batch, Budget(400, 1), 500))
            arguments |= {"max_new_tokens": steps + 1}
        # The clock stands behind everything else in both arms: it sees whole steps.
        model.generate(
            input_ids=prompt,
            attention_mask=mask,
            do_sample=sample,
            stopping_criteria=[clock],
            **({"top_k": 0} if sample else {}),
            **arguments,
        )
        return clock.median()

    for sample in (False, True):
        once(True, sample), once(False, sample)
        ratios, plain = [], []
        for i in range(pairs):
            order = (True, False) if i % 2 else (False, True)
            took = {forced: once(forced, sample) for forced in order}
            ratios.append(took[True] / took[False])
            plain.append(took[False])
        low, high = _bootstrap_median(ratios)
        print(
            f"(a) {'sampling' if sample else 'greedy'}, batch {batch}, vocabulary 151,936: "
            f"{1000 * statistics.median(plain):.0f} ms a step without forcing; "
            f"with/without = {statistics.median(ratios):.3f} "
            f"(95 % {low:.3f} to {high:.3f}, {pairs} interleaved pairs)"
        )


class _Clock:
    """A stopping criterion that never stops and notes the time after every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)

    def median(self) -> float:
        return statistics.median(b - a for a, b in zip(self.times, self.times[1:], strict=False))


def _bootstrap_median(values: list[float], draws: int = 2000) -> tuple[float, float]:
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


# -- (b) ----------------------------------------------------------------------------------------


def rounds(encoder: TextEncoder, batch: int = 16, cap: int = 300, answer: int = 12) -> None:
    """Prints prefilled tokens and wall time of one pass and of rounds."""
    model = _ending_model(encoder)
    chance = random.Random(0)
    questions = ["+".join(str(chance.randint(0, 9)) for _ in range(n)) for n in range(4, 4 + batch)]
    start = encoder.scaffold_ids(S1.think_start)
    prompts = [encoder.encode(encoder.prompt_pieces(q, S1)) + start for q in questions]
    for waits in (1, 2, 4, 6):
        times: dict[str, list[float]] = {"one": [], "kept": [], "fresh": []}
        for _ in range(3):
            began = time.perf_counter()
            run = _run(encoder, prompts, Budget(cap, waits), cap + 40, answer)
            one = _generate(model, run, prompts)
            times["one"].append(time.perf_counter() - began)
            for name, keep in (("kept", True), ("fresh", False)):
                began = time.perf_counter()
                many, prefilled = _lock_step(model, encoder, prompts, cap, waits, answer, keep)
                times[name].append(time.perf_counter() - began)
                assert many == one, "one pass and rounds must give the same tokens"
                if name == "fresh":
                    fresh_prefill = prefilled
                else:
                    kept_prefill = prefilled
        base = statistics.median(times["one"])
        own = sum(map(len, prompts))
        print(
            f"(b) {waits} Waits, {batch} prompts: one pass prefills {own} tokens in {base:.2f} s; "
            f"rounds with their cache kept {kept_prefill} "
            f"({statistics.median(times['kept']) / base:.2f}x the time), without "
            f"{fresh_prefill} ({statistics.median(times['fresh']) / base:.2f}x)"
        )


def _ending_model(encoder: TextEncoder) -> Qwen2ForCausalLM:
    """A small random Qwen2 whose rows end their thinking at positions of their own."""
    ends = [encoder.control_id(t) for t in ("<|im_end|>", "<|im_start|>")]

    class Ending(Qwen2ForCausalLM):
        def forward(self, *args, position_ids=None, **kwargs):  # type: ignore[no-untyped-def]
            out = super().forward(*args, position_ids=position_ids, **kwargs)
            ending = (position_ids[:, -out.logits.shape[1] :] % 37 == 0).to(out.logits)
            out.logits[..., ends] += 50 * ending.unsqueeze(-1)
            return out

    torch.manual_seed(0)
    return Ending(
        Qwen2Config(
            vocab_size=len(encoder.tokenizer),
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            initializer_range=0.2,
        )
    ).eval()


def _run(
    encoder: TextEncoder,
    prompts: list[list[int]],
    budget: Budget,
    max_new_tokens: int,
    answer: int | None = None,
) -> ForcedDecoding:
    plans = [
        plan(budget, encoder, S1, prompt_length=len(p), max_new_tokens=max_new_tokens)
        for p in prompts
    ]
    return ForcedDecoding(
        plans,
        [str(i) for i in range(len(plans))],
        ends_with_newline=newline_test(encoder.tokenizer),
        vocabulary=len(encoder.tokenizer),
    )


def _generate(
    model: Qwen2ForCausalLM, run: ForcedDecoding, prompts: list[list[int]]
) -> list[list[int]]:
    arguments = generate_arguments(run)
    ids, mask = _padded(prompts, arguments["pad_token_id"])
    model.generate(input_ids=ids, attention_mask=mask, do_sample=False, **arguments)
    return [row.tokens for row in run.rows]


def _padded(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
    return ids, mask


def _lock_step(
    model: Qwen2ForCausalLM,
    encoder: TextEncoder,
    prompts: list[list[int]],
    cap: int,
    waits: int,
    answer: int,
    keep: bool,
) -> tuple[list[list[int]], int]:
    """Multi-round budget forcing, every round one batch; returns tokens and tokens prefilled.

    With ``keep`` the key-value cache lives on between rounds, as a perfect prefix cache would
    have it; without, every round prefills all it has so far.
    """
    p = plan(Budget(cap, waits), encoder, S1, prompt_length=0, max_new_tokens=cap + 40)
    newline = newline_test(encoder.tokenizer)
    out: list[list[int]] = [[] for _ in prompts]
    ended: list[str | None] = [None] * len(prompts)
    engine = _Engine(model, keep)
    append = [list(prompt) for prompt in prompts]
    thinking = [True] * len(prompts)
    for number in range(waits + 1):
        limits = [cap - len(o) if t else 0 for o, t in zip(out, thinking, strict=True)]
        banned = p.end_ids if number else frozenset()
        new, stopped = engine.round(append, limits, p.end_ids, banned)
        append = [[] for _ in prompts]
        for i, row in enumerate(new):
            if not thinking[i]:
                continue
            out[i] += row
            fits = len(out[i]) + len(p.wait_ids[0]) <= cap
            if stopped[i] and number < waits and fits:
                append[i] = list(p.wait_ids[0])
                out[i] += append[i]
                thinking[i] = len(out[i]) < cap
            else:
                thinking[i] = False
            if not thinking[i]:
                ended[i] = "natural" if stopped[i] and number == waits else "cap"
    for i, how in enumerate(ended):
        closing = list(p.natural_end)
        if how == "cap":
            closing = ([] if newline(out[i][-1]) else list(p.newline)) + list(p.capped_end)
        out[i] += closing
        append[i] = append[i] + closing
    limits = [cap + 40 - len(o) for o in out]
    new, _ = engine.round(append, limits, p.stop_ids, frozenset())
    return [o + row for o, row in zip(out, new, strict=True)], engine.prefilled


class _Engine:
    """A batch that decodes greedily in rounds; padding columns are masked."""

    def __init__(self, model: Qwen2ForCausalLM, keep: bool) -> None:
        self.model, self.keep = model, keep
        self.rows: list[list[int]] = []
        self.prefilled = 0
        self.cache, self.mask = DynamicCache(), torch.zeros(0)

    def round(
        self,
        append: list[list[int]],
        limits: list[int],
        stops: frozenset[int],
        banned: frozenset[int],
    ) -> tuple[list[list[int]], list[bool]]:
        """Appends to every row, then decodes up to its limit or a stop token."""
        fresh = not self.keep or not self.rows
        if not self.rows:
            self.rows = [[] for _ in append]
            self.pending: list[list[int]] = [[] for _ in append]
        self.pending = [a + b for a, b in zip(self.pending, append, strict=True)]
        self.rows = [r + a for r, a in zip(self.rows, append, strict=True)]
        new: list[list[int]] = [[] for _ in append]
        stopped = [False] * len(append)
        active = [limit > 0 for limit in limits]
        if fresh:
            self.cache, self.mask = DynamicCache(), torch.zeros((len(append), 0), dtype=torch.long)
            self.pending = [list(row) for row in self.rows]
        self.prefilled += sum(len(p) for p, a in zip(self.pending, active, strict=True) if a)
        first = True
        while any(active):
            feed = [p if a else [] for p, a in zip(self.pending, active, strict=True)]
            logits = self._forward(feed)
            self.pending = [[] if a else p for p, a in zip(self.pending, active, strict=True)]
            if first and banned:
                logits[:, sorted(banned)] = -torch.inf
            first = False
            for i, token in enumerate(logits.argmax(-1).tolist()):
                if not active[i]:
                    continue
                if token in stops:
                    active[i], stopped[i] = False, True
                    continue
                new[i].append(token)
                self.rows[i].append(token)
                self.pending[i] = [token]
                active[i] = len(new[i]) < limits[i]
        return new, stopped

    def _forward(self, feed: list[list[int]]) -> torch.Tensor:
        ids, mask = _padded([f or [0] for f in feed], 0)
        for i, f in enumerate(feed):
            if not f:
                mask[i] = 0
        self.mask = torch.cat([self.mask, mask], dim=1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        result = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        return result.logits[:, -1].float().clone()


if __name__ == "__main__":
    main()
