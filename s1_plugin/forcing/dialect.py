"""What a completion server understands, found out by asking, and how to speak to it.

OpenAI's protocol knows prompts of token ids, but replies of text only. vLLM and SGLang return
token ids too, stop at token ids and show special tokens when asked. `Server.learn` finds out which
of this a server takes, and refuses one whose replies would hide where the thinking ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from s1_plugin.console import say
from s1_plugin.encoding import TextEncoder, decode, newline_test
from s1_plugin.forcing.http import Endpoint, Refused, Unavailable

#: After a line's end, before anything but white space, byte-level BPE tokenizers never merge.
_SAFE_CUT = re.compile(r"\n(?=\S)")
#: What a text reply holds where a character is not whole.
_BROKEN = "\ufffd"


class ServerError(RuntimeError):
    """Budgets cannot be forced on this server; the message says what would help."""


@dataclass(frozen=True)
class Dialect:
    """Token ids as prompts; the parameters that vLLM and SGLang added; token ids in replies."""

    token_prompts: bool = True
    extensions: bool = True
    token_replies: bool = False


class Server:
    """One model on one server.

    Args:
        endpoint: an entered `Endpoint`.
        model: the model's name there.
        encoder: of the model's own tokenizer.
    """

    def __init__(self, endpoint: Endpoint, model: str, encoder: TextEncoder) -> None:
        self.endpoint, self.model, self.encoder = endpoint, model, encoder
        self.dialect = Dialect()
        self.ends_with_newline = newline_test(encoder.tokenizer)

    # -- requests -----------------------------------------------------------------------------

    def payload(
        self,
        prompt: Sequence[int],
        limit: int,
        ends: Collection[int],
        *,
        bias: Mapping[int, int] | None = None,
        sampling: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """A request for at most ``limit`` tokens, stopping at one of ``ends``.

        Args:
            bias: added to the logits of these tokens.
            sampling: temperature (0, which is greedy, if absent), top_p, top_k, min_p.

        Raises:
            Refused: if the server cannot honour the sampling.
        """
        how = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, **(sampling or {})}
        payload: dict[str, Any] = {
            "model": self.model,
            "prompt": list(prompt) if self.dialect.token_prompts else self._text(prompt),
            "max_tokens": limit,
            "temperature": how["temperature"],
            "top_p": how["top_p"],
            "stream": True,
        }
        if how["temperature"]:
            payload["seed"] = seed
        if bias:
            payload["logit_bias"] = {str(token): value for token, value in sorted(bias.items())}
        if not self.dialect.token_replies:
            payload["stop"] = sorted(self._texts(ends))
        if self.dialect.extensions:
            # Servers take what is not said from the model's generation_config.json: Qwen2.5's
            # holds a repetition penalty of 1.05.
            payload |= {
                "stop_token_ids": sorted(ends),
                "return_token_ids": True,
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
                "repetition_penalty": 1.0,
                "top_k": int(how["top_k"]) or -1,
                "min_p": how["min_p"],
            }
        elif how["top_k"] or how["min_p"]:
            raise Refused("this server knows neither top_k nor min_p; remove them")
        return payload

    def check(self, prompt: Sequence[int]) -> None:
        """Raises `Refused` if the server would read ``prompt``'s data as control tokens."""
        if self.dialect.token_prompts:
            return
        control = set(self.encoder.added.values())
        read = self.encoder.scaffold_ids(decode(self.encoder.tokenizer, prompt))
        if [t for t in read if t in control] != [t for t in prompt if t in control]:
            raise Refused(
                "the question spells a control token, and this server takes prompts as text only; "
                "use a server that takes token ids (vLLM, SGLang)"
            )

    def _text(self, prompt: Sequence[int]) -> str:
        # The server's tokenizer puts its own begin-of-text token before what it encodes.
        own = list(self.encoder.tokenizer("")["input_ids"])
        if own and list(prompt[: len(own)]) == own:
            prompt = prompt[len(own) :]
        return decode(self.encoder.tokenizer, prompt)

    def _texts(self, ends: Collection[int]) -> dict[str, int]:
        return {decode(self.encoder.tokenizer, [end]): end for end in sorted(ends)}

    # -- replies ------------------------------------------------------------------------------

    async def reply(
        self, payload: Mapping[str, Any], ends: Collection[int]
    ) -> AsyncGenerator[int, None]:
        """Token ids of one reply as they come; one of ``ends`` comes last if the model ended.

        Raises:
            Refused, Unavailable: see there; the tokens before stand.
        """
        text = _TextReply(self.encoder, self._texts(ends))
        reason: str | None = None
        matched: Any = None
        try:
            async with aclosing(self.endpoint.stream(payload)) as events:
                async for event in events:
                    choice: dict[str, Any] = next(iter(event.get("choices") or ()), {})
                    reason = choice.get("finish_reason") or reason
                    matched = choice.get("stop_reason") or choice.get("matched_stop") or matched
                    if self.dialect.token_replies:
                        ids = list(choice.get("token_ids") or ())
                        # An end-of-sequence token of the server's own that is no end of ours.
                        if reason == "stop" and not set(ids) & set(ends):
                            while ids and ids[-1] in self.encoder.added.values():
                                ids.pop()
                    else:
                        ids = text.feed(choice.get("text") or "")
                    for token in ids:
                        yield token
        except Unavailable:
            if reason is None:
                for token in text.rest():
                    yield token
                raise
        for token in text.rest(whole=reason == "stop"):
            yield token
        if reason == "stop":
            yield matched if matched in ends else min(ends)
        elif reason is None or reason in ("abort", "error"):
            raise Unavailable("the reply ended before it was finished")
        elif reason != "length":
            raise Refused(f"the server stopped because of {reason!r}")

    # -- finding out --------------------------------------------------------------------------

    async def learn(self, prompt: Sequence[int], ends: Collection[int]) -> None:
        """Finds out the server's dialect with requests for a token or two after ``prompt``.

        Raises:
            ServerError: if the server cannot be reached or used; says what would help.
        """
        refusals = []
        for tokens, extensions in ((True, True), (True, False), (False, True), (False, False)):
            self.dialect = Dialect(tokens, extensions)
            try:
                events = await self._ask(self.payload(prompt, 1, ends))
            except Refused as refusal:
                refusals.append(f"{refusal}")
                if refusal.status in (400, 422):  # a parameter that it does not know
                    continue
                break
            choices = [choice for event in events for choice in event.get("choices") or ()]
            replies = any(choice.get("token_ids") for choice in choices)
            self.dialect = replace(self.dialect, token_replies=replies)
            if not replies:
                say(
                    "the server returns text, not token ids: what it returns is encoded again, and "
                    "its tokens are counted so (vLLM and newer SGLang return ids)"
                )
                await self._check_ends(prompt, ends)
            return
        raise ServerError(f"{self.endpoint.url} does not complete prompts: {refusals[0]}")

    async def _check_ends(self, prompt: Sequence[int], ends: Collection[int]) -> None:
        """Makes the server draw each end token, and looks whether that can be seen."""
        for name, end in self._texts(ends).items():
            try:
                events = await self._ask(self.payload(prompt, 2, ends, bias={end: 100}))
            except Refused:
                say("the server takes no logit_bias: Waits will fail, and ends may go unseen")
                return
            choices = [choice for event in events for choice in event.get("choices") or ()]
            text = "".join(choice.get("text") or "" for choice in choices)
            stopped = any(choice.get("finish_reason") == "stop" for choice in choices)
            if not stopped and not text.strip():
                raise ServerError(
                    f"{self.endpoint.url} drops {name!r} from its text and does not stop there, so "
                    "the end of thinking cannot be seen; let it show special tokens (llama.cpp: "
                    "--special), or serve the model with vLLM or SGLang"
                )

    async def _ask(self, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All events of a short reply, with retries."""
        failures = 0
        while True:
            try:
                async with aclosing(self.endpoint.stream(payload)) as events:
                    return [event async for event in events]
            except Unavailable as failure:
                failures += 1
                await self.endpoint.pause(failure, failures)


class _TextReply:
    """Encodes the text of a reply as it comes, and finds the end tokens in it."""

    def __init__(self, encoder: TextEncoder, ends: Mapping[str, int]) -> None:
        self.encoder, self.ends, self.pending = encoder, ends, ""

    def feed(self, text: str) -> list[int]:
        """Ids of what is certain now: whole lines, and all up to an end token."""
        self.pending += text
        found = [(at, end) for end in self.ends if (at := self.pending.find(end)) >= 0]
        if found:
            at, end = min(found)
            return [*self._take(at), self.ends[end]]
        return self._take(max((m.end() for m in _SAFE_CUT.finditer(self.pending)), default=0))

    def rest(self, whole: bool = False) -> list[int]:
        """Ids of what is left; a character that was cut in two is left out."""
        if not whole:
            self.pending = self.pending.rstrip(_BROKEN)
        return self._take(len(self.pending))

    def _take(self, length: int) -> list[int]:
        taken, self.pending = self.pending[:length], self.pending[length:]
        return self.encoder.scaffold_ids(taken)
