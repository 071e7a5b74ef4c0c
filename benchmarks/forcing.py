"""What budget forcing costs inside an engine, and what one pass saves over rounds of requests.

(a) A decode step with forcing on against off: Qwen2.5-0.5B's shapes with random weights, batch 8,
    greedy and at temperature 0.7. Target: at most 1.05.
(b) One pass against the multi-round procedure in lock step (a round is one batch, the next begins
    when its slowest row is through), in the same engine, with the same tokens, at 1, 2, 4 and 6
    Waits: prompt tokens prefilled and wall time; the rounds' prefix cache on, and off for
    information. Target: at least as fast everywhere, at least 1.5 times at 4 Waits.

    python benchmarks/forcing.py [--engine vllm] [--pairs 30] [--repeats 3] [--only a]

Figures are ratios of runs that follow one another in turn (median, 95 % bootstrap interval), so
that a busy machine slows both sides alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shlex
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "vllm" in sys.argv:  # its CPU build is many times slower with as many threads as cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from engines import BATCH, Made, Targets, ending_model, interval, plans_of
from transformers import AutoTokenizer

from s1_plugin import __version__
from s1_plugin.encoding import TextEncoder
from s1_plugin.formats import S1
from s1_plugin.nano import world

SEED, PROMPTS, CAP, SHARE = 0, 8, 250, 0.04


targets = Targets()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--pairs", type=int, default=30, help="of (a)")
    parser.add_argument("--repeats", type=int, default=3, help="of each number of Waits in (b)")
    parser.add_argument("--only", choices=("a", "b"))
    options = parser.parse_args()
    if options.engine == "vllm":
        from engines import vllm as engine
    else:
        from engines import hf as engine
    print("command:", shlex.join(["python", *sys.argv]))
    print(
        f"s1-plugin {__version__}, {engine.versions}, Python {platform.python_version()}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads, float32, seed {SEED}"
    )
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        base = world.build(Path(folder) / "nano", n_train=1, seed=SEED) / "base"
        if options.only != "b":
            steps(engine.Steps(Path(folder) / "shapes", base), options.pairs)
        if options.only != "a":
            rounds(engine, Path(folder) / "ending", base, options.repeats)
    targets.check()


def steps(engine: Any, pairs: int) -> None:
    """Prints (a)."""
    for sample in (False, True):
        for forced in (True, False):
            engine.step(forced, sample)  # warm up
        ratios, plain = [], []
        for pair in range(pairs):
            order = (True, False) if pair % 2 else (False, True)
            took = {forced: engine.step(forced, sample) for forced in order}
            ratios.append(took[True] / took[False])
            plain.append(took[False])
        targets(f"(a), sample={sample}: at most 1.05", statistics.median(ratios) <= 1.05)
        print(
            f"(a) {'temperature 0.7' if sample else 'greedy'}, batch {BATCH}: a step takes "
            f"{1000 * statistics.median(plain):.0f} ms without forcing; with forcing "
            f"{interval(ratios)} times as long ({pairs} pairs)",
            flush=True,
        )


def rounds(engine: Any, folder: Path, base: Path, repeats: int) -> None:
    """Prints (b)."""
    encoder = TextEncoder(AutoTokenizer.from_pretrained(base))
    ending_model(folder, base, encoder, SHARE, engine.LAYERS)
    chance = random.Random(SEED)
    questions = [
        "+".join(str(chance.randint(0, 9)) for _ in range(chance.randint(2, 40)))
        for _ in range(PROMPTS)
    ]
    start = encoder.scaffold_ids(S1.think_start)
    prompts = [encoder.encode(encoder.prompt_pieces(q, S1)) + start for q in questions]
    arms = engine.Rounds(folder, encoder, prompts)
    arms.one_pass(plans_of(encoder, prompts, 20, 1))  # warm up
    for waits in (1, 2, 4, 6):
        plans = plans_of(encoder, prompts, CAP, waits)
        runs: dict[str, list[Made]] = {"one": [], "cached": [], "fresh": []}
        for repeat in range(repeats):
            for arm in reversed(runs) if repeat % 2 else runs:
                made = arms.one_pass(plans) if arm == "one" else arms.rounds(plans, arm == "cached")
                runs[arm].append(made)
        first = {arm: made[0] for arm, made in runs.items()}
        rows = [first[arm].tokens for arm in runs]
        same = sum(a == b == c for a, b, c in zip(*rows, strict=True))
        took = {arm: [made.seconds for made in list_] for arm, list_ in runs.items()}
        speedup = statistics.median(b / a for a, b in zip(took["one"], took["cached"], strict=True))
        targets(f"(b), {waits} Waits", speedup >= (1.5 if waits == 4 else 1.0) and same == PROMPTS)
        ratio = {
            arm: interval([b / a for a, b in zip(took["one"], took[arm], strict=True)])
            for arm in ("cached", "fresh")
        }
        print(
            f"(b) {waits} Waits, {PROMPTS} prompts, {sum(map(len, rows[0]))} new tokens: one pass "
            f"prefills {first['one'].prefilled} and takes {statistics.median(took['one']):.2f} s; "
            f"rounds prefill {first['cached'].prefilled} and take {ratio['cached']} times as long; "
            f"without a prefix cache {first['fresh'].prefilled} and {ratio['fresh']} times "
            f"({repeats} interleaved runs; {same} of "
            f"{PROMPTS} rows the same in all three)",
            flush=True,
        )


if __name__ == "__main__":
    main()
