"""Starts `lm_eval` again and again and kills it (SIGKILL) at random moments; then lets it finish.

Run as a program: python killed.py SEED KILLS ARGUMENTS…; each start is a fork of a process that
has imported everything, as most of the time would go into imports. A kill comes at a random number
of finished lines in the journal, or within the time that loading takes.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path


def lines() -> int:
    files = Path(os.environ["S1_CACHE"]).rglob("*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)


def start(arguments: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        from lm_eval.__main__ import cli_evaluate

        sys.argv = ["lm_eval", *arguments]
        cli_evaluate()
        sys.stderr.flush()
        os._exit(0)
    finally:
        os._exit(1)


def main() -> None:
    seed, kills, *arguments = sys.argv[1:]
    import lm_eval.__main__
    import lm_eval.models.huggingface  # noqa: F401

    chance = random.Random(int(seed))
    for kill in range(int(kills)):
        before = lines()
        pid = start(arguments)
        if kill == 0:
            time.sleep(chance.random())
        else:
            more = chance.randint(1, 30)
            while lines() < before + more and not os.waitpid(pid, os.WNOHANG)[0]:
                time.sleep(0.002)
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            print("finished before its kill")
        print(f"killed with {lines()} lines")
    _, status = os.waitpid(start(arguments), 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
