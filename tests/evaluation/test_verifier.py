"""Limits that hold: from threads, after hangs, after the worker was killed."""

from __future__ import annotations

import os
import signal
import threading
import time

from s1_plugin.evaluation.verifier import Verifier

HANGS = "(a+b+c)(d+e+f)" * 8 + "^{37}"


def test_it_goes_on_after_a_hang_and_after_its_worker_died():
    verifier = Verifier()
    try:
        assert verifier.ask("compare", "0.5", "1/2") == {"equal": True}
        process = verifier._process
        began = time.monotonic()
        assert verifier.ask("compare", "1", HANGS) == {"trouble": "time"}
        assert time.monotonic() - began < 5
        assert verifier.ask("compare", "0.5", "1/2") == {"equal": True}
        assert verifier._process is process  # a hang does not cost loading sympy again
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert verifier.ask("compare", "0.5", "1/2")["trouble"] == "memory"
        assert verifier.ask("compare", "0.5", "1/2") == {"equal": True}
    finally:
        verifier.close()
    assert verifier._process is None


def test_from_many_threads_at_once():
    verifier, found = Verifier(), {}

    def ask(number):
        text = HANGS if number == 3 else str(number)
        found[number] = verifier.ask("compare", f"{number}.0", text)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    verifier.close()
    assert found.pop(3) == {"trouble": "time"}
    assert found == {n: {"equal": True} for n in range(12) if n != 3}
