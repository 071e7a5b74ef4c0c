"""A command as a step of the demo: all it prints goes to a log, its progress to the terminal."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from s1_plugin.console import printable

#: Seconds between two lines of progress, and lines of the log that a failure shows.
EVERY = 10.0
TAIL = 25

# tqdm's bar, " 36%|███▌      | 403/1125 [01:09<…", with what stands before it; the trainer's loss.
_BAR = re.compile(r"^(?P<what>.*?)\d+%\|[^|]*\| *(?P<done>\d+)/(?P<total>\d+) ")
_LOSS = re.compile(r"'loss': '?(?P<loss>[\d.]+)")


def say(message: str) -> None:
    """One line of the demo's own."""
    print(f"[s1 demo] {message}", flush=True)


def run(command: Sequence[str], log: Path, what: str) -> None:
    """Runs one command of this environment.

    Args:
        log: gets everything that the command prints.
        what: the step, in a word or two.

    Raises:
        SystemExit: if the command fails, after the end of its log.
    """
    say(f"{what}:\n  {shlex.join(command)}")
    log.parent.mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).with_name(command[0])
    environment = {
        **os.environ,
        "AXOLOTL_DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        # A model this small runs four times slower on two busy threads than on one.
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [str(program), *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        assert process.stdout is not None
        watch = Progress()
        for line in process.stdout:  # tqdm's carriage returns end a line too
            file.write(line)
            shown = watch.tell(line, time.monotonic() - started)
            if shown:
                print(f"  {shown}", flush=True)
    if process.wait():
        end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        print("\n".join(f"  | {printable(line)}" for line in end), flush=True)
        raise SystemExit(
            f"{what} failed (exit status {process.returncode}); above is the end of {log}"
        )
    say(f"{what}: {time.monotonic() - started:.0f} s (all it said is in {log})")


class Progress:
    """What of a command's output is worth a line in the terminal."""

    def __init__(self) -> None:
        self._loss = ""
        self._next = EVERY

    def tell(self, line: str, seconds: float) -> str | None:
        """A line to show when ``line`` comes ``seconds`` after the start; None for most."""
        if line.startswith("[s1-plugin]"):
            return printable(line.rstrip())
        loss = _LOSS.search(line)
        if loss:
            self._loss = f", loss {loss['loss']}"
        bar = _BAR.search(line)
        if not bar or seconds < self._next:
            return None
        self._next = seconds + EVERY
        done, total = int(bar["done"]), int(bar["total"])
        what = printable(bar["what"]).rstrip(": ")
        return (
            f"{seconds:4.0f} s: {what + ' ' if what else ''}{done} of {total}"
            f" ({100 * done // max(total, 1)} %){self._loss}"
        )
