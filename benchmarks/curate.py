"""Curation of 59,029 questions, as many as the paper started from: seconds, memory, and against the
authors' loop.

    python benchmarks/curate.py
    python benchmarks/curate.py --traces    # real traces, their tokens counted: memory only

Needs S1_TEST_DATA (default ../shared/data). The questions are synthetic: real s1K questions in
which every other five words are those of another question, with other numbers; 1 % are benchmark
questions written otherwise, 3 % copies. So most share no run of 8 words with another, as questions
of different sources do. `s1 curate` does all of it: reading, form, copies, contamination, domain,
selection, card and report; lengths come from a column. Memory is the sum over all processes.

The loop is that of the authors' data/collect_data.py (github.com/simplescaling/s1), in our words:
for each of 16 sources two tables, 8-gram -> questions that hold it, one of the source and one of
the benchmarks and of all sources before; what they share goes, what stays is compared with from
then on; at the end equal questions go. So it does what our contamination and our copies do (and
sees no copy within a source that is not equal to the letter): that is the comparison with a target.
The loop's time depends on what it leaves, with which all later sources are compared; it is printed.
Beside it, without a target, contamination alone: ours; theirs, once over all; and the least that
does the paper's rule, one set of 8-grams. Ours also finds what is written otherwise, and names the
n-gram. Processor time, one process each.

Targets: 60 s and 1 GB on 2 cores; contamination and copies 5 times as fast as the loop; every
planted question found, and every one that the paper's rule finds. Exit status 1 where one is
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.engines import Targets  # noqa: E402
from s1_plugin.data import duplicates  # noqa: E402
from s1_plugin.data.decontaminate import Benchmark, Index  # noqa: E402
from s1_plugin.data.rows import GROUP  # noqa: E402
from s1_plugin.data.words import grams, paper_words  # noqa: E402
from tests.data.planted import planted  # noqa: E402

QUESTIONS, SECONDS, GIGABYTES, TIMES = 59_029, 60.0, 1.0, 5.0
#: Questions of each source (arXiv 2501.19393, table of the sources in appendix B) in the order of
#: collect_data.py: MATH, OlympicArena, TheoremQA, NuminaMATH, Omni-MATH, SciEval, OlympiadBench,
#: JEEBench, AGIEval, s1-prob, GPQA, crosswords, USACO, s1-teasers, LiveCodeBench; AIME came later.
SOURCES = (
    11_999,
    4_250,
    747,
    30_660,
    4_238,
    227,
    896,
    515,
    2_385,
    182,
    348,
    999,
    519,
    23,
    151,
    890,
)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def questions(real: list[str], problems: list[str], n: int, seed: int) -> list[tuple[str, str]]:
    """``(kind, question)``; kinds are "new", "planted" and "copy"."""
    rng = random.Random(seed)
    found: list[tuple[str, str]] = []
    pieces = [
        [words[at : at + 5] for at in range(0, len(words), 5)] for words in map(str.split, real)
    ]
    every = [piece for question in pieces for piece in question]
    while len(found) < n:
        luck = rng.random()
        if luck < 0.01:
            found.append(("planted", planted(rng.choice(problems), rng)))
        elif luck < 0.04 and found:
            kind, text = rng.choice(found)
            found.append(("copy" if kind == "new" else kind, planted(text, rng)))
        else:
            words = []
            for at, piece in enumerate(rng.choice(pieces)):
                words += rng.choice(every) if at % 2 else piece
            text = re.sub(
                r"\d+", lambda m: str(rng.randrange(2, 10 ** len(m[0]) + 2)), " ".join(words)
            )
            found.append(("new", text))
    return found


def table(texts: list[str]) -> dict[str, set[int]]:
    """8-gram -> the numbers of the questions that hold it."""
    holds: dict[str, set[int]] = defaultdict(set)
    for number, text in enumerate(texts):
        for gram in grams(paper_words(text)):
            holds[gram].add(number)
    return holds


def shared(mine: list[str], others: list[str]) -> set[int]:
    """The numbers of those of ``mine`` that share an 8-gram with one of ``others``."""
    holds, theirs = table(mine), table(others)
    out: set[int] = set()
    for gram, numbers in holds.items():
        if gram in theirs:
            out |= numbers
    return out


def authors_loop(asked: list[str], problems: list[str]) -> set[int]:
    """The numbers of the questions that stay."""
    compared = list(problems)
    stay: dict[str, int] = {}
    # Of fewer questions each source has its share.
    ends = [round(end * len(asked) / QUESTIONS) for end in accumulate(SOURCES)]
    for begin, end in pairwise([0, *ends]):
        gone = shared(asked[begin:end], compared)
        for number in sorted(set(range(end - begin)) - gone):
            compared.append(asked[begin + number])
            stay.setdefault(asked[begin + number], begin + number)
    return set(stay.values())


def one_set(asked: list[str], problems: list[str]) -> set[int]:
    """The numbers of the questions that the paper's rule removes."""
    theirs = {gram for text in problems for gram in grams(paper_words(text))}
    return {
        number
        for number, text in enumerate(asked)
        if not theirs.isdisjoint(grams(paper_words(text)))
    }


def our_contamination(asked: list[str], problems: list[str]) -> set[int]:
    ids = tuple(map(str, range(len(problems))))
    index = Index.build([Benchmark("all", "memory", tuple(problems), ids)])
    return {number for number, text in enumerate(asked) if index.find(text) is not None}


