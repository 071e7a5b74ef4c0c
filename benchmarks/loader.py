"""What it costs to load traces: to read, format, tokenise and mask them.

Real traces (``S1_TEST_DATA``) 20 times over, the rows made distinct by a number in the question,
three ways, each in one process and one thread, nothing cached from one round to the next:

- ours: what `axolotl train` calls for `type: s1_plugin.traces`, on what `datasets` has read;
- the authors': read alike, the chat template row by row in one map, tokenised in batches of 1,000
  in another, then the collator, which makes tensors of a row and looks for the templates of the
  turns in its ids (re-implemented from the paper, https://arxiv.org/abs/2501.19393, and as trl 0.12
  does it; one epoch, though theirs looks again in each of five);
- the floor: the tokenizer's bare `encode_batch` on the same texts, which lie in memory.

Token ids and labels of the first two are compared row by row. Targets: the authors' time is at
least 1.8 times ours, ours at most 1.3 times the floor. Memory, in processes of their own: on 100
times the rows ours takes at most 1.2 times what it takes on 582, or 200 MB more.

    python benchmarks/loader.py [--copies 20] [--rounds 5] [--memory-copies 100] [--only time]

The three take turns. Times are seconds of processor time (wall time beside them), which a machine
that does other things changes least, though not little: run it on a quiet one, or more rounds.
Ratios are those of one round; printed are their median and range.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# One thread and one process for each of the three, as axolotl itself sets it.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("AXOLOTL_DO_NOT_TRACK", "1")

import datasets
import numpy as np
import torch
from axolotl.integrations.base import PluginManager
from axolotl.utils.dict import DictDefault
from engines import Targets
from transformers import AutoTokenizer

from s1_plugin import __version__, traces

DATA = Path(os.environ.get("S1_TEST_DATA", "../shared/data"))
TRACES, TOKENIZER = DATA / "traces" / "s1.1-32b-gsm8k.jsonl", DATA / "qwen2.5-tokenizer"
SEQUENCE_LEN = 32_768  # the paper's: no row is cut
FASTER, OVER_FLOOR = 1.8, 1.3
FLAT, FLAT_MB = 1.2, 200


def write_rows(path: Path, copies: int) -> None:
    """All traces ``copies`` times over, with a number before each question."""
    rows = [json.loads(line) for line in TRACES.read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8") as file:
        for copy in range(copies):
            for at, row in enumerate(rows):
                number = copy * len(rows) + at
                file.write(json.dumps({**row, "question": f"{number}. {row['question']}"}) + "\n")


def read(path: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))


def ours(tokenizer: Any, path: Path, cache: Path) -> datasets.Dataset:
    cfg = DictDefault(s1={}, sequence_len=SEQUENCE_LEN, base_model=str(TOKENIZER))
    strategy = traces.load(tokenizer, cfg, DictDefault(path=str(path), type="s1_plugin.traces"))
    return strategy.wrap_dataset(read(path, cache))


# -- the authors' pipeline ----------------------------------------------------------------------


def conversation(tokenizer: Any, row: dict[str, Any]) -> str:
    """One row in the chat template, the thinking and the answer between their delimiters."""
    thinking = "\n".join(row["thinking_trajectories"]).strip()
    answer = row["attempt"]
    answer = (answer if "Answer:" in answer else "Answer: " + answer).strip()
    turn = f"<|im_start|>think\n{thinking}\n<|im_start|>answer\n{answer}"
    messages = [
        {"role": "user", "content": row["question"]},
        {"role": "assistant", "content": turn},
    ]
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


class Collator:
    """Makes tensors of one row, looks for the templates in the ids, and masks from each user turn
    to the answer that follows it, as trl's collator for completions does it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        templates = ("<|im_start|>user", "<|im_start|>assistant\n")
        self.user, self.assistant = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in templates
        )

    def __call__(self, row: dict[str, list[int]]) -> dict[str, torch.Tensor]:
        batch = self.tokenizer.pad([row], return_tensors="pt")
        labels = batch["input_ids"].clone()
        labels[labels == self.tokenizer.pad_token_id] = -100
        answers = [at + len(self.assistant) for at in self.places(labels[0], self.assistant)]
        turns = self.places(labels[0], self.user)
        for number, (begin, end) in enumerate(zip(turns, answers, strict=True)):
            labels[0, begin if number else 0 : end] = -100
        return {**batch, "labels": labels}

    def places(self, ids: torch.Tensor, template: list[int]) -> list[int]:
        (first,) = np.where(ids == template[0])
        return [at for at in first if ids[at : at + len(template)].tolist() == template]


def authors(tokenizer: Any, path: Path, cache: Path) -> Iterator[dict[str, torch.Tensor]]:
    """The rows as their trainer gets them, one by one (a batch of one per GPU)."""
    data = read(path, cache)
    text = data.map(
        lambda row: {"text": conversation(tokenizer, row)},
        remove_columns=data.column_names,
        load_from_cache_file=False,
    )
    ids = text.map(
        lambda batch: dict(tokenizer(batch["text"], truncation=True, max_length=SEQUENCE_LEN)),
        batched=True,
        batch_size=1000,
        remove_columns=["text"],
        load_from_cache_file=False,
    )
    yield from map(Collator(tokenizer), ids)


# -- measuring ----------------------------------------------------------------------------------


def timed(work: Callable[[Path], Any]) -> tuple[float, float]:
    """Seconds of processor and of wall time of ``work``, which gets an empty folder to cache in."""
    with tempfile.TemporaryDirectory() as cache:
        wall, processor = time.perf_counter(), time.process_time()
        work(Path(cache))
        return time.process_time() - processor, time.perf_counter() - wall


