"""How far an evaluation is: responses, thinking and answer tokens per second, time left."""

from __future__ import annotations

import time
from types import TracebackType

from tqdm import tqdm

from s1_plugin.evaluation.sharing import Work

#: Seconds between two looks at the rate.
_EVERY = 0.5


class Progress:
    """A bar over the responses of ``work``; those that were there already are not counted into the
    time left.

    Args:
        work: begun.
        shown: False for every rank but the first.
    """

    def __init__(self, work: Work, shown: bool = True) -> None:
        self._bar = tqdm(
            total=len(work.wanted),
            initial=work.done,
            desc="budget forcing",
            unit=" responses",
            smoothing=0,  # answers come in bursts: the mean rate tells the time left best
            disable=not shown,
        )
        work.count = self._bar.update
        self._tokens, self._began = 0, time.monotonic()
        self._shown = self._began

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def tokens(self, more: int = 1) -> None:
        """``more`` tokens have been generated."""
        self._tokens += more
        now = time.monotonic()
        if now - self._shown > _EVERY:
            self._shown = now
            self._bar.set_postfix_str(f"{self._tokens / (now - self._began):,.0f} tokens/s")
