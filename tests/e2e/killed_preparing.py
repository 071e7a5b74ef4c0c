"""Starts `axolotl preprocess CONFIG` again and again and kills it (SIGKILL, with its workers) while
it writes; after each kill `axolotl train CONFIG` loads its data, and prints what it would train on.

Run as a program: python killed_preparing.py CONFIG PREPARED; each start is a fork of a process that
has imported everything, as most of the time would go into imports. Kills come when a file of one
of these names is new in the folder PREPARED, on an empty folder and on one with whole data.
"""

import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

MOMENTS = ("data-*.arrow", "state.json")


def start(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        work()
        sys.stdout.flush()
        os._exit(0)
    finally:
        os._exit(1)


def train(config: str) -> None:
    """`axolotl train` up to where the model would be loaded."""
    import axolotl.cli.train

    def instead(cfg, dataset_meta):
        rows = [row["input_ids"] + row["labels"] for row in dataset_meta.train_dataset]
        digest = hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()
        print(f"loaded {len(rows)} rows {digest}", flush=True)
        os._exit(0)

    axolotl.cli.train.train = instead
    axolotl.cli.train.do_cli(config)


def files(folder: Path, name: str) -> set[tuple[str, int]]:
    found = set()
    for path in folder.rglob(name):
        try:
            found.add((str(path), path.stat().st_ctime_ns))
        except FileNotFoundError:  # removed in between
            continue
    return found


def kill_at(pid: int, folder: Path, name: str) -> None:
    known = files(folder, name)
    while not files(folder, name) - known:
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise SystemExit(f"finished before its kill at {name}")
        time.sleep(0.0001)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def finish(pid: int) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise SystemExit(status)


def main() -> None:
    config, prepared = sys.argv[1], Path(sys.argv[2])
    import axolotl.cli.preprocess
    import axolotl.common.datasets
    import axolotl.train

    import s1_plugin.plugin  # noqa: F401

    finish(start(lambda: train(config)))
    for before in ("nothing", "whole data"):
        for name in MOMENTS:
            if before == "nothing":
                shutil.rmtree(prepared)
            pid = start(lambda: axolotl.cli.preprocess.do_cli(config))
            kill_at(pid, prepared, name)
            left = sorted(p.name for p in prepared.rglob("*") if p.parent.parent.parent == prepared)
            print(f"killed at {name} over {before}, left: {', '.join(left)}", flush=True)
            finish(start(lambda: train(config)))


if __name__ == "__main__":
    main()