def times(tokenizer: Any, copies: int, rounds: int, targets: Targets) -> None:
    """Compares the rows, prints times and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, copies)
        rows, tokens = same_rows(tokenizer, path, Path(folder))
        print(
            f"{rows:,} rows, {tokens:,} tokens; ids and labels of ours and the authors' are equal"
        )
        texts = [conversation(tokenizer, row) for row in read(path, Path(folder))]
        bare = tokenizer.backend_tokenizer.encode_batch
        work: dict[str, Callable[[Path], Any]] = {
            "ours": lambda cache: ours(tokenizer, path, cache),
            "authors": lambda cache: sum(1 for _ in authors(tokenizer, path, cache)),
            "floor": lambda _: bare(texts, add_special_tokens=False),
        }
        seen: dict[str, list[float]] = {name: [] for name in work}
        for number in range(1, rounds + 1):
            took = {}
            for name in list(work)[:: 1 if number % 2 else -1]:
                took[name] = timed(work[name])
                seen[name].append(took[name][0])
            each = ", ".join(
                f"{name} {cpu:.1f} ({wall:.1f}) s" for name, (cpu, wall) in took.items()
            )
            print(f"round {number}, processor (wall) time: {each}", flush=True)
    faster = ratio("authors / ours", seen["authors"], seen["ours"], f"at least {FASTER}")
    targets(f"authors / ours {faster:.2f} < {FASTER}", faster >= FASTER)
    over = ratio("ours / floor", seen["ours"], seen["floor"], f"at most {OVER_FLOOR}")
    targets(f"ours / floor {over:.2f} > {OVER_FLOOR}", over <= OVER_FLOOR)


def same_rows(tokenizer: Any, path: Path, cache: Path) -> tuple[int, int]:
    """Rows and tokens; stops where ids or labels differ."""
    tokens = 0
    mine = ours(tokenizer, path, cache)
    pairs = itertools.zip_longest(mine.with_format("numpy"), authors(tokenizer, path, cache))
    for number, (own, theirs) in enumerate(pairs, start=1):
        for name in ("input_ids", "labels"):
            if not (own and theirs and np.array_equal(own[name], theirs[name][0].numpy())):
                raise SystemExit(f"row {number}: {name} differ")
        tokens += len(own["input_ids"])
    return len(mine), tokens


def ratio(what: str, above: list[float], below: list[float], target: str) -> float:
    """Prints the ratio, round by round, and returns its median."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    median = statistics.median(each)
    print(f"{what}: {median:.2f} ({min(each):.2f} to {max(each):.2f}); target {target}")
    return median


def memory(copies: int, targets: Targets) -> None:
    """Runs ours on 1 and on ``copies`` times the rows in processes of their own."""
    peaks = {}
    for times_over in (1, copies):
        command = [sys.executable, __file__, "--peak", str(times_over)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr[-3000:]}")
        peaks[times_over] = json.loads(done.stdout.splitlines()[-1])
        print(f"{times_over} x 582 rows: {peaks[times_over]}", flush=True)
    few, many = (peaks[n]["own_mb"] for n in (1, copies))
    allowed = max(FLAT * few, few + FLAT_MB)
    print(f"memory of {copies} x the rows: {many / few:.2f} times, {many - few:+.0f} MB; "
          f"target at most {FLAT} times or {FLAT_MB} MB more")  # fmt: skip
    targets(f"memory {many:.0f} MB > {allowed:.0f} MB", many <= allowed)


def peak(copies: int) -> None:
    """Prints the peaks of this process in MB while it loads: its own memory, and all that is
    resident, which counts mapped files too (Arrow's; the system takes those pages back at will)."""
    tokenizer = ready()
    own, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            own[0] = max(own[0], status("RssAnon"))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, copies)
        before, began = status("RssAnon"), time.perf_counter()
        watcher = threading.Thread(target=watch)
        watcher.start()
        rows = len(ours(tokenizer, path, Path(folder)))
        over.set()
        watcher.join()
        took = time.perf_counter() - began
    resident = status("VmHWM")
    figures = {"rows": rows, "own_mb": own[0], "before_mb": before, "resident_mb": resident}
    print(json.dumps({**figures, "seconds": round(took)}))


def status(field: str) -> int:
    """MB of a field of Linux's /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) // 1024
    raise SystemExit(f"/proc/self/status has no {field}: memory is measured on Linux only")


def ready() -> Any:
    """The tokenizer, once the plugin is registered as axolotl does it."""
    datasets.disable_progress_bars()
    PluginManager.get_instance().register("s1_plugin.S1Plugin")
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    tokenizer.pad_token = "<|fim_pad|>"  # the authors'; nothing is padded here
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=20, help="of the 582 traces, for the times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-copies", type=int, default=100)
    parser.add_argument("--only", choices=("time", "memory"))
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not TRACES.is_file():
        raise SystemExit(f"{TRACES} is not there; set S1_TEST_DATA to the folder of the test data")
    if options.peak:
        return peak(options.peak)
    print("command:", shlex.join(["python", *sys.argv]))
    packages = ("axolotl", "datasets", "tokenizers", "transformers", "pyarrow", "torch")
    print(
        f"s1-plugin {__version__}, {', '.join(f'{name} {version(name)}' for name in packages)}, "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors, "
        "one thread (TOKENIZERS_PARALLELISM=false) and one process each"
    )
    targets = Targets()
    if options.only != "memory":
        times(ready(), options.copies, options.rounds, targets)
    if options.only != "time":
        memory(options.memory_copies, targets)
    targets.check()


if __name__ == "__main__":
    main()
