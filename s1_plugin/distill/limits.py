"""How fast to ask, when to ask again, and when to give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds: the first pause is drawn from (0, this), each further one from twice as much, up to the
#: second. Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/):
#: requests that failed together do not come back together.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_MINUTE = 60.0


class Hopeless(RuntimeError):
    """Asking on is no use; the message says what would help.

    Attributes:
        but: what it is instead where the teacher has answered something before: a 403, say, is
            then this question's.
    """

    def __init__(self, message: str, but: Exception | None = None) -> None:
        super().__init__(message)
        self.but = but


def pause(failures: int, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after so many failures in a row (1 is the first)."""
    return draw(0, min(_FIRST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE))


@dataclass
class Taken:
    """Tokens of a request that started at ``at``, as far as they are known."""

    at: float
    tokens: float


class Pace:
    """At most so many tokens in any minute, prompts and replies together; None is no limit.

    A request counts from its start with what it is expected to cost, and `settle` corrects that
    when the cost is known. One that exceeds the limit starts all the same, and then counts for as
    many minutes as it holds limits.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._taken: list[Taken] = []

    def wait(self, tokens: float) -> float:
        """Seconds until ``tokens`` may be asked for; 0 is now, with `take`."""
        if self.per_minute is None:
            return 0.0
        until = now = self._clock()
        self._taken = [taken for taken in self._taken if self._end(taken) > now]
        free = self.per_minute - sum(taken.tokens for taken in self._taken)
        for taken in sorted(self._taken, key=self._end):
            if free >= min(tokens, self.per_minute):
                break
            free += taken.tokens
            until = self._end(taken)
        return until - now

    def take(self, tokens: float) -> Taken:
        taken = Taken(self._clock(), tokens)
        if self.per_minute is not None:
            self._taken.append(taken)
        return taken

    def settle(self, taken: Taken, actual: float) -> None:
        """``taken`` came to ``actual`` tokens."""
        if self.per_minute is None:
            return
        now = self._clock()
        if self._end(taken) > now:
            taken.tokens = actual
        elif actual > taken.tokens:  # its minute is over: what it took too much counts now
            self._taken.append(Taken(now, actual - taken.tokens))

    def _end(self, taken: Taken) -> float:
        minutes = max(1.0, taken.tokens / (self.per_minute or 1))
        return taken.at + _MINUTE * minutes - 1e-9  # or rounding would ask to wait for nothing


class Breaker:
    """Stops a run in which nothing comes out any more.

    Args:
        patience: seconds without a sign of life from the teacher while requests fail.
        in_a_row: questions in a row that brought no trace, or attempts that may be charged
            and brought nothing.
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
        """An attempt broke off that the teacher may have worked for.

        Raises:
            Hopeless: if it was one too many without a whole reply between them.
        """
        self._lost += 1
        if self._lost >= self.in_a_row:
            raise Hopeless(
                f"no reply comes whole: {self._lost} attempts in a row broke off or fell silent, "
                f"and may be charged; the last: {why}. Look for what ends them (--stall, "
                "--timeout, a proxy), and give the same command again: it goes on where it stopped"
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
                f"({reason}). {REMEDIES[status]}"
            )


#: What helps, by how questions end.
REMEDIES = {
    "no_thinking": (
        "The teacher shows no thinking there: switch it on (--extra; docs/distill.md lists how for "
        "DeepSeek, Gemini, vLLM; --format for models of s1-plugin), name a teacher that does, or "
        "say --no-thinking"
    ),
    "truncated": (
        "Where the limit cut them raise --max-tokens, which asks all questions anew; to ask these "
        "alone, write them into a file of their own (docs/distill.md)"
    ),
    "empty": (
        "Nothing was answered: raise --max-tokens if it counts thinking, or name another teacher"
    ),
    "refused": "The teacher or its filter will not answer these: leave them out, or ask another",
    "error": (
        "Mend what it says, and give the same command again: errors that no answer followed are "
        "not in the ledger; those that are there are asked again once their lines are taken out"
    ),
}
