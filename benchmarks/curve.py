"""What a whole curve costs if its budgets share one thinking, against one run per budget.

The paper's eleven budgets at 1/100 (`engines/paced.py`), in the same engine, one after the other,
by lm-eval's own model class and our driver for it: the shared run and the separate ones in turns,
and whether their responses are the same. Targets: thinking tokens at most 1.02 times the longest
single run's and at least 6 times fewer than separately; all tokens at least 3.5 times fewer; wall
time at least 3 times less in transformers.

    python benchmarks/curve.py [--engine vllm] [--questions 64] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # faster for a model this small
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import torch
from engines import Targets, interval, paced
from transformers import AutoTokenizer

from s1_plugin import __version__
from s1_plugin.evaluation import sharing
from s1_plugin.evaluation.budgets import expand
from s1_plugin.evaluation.request import Request, request
from s1_plugin.forcing.response import Response
from s1_plugin.nano import world

SEED, LENGTH = 0, 512


@dataclass
class Cost:
    """Of one run: tokens that the engine really made, and seconds."""

    thinking: int
    answers: int
    seconds: float
    responses: list[Response]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("hf", "vllm"), default="hf")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("command:", shlex.join(["python", *sys.argv]))
    print(
        f"s1-plugin {__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads, float32, greedy, "
        f"seed {SEED}, {options.questions} questions"
    )
    with tempfile.TemporaryDirectory() as folder:
        base = world.build(Path(folder) / "nano", n_train=1, seed=SEED) / "base"
        model = paced.train(Path(folder) / "model", base)
        lm, driver = (load_vllm if options.engine == "vllm" else load_hf)(model)
        table(lm, driver, budgets(model, options.questions), options.repeats)


def load_hf(model: Path) -> tuple[Any, Any]:
    """lm-eval's ``--model hf`` and our driver for it."""
    from lm_eval.models.huggingface import HFLM

    from s1_plugin.evaluation import hf

    device = "cuda" if torch.cuda.is_available() else "cpu"
    lm = HFLM(str(model), dtype="float32", device=device, batch_size=64, max_length=LENGTH)
    return lm, hf


def load_vllm(model: Path) -> tuple[Any, Any]:
    """lm-eval's ``--model vllm``, the engine started with our processor."""
    from lm_eval.models.vllm_causallms import VLLM

    from s1_plugin.evaluation import vllm
    from s1_plugin.forcing.vllm_request import PROCESSOR

    lm = VLLM(
        str(model),
        dtype="float32",
        batch_size="auto",
        max_model_len=LENGTH,
        max_num_seqs=64,
        # Seeded requests whose prefill is cut in pieces fail in vLLM 0.32's CPU runner.
        max_num_batched_tokens=32768,
        enable_prefix_caching=True,
        logits_processors=[PROCESSOR],
    )
    return lm, vllm


def budgets(model: Path, count: int) -> list[list[Request]]:
    """The requests of every budget."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = {
        "max_tokens_thinking": list(paced.CAPS),
        "thinking_n_ignore": list(paced.WAITS),
        "max_gen_toks": LENGTH - 32,
        "seed": SEED,
    }
    questions = paced.questions(count)
    chats = [[{"role": "user", "content": question}] for question in questions]
    prompts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in chats
    ]
    return [
        [request(p, q, how) for p, q in zip(prompts, questions, strict=True)]
        for how in expand(asked)
    ]


def run(lm: Any, driver: Any, requests: Sequence[Request]) -> Cost:
    """One run, with what it cost."""
    made: list[sharing.Work] = []
    original = driver.Work

    def counted(*args: Any, **kwargs: Any) -> sharing.Work:
        made.append(original(*args, **kwargs))
        return made[-1]

    if hasattr(lm.model, "reset_prefix_cache"):
        lm.model.reset_prefix_cache()
    driver.Work = counted
    began = time.perf_counter()
    try:
        responses = driver.run(lm, requests)
    finally:
        driver.Work = original
    seconds = time.perf_counter() - began
    return Cost(made[0].thinking_tokens, made[0].answer_tokens, seconds, responses)


def table(lm: Any, driver: Any, asked: list[list[Request]], repeats: int) -> None:
    """Runs both ways in turns and prints the ratios."""
    everything = [one for requests in asked for one in requests]
    run(lm, driver, everything[:: len(asked)][:8])  # warm up
    shared, alone = [], []
    for repeat in range(repeats):
        for way in (True, False) if repeat % 2 else (False, True):
            if way:
                shared.append(run(lm, driver, everything))
            else:
                alone.append([run(lm, driver, requests) for requests in asked])
    one, each = shared[0], alone[0]
    for requests, cost in zip(asked, each, strict=True):
        print(
            f"  {requests[0].budget.label:<12} alone: {cost.thinking:>7} thinking and "
            f"{cost.answers:>6} answer tokens, {cost.seconds:6.2f} s"
        )
    longest = max(cost.thinking for cost in each)
    thinking, answers = sum(c.thinking for c in each), sum(c.answers for c in each)
    same = [
        a == b for a, b in zip(one.responses, (r for c in each for r in c.responses), strict=True)
    ]
    print(
        f"  shared       in all: {one.thinking:>6} thinking and {one.answers:>6} answer tokens, "
        f"{one.seconds:6.2f} s; {sum(same)} of {len(same)} responses are those of separate runs"
    )
    ratios = [sum(c.seconds for c in e) / s.seconds for s, e in zip(shared, alone, strict=True)]
    targets = Targets()
    targets("thinking at most 1.02 times the longest run's", one.thinking <= 1.02 * longest)
    targets("thinking 6 times fewer than separately", thinking >= 6 * one.thinking)
    targets(
        "all tokens 3.5 times fewer",
        thinking + answers >= 3.5 * (one.thinking + one.answers),
    )
    targets(
        "wall time 3 times less", driver.__name__.endswith("vllm") or statistics.median(ratios) >= 3
    )
    targets("the responses of separate runs", all(same))
    print(
        f"thinking tokens: {one.thinking / longest:.3f} times the longest run's, "
        f"{thinking / one.thinking:.2f} times fewer than separately\n"
        f"all tokens: {(thinking + answers) / (one.thinking + one.answers):.2f} times fewer\n"
        f"wall time: {interval(ratios)} times less (median of {repeats} pairs: shared "
        f"{statistics.median(c.seconds for c in shared):.2f} s)"
    )
    targets.check()


if __name__ == "__main__":
    main()
