"""How fast to ask, when to ask again, and when to give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

#: Seconds: the first pause is drawn from (0, this), each further one from twice as much, up to the
#: second. Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/):
#: requests that failed together do not come back together.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Hopeless(RuntimeError):
    """Asking on is no use; the message says what would help."""


def pause(failures: int, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after so many failures in a row (1 is the first)."""
    return draw(0, min(_FIRST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE))


class Pace:
    """At most so many tokens a minute, prompts and replies together; None is no limit.

    A request takes what it is expected to cost when it starts, and `settle` corrects that when the
    cost is known: the level may be below zero, and then nothing starts until it has recovered.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._level, self._at = float(per_minute or 0), clock()

    def wait(self, tokens: float) -> float:
        """Seconds until ``tokens`` may be asked for; 0 takes them."""
        if self.per_minute is None:
            return 0.0
        now = self._clock()
        rate = self.per_minute / 60
        self._level = min(self._level + (now - self._at) * rate, float(self.per_minute))
        self._at = now
        missing = min(tokens, self.per_minute) - self._level  # one request may exceed the limit
        if missing > 0:
            return missing / rate
        self._level -= tokens
        return 0.0

    def settle(self, expected: float, actual: float) -> None:
        if self.per_minute is not None:
            self._level += expected - actual


class Breaker:
    """Stops a run in which nothing comes out any more.

    Args:
        patience: seconds without a sign of life from the teacher while requests fail.
        in_a_row: questions in a row that brought no trace, or attempts that broke off half-way.
    """

    def __init__(
        self, patience: float, in_a_row: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.patience, self.in_a_row, self._clock = patience, in_a_row, clock
        self._alive, self._useless, self._lost = clock(), 0, 0

    def alive(self) -> None:
        """Something came."""
        self._alive = self._clock()

    def whole(self) -> None:
        """A whole reply came."""
        self._lost = 0

    def lost(self, why: str) -> None:
        """An attempt broke off after something had come.

        Raises:
            Hopeless: if it was one too many without a whole reply between them.
        """
        self._lost += 1
        if self._lost >= self.in_a_row:
            raise Hopeless(
                f"every reply breaks off: {self._lost} in a row, and attempts may be charged; the "
                f"last: {why}. Look for what ends them (--timeout, --stall, a proxy), and give the "
                "same command again: it goes on where it stopped"
            )

    def failed(self, why: str) -> None:
        """A request failed.

        Raises:
            Hopeless: if nothing has come for longer than ``patience``.
        """
        silent = self._clock() - self._alive
        if silent > self.patience:
            raise Hopeless(
                f"nothing has come from the teacher for {silent:.0f} s (--patience "
                f"{self.patience:.0f}); the last failure: {why}. When it is mended, give the same "
                "command again: it goes on where it stopped"
            )

    def ended(self, status: str, reason: str) -> None:
        """A question ended with this status.

        Raises:
            Hopeless: if it was one too many in a row without a trace.
        """
        self._useless = 0 if status == "ok" else self._useless + 1
        if self._useless >= self.in_a_row:
            raise Hopeless(
                f"{self._useless} questions in a row brought no trace; the last: {status} "
                f"({reason}). {_REMEDIES.get(status, 'Look at their `reason` in the ledger')}"
            )


_REMEDIES = {
    "no_thinking": (
        "The teacher shows no thinking there: switch it on (--extra; docs/distill.md lists how for "
        "DeepSeek, Gemini, vLLM; --format for models of s1-plugin), name a teacher that does, or "
        "say --no-thinking"
    ),
    "truncated": "Raise --max-tokens",
    "error": (
        "Mend what it says, and give the same command again: errors that no answer followed are "
        "not in the ledger"
    ),
}
