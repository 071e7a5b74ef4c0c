"""Starts `axolotl train CONFIG` again and again and kills it (SIGKILL) at random steps, the third
time in the middle of the next checkpoint; then lets it finish.

Run as a program: python killed_training.py SEED KILLS STEPS CONFIG OUTPUT_DIR; each start is a fork
of a process that has imported everything, as most of the time would go into imports. Every start
writes the steps it logs to OUTPUT_DIR/../steps-N.jsonl.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path


def start(config: str, log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        from axolotl.cli.train import do_cli
        from transformers import Trainer

        write = Trainer.log

        def log_too(self, logs, *args, **kwargs):
            write(self, logs, *args, **kwargs)
            with log.open("a") as file:
                file.write(json.dumps({"step": self.state.global_step, **logs}) + "\n")

        Trainer.log = log_too
        do_cli(config)
        sys.stderr.flush()
        os._exit(0)
    finally:
        os._exit(1)


def ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] != 0


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def step_of(log: Path) -> int:
    """The step that is logged last; 0 if there is none. The last line may be half written."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return max([json.loads(line)["step"] for line in lines], default=0)


def wait_for(pid: int, step: int, log: Path) -> None:
    while step_of(log) < step:
        if ended(pid):
            raise SystemExit(f"finished before step {step}")
        time.sleep(0.002)


def kill_while_saving(pid: int, output: Path) -> str:
    """Stops the process again and again until it stands in the middle of a checkpoint."""
    known = set(output.glob("checkpoint-*"))
    while not ended(pid):
        new = set(output.glob("checkpoint-*")) - known
        if new:
            os.kill(pid, signal.SIGSTOP)
            torn = [p for p in new if not (p / "trainer_state.json").exists()]
            if torn:
                kill(pid)
                return f"killed while {torn[0].name} was being written"
            known |= new
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.0005)
    raise SystemExit("finished before its kill")


def main() -> None:
    seed, kills, steps, config, folder = sys.argv[1:]
    import axolotl.common.datasets
    import axolotl.train
    import axolotl.utils.trainer  # noqa: F401

    import s1_plugin.plugin  # noqa: F401

    chance, output = random.Random(int(seed)), Path(folder)
    targets = sorted(chance.sample(range(1, int(steps) - 10), int(kills)))
    for number, step in enumerate(targets):
        log = output.parent / f"steps-{number}.jsonl"
        pid = start(config, log)
        wait_for(pid, step, log)
        if number == 2:
            said = kill_while_saving(pid, output)
        else:
            time.sleep(chance.random() * 0.1)
            kill(pid)
            said = f"killed at step {step_of(log)}"
        print(said, file=sys.stderr, flush=True)
    pid = start(config, output.parent / f"steps-{kills}.jsonl")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
