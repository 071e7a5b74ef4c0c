"""The driver for lm-eval's ``--model local-completions``: rounds of requests to a server.

Requests that differ in their budget alone share one thinking trajectory: it is asked for once,
under the largest budget, and only the answers are asked for apart.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from s1_plugin.console import say
from s1_plugin.encoding import TextEncoder
from s1_plugin.evaluation.journal import Journal, stamp
from s1_plugin.evaluation.progress import Progress
from s1_plugin.evaluation.request import Request
from s1_plugin.evaluation.sharing import Job, Work, job_of
from s1_plugin.forcing import openai as rounds
from s1_plugin.forcing.dialect import Server
from s1_plugin.forcing.http import Endpoint, Refused, Unavailable
from s1_plugin.forcing.response import Response
from s1_plugin.formats import get_format

#: lm-eval's default ``max_length``, which says nothing about the model.
_UNSET_LENGTH = 2048


def identity(lm: Any) -> dict[str, Any]:
    """What the responses depend on, but for the requests, as far as it can be known from here: a
    server may serve another model under the same name."""
    url = urlsplit(lm.base_url)
    name = getattr(lm.tokenizer, "name_or_path", "")
    return {
        "name": str(lm.model),
        "engine": ["completions", url.hostname, url.port, url.path],
        "tokenizer": [name, stamp(name)],
        "max_length": int(lm.max_length),
    }


def run(lm: Any, requests: Sequence[Request], journal: Journal | None = None) -> list[Response]:
    """Responses to ``requests`` in order, with a progress bar.

    A request that fails for good has a response that says so; the others are not held up.

    Args:
        lm: a ``LocalCompletionsAPI``: its base_url, model, tokenizer, num_concurrent,
            max_retries, timeout, header and certificate settings are used.

    Raises:
        ValueError: if the model's settings or a budget cannot be used.
        ServerError: if the server cannot be used at all; says what would help.
    """
    if not hasattr(lm.tokenizer, "backend_tokenizer"):
        raise ValueError(
            "budgets are counted with the model's own tokenizer: add "
            "tokenizer_backend=huggingface,tokenizer=NAME_OR_FOLDER to --model_args"
        )
    return asyncio.run(_run(lm, requests, journal))


async def _run(lm: Any, requests: Sequence[Request], journal: Journal | None) -> list[Response]:
    encoder = TextEncoder(lm.tokenizer)
    limit = asyncio.Semaphore(max(int(lm._concurrent), 1))
    endpoint = Endpoint(
        lm.base_url,
        headers=lm._header or None,
        timeout=float(lm.timeout),
        retries=int(lm.max_retries),
        ssl=_ssl(lm),
    )
    async with endpoint:
        server = Server(endpoint, lm.model, encoder)
        context = await _context(server, lm)
        wanted = [job_of(request, encoder, context) for request in requests]
        work = Work(wanted, encoder, server.ends_with_newline, journal)
        todo = work.begin()
        if not todo:
            return work.responses()
        ends = frozenset().union(*(job.plan.end_ids | job.plan.stop_ids for job in wanted))
        await server.learn(wanted[0].prompt, ends)
        with Progress(work) as progress:

            async def make(job: Job) -> None:
                async with limit:
                    job.response, job.state = await rounds.complete(
                        server, _round_job(job), lambda token, forced: progress.tokens()
                    )
                await asyncio.gather(*map(make, work.finished(job)))

            await asyncio.gather(*map(make, todo))
    return work.responses()


def _round_job(job: Job) -> rounds.Job:
    request = job.request
    names = ("temperature", "top_p", "top_k", "min_p")
    return rounds.Job(
        prompt=job.prompt,
        plan=job.plan,
        format=get_format(request.format),
        sampling={name: value for name, value in request.sampling if name in names},
        stream=f"{request.seed}/{request.sample}/{job.prompt}",
        begun=job.begun,
    )


async def _context(server: Server, lm: Any) -> int | None:
    """The longest sequence: what the server says (vLLM, SGLang), else a ``max_length`` of the
    user's, else unknown."""
    models, failures = [], 0
    while True:
        try:
            models = await server.endpoint.models()
        except Refused:  # not every server lists its models
            pass
        except Unavailable as failure:
            failures += 1
            try:
                await server.endpoint.pause(failure, failures)
                continue
            except Refused:  # for good
                pass
        break
    named = [m for m in models if m.get("id") == lm.model] or models[:1]
    length = named[0].get("max_model_len") if named else None
    if isinstance(length, int):
        return length
    given = int(lm.max_length) + 1  # lm-eval keeps one less
    if given != _UNSET_LENGTH:
        return given
    say(
        "the server does not say how long a sequence may be: `auto` leaves room by max_gen_toks "
        "alone; if that is too long, set max_length in --model_args"
    )
    return None


def _ssl(lm: Any) -> Any:
    if not getattr(lm, "verify_certificate", True):
        return False
    path = getattr(lm, "ca_cert_path", None)
    return ssl.create_default_context(cafile=path) if path else True