def our_copies(asked: list[str]) -> set[int]:
    prints = np.array([duplicates.fingerprint(text) for text in asked], np.uint64)
    groups = (asked[at : at + GROUP] for at in range(0, len(asked), GROUP))
    keys = np.concatenate([duplicates.bands(group) for group in groups])
    return set(duplicates.copies(prints, keys, asked.__getitem__))


def timed(what: str, work: Callable[..., set[int]], *given: list[str]) -> tuple[set[int], float]:
    """What ``work`` returns, and its seconds of processor time."""
    began = time.process_time()
    found = work(*given)
    seconds = time.process_time() - began
    print(f"  {what}: {seconds:.2f} s", flush=True)
    return found, seconds


def run_curate(
    folder: Path, data: Path, workers: int, lengths: list[str]
) -> tuple[float, float, str]:
    """Seconds, peak gigabytes of all processes together, and what it said."""
    import psutil

    command = [
        *(sys.executable, "-c", "from s1_plugin.cli import main; main(prog_name='s1')", "curate"),
        *(str(folder / "in.jsonl"), "-o", str(folder / "out"), *lengths),
        *("--without-benchmark", "aime25", "--without-benchmark", "gpqa_diamond"),
        *("--workers", str(workers)),
    ]
    environment = {
        **os.environ,
        "S1_EVAL_DATA": str(data),
        "S1_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    peak, began = 0, time.perf_counter()
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, env=environment, stderr=said)
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            me = psutil.Process(process.pid)
            while not done.wait(0.05):
                total = 0
                try:
                    for one in (me, *me.children(recursive=True)):
                        total += one.memory_info().rss
                except psutil.Error:
                    continue
                peak = max(peak, total)

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = process.wait()
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    text = (folder / "said").read_text()
    if status:
        raise SystemExit(f"s1 curate failed:\n{text}")
    return seconds, peak / 1e9, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=QUESTIONS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--traces", action="store_true")
    args = parser.parse_args()
    data = Path(os.environ.get("S1_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not data.is_dir():
        raise SystemExit(f"real data not found at {data}; set S1_TEST_DATA")
    real = [row["question"] for row in read(data / "s1k-questions.jsonl")]
    problems = [row["problem"] for n in ("aime24", "math500") for row in read(data / f"{n}.jsonl")]
    asked = questions(real, problems, args.n, args.seed)
    traces = read(data / "traces" / "s1.1-32b-gsm8k.jsonl") if args.traces else []
    lengths = ["--length-column", "tokens"]
    if traces:
        lengths = ["--tokenizer", str(data / "qwen2.5-tokenizer")]
    rng = random.Random(args.seed)
    targets = Targets()

    def verdict(what: str, found: float, target: float, good: bool, unit: str) -> None:
        print(f"{what}: {found:.2f} {unit} (target {target:g} {unit})")
        targets(f"{what} {found:.2f} {unit}, not {target:g}", good)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "in.jsonl").open("w") as file:
            for number, (_, text) in enumerate(asked):
                trace = [f"Let me see. {number}"]
                if traces:
                    trace = traces[number % len(traces)]["thinking_trajectories"]
                row = {
                    "question": text,
                    "thinking_trajectories": trace,
                    "attempt": "Answer: 1",
                    "tokens": int(rng.expovariate(1 / 4000)),
                }
                file.write(json.dumps(row) + "\n")
        seconds, gigabytes, said = run_curate(folder, data, args.workers, lengths)
        print(said)
        rows = read(folder / "out" / "train.jsonl")
        size = (folder / "in.jsonl").stat().st_size / 1e9
    limit = SECONDS * max(1.0, args.n / QUESTIONS)  # starting takes its time, however few they are
    print(f"{args.n:,} questions, {args.workers} processes, seed {args.seed}, {len(rows)} rows")
    print(f"input {size:.2f} GB, {seconds:.0f} s in all")
    verdict("peak memory", gigabytes, GIGABYTES, gigabytes <= GIGABYTES, "GB")
    if traces:
        targets.check()
        return
    verdict("s1 curate", seconds, limit, seconds <= limit, "s")

    texts = [text for _, text in asked]
    print(f"{args.n:,} questions, {len(problems)} of benchmarks; one process, processor time:")
    paper, set_seconds = timed("one set of 8-grams", one_set, texts, problems)
    ours, our_seconds = timed("our contamination", our_contamination, texts, problems)
    copies, copy_seconds = timed("our copies", our_copies, texts)
    twice, table_seconds = timed("the authors' two tables, once", shared, texts, problems)
    stay, loop_seconds = timed("the authors' loop, 16 sources", authors_loop, texts, problems)
    both = our_seconds + copy_seconds
    for name, other in (("one set", set_seconds), ("two tables, once", table_seconds)):
        print(f"contamination alone, {name} against ours: {other / our_seconds:.2f} x")
    ratio = loop_seconds / both
    verdict("the loop against ours, contamination and copies", ratio, TIMES, ratio >= TIMES, "x")
    print(f"the loop leaves {len(stay):,} of {args.n:,}")
    kinds = [kind for kind, _ in asked]
    for kind in ("planted", "copy", "new"):
        those = {number for number, one in enumerate(kinds) if one == kind}
        print(
            f"of {len(those)} {kind}: gone by ours {len(those & (ours | copies))}, by the loop "
            f"{len(those - stay)}, by the paper's rule {len(those & paper)}"
        )
    lost = len((paper | twice) - ours)
    verdict("found by the paper's rule and not by ours", lost, 0, lost == 0, "questions")
    those = {number for number, kind in enumerate(kinds) if kind == "planted"}
    verdict("planted found", 100 * len(those & ours) / len(those), 100, those <= ours, "%")
    targets.check()


if __name__ == "__main__":
    main()
