"""The process in which math-verify runs, apart from ours because nothing else stops it.

math-verify's own time limits need the main thread, and a signal handler of Python does not run
while one huge integer is computed. Here every request has a limit that the kernel keeps: the
signal's default action ends the process. This process therefore forks; the child answers
requests until it is ended, and the parent, which has sympy loaded already, forks the next in a few
milliseconds.

Requests and replies are lines of JSON, one at a time: ``["compare", gold, answer]`` gives
``{"equal": true}``, ``["parse", text]`` gives ``{"parsed": true}``, ``["name", text]`` gives
``{"name": "0.5"}`` (see `_name`); a child that was ended gives ``{"trouble": "time"}`` or
``"memory"``.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

#: Seconds of processor time, and seconds on the clock, for one comparison. An ordinary one takes
#: hundredths; the clock is for machines that are busy with other things.
CPU_SECONDS, CLOCK_SECONDS = 1.0, 2.5
#: Bytes of address space; sympy needs a tenth of it.
MEMORY = 2 << 30


def main() -> None:
    """Serves standard input until it ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no reply

    def reply(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        import resource

        compare, read = _tools()
        compare("\\frac{1}{2}", "0.5")  # fills the caches that every child then has
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {error}"})
        return
    reply({"ready": True})
    while True:
        child = os.fork()
        if not child:
            _serve(reply, compare, read)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            return
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        reply({"trouble": "time" if ended in (signal.SIGALRM, signal.SIGPROF) else "memory"})


def _serve(reply: Any, compare: Any, read: Any) -> None:
    # Unbuffered, so that a child that is ended takes no later request with it.
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    while line := source.readline():
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, CLOCK_SECONDS)
        message: dict[str, Any] = {}
        try:
            what, *texts = json.loads(line)
            if what == "parse":
                message["parsed"] = bool(read(*texts))
            elif what == "name":
                message["name"] = _name(read(*texts))
            else:
                message["equal"] = compare(*texts)
        except (Exception, RecursionError):  # what cannot be read is not equal
            message["equal"] = message["parsed"] = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply(message)


def _tools() -> tuple[Any, Any]:
    import logging

    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)
    how = [LatexExtractionConfig(boxed_match_priority=0)]

    def read(text: str) -> list[Any]:
        return parse(f"\\boxed{{{text}}}", how, fallback_mode="no_fallback", parsing_timeout=None)

    def compare(gold: str, answer: str) -> bool:
        known = read(gold)
        return bool(known) and bool(verify(known, read(answer), timeout_seconds=None))

    return compare, read


def _name(found: list[Any]) -> str:
    """What most ways to write one thing have in common: a number's value to 12 digits, else how
    sympy writes what was read; "" if nothing was, or what stands for very different things."""
    from sympy import Eq, Float, N, Rational, S

    value = found[0] if found else S.EmptySet
    if isinstance(value, Eq) and value.lhs.is_Symbol:
        value = value.rhs  # "x = 5" is 5, as in math-verify
    if value in (S.EmptySet, S.true, S.false):
        return ""  # "(2, 1)" read as an interval, "2 < 1"
    if getattr(value, "is_number", False):
        return str(N(value, 12))
    floats = value.atoms(Float)
    return str(value.xreplace({number: Rational(str(number)) for number in floats}))


if __name__ == "__main__":
    main()
