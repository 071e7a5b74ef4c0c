"""`vllm serve` as a user starts it, for as long as a test needs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

MODEL = "tiny"
#: Seconds for a server to start: ten alone, more where other tests run beside it.
_START = 300


@contextmanager
def serve(folder, log: Path, *arguments: str):
    """The completions address of a server of the model in ``folder``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("vllm")), "serve", str(folder),
        "--host", "127.0.0.1", "--port", str(port), "--served-model-name", MODEL,
        "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "64", *arguments,
    ]  # fmt: skip
    # As users run it: with the engine in a process of its own.
    env = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, f"{address}/health", log)
        yield f"{address}/v1/completions"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(process, url: str, log: Path) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"vllm serve did not start:\n{log.read_text()[-4000:]}")
