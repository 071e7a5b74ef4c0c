"""The run itself: every question and sample exactly once, from many workers into one ledger."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from tqdm import tqdm

from s1_plugin import __version__
from s1_plugin.console import say
from s1_plugin.distill.cost import EXPECTED_TOKENS, Prices, money
from s1_plugin.distill.failures import Busy, Free
from s1_plugin.distill.ledger import Contents, Ledger, LedgerError
from s1_plugin.distill.limits import Breaker, Hopeless, Pace, pause
from s1_plugin.distill.questions import Question
from s1_plugin.distill.reasons import Reasons
from s1_plugin.distill.replies import Reply
from s1_plugin.distill.teachers import Asked, Teacher
from s1_plugin.forcing.http import Refused, Unavailable

#: Seconds between two looks at the bar, and kinds of failure that are said as they come.
_EVERY, _SAID = 0.5, 5


@dataclass(frozen=True)
class Settings:
    """What is asked, and how hard; see `s1 distill --help`."""

    asked: Asked
    parameters: str
    samples: int = 1
    concurrency: int = 32
    tokens_per_minute: int | None = None
    retries: int = 8
    patience: float = 900.0
    timeout: float = 3600.0
    no_thinking: bool = False
    prices: Prices = field(default_factory=Prices)
    expected_tokens: int | None = None
    #: Tokens of a reply before there is one, and why so many.
    guess: tuple[int, str] = (EXPECTED_TOKENS, "the mean of s1K; --expect-tokens says another")
    #: From the question to what is asked.
    prompt: Callable[[str], str] = str
    #: Where an answer has to name something (a domain): what it names, None if nothing.
    names: Callable[[str], str | None] | None = None

    @property
    def sought(self) -> str:
        """What a reply should bring."""
        return "a domain" if self.names else "an answer" if self.no_thinking else "a trace"

    def answered(self, status: str) -> bool:
        """Whether a row of this status is as it was asked for."""
        return status == "ok" or (status == "no_thinking" and self.no_thinking)

    def wanted(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the ledger brought what is sought."""
        answer = row["attempt"] or row["partial_attempt"]
        return self.answered(row["status"]) and (not self.names or self.names(answer) is not None)


class Job(NamedTuple):
    """A question, the number of its sample, and the key of its row."""

    question: Question
    sample: int
    key: str


def key_of(question: str, teacher: str, parameters: str, sample: int) -> str:
    """The same for the same question, teacher, parameters and sample; otherwise another."""
    what = json.dumps([question, teacher, parameters, sample])
    return hashlib.blake2b(what.encode(), digest_size=16).hexdigest()


def jobs(
    questions: Iterable[Question], teacher: str, settings: Settings, done: Iterable[str] = ()
) -> Iterator[Job]:
    """What is to be asked: each key once, none of ``done`` (which is taken as it is now)."""
    seen = set(done)
    for question in questions:
        for sample in range(settings.samples):
            key = key_of(question.text, teacher, settings.parameters, sample)
            if key not in seen:
                seen.add(key)
                yield Job(question, sample, key)


