"""Teachers behind an HTTP address, through OpenAI's client: one attempt at one question.

Replies are streamed, so that a teacher may think for as long as it likes and a stall still shows.
The client's own retries are off: ours are counted. The key comes from an environment variable and
goes into the request's header, nowhere else: all that a server says is scrubbed of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from s1_plugin.distill.extra import check_extra
from s1_plugin.distill.failures import Failures, message
from s1_plugin.distill.limits import Hopeless
from s1_plugin.distill.replies import Reply, split_format, split_tags
from s1_plugin.forcing.http import Refused, Unavailable
from s1_plugin.formats import TraceFormat

#: Where the key is by default, by the address's host; no other host is sent one unasked.
_KEYS = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
}
#: Gemini shows its thoughts only when asked (https://ai.google.dev/gemini-api/docs/openai).
_GEMINI = {"extra_body": {"google": {"thinking_config": {"include_thoughts": True}}}}
_CONNECT = 30.0


@dataclass(frozen=True)
class Asked:
    """One question to a teacher: its text, and the parameters that go with it."""

    question: str
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None

    def sampling(self) -> dict[str, Any]:
        """What is said to the teacher; what is None is left to it."""
        said = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        return {name: value for name, value in said.items() if value is not None}


class Teacher(Protocol):
    """Who is asked; an asynchronous context manager."""

    #: Its name in the ledger, and the host it is asked at ("local" in this process).
    name: str
    host: str

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def ask(self, asked: Asked, heard: Callable[[], None]) -> Reply:
        """The reply to ``asked``; ``heard`` is called with every sign of life.

        Raises:
            Unavailable: if asking again may help.
            Refused: if this question will not be answered.
            Hopeless: if no question will.
        """
        ...


class Server:
    """A teacher at an OpenAI-compatible address.

    Args:
        model: its name there.
        base_url: such as ``https://api.deepseek.com/v1``.
        key_variable: the environment variable that holds the key; by default by the host, and for
            a host that is not known none: no key is sent.
        extra: goes into the body of every request.
        prompt: for `/completions`: token ids of the prompt of a question, with ``fmt``; without
            both the question goes to `/chat/completions`.
        stall: seconds of silence after which a connection counts as lost.

    Raises:
        ValueError: for an address or an ``extra`` that cannot be used.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        key_variable: str | None = None,
        extra: Mapping[str, Any] | None = None,
        fmt: TraceFormat | None = None,
        prompt: Callable[[str], list[int]] | None = None,
        stall: float = 300.0,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "--base-url is not an address such as http://localhost:8000/v1; write it so"
            )
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "--base-url holds a name, a password or a query, which would end up in logs; put "
                "the key into an environment variable and name it with --key-env"
            )
        self.name, self.host, self.base_url = model, parts.hostname, base_url
        known = _KEYS.get(self.host) if parts.scheme == "https" else None  # not in the clear
        self.key_variable = key_variable or known
        self._key = os.environ.get(self.key_variable or "", "").strip()
        check_extra(extra or {}, {self._key, *_known_keys()})
        gemini = _GEMINI if self.host == "generativelanguage.googleapis.com" else {}
        self.extra: dict[str, Any] = {**gemini, **(extra or {})}
        self._fmt, self._prompt, self._stall = fmt, prompt, stall
        self._failures = Failures(model, self.host, self.key_variable, self._key, stall)

    def key_said(self) -> str:
        """Which key goes where, without the key."""
        if self.key_variable:
            return f"the key in {self.key_variable} goes to {self.host}"
        if self.host in _KEYS:
            return f"no key goes to {self.host} by http, which all can read: write https://…"
        return f"no key goes to {self.host}; --key-env names the variable of one"

    def check_key(self) -> None:
        """Raises `ValueError` if there has to be a key and there is none, or for one that cannot
        stand in a header."""
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError(
                f"the environment variable {self.key_variable} holds characters that no key has "
                "(not ASCII, or a line break); copy the key anew"
            )
        if self.key_variable and not self._key:
            raise ValueError(
                f"the environment variable {self.key_variable} is not set; put the key for "
                f"{self.host} there, or name another variable with --key-env"
            )

    async def __aenter__(self) -> Server:
        try:
            import openai
        except ImportError:
            raise Hopeless(
                "teachers at an address need the openai client: "
                "in a checkout of s1-plugin, pip install '.[distill]'"
            ) from None
        self._openai = openai
        timeout = openai.Timeout(self._stall, connect=min(_CONNECT, self._stall), pool=None)
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",  # the client insists on one
            base_url=self.base_url,
            organization="",
            project="",
            max_retries=0,
            timeout=timeout,
            # A redirect would take the key to another address.
            http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    async def ask(self, asked: Asked, heard: Callable[[], None]) -> Reply:
        """See `Teacher.ask`."""
        failure: Exception
        try:
            async with await self._begin(asked) as stream:
                try:
                    return await self._read(stream, heard)
                except (TypeError, AttributeError, LookupError) as error:
                    failure = self._failures.odd(error)
        except (Refused, Unavailable, Hopeless):
            raise
        except self._openai.APIStatusError as error:
            failure = self._failures.of_status(
                error.status_code, error.response.headers, error.body
            )
        except self._openai.APIConnectionError as error:
            failure = self._failures.of_transport(error)
        except self._openai.APIError as error:
            failure = self._in_reply(error.body, getattr(error, "code", None), str(error))
        except (ValueError, OSError) as error:
            failure = self._failures.unavailable(f"the reply broke off ({type(error).__name__})")
        except Exception as error:
            if type(error).__module__.split(".")[0] not in _TRANSPORTS:
                raise
            failure = self._failures.of_transport(error)
        raise failure  # out here it has no context: what the client raised may repeat the key

    async def _begin(self, asked: Asked) -> Any:
        how: dict[str, Any] = {
            "model": self.name,
            "max_tokens": asked.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **asked.sampling(),
        }
        if not self._key:
            how["extra_headers"] = {"Authorization": self._openai.omit}
        if self._prompt is None:
            said: Any = [{"role": "user", "content": asked.question}]
            return await self._client.chat.completions.create(
                messages=said, extra_body=self.extra, **how
            )
        # Without these vLLM's and SGLang's text has no delimiters.
        shown = {"skip_special_tokens": False, "spaces_between_special_tokens": False}
        return await self._client.completions.create(
            prompt=self._prompt(asked.question), extra_body={**shown, **self.extra}, **how
        )

    async def _read(self, stream: Any, heard: Callable[[], None]) -> Reply:
        content = stream.response.headers.get("content-type", "")
        found = _Found()
        if content.startswith("application/json"):  # a server that does not stream
            whole = json.loads(await stream.response.aread())
            if isinstance(whole, dict) and "choices" not in whole:
                error = whole.get("error")
                if not error:
                    raise self._failures.of_no_reply(content)
                code = error.get("code") if isinstance(error, dict) else None
                raise self._in_reply(error, code, message(whole))
            found.take(whole)
            heard()
        else:
            came = False
            async for chunk in stream:
                came = True
                heard()
                found.take(chunk.to_dict(mode="python", warnings=False))
            if not (came or content.startswith("text/event-stream")):
                raise self._failures.of_no_reply(content)
        return self._reply(found)

    def _in_reply(self, body: Any, code: Any, said: str) -> Exception:
        """Of an error that stands in a reply or its stream."""
        if str(code).isdigit() and 400 <= int(code) < 600:
            return self._failures.of_status(int(code), {}, body)
        return self._failures.unavailable(f"an error in the reply: {said}")

    def _reply(self, found: _Found) -> Reply:
        if found.finish in _INTERRUPTED:
            end = "without saying why" if found.finish is None else f"with {found.finish!r}"
            raise self._failures.unavailable(f"the server ended the reply early, {end}")
        text, reasoning = map(self._failures.data, found.joined())
        scrubbed = self._failures.scrubbed
        thinking, answer = (
            split_format(text, self._fmt) if self._fmt else split_tags(text, reasoning)
        )
        return Reply(
            thinking=thinking,
            answer=answer,
            finish=scrubbed(str(found.finish)),
            served_as=scrubbed(str(found.model)),
            prompt_tokens=_number(found.usage, "prompt_tokens") or 0,
            completion_tokens=_number(found.usage, "completion_tokens") or 0,
            reasoning_tokens=_number(
                found.usage.get("completion_tokens_details") or {}, "reasoning_tokens"
            ),
            refusal=scrubbed("".join(found.refusal)),
        )


