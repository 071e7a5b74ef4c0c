"""Budget forcing over any OpenAI-compatible ``/v1/completions`` server, in rounds of requests.

For servers that offer no hook into their decoding. A round asks for as many thinking tokens as
the cap leaves; where the model ends early, the Wait is appended and the next round asked for.
Every round's prompt extends the one before, so a server with prefix caching prefills nothing
twice. Replies are streamed: a connection that breaks loses nothing that has come, and the next
request goes on from there.

What a plain server allows, and what is made of it:

- Prompts are token ids, and ids are asked for in reply. Then nothing is re-tokenised, and greedy
  results are token for token those of one pass. With a server that knows text only, its text is
  encoded with the model's tokenizer, and counted so.
- The first token after a Wait must not end the thinking: it is asked for alone, with a
  ``logit_bias`` of -100 on the end tokens (the most that the protocol allows). A server that
  draws an end token all the same fails the request.
- A natural end is an end token among the ids, its text, or ``finish_reason`` "stop".
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from s1_plugin.encoding import decode
from s1_plugin.forcing.budget import Plan
from s1_plugin.forcing.dialect import Server
from s1_plugin.forcing.http import Refused, Unavailable
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking
from s1_plugin.formats import TraceFormat

#: Bias that bans a token.
_BAN = -100
#: Tokens that are asked for beyond the limit where a server returns no whole character.
_MOST_SLACK = 64


@dataclass(frozen=True)
class Job:
    """One generation.

    Attributes:
        prompt: token ids, the thinking prefix included.
        sampling: temperature (greedy if absent), top_p, top_k, min_p.
        stream: names the random stream: equal jobs with equal streams draw equally.
        begun: the state and tokens of thinking that is there already, as `replay` returns them.
    """

    prompt: Sequence[int]
    plan: Plan
    format: TraceFormat
    sampling: Mapping[str, float] = field(default_factory=dict)
    stream: str = ""
    begun: tuple[Thinking, list[int]] | None = None


async def complete(
    server: Server,
    job: Job,
    on_token: Callable[[int, bool], None] | None = None,
) -> tuple[Response, Thinking]:
    """The response to ``job``, and the state that watched it.

    A request that fails for good has a response too, with `Response.error`.

    Args:
        server: one that has learned its dialect.
        on_token: called with each token as it comes, and whether it was forced.
    """
    state, begun = job.begun or (Thinking(job.plan, server.ends_with_newline), [])
    tokens = list(begun)
    finished, error = "length", ""

    def keep(token: int | None) -> None:
        if token is not None:
            tokens.append(token)
            if on_token:
                on_token(token, state.forced[-1:] == [len(tokens) - 1])

    try:
        server.check(job.prompt)
        while finished == "length" and len(tokens) < job.plan.max_new_tokens:
            if (due := state.due()) is not None:
                keep(state.push(due))
                continue
            answering = state.answering
            draws = _draw(
                server,
                job,
                tuple(tokens),  # as it stands now: it grows while these are drawn
                limit=(
                    job.plan.max_new_tokens - len(tokens)
                    if answering
                    else job.plan.cap - state.thinking_tokens
                ),
                ends=job.plan.stop_ids if answering else job.plan.end_ids,
                banned=job.plan.end_ids if state.must_not_end() else (),
            )
            async with aclosing(draws):
                async for token in draws:
                    if answering and token in job.plan.stop_ids:
                        finished = "stop"
                        break
                    keep(state.push(token))
                    if not answering and (not state.watching or state.must_not_end()):
                        break
    except Refused as refusal:
        error = str(refusal)
    response = Response.from_tokens(
        tokens,
        state,
        decode=lambda ids: decode(server.encoder.tokenizer, ids),
        think_start=job.format.think_start,
        finished=finished,
    )
    return (response.failed(error) if error else response), state


async def _draw(
    server: Server,
    job: Job,
    tokens: Sequence[int],
    *,
    limit: int,
    ends: Collection[int],
    banned: Collection[int],
) -> AsyncGenerator[int, None]:
    """The next tokens, at most ``limit`` and none after one of ``ends``; the first is not in
    ``banned``. As many requests as it takes: connections break, and servers have limits.

    Raises:
        Refused: if the server will not, or has failed too often.
    """
    drawn: list[int] = []
    once, failures, slack = set(banned), 0, 0
    while len(drawn) < limit:
        before = len(drawn)
        payload = server.payload(
            [*job.prompt, *tokens, *drawn],
            (1 if once else limit - before) + slack,
            ends,
            bias=dict.fromkeys(once, _BAN),
            sampling=job.sampling,
            seed=_seed(job.stream, len(tokens) + before),
        )
        try:
            async with aclosing(server.reply(payload, ends)) as reply:
                async for token in reply:
                    if token in once:
                        if token not in banned:
                            raise Refused(
                                f"the server ignores logit_bias: it drew id {token} again, which "
                                "was banned, as the tokenizer has no text for it; use a server "
                                "that honours logit_bias (vLLM, SGLang), or name the model's own "
                                "tokenizer"
                            )
                        raise Refused(
                            "the server ignores logit_bias: it drew a token that was banned right "
                            "after a Wait; ask for no Waits, or use vLLM or SGLang"
                        )
                    if token >= len(server.encoder.tokenizer):
                        # The embedding is larger than the vocabulary: draw again, without it.
                        once.add(token)
                        break
                    once.clear()
                    drawn.append(token)
                    yield token
                    if token in ends or len(drawn) == limit:
                        return
                else:
                    # Not one whole character came: with more room it can be finished.
                    slack = 0 if len(drawn) > before else 2 * slack + 4
                    if slack > _MOST_SLACK:
                        raise Refused("the server returns no text and no reason to stop")
        except Unavailable as failure:
            failures = 1 if len(drawn) > before else failures + 1
            await server.endpoint.pause(failure, failures)


def _seed(stream: str, position: int) -> int:
    """A seed below 2**31 for the request at ``position``; a fresh one for every round."""
    digest = hashlib.blake2b(f"{position}/{stream}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