@dataclass
class Counts:
    """What came of rows, and of a run.

    Attributes:
        failures: attempts that failed, by kind.
        reasons: of rows that are not as they were asked for.
        wanted: rows that brought what is sought.
        again: attempts after the first.
        lost: attempts that broke off, or that nothing came for: they may have been paid, and no
            ledger knows what for.
        untold: rows with a text that the server told no tokens of.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    reasons: Reasons = field(default_factory=Reasons)
    wanted: int = 0
    again: int = 0
    lost: int = 0
    untold: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    stopped: bool = False

    @property
    def rows(self) -> int:
        return self.statuses.total()

    def add(self, row: Mapping[str, Any], settings: Settings) -> None:
        self.statuses[row["status"]] += 1
        self.wanted += settings.wanted(row)
        if not settings.answered(row["status"]):
            self.reasons.add(row["status"], row["reason"])
        self.prompt_tokens += row["prompt_tokens"]
        self.completion_tokens += row["completion_tokens"]
        text = row["attempt"] or row["partial_attempt"] or row["partial_thinking"]
        self.untold += bool(text) and not (row["prompt_tokens"] or row["completion_tokens"])


class _Stopped(Exception):
    """No more is to be asked."""


class Run:
    """One run over ``todo``.

    Args:
        teacher: entered.
        ledger: open.
        expected: prompt tokens per question, and tokens of a reply before any has come.
    """

    def __init__(
        self, teacher: Teacher, ledger: Ledger, settings: Settings, expected: tuple[float, float]
    ) -> None:
        self.teacher, self.ledger, self.settings = teacher, ledger, settings
        self.counts = Counts()
        self._expected = expected
        self._pace = Pace(settings.tokens_per_minute)
        # As many again as are under way: the first to end are those that fail at once.
        self._breaker = Breaker(settings.patience, max(20, 2 * settings.concurrency))
        self._closed_until = 0.0  # all heed one Retry-After
        self._held: list[dict[str, Any]] = []
        self._refused: set[str] = set()  # keys of those that no retry would help
        self._stopping = asyncio.Event()
        self._failed: Exception | None = None
        # By a run before, asked in the same way, or since.
        group = (teacher.name, teacher.host, settings.parameters)
        self._before = self._answered = any(
            key[:3] == group and key[3] != "error" for key in ledger.contents.tally
        )

    async def over(self, todo: Iterator[Job], total: int, before: int) -> Counts:
        """Asks everything; ``before`` of ``total`` rows were there already.

        The first ctrl-C lets the replies under way come to their end, as they are paid for.

        Raises:
            Hopeless: if asking on is no use; what is paid for is on disk.
            LedgerError: if the disk does not take it.
            Exception: whatever a teacher raises that it should not, once the others have ended.
        """
        loop = asyncio.get_running_loop()
        heeded = (signal.SIGINT, signal.SIGTERM)
        for name in heeded:
            with suppress(NotImplementedError, ValueError, RuntimeError):  # not in a thread
                loop.add_signal_handler(name, self._stop)
        with tqdm(
            total=total, initial=before, desc="distil", unit=" replies", smoothing=0
        ) as self._bar:
            self._began = self._shown = time.monotonic()
            workers = [
                asyncio.create_task(self._work(todo)) for _ in range(self.settings.concurrency)
            ]
            try:
                await asyncio.gather(*workers)
                if self._failed:
                    raise self._failed
                if self.counts.rows:  # the teacher works: it was these questions
                    await self._write_held()
                elif self._before:
                    await self._write_held(self._refused)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                for name in heeded:
                    with suppress(NotImplementedError, ValueError, RuntimeError):
                        loop.remove_signal_handler(name)
        self.counts.stopped = self._stopping.is_set()
        return self.counts

    @property
    def held(self) -> Sequence[Mapping[str, Any]]:
        """Rows of questions that failed for good and are not in the ledger."""
        return self._held

    def paid(self) -> Counter[str]:
        """Rows and tokens of this job, earlier runs' too."""
        return self.ledger.contents.paid(
            self.teacher.name, self.teacher.host, self.settings.parameters
        )

    def _stop(self) -> None:
        if self._stopping.is_set():
            raise KeyboardInterrupt
        self._stopping.set()
        say("stopping: the replies under way come to their end; once more stops at once")

    async def _work(self, todo: Iterator[Job]) -> None:
        try:
            for job in todo:
                await self._settle(job)
        except _Stopped:
            return
        except LedgerError:  # nothing that comes could be written down
            raise
        except Exception as error:  # what the others have under way is paid for: let it come
            if not self._stopping.is_set():
                self._bar.clear()
                say("stopping; the replies under way come to their end (ctrl-C: at once)")
            if self._failed is None or not isinstance(error, Hopeless):
                self._failed = error
            self._stopping.set()

    async def _settle(self, job: Job) -> None:
        """Asks, and writes down what comes."""
        if self._stopping.is_set():
            raise _Stopped
        row = await self._answer(job)
        status, reason = row["status"], row["reason"]
        if status == "error":
            # Whether it is the question's fault shows when another is answered.
            self._held.append(row)
        else:
            await self._write(row)
            await self._write_held()
        self._breaker.ended("ok" if self.settings.answered(status) else status, reason)

    async def _write_held(self, keys: Container[str] | None = None) -> None:
        """Writes those of ``keys``, or all."""
        held = [row for row in self._held if keys is None or row["key"] in keys]
        self._held = [row for row in self._held if row not in held]
        for row in held:
            await self._write(row)

    async def _write(self, row: dict[str, Any]) -> None:
        await self.ledger.add(row)
        self.counts.add(row, self.settings)
        self._bar.update()
        self._show()

    # -- one question ---------------------------------------------------------------------------

    async def _answer(self, job: Job) -> dict[str, Any]:
        """The row of ``job``.

        Raises:
            _Stopped: if the run was stopped before there was one.
        """
        began, first, busy, attempts, failures = time.monotonic(), 0.0, 0.0, 0, 0
        asked = self.settings.asked
        if asked.seed is not None:
            asked = replace(asked, seed=asked.seed + job.sample)
        asked = replace(asked, question=self.settings.prompt(job.question.text))
        while True:
            attempts += 1
            try:
                reply = await self._attempt(asked)
            except Refused as refusal:
                status = "refused" if refusal.status == 451 else "error"
                if refusal.status != 403:  # that may be the key's fault after all
                    self._refused.add(job.key)
                return self._row(job, began, attempts, status, str(refusal))
            except Unavailable as failure:
                if isinstance(failure, Busy):  # no failure of the question's
                    busy = busy or time.monotonic()
                else:
                    failures += 1
                    first = first or time.monotonic()
                self._note(str(failure))
                asked_for = failure.retry_after or 0.0
                if asked_for > self.settings.patience:
                    raise Hopeless(
                        f"the teacher asks for a pause of {asked_for:.0f} s, longer than "
                        f"--patience {self.settings.patience:.0f}: {failure}; come back then"
                    ) from None
                spent = time.monotonic() - (first or time.monotonic())
                if failures > self.settings.retries or spent > self.settings.patience:
                    why = f"given up after {failures} failures in {spent:.0f} s: {failure}"
                    return self._row(job, began, attempts, "error", why)
                waited = time.monotonic() - (busy or time.monotonic())
                if waited > self.settings.patience:  # too large for the account's rate, say
                    why = f"given up, as it was too many requests for {waited:.0f} s: {failure}"
                    return self._row(job, began, attempts, "error", why)
                self._closed_until = max(self._closed_until, time.monotonic() + asked_for)
                await self._sleep(pause(attempts))
                self.counts.again += 1
            else:
                status, reason = reply.status()
                if self.settings.answered(status):
                    reason = ""
                return self._row(job, began, attempts, status, reason, reply)

    async def _attempt(self, asked: Asked) -> Reply:
        while (left := self._closed_until - time.monotonic()) > 0:
            await self._sleep(left + random.uniform(0, 0.1 * left))
        expected = self._expected[0] + self._mean()
        while left := self._pace.wait(expected):
            await self._sleep(min(left, 1.0))
        taken = self._pace.take(expected)
        heard = 0

        def hear() -> None:
            nonlocal heard
            heard += 1
            self._breaker.alive()

        try:
            reply = await self._ask(asked, hear)
        except (Refused, Unavailable) as failure:
            if not heard and isinstance(failure, (Refused, Free)):
                self._pace.settle(taken, 0)
            else:
                # Whoever hangs up on a server that thinks may be charged for what it thought.
                self.counts.lost += 1
                if isinstance(failure, Unavailable):
                    self._breaker.lost(str(failure))
            raise
        self._answered = True
        self._breaker.whole()
        self._pace.settle(taken, reply.prompt_tokens + reply.completion_tokens or expected)
        return reply

    async def _ask(self, asked: Asked, hear: Callable[[], None]) -> Reply:
        try:
            return await asyncio.wait_for(self.teacher.ask(asked, hear), self.settings.timeout)
        except asyncio.TimeoutError:
            raise Unavailable(
                f"no whole reply within --timeout {self.settings.timeout:g} s"
            ) from None
        except Hopeless as stop:
            if stop.but is not None and self._answered:
                raise stop.but from None
            raise

    async def _sleep(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        if self._stopping.is_set():
            raise _Stopped

    def _note(self, why: str) -> None:
        known = len(self.counts.failures)
        kind = why.split(":")[0]
        self.counts.failures[kind] += 1
        if known < _SAID and len(self.counts.failures) > known:
            self._bar.clear()
            say(f"an attempt failed: {why}")
        self._breaker.failed(why)
        self._show()

    def _row(
        self,
        job: Job,
        began: float,
        attempts: int,
        status: str,
        reason: str,
        reply: Reply | None = None,
    ) -> dict[str, Any]:
        """A line of the ledger. Only an ``ok`` row has a trace under the names that training reads;
        what else was paid for stands under ``partial_…``."""
        found = reply or Reply("", "", "")
        good = status == "ok"
        return {
            "key": job.key,
            "status": status,
            "reason": reason,
            "question": job.question.text,
            **{name: value for name, value in job.question._asdict().items() if name != "text"},
            "sample": job.sample,
            "thinking_trajectories": [found.thinking] if good else [],
            "attempt": found.answer if good else "",
            "partial_thinking": "" if good else found.thinking,
            "partial_attempt": "" if good else found.answer,
            "teacher": self.teacher.name,
            "served_as": found.served_as,
            "host": self.teacher.host,
            "parameters": self.settings.parameters,
            "prompt_sha256": hashlib.sha256(
                self.settings.prompt(job.question.text).encode()
            ).hexdigest(),
            "finish_reason": found.finish,
            "prompt_tokens": found.prompt_tokens,
            "completion_tokens": found.completion_tokens,
            "reasoning_tokens": found.reasoning_tokens,
            "attempts": attempts,
            "seconds": round(time.monotonic() - began, 3),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "s1_plugin": __version__,
        }

    # -- how far --------------------------------------------------------------------------------

    def _mean(self) -> float:
        """Tokens of a reply: of those that came, else what was expected."""
        if self.counts.completion_tokens:
            return self.counts.completion_tokens / self.counts.rows
        return self._expected[1]

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < _EVERY:
            return
        self._shown = now
        counts, prices = self.counts, self.settings.prices
        said = [f"{counts.completion_tokens / (now - self._began):,.0f} tokens/s"]
        paid = self.paid()
        spent = prices.dollars(paid["prompt_tokens"], paid["completion_tokens"])
        if spent is not None and paid["rows"]:
            to_come = spent / paid["rows"] * (self._bar.total - self._bar.n)
            said.append(f"{money(spent)} so far, {money(to_come)} to come")
        if bad := counts.rows - counts.wanted:
            said.append(f"{bad:,} without {self.settings.sought}")
        if counts.again:
            said.append(f"{counts.again:,} retries")
        self._bar.set_postfix_str(", ".join(said))


def expected_tokens(settings: Settings, contents: Contents, teacher: str) -> tuple[float, str]:
    """Tokens of a reply, and where that number comes from."""
    tokens, whence = _expected(settings, contents, teacher)
    most = settings.asked.max_tokens
    return (tokens, whence) if tokens <= most else (most, "--max-tokens")


def _expected(settings: Settings, contents: Contents, teacher: str) -> tuple[float, str]:
    if settings.expected_tokens is not None:
        return settings.expected_tokens, "--expect-tokens"
    same, other = Counter[str](), Counter[str]()
    for (name, _, parameters, status), counter in contents.tally.items():
        if name == teacher and status != "error":
            found = same if parameters == settings.parameters else other
            found.update(counter)
            found["cut"] += counter["rows"] * (status == "truncated")
    for found, how in ((same, "that are there"), (other, "with other parameters")):
        if found["completion_tokens"]:
            whence = f"the mean of the {found['rows']:,} replies {how}"
            cut = f", {found['cut']:,} of them cut short" if found["cut"] else ""
            return found["completion_tokens"] / found["rows"], whence + cut
    return settings.guess
