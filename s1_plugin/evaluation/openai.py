"""The driver for lm-eval's ``--model local-completions``: rounds of requests to a server.

Requests that differ in their budget alone share one thinking trajectory: it is asked for once,
under the largest budget, and only the answers are asked for apart.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from s1_plugin.encoding import TextEncoder
from s1_plugin.evaluation.request import Request
from s1_plugin.evaluation.sharing import family as family_of
from s1_plugin.evaluation.sharing import job_of, largest, retold
from s1_plugin.forcing.dialect import Server
from s1_plugin.forcing.http import Endpoint, Refused, Unavailable
from s1_plugin.forcing.openai import Job, complete
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking, replay
from s1_plugin.formats import get_format

#: lm-eval's default ``max_length``, which says nothing about the model.
_UNSET_LENGTH = 2048

_Complete = Callable[[Job], Coroutine[Any, Any, tuple[Response, Thinking]]]


def run(lm: Any, requests: Sequence[Request]) -> list[Response]:
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
    return asyncio.run(_run(lm, list(requests)))


async def _run(lm: Any, requests: list[Request]) -> list[Response]:
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
        jobs = [_job(request, encoder, context) for request in requests]
        ends = frozenset().union(*(job.plan.end_ids | job.plan.stop_ids for job in jobs))
        await server.learn(jobs[0].prompt, ends)

        async def one(job: Job) -> tuple[Response, Thinking]:
            async with limit:
                return await complete(server, job)

        families: dict[tuple, list[int]] = defaultdict(list)
        for i, (request, job) in enumerate(zip(requests, jobs, strict=True)):
            families[family_of(request, job.prompt, job.plan)].append(i)
        found: dict[int, Response] = {}
        with tqdm(total=len(jobs), desc="budget forcing", unit="response") as bar:

            async def family(members: list[int]) -> None:
                shared = await _share(server, [jobs[i] for i in members], one)
                found.update(zip(members, shared, strict=True))
                bar.update(len(members))

            await asyncio.gather(*map(family, families.values()))
    return [found[i] for i in range(len(jobs))]


async def _share(server: Server, jobs: Sequence[Job], one: _Complete) -> list[Response]:
    """Responses to jobs that differ in cap and Waits alone: one thinking, several answers."""
    top = replace(jobs[0], plan=largest([job.plan for job in jobs]))
    longest, trajectory = await one(top)
    answers: dict[tuple[int, ...], asyncio.Task] = {}

    async def member(job: Job) -> Response:
        if job.plan == top.plan:
            return longest
        try:
            state, tokens = replay(job.plan, server.ends_with_newline, trajectory.draws)
        except ValueError:  # the shared thinking failed before this budget was used up
            return longest.failed(longest.error)
        # Budgets that end in the same text have the same answer.
        key = tuple(tokens)
        if key not in answers:
            answers[key] = asyncio.create_task(one(replace(job, begun=(state, tokens))))
        response, _ = await answers[key]
        told = retold(response, state, server.encoder, job.format.think_start)
        return told.failed(response.error) if response.error else told

    return list(await asyncio.gather(*map(member, jobs)))


def _job(request: Request, encoder: TextEncoder, context: int | None) -> Job:
    asked = job_of(request, encoder, context)
    names = ("temperature", "top_p", "top_k", "min_p")
    prompt = asked.prompt
    return Job(
        prompt=prompt,
        plan=asked.plan,
        format=get_format(request.format),
        sampling={name: value for name, value in request.sampling if name in names},
        stream=f"{request.seed}/{request.sample}/{prompt}",
    )


async def _context(server: Server, lm: Any) -> int | None:
    """The longest sequence: what the server says (vLLM, SGLang), else a ``max_length`` of the
    user's, else unknown."""
    try:
        models = await server.endpoint.models()
    except (Refused, Unavailable):  # not every server lists its models
        models = []
    named = [m for m in models if m.get("id") == lm.model] or models[:1]
    length = named[0].get("max_model_len") if named else None
    if isinstance(length, int):
        return length
    given = int(lm.max_length) + 1  # lm-eval keeps one less
    return None if given == _UNSET_LENGTH else given


def _ssl(lm: Any) -> Any:
    if not getattr(lm, "verify_certificate", True):
        return False
    path = getattr(lm, "ca_cert_path", None)
    return ssl.create_default_context(cafile=path) if path else True