#: Whose errors the client lets through.
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2")
#: Ends of a reply that is not whole: none at all, and DeepSeek's for a crowded machine.
_INTERRUPTED = (None, "insufficient_system_resource", "abort", "error")


class _Found:
    """What has come of one reply so far; takes chunks of a stream, or a reply as a whole."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.finish: str | None = None
        self.model = ""
        self.usage: Mapping[str, Any] = {}

    def take(self, chunk: Mapping[str, Any]) -> None:
        self.model = chunk.get("model") or self.model
        self.usage = chunk.get("usage") or self.usage
        for choice in (chunk.get("choices") or [])[:1]:
            part = choice.get("delta") or choice.get("message") or {}
            text, thinking = _texts(part.get("content") or choice.get("text") or "")
            self.reasoning.append(thinking)
            # Gemini marks the parts of its text that are thoughts.
            google = (part.get("extra_content") or {}).get("google") or {}
            (self.reasoning if google.get("thought") else self.text).append(text)
            # DeepSeek's and SGLang's name, and the one of vLLM (from 0.12) and OpenRouter.
            self.reasoning.append(part.get("reasoning_content") or part.get("reasoning") or "")
            self.refusal.append(part.get("refusal") or "")
            self.finish = choice.get("finish_reason") or self.finish

    def joined(self) -> tuple[str, str]:
        """Text and reasoning; halves of surrogate pairs, which streams may part, put together."""
        found = []
        for parts in (self.text, self.reasoning):
            pairs = "".join(parts).encode("utf-16", "surrogatepass")
            found.append(pairs.decode("utf-16", "replace"))
        return found[0], found[1]


def _texts(content: Any) -> tuple[str, str]:
    """Text and thinking of a ``content``: text, or a list of parts as Mistral has it
    (https://docs.mistral.ai/capabilities/reasoning).

    Raises:
        TypeError, AttributeError, KeyError: for anything else.
    """
    if isinstance(content, str):
        return content, ""
    text, thinking = [], []
    for part in content:
        if part["type"] == "text":
            text.append(part["text"])
        elif part["type"] == "thinking":
            thinking.append(_texts(part["thinking"])[0])
        else:
            raise TypeError(f"a part of type {part['type']!r}")
    return "".join(text), "".join(thinking)


def _number(counts: Mapping[str, Any], name: str) -> int | None:
    found = counts.get(name)
    if found is not None and not isinstance(found, (int, float)):
        raise TypeError(f"{name} is {found!r}, no number")
    return None if found is None else int(found)


def _known_keys() -> set[str]:
    """Keys in this environment of hosts that are known."""
    return {os.environ.get(name, "").strip() for name in _KEYS.values()}
