"""Rows in balance against one row per GPU: how long the others wait for the longest row.

The steps are those of training (`s1_plugin/training/batches.py`): the same 16 rows per step, in
the trainer's own shuffled order, over one epoch. Costs are the FLOPs of Qwen2.5-32B for each row
(forward and backward, linear + quadratic in tokens); what the ranks of one group say to one
another, and what longer micro-batches gain in kernels, is not counted. Lengths:

- real traces, tokenised as in training (``S1_TEST_DATA``): 582 of s1.1-32B on GSM8K; 40 of LIMO,
  25 times over; both together; and any file named by ``--rows`` (s1K where you have it);
- lognormal quantiles, 1,000 rows, for s1K's two known facts, mean 4,700 and 74 % over 4,096
  tokens. Both hold for one sigma only, 0.19, with no row over 8,600 tokens; the paper trained with
  32,768. So also the sigma with mean 4,700 whose longest row is 32,768 (0.66, 45 % over 4,096).

Targets, for 2, 4, 8 and 16 groups: the fullest group's work summed over the epoch at most 1.10
times the lower bound; each step of a sample at most 1.02 times the best that an exhaustive search
(or 300,000 placements of it) finds.

    python benchmarks/balance.py [--rows s1K.parquet] [--tokenizer FOLDER] [--sample 6]
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from accelerate.data_loader import SeedableRandomSampler

from s1_plugin import __version__
from s1_plugin.plan import flops, shapes
from s1_plugin.training import balance
from s1_plugin.training.batches import Bins

DATA = Path(os.environ.get("S1_TEST_DATA", "../shared/data"))
STEP, GROUPS, SEED, LONGEST = 16, (2, 4, 8, 16), 42, 32_768
OVER_BOUND, OVER_BEST = 1.10, 1.02
PLACEMENTS = 300_000
COEFFICIENTS = flops.row_cost(shapes.KNOWN["Qwen2.5-32B"])


# -- lengths ------------------------------------------------------------------------------------


def lognormal(mean: float, sigma: float, rows: int = 1000) -> list[int]:
    """Quantiles in the middle of equal shares, so that no chance is in them."""
    mu = math.log(mean) - sigma**2 / 2
    draws = (statistics.NormalDist(mu, sigma).inv_cdf((i + 0.5) / rows) for i in range(rows))
    return [min(LONGEST, round(math.exp(draw))) for draw in draws]


def sigma_of_share(mean: float, over: float, share: float) -> float:
    """Of the lognormal with this mean and this share above ``over``: with z the share's quantile,
    mu = log(over) + z sigma = log(mean) - sigma^2 / 2."""
    z = statistics.NormalDist().inv_cdf(share)
    return -z + math.sqrt(z * z + 2 * math.log(mean / over))


def sigma_of_longest(mean: float, longest: float, rows: int = 1000) -> float:
    """Of the lognormal with this mean whose highest of ``rows`` quantiles is ``longest``."""
    z = statistics.NormalDist().inv_cdf(1 - 0.5 / rows)
    return z - math.sqrt(z * z - 2 * math.log(longest / mean))


def tokenised(path: Path, tokenizer: Path) -> list[int]:
    """Tokens of each row of a file of traces, as training lays it out."""
    import datasets
    from transformers import AutoTokenizer

    from s1_plugin import records
    from s1_plugin.encoding import TextEncoder
    from s1_plugin.formats import S1

    kind = "parquet" if path.suffix == ".parquet" else "json"
    rows = datasets.load_dataset(kind, data_files=str(path), split="train")
    read = records.detect(rows.column_names, str(path)).read
    encoder = TextEncoder(AutoTokenizer.from_pretrained(tokenizer))
    return [len(row.input_ids) for row in encoder.rows([read(row)[:3] for row in rows], S1)]


def distributions(args: argparse.Namespace) -> dict[str, list[int]]:
    both, wide = sigma_of_share(4700, 4096, 0.74), sigma_of_longest(4700, LONGEST)
    found = {
        f"lognormal, both facts (sigma {both:.2f})": lognormal(4700, both),
        f"lognormal, long rows (sigma {wide:.2f})": lognormal(4700, wide),
    }
    traces = DATA / "traces"
    if traces.is_dir():
        short = tokenised(traces / "s1.1-32b-gsm8k.jsonl", args.tokenizer)
        long = tokenised(traces / "limo-v2-40.jsonl", args.tokenizer)
        found |= {"GSM8K, real": short, "LIMO, real, x25": long * 25, "both, real": short + long}
    else:
        print(f"no real traces at {DATA}: set S1_TEST_DATA")
    if args.rows:
        found[args.rows.name] = tokenised(args.rows, args.tokenizer)
    return found


# -- steps --------------------------------------------------------------------------------------


def searched(costs: Sequence[float], bins: int, best: float) -> tuple[float, bool]:
    """The least that the fullest bin can hold, and whether nothing better is left: every way of
    spreading the rows is tried that could still be better than ``best``, bins of the same load
    counted once, until there have been `PLACEMENTS`."""
    order = sorted(costs, reverse=True)
    rest = [math.fsum(order[i:]) for i in range(len(order))]
    loads = [0.0] * bins
    placed = 0

    def go(i: int) -> None:
        nonlocal best, placed
        placed += 1
        if i == len(order):
            best = max(loads)
            return
        if math.fsum(max(0.0, best - load) for load in loads) < rest[i]:
            return
        tried = set()
        for b in sorted(range(bins), key=loads.__getitem__):
            before = loads[b]
            if before in tried or before + order[i] >= best * (1 - 1e-4) or placed >= PLACEMENTS:
                continue
            tried.add(before)
            loads[b] = before + order[i]
            go(i + 1)
            loads[b] = before

    go(0)
    return best, placed < PLACEMENTS


def epoch(lengths: list[int], groups: int) -> list[list[list[int]]]:
    """Every step's rows, group by group, as training spreads them."""
    order = SeedableRandomSampler(lengths, data_seed=SEED)
    bins = Bins(order, lengths, STEP // groups, 1, groups, coefficients=COEFFICIENTS)
    return list(bins.steps())


def measure(name: str, lengths: list[int], sample: int) -> list[str]:
    """Prints one distribution's tables; what was missed."""
    missed = []
    cost = {n: balance.cost(n, *COEFFICIENTS) for n in set(lengths)}

    def load(rows: Sequence[int]) -> float:
        return math.fsum(cost[lengths[row]] for row in rows)

    sigma = statistics.stdev(math.log(n) for n in lengths)
    over = sum(n > 4096 for n in lengths) / len(lengths)
    print(
        f"\n{name}: {len(lengths)} rows, mean {statistics.mean(lengths):,.0f}, longest "
        f"{max(lengths):,} tokens, {over:.0%} over 4,096, sigma of the log {sigma:.2f}"
    )
    print(
        "groups   fullest/mean   /bound (<= 1.10)   /best found (<= 1.02)   ms/step   longest row"
    )
    fullest = {}
    for groups in GROUPS:
        began = time.perf_counter()
        steps = epoch(lengths, groups)
        spent = (time.perf_counter() - began) / len(steps) * 1000
        fullest[groups] = [max(map(load, step)) for step in steps]
        rows = [[row for part in step for row in part] for step in steps]
        costs = [[cost[lengths[row]] for row in step] for step in rows]
        total = math.fsum(fullest[groups])
        mean = total / (math.fsum(map(math.fsum, costs)) / groups)
        bound = total / math.fsum(balance.lower_bound(values, groups) for values in costs)
        worst, proven = 1.0, 0
        # The steps furthest from their bounds first: there is most to find.
        far = sorted(
            range(len(steps)),
            key=lambda at: balance.lower_bound(costs[at], groups) / fullest[groups][at],
        )
        looked = far[: sample // 2] + far[sample // 2 :: max(1, len(far) // max(1, sample // 2))]
        for at in looked:
            best, whole = searched(costs[at], groups, fullest[groups][at])
            worst, proven = max(worst, fullest[groups][at] / best), proven + whole
        packed = max(sum(lengths[row] for row in part) for step in steps for part in step)
        print(
            f"{groups:6}   {mean:12.3f}   {bound:16.4f}   {worst:11.4f} ({proven}/{len(looked)} "
            f"proven)   {spent:7.1f}   {packed:11,}"
        )
        if bound > OVER_BOUND:
            missed.append(f"{name}, {groups} groups: {bound:.3f} times the lower bound")
        if worst > OVER_BEST:
            missed.append(f"{name}, {groups} groups: a step {worst:.3f} times the best found")
    ratios(lengths, cost, {groups: math.fsum(each) for groups, each in fullest.items()})
    return missed


def ratios(lengths: list[int], cost: dict[int, float], fullest: dict[int, float]) -> None:
    """The time of one row per GPU over ours. On 8 GPUs that takes two micro-batches, each as long
    as its longest row."""
    order = [row for step in epoch_in_order(lengths) for row in step]
    values = [cost[lengths[row]] for row in order]
    for gpus in (8, 16):
        alone = math.fsum(max(values[at : at + gpus]) for at in range(0, len(values), gpus))
        ours = [
            f"{groups} groups x {gpus // groups}: {alone / (fullest[groups] * groups / gpus):.2f}"
            for groups in (8, 4, 2)
        ]
        ideal = alone / (math.fsum(values) / gpus)
        print(f"{gpus:2} GPUs, one row per GPU takes this many times as long as ", end="")
        print(f"{'; '.join(ours)}; no waiting at all: {ideal:.2f}")


def epoch_in_order(lengths: list[int]) -> list[list[int]]:
    """Every step's rows in the order of the sampler."""
    order = list(SeedableRandomSampler(lengths, data_seed=SEED))
    order += order[: -len(order) % STEP]
    return [order[at : at + STEP] for at in range(0, len(order), STEP)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, help="a file of traces, .parquet or .jsonl")
    parser.add_argument("--tokenizer", type=Path, default=DATA / "qwen2.5-tokenizer")
    parser.add_argument("--sample", type=int, default=6, help="steps that are searched, about")
    args = parser.parse_args()
    print(shlex.join(["python", "benchmarks/balance.py", *sys.argv[1:]]))
    print(f"s1-plugin {__version__}, Python {platform.python_version()}, seed {SEED}")
    missed = []
    for name, lengths in distributions(args).items():
        missed += measure(name, lengths, args.sample)
    print()
    for line in missed:
        print(f"MISSED: {line}")
    if missed:
        sys.exit(1)
    print("all targets met")


if __name__ == "__main__":
    main()
