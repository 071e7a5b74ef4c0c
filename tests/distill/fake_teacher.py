"""A teacher as an HTTP server: a real one on a real socket, which answers badly in every way that
servers do. What it does to a question is drawn from the question's text and the number of the
attempt, so that a run repeats."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from time import monotonic, time

FAULTS = (
    *("429", "429 later", "429 at a date", "500", "502", "503", "504"),
    *("no reply", "dropped", "dropped early", "half JSON", "half a JSON reply", "stall"),
)
#: After so many faulty attempts a question is answered.
MOST_FAULTS = 3
MODEL = "fake-teacher-0601"
OUTCOMES = ("ok", "no_thinking", "truncated", "refused", "empty", "error")


@dataclass
class Log:
    """What the server saw: all requests, and replies that were written to their end, by the
    process (`generation`) that asked."""

    generation: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    paid: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    paid_at: dict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    faults: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    bodies: list[dict] = field(default_factory=list)
    #: When each question came, and when a fault was answered.
    came: list[tuple[float, str]] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)


def outcome_of(question: str) -> str:
    """How a question ends in the end: nine in ten are ``ok``."""
    chance = random.Random(f"outcome {question}")
    return "ok" if chance.random() < 0.9 else chance.choice(OUTCOMES[1:])


def reply_of(question: str) -> tuple[str, str]:
    chance = random.Random(f"reply {question}")
    words = " ".join(chance.choice(["so", "wait", "then", "carry", "∑", "😀"]) for _ in range(30))
    return f"About {question}: {words}", f"Answer: {chance.randint(0, 999)}"


def echoes(question: str) -> bool:
    return random.Random(f"echo {question}").random() < 0.2


class FakeTeacher:
    """Serves until it is stopped.

    Args:
        faulty: share of first attempts that go wrong.
        stall: seconds for which it is silent when it stalls; then it hangs up.
        status: given, every request gets this status, with the request's own key in the body.
        answer: given, every question gets this answer, without thinking.
        planned: faults of the first attempts at some questions.
        later: seconds of ``Retry-After``.
        echo: some replies hold the request's ``Authorization``, in model, thinking and answer.
    """

    def __init__(
        self,
        faulty: float = 0.0,
        stall: float = 5.0,
        status: int | None = None,
        answer: Callable[[str], str] | None = None,
        planned: Mapping[str, Sequence[str]] | None = None,
        later: float = 0.1,
        echo: bool = False,
    ) -> None:
        self.faulty, self.stall, self.status, self.log = faulty, stall, status, Log()
        self.answer, self.later, self.echo = answer, later, echo
        self.planned = {question: list(faults) for question, faults in (planned or {}).items()}

    @contextmanager
    def serving(self):
        """The base URL."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=512), loop
        ).result()
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        finally:
            asyncio.run_coroutine_threadsafe(_hang_up(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _connected(self, reader, writer) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                if not await self._answer(headers, body, writer):
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, headers, body, writer) -> bool:
        """Whether the connection stays open."""
        log = self.log
        question = body["messages"][0]["content"]
        attempt = log.asked[question]
        log.asked[question] += 1
        log.keys[headers.get("authorization", "")] += 1
        log.bodies.append(body)
        log.came.append((monotonic(), question))
        if self.status:
            said = {"error": {"message": f"no {headers.get('authorization')}", "code": "x"}}
            await self._send(writer, self.status, json.dumps(said).encode())
            return True
        if faults := self.planned.get(question):
            return await self._fault(faults.pop(0), question, writer)
        chance = random.Random(f"{question} {attempt}")
        if attempt < MOST_FAULTS and chance.random() < self.faulty:
            fault = chance.choice(FAULTS)
            log.faults[fault] += 1
            return await self._fault(fault, question, writer)
        generation = log.generation
        outcome = "no_thinking" if self.answer else outcome_of(question)
        if outcome == "error":
            await self._send(writer, 400, b'{"error": {"message": "prompt too long"}}')
            return True
        echoed = headers.get("authorization", "") if self.echo and echoes(question) else ""
        await self._stream(writer, self._events(question, outcome, echoed))
        log.paid[generation][question] += 1
        log.paid_at[generation][question] = monotonic()
        return True

    # -- good replies ---------------------------------------------------------------------------

    def _events(self, question: str, outcome: str, echoed: str = "") -> list[dict]:
        thinking, answer = (text + echoed for text in reply_of(question))
        model = MODEL + echoed
        if self.answer:
            answer = self.answer(question)
        finish = {"truncated": "length", "refused": "content_filter"}.get(outcome, "stop")
        if outcome == "refused":  # whatever stands after it, as Gemini's name of the filter
            finish += echoed
        if outcome in ("no_thinking", "empty"):
            thinking = ""
        if outcome in ("truncated", "refused", "empty"):
            answer = ""
        channel = random.Random(f"channel {question}").choice(
            ["reasoning_content", "reasoning", ""]
        )
        if channel:
            deltas = [{channel: part} for part in _parts(thinking)]
        else:
            tags = ("<think>\n", "\n</think>\n\n" if answer else "") if thinking else ("", "")
            deltas = [{"content": part} for part in _parts(tags[0] + thinking + tags[1])]
        deltas += [{"content": part} for part in _parts(answer)]
        events = [_event(choices=[{"index": 0, "delta": delta}]) for delta in deltas]
        events.append(_event(choices=[{"index": 0, "delta": {}, "finish_reason": finish}]))
        usage = {"prompt_tokens": len(question.split()), "completion_tokens": len(thinking.split())}
        return [*events, _event(choices=[], usage=usage, model=model)]

    async def _stream(self, writer, events, end: bool = True) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for event in events:
            _chunk(writer, b"data: " + json.dumps(event).encode() + b"\n\n")
            await writer.drain()
            await asyncio.sleep(0.01)
        if end:
            _chunk(writer, b"data: [DONE]\n\n")
            _chunk(writer, b"")
            await writer.drain()

    async def _send(self, writer, status: int, body: bytes, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Said", "Content-Type: application/json", *headers]
        lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    # -- faults ---------------------------------------------------------------------------------

    async def _fault(self, fault: str, question: str, writer) -> bool:
        events = self._events(question, "ok")
        self.log.failed.append(monotonic())
        if fault[:3].isdigit():
            wait = {
                "later": f"Retry-After: {self.later}",
                "date": f"Retry-After: {formatdate(time() + 0.5)}",
            }
            headers = [line for word, line in wait.items() if fault.endswith(word)]
            await self._send(writer, int(fault[:3]), b'{"error": "busy"}', *headers)
            return True
        if fault == "no reply":
            await asyncio.sleep(self.stall)
        elif fault == "dropped":
            await self._stream(writer, events[:4], end=False)
        elif fault == "half JSON":
            await self._stream(writer, events[:4], end=False)
            _chunk(writer, b'data: {"choices": [{"delta": {"content": "ha\n\n')
            _chunk(writer, b"")
        elif fault == "half a JSON reply":
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
                b'{"choices": [{"message": {"content": "<think>a</think>b"}, "finish'
            )
            await writer.drain()
        elif fault == "stall":
            await self._stream(writer, events[:4], end=False)
            await asyncio.sleep(self.stall)
        if fault.startswith("dropped"):
            writer.transport.abort()
        return False


async def _hang_up() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _parts(text: str, size: int = 40) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _event(**fields) -> dict:
    return {"id": "1", "object": "chat.completion.chunk", "model": MODEL, **fields}


def _chunk(writer, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
