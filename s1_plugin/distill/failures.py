"""What goes wrong with a teacher at an address: asked again, the question's end, or everyone's.

`Unavailable` is what may have been charged, `Free` is what is not. Every message that leaves here
is scrubbed of the key.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Any

from s1_plugin.console import printable
from s1_plugin.distill.limits import Hopeless
from s1_plugin.forcing.http import Refused, Unavailable, retry_after

#: Characters of a key that is a secret also where it stands in a text; shorter ones, such as the
#: EMPTY of local servers, are words like others.
SECRET = 12
_NO_MODEL = re.compile(r"model[^.]{0,80}(not exist|not found)|(unknown|invalid) model")
#: How servers say that a question or its answer met a filter; the last two are OpenRouter's
#: (https://openrouter.ai/docs/api-reference/errors).
_FILTERED = re.compile(
    r"content_?filter|content_policy|data_inspection_failed|prohibited_content|moderation|"
    r"flagged_input|(input|prompt|content|message|request|question) (was|is|has been) flagged"
)


class Free(Unavailable):
    """Nothing was generated, so nothing is charged: no connection, 429, 5xx."""


class Busy(Free):
    """Too many requests (429): no fault of the question's."""


class Failures:
    """Sorts the failures of one teacher.

    Args:
        model, host: its name, and where it is asked.
        variable: the environment variable of the key, if one is sent.
        stall: seconds of silence after which a connection counts as lost.
    """

    def __init__(self, model: str, host: str, variable: str | None, key: str, stall: float) -> None:
        self._model, self._host, self._stall = model, host, stall
        self._variable, self._key = variable, key

    def of_status(self, status: int, headers: Mapping[str, str], body: Any) -> Exception:
        """Of an error reply of the server."""
        said = message(body)
        text = f"HTTP {status}: {self.shown(said)}"
        low = f"{said} {body}".lower()
        if status == 401 or (status == 400 and "api key" in low):
            return Hopeless(f"{text}; {self._valid_key()}")
        if status == 402 or (status == 429 and "insufficient_quota" in low):
            return Hopeless(f"{text}; the account has no money left: top it up and go on")
        if status in (400, 403, 422, 451) and _FILTERED.search(low):
            return Refused(text, 451)
        if status == 403:
            who = f"the key in {self._variable}" if self._variable else "nobody without --key-env"
            return Hopeless(
                f"{text}; no question was answered before, so it seems that {who} may "
                f"{'not ' if self._variable else ''}use {self._model!r} at {self._host}",
                but=Refused(text, 403),
            )
        if status == 404 or (status == 400 and _NO_MODEL.search(said.lower())):
            return Hopeless(
                f"{text}; check --base-url (without /chat/completions) and --teacher "
                f"({self._model!r}: the model's name there)"
            )
        if 300 <= status < 400:
            return Hopeless(f"HTTP {status}: the address is another one now; change --base-url")
        if status in (408, 409, 425, 429) or status >= 500:
            kind = Busy if status == 429 else Free
            return kind(text, retry_after(headers.get("Retry-After")))
        return Refused(text, status)

    def of_transport(self, error: Exception) -> Exception:
        """Of what httpx raised, or the client in its place."""
        cause = error.__cause__ or error
        kind = type(cause).__name__
        said = self.shown(str(cause) or kind)
        if kind == "ReadTimeout":
            return Unavailable(f"nothing came for {self._stall:g} s")
        if kind in ("ConnectError", "ConnectTimeout"):
            where = f"{self._host} of --base-url"
            if _names_nobody(cause):
                return Hopeless(
                    f"there is no host {where} ({said}); mend it, or the network",
                    but=Free(f"no host {self._host} any more: {said}"),
                )
            return Free(f"no connection to {where}: {said}")
        return Unavailable(f"the connection was dropped: {said}")

    def of_no_reply(self, content: str) -> Exception:
        """Of a reply without a single event; ``content`` is its type."""
        what = self.shown(content.split(";")[0].strip() or "no type at all")
        text = f"{what}, no OpenAI reply"
        return Hopeless(
            f"what came from {self._host} is {text}; check --base-url, which often ends with /v1",
            but=Free(f"what came is {text}"),
        )

    def odd(self, error: Exception) -> Refused:
        said = self.shown(f"{type(error).__name__}: {error}")
        return Refused(f"the reply has a form that is not known: {said}")

    def unavailable(self, text: str) -> Unavailable:
        return Unavailable(self.shown(text))

    def shown(self, text: str) -> str:
        """At most 500 characters; cut after the scrubbing, or half a key would be left. Without a
        full stop at the end: our messages go on there."""
        return printable(self.scrubbed(text)).rstrip(". ")[:500]

    def scrubbed(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def data(self, text: str) -> str:
        """``text`` of a trace, in which a key that is no secret is a word."""
        return self.scrubbed(text) if len(self._key) >= SECRET else text

    def _valid_key(self) -> str:
        if self._variable is None:
            return (
                "no key was sent: put one into an environment variable, and name that with "
                "--key-env"
            )
        what = "which is not taken" if self._key else "which is not set"
        return f"put a valid key into {self._variable}, {what}"


def message(body: Any) -> str:
    """The human part of an error reply."""
    found = body
    for name in ("error", "message", "detail"):
        if isinstance(found, list) and found:  # Gemini's errors come in a list
            found = found[0]
        if isinstance(found, Mapping) and name in found:
            found = found[name]
    return str(found or "no message")


def _names_nobody(error: BaseException | None) -> bool:
    """Whether a name that does not resolve is behind ``error``."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False
