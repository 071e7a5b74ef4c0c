"""math-verify with limits that hold: on any input, from any thread.

One process of its own (`s1_plugin.evaluation.math_worker`) for all comparisons, started with the
first.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from typing import Any

from s1_plugin.evaluation.math_worker import CLOCK_SECONDS

#: Seconds for loading sympy, on a machine that is busy.
_START_SECONDS = 120.0
#: Seconds over the worker's own limit, after which it is killed from here.
_GRACE_SECONDS = 1.5
_MAIN = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from s1_plugin.evaluation.math_worker import main; main()"
)


class Verifier:
    """Asks the worker one thing at a time; a worker that is stuck is killed and replaced."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Has no worker: that of the process from which this one was forked is not ours."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.Queue[bytes | None] = queue.Queue()

    def ask(self, *request: str) -> dict[str, Any]:
        """The worker's reply, ``{"trouble": …}`` where it gave none in time.

        Raises:
            RuntimeError: if math-verify cannot be loaded; with the remedy.
        """
        with self._lock:
            if self._process is None:
                self._start()
            assert self._process is not None and self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
                line = self._replies.get(timeout=CLOCK_SECONDS + _GRACE_SECONDS)
            except queue.Empty:
                self._stop()
                return {"trouble": "time"}
            except OSError:
                line = None
            if line is None:
                self._stop()
                return {"trouble": "memory"}
            return json.loads(line)

    def close(self) -> None:
        """Ends the worker; the next request starts another."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        if find_spec("math_verify") is None:
            raise RuntimeError(
                "answers of kind math are compared by math-verify, which is not installed: "
                "pip install math-verify"
            )
        # -I: neither the folder we are in nor PYTHON* variables decide what it imports; it gets
        # this process's own search path. A session of its own: Ctrl-C is ours to handle.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _MAIN, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._replies = queue.Queue()
        threading.Thread(
            target=_read, args=(self._process, self._replies), daemon=True, name="math-verify"
        ).start()
        try:
            said = self._replies.get(timeout=_START_SECONDS)
        except queue.Empty:
            said = None
        reply = json.loads(said) if said else {"error": "it did not start"}
        if "ready" not in reply:
            self._stop()
            raise RuntimeError(
                f"math-verify cannot be loaded ({reply.get('error')}); answers of kind math need "
                "it: pip install --force-reinstall math-verify (on Linux or macOS)"
            )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()


def _read(process: subprocess.Popen[bytes], replies: queue.Queue[bytes | None]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError, OSError):  # closed while it was read
        for line in process.stdout:
            replies.put(line)
    replies.put(None)


#: The process's verifier.
VERIFIER = Verifier()
atexit.register(VERIFIER.close)
os.register_at_fork(after_in_child=VERIFIER.forget)
