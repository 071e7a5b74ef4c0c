"""Streamed completion requests over HTTP: failures sorted into two kinds, secrets kept to itself.

`Refused` means that asking again is no use, `Unavailable` that it may help after a pause. The API
key comes from the environment and goes into the request's header, nowhere else: every message
that leaves this module is scrubbed of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from s1_plugin.console import printable

KEY_VARIABLE = "OPENAI_API_KEY"

#: Seconds: longest pause of our own, and the longest ``Retry-After`` that is waited for.
_LONGEST_PAUSE, _LONGEST_RETRY_AFTER = 30.0, 600.0

_REMEDIES = {
    401: f"set {KEY_VARIABLE} in the environment",
    403: f"set {KEY_VARIABLE} to a key that may use this model",
    404: "check the address (it ends with /v1/completions) and the model's name",
}


class Refused(Exception):
    """The server will not do what was asked; ``status`` is 0 if the refusal is ours."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Unavailable(Exception):
    """No reply, or not a whole one; ``retry_after`` are the seconds the server asked for."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Endpoint:
    """One ``/v1/completions`` address; an asynchronous context manager.

    Args:
        url: the whole address, such as ``http://localhost:8000/v1/completions``.
        headers: sent with every request; by default the key in ``OPENAI_API_KEY``, if any.
        timeout: seconds of silence after which a connection counts as lost. Replies are streamed,
            so a long reply is no reason for a long timeout.
        retries: how often in a row a request without any progress is repeated.
        ssl: aiohttp's ``ssl`` argument: False for no verification, or an ``SSLContext``.

    Raises:
        ValueError: if ``url`` is no HTTP address, or has a password in it.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 300.0,
        retries: int = 5,
        ssl: Any = True,
    ) -> None:
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise ValueError(
                f"the server's address holds a name or password; set {KEY_VARIABLE} instead, "
                "because addresses end up in logs"
            )
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{url!r} is not an address such as http://localhost:8000/v1")
        if headers is None:
            key = os.environ.get(KEY_VARIABLE, "").strip()
            headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url, self.timeout, self.retries = url, timeout, retries
        self._headers, self._ssl = dict(headers), ssl
        self._closed_until = 0.0  # all requests of this endpoint heed one Retry-After
        self._session: Any = None

    async def __aenter__(self) -> Endpoint:
        try:
            import aiohttp
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "budget forcing over HTTP needs aiohttp: pip install 'lm_eval[api]'"
            ) from error

        self._lost = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=min(self.timeout, 30), sock_read=self.timeout
            ),
            connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def stream(self, payload: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one reply as they come: one attempt.

        Raises:
            Refused, Unavailable: see there; the events before stand.
        """
        while (left := self._closed_until - time.monotonic()) > 0:
            await asyncio.sleep(left + random.uniform(0, 0.1 * left))
        try:
            # A redirect would take the key to another address.
            post = self._session.post(self.url, json=payload, allow_redirects=False)
            async with post as reply:
                if reply.status != 200:
                    raise self._failure(reply.status, reply.headers, await reply.read())
                if reply.content_type == "application/json":  # a server that does not stream
                    yield self._event(await reply.read())
                    return
                async for line in _lines(reply.content.iter_any()):
                    data = line.removeprefix(b"data:").strip()
                    if data == b"[DONE]":
                        return
                    if line.startswith(b"data:") and data:
                        yield self._event(data)
        except self._lost as error:
            raise self._no_reply(error) from None

    async def models(self) -> list[dict[str, Any]]:
        """What the server says about its models: one attempt.

        Raises:
            Refused, Unavailable: see there.
        """
        url = self.url.removesuffix("/completions") + "/models"
        try:
            async with self._session.get(url, allow_redirects=False) as reply:
                body = await reply.read()
                if reply.status != 200:
                    raise self._failure(reply.status, reply.headers, body)
        except self._lost as error:
            raise self._no_reply(error) from None
        found = self._event(body).get("data")
        if not isinstance(found, list):
            raise Refused("it does not list its models")
        return [model for model in found if isinstance(model, dict)]

    async def pause(self, failure: Unavailable, failures: int) -> None:
        """Waits before the next attempt; ``failures`` in a row have been met.

        Raises:
            Refused: if there have been enough, or the server asks for too long a pause.
        """
        if failures > self.retries:
            raise Refused(f"given up after {failures} attempts: {failure}")
        asked = failure.retry_after or 0.0
        if asked > _LONGEST_RETRY_AFTER:
            raise Refused(f"the server asks for a pause of {asked:.0f} s: {failure}")
        self._closed_until = max(self._closed_until, time.monotonic() + asked)
        # Jittered, so that requests which failed together do not come back together.
        await asyncio.sleep(min(0.5 * 2 ** (failures - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1))

    # -- failures -------------------------------------------------------------------------------

    def _no_reply(self, error: Exception) -> Unavailable:
        what = str(error) or f"nothing came for {self.timeout:g} s"
        return Unavailable(self._scrub(f"{type(error).__name__}: {what}"))

    def _event(self, data: bytes) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except ValueError:
            raise Unavailable("the reply broke off in the middle of its JSON") from None
        if not isinstance(event, dict):
            raise Unavailable("the reply is not a JSON object")
        if event.get("error"):
            code = event["error"].get("code") if isinstance(event["error"], dict) else None
            raise self._failure(code if isinstance(code, int) else 500, {}, data)
        return event

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
        text = self._scrub(f"HTTP {status}: {_message(body)}")
        if status in (408, 425, 429) or status >= 500:
            return Unavailable(text, retry_after(headers.get("Retry-After")))
        remedy = _REMEDIES.get(status)
        return Refused(f"{text}; {remedy}" if remedy else text, status)

    def _scrub(self, text: str) -> str:
        for value in self._headers.values():
            for secret in (value, *value.split()[1:]):
                if len(secret) > 3:  # a header such as "X-Level: 1" is no secret
                    text = text.replace(secret, "***")
        return text


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    # aiohttp's own line reader refuses lines over 128 KiB, and a whole reply may come as one.
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _message(body: bytes) -> str:
    """The human part of an error reply, at most 500 characters."""
    text = body.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    return printable(str(found)[:500]) or "no message"


def retry_after(value: str | None) -> float | None:
    """Seconds in a ``Retry-After`` header, which holds a number or a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
