"""vLLM, in its own environment; forcing by our processor, rounds by plain requests."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

# One process, so that the engines of (a) take turns.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

from vllm import LLM, SamplingParams, TokensPrompt

from engines import BATCH, SHAPES, Made, clock, lock_step
from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.forcing import vllm_request
from s1_plugin.forcing.budget import Budget, Plan
from s1_plugin.formats import S1

#: Of (b)'s model. With fewer, a step's time is the engine's work for each row rather than the
#: model's weights, as it never is in a model that one would use.
LAYERS = 6
#: Tokens in a block of the prefix cache; the least that vLLM's CPU attention takes.
BLOCK = 32


def _version(*names: str) -> str:
    for name in names:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "vllm ?"


versions = f"{_version('vllm-cpu', 'vllm')}, {_version('torch')}"


def _start(folder: Path, **settings: Any) -> LLM:
    return LLM(
        str(folder),
        dtype="float32",
        max_num_seqs=32,
        seed=0,
        disable_log_stats=True,
        logits_processors=[vllm_request.PROCESSOR],
        **settings,
    )


class Steps:
    """(a): Qwen2.5-0.5B's shapes with random weights; requests that are forced, and plain ones, in
    one engine (two of them differ by 2 % by where their weights lie; for plain requests the
    processor returns at once). The tokenizer is the nano model's with as many idle tokens as make
    it Qwen2.5's size, so that as many ids are masked as there."""

    def __init__(self, folder: Path, base: Path) -> None:
        folder.mkdir()
        for path in base.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        file = folder / "tokenizer.json"
        tokenizer = json.loads(file.read_text(encoding="utf-8"))
        vocabulary = tokenizer["model"]["vocab"]
        size = len(vocabulary) + len(tokenizer["added_tokens"])
        vocabulary |= {f"idle{i}": i for i in range(size, 151665)}
        file.write_text(json.dumps(tokenizer), encoding="utf-8")
        config = {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "torch_dtype": "float32",
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            **SHAPES,
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        self.engine = _start(
            folder, load_format="dummy", max_model_len=512, enable_prefix_caching=False
        )
        start = TextEncoder(self.engine.get_tokenizer()).scaffold_ids(S1.think_start)
        self.prompts = [TokensPrompt(prompt_token_ids=[97 + i, *start]) for i in range(BATCH)]
        self.count = 0

    def step(self, forced: bool, sample: bool, steps: int = 4) -> float:
        """Median seconds of a step."""
        params = SamplingParams(
            temperature=0.7 if sample else 0.0,
            seed=0,
            max_tokens=400,
            ignore_eos=True,
            detokenize=False,
            extra_args={"max_tokens_thinking": 300, "thinking_n_ignore": 100} if forced else None,
        )
        engine = self.engine.llm_engine
        names = [str(self.count + i) for i in range(BATCH)]
        self.count += BATCH
        for name, prompt in zip(names, self.prompts, strict=True):
            engine.add_request(name, prompt, params)
        times = [time.perf_counter()]
        for _ in range(steps):
            engine.step()
            times.append(time.perf_counter())
        engine.abort_request(names)
        engine.step()
        return statistics.median(b - a for a, b in pairwise(times[1:]))


class Rounds:
    """(b): two engines, with a prefix cache and without. The cache is emptied before each arm."""

    def __init__(self, folder: Path, encoder: TextEncoder, prompts: Sequence[list[int]]) -> None:
        self.prompts, self.ends_with_newline = prompts, newline_test(encoder.tokenizer)
        # The smallest blocks there are: rounds find the more of their prompts in the cache.
        settings = {"max_model_len": 1024, "block_size": BLOCK}
        self.engines = {
            cached: _start(folder, enable_prefix_caching=cached, **settings)
            for cached in (True, False)
        }

    def one_pass(self, plans: Sequence[Plan]) -> Made:
        """Every request once, forced by our processor."""
        made = Made([], 0, 0.0)
        params = [vllm_request.sampling_params(Budget(waits=p.waits), p) for p in plans]
        self.engines[True].reset_prefix_cache()
        with clock(made):
            outputs = self._ask(True, self.prompts, params, made)
            made.tokens = [
                [t for n, t in enumerate(ids) if n < len(ids) - 1 or t not in p.stop_ids]
                for ids, p in zip(outputs, plans, strict=True)
            ]
        return made

    def rounds(self, plans: Sequence[Plan], cached: bool) -> Made:
        """One batch of plain requests per round."""
        made = Made([], 0, 0.0)

        def complete(which, ids, limits, stops, banned):  # type: ignore[no-untyped-def]
            params = [
                SamplingParams(
                    temperature=0.0,
                    max_tokens=limit,
                    min_tokens=int(ban),  # keeps a stop from being the first token
                    stop_token_ids=sorted(stops),
                    ignore_eos=True,
                    detokenize=False,
                )
                for limit, ban in zip(limits, banned, strict=True)
            ]
            return self._ask(cached, ids, params, made)

        self.engines[cached].reset_prefix_cache()
        with clock(made):
            made.tokens = lock_step(self.prompts, plans, self.ends_with_newline, complete)
        return made

    def _ask(
        self, cached: bool, ids: Sequence[list[int]], params: list[SamplingParams], made: Made
    ) -> list[list[int]]:
        outputs = self.engines[cached].generate(
            [TokensPrompt(prompt_token_ids=row) for row in ids], params, use_tqdm=False
        )
        made.prefilled += sum(
            len(row) - (out.num_cached_tokens or 0) for row, out in zip(ids, outputs, strict=True)
        )
        return [list(out.outputs[0].token_ids) for out in outputs]
