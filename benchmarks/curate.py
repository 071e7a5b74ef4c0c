"""Curation of 59,029 questions, as many as the paper started from: seconds, memory, and against a
plain loop.

    python benchmarks/curate.py
    python benchmarks/curate.py --traces    # real traces, their tokens counted: memory only

Needs S1_TEST_DATA (default ../shared/data). The questions are synthetic: sentences of the real s1K
questions, spliced and with other numbers, 1 % of them benchmark questions written otherwise, 3 %
copies. `s1 curate` does all of it: reading, form, copies, contamination, domain, selection, card
and report; lengths come from a column. The loop is the plain way to find contamination: for each
question and each benchmark question, whether their sets of word 8-grams meet; every set is made
once. Ours applies that rule and one more, which the loop does not. Memory is the sum over all
processes.

Targets: 60 s and 1 GB on 2 cores; contamination 5 times as fast as the loop, one process each;
every planted question found. Exit status 1 where one is missed.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.engines import Targets  # noqa: E402
from s1_plugin.data.decontaminate import Benchmark, Index  # noqa: E402
from s1_plugin.data.words import grams, paper_words  # noqa: E402
from tests.data.planted import planted  # noqa: E402

QUESTIONS, SECONDS, GIGABYTES, TIMES = 59_029, 60.0, 1.0, 5.0


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def questions(real: list[str], problems: list[str], n: int, seed: int) -> list[tuple[str, str]]:
    """``(kind, question)``; kinds are "new", "planted" and "copy"."""
    rng = random.Random(seed)
    found: list[tuple[str, str]] = []
    sentences = [re.split(r"(?<=[.?!])\s+", text) for text in real]
    while len(found) < n:
        luck = rng.random()
        if luck < 0.01:
            found.append(("planted", planted(rng.choice(problems), rng)))
        elif luck < 0.04 and found:
            kind, text = rng.choice(found)
            found.append(("copy" if kind == "new" else kind, planted(text, rng)))
        else:
            first, second = rng.choice(sentences), rng.choice(sentences)
            text = " ".join([*first[: len(first) // 2 + 1], *second[len(second) // 2 :]])
            text = re.sub(r"\d+", lambda m: str(rng.randrange(2, 10 ** len(m[0]) + 2)), text)
            found.append(("new", text))
    return found


def plain_loop(asked: list[str], problems: list[str]) -> list[bool]:
    """For each question whether one benchmark question has a word 8-gram in common with it."""
    theirs = [set(grams(paper_words(text))) for text in problems]
    out = []
    for text in asked:
        mine = set(grams(paper_words(text)))
        out.append(any(mine & one for one in theirs))
    return out


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
    scale = args.n / QUESTIONS
    print(f"{args.n:,} questions, {args.workers} processes, seed {args.seed}, {len(rows)} rows")
    print(f"input {size:.2f} GB, {seconds:.0f} s in all")
    verdict("peak memory", gigabytes, GIGABYTES, gigabytes <= GIGABYTES, "GB")
    if traces:
        targets.check()
        return
    verdict("s1 curate", seconds, SECONDS * scale, seconds <= SECONDS * scale, "s")

    texts = [text for _, text in asked]
    began = time.process_time()
    ids = tuple(map(str, range(len(problems))))
    index = Index.build([Benchmark("all", "memory", tuple(problems), ids)])
    ours = [index.find(text) is not None for text in texts]
    our_seconds = time.process_time() - began
    began = time.process_time()
    theirs = plain_loop(texts, problems)
    loop_seconds = time.process_time() - began
    print(
        f"contamination of {args.n:,} questions by {len(problems)}, one process, processor time: "
        f"{our_seconds:.2f} s; loop {loop_seconds:.2f} s"
    )
    verdict("ratio", loop_seconds / our_seconds, TIMES, loop_seconds >= TIMES * our_seconds, "x")
    lost = sum(loop and not mine for loop, mine in zip(theirs, ours, strict=True))
    verdict("found by the loop and not by ours", lost, 0, lost == 0, "questions")
    where = [at for at, (kind, _) in enumerate(asked) if kind == "planted"]
    print(f"of {len(where)} planted the loop finds {sum(theirs[at] for at in where)}")
    found = sum(ours[at] for at in where)
    verdict("planted found", 100 * found / len(where), 100, found == len(where), "%")
    targets.check()


if __name__ == "__main__":
    main()
