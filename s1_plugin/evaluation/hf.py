"""The driver for lm-eval's ``--model hf``.

Requests that differ in their budget alone share one thinking trajectory: it is generated once
under the largest budget, and only the answers are generated apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm import tqdm

from s1_plugin.encoding import TextEncoder, decode
from s1_plugin.evaluation.hook import Request
from s1_plugin.forcing.budget import Plan, plan
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking, replay
from s1_plugin.forcing.transformers import (
    ForcedDecoding,
    generate_arguments,
    newline_test,
    responses,
    stream_of,
)
from s1_plugin.formats import TraceFormat, get_format

#: Where `--batch_size auto` starts; it is halved as long as memory runs out.
_AUTO_BATCH = 64


@dataclass
class _Job:
    """One sequence to generate. ``begun`` is set where the thinking is there already."""

    request: Request
    prompt: list[int]
    plan: Plan
    begun: tuple[Thinking, list[int]] | None = None
    state: Thinking | None = None
    response: Response | None = None


def run(lm: Any, requests: Sequence[Request]) -> list[Response]:
    """Responses to ``requests`` in order; batched by length, with a progress bar."""
    encoder = TextEncoder(lm.tokenizer)
    ends_with_newline = newline_test(lm.tokenizer)
    wanted = [_job(request, encoder, lm) for request in requests]

    families: dict[tuple, list[_Job]] = defaultdict(list)
    for job in wanted:
        families[_family(job)].append(job)
    longest = [_longest(family) for family in families.values()]
    with tqdm(
        total=len(wanted),
        desc="budget forcing",
        unit="response",
        disable=bool(getattr(lm, "rank", 0)),
    ) as bar:
        _run_all(lm, encoder, ends_with_newline, longest, bar)
        rest: dict[tuple, list[_Job]] = defaultdict(list)
        for job, family in zip(longest, families.values(), strict=True):
            assert job.state is not None
            for member in family:
                if member.plan == job.plan:
                    member.response = job.response
                    continue
                member.begun = replay(member.plan, ends_with_newline, job.state.draws)
                # Budgets that end in the same text have the same answer.
                same = (_family(member), tuple(member.begun[1]), member.plan.max_new_tokens)
                rest[same].append(member)
            bar.update(sum(m.response is not None for m in family) - 1)
        _run_all(lm, encoder, ends_with_newline, [jobs[0] for jobs in rest.values()], bar)
        for first, *others in rest.values():
            for job in others:
                assert first.response is not None
                job.response = _retold(job, first.response, encoder)
                bar.update()
    return [job.response for job in wanted if job.response is not None]


def _retold(job: _Job, response: Response, encoder: TextEncoder) -> Response:
    """``response``'s tokens as the response to a budget that reached the same text otherwise
    (a newline drawn under one cap is forced under a smaller one)."""
    assert job.begun is not None
    return Response.from_tokens(
        response.token_ids,
        job.begun[0],
        decode=lambda ids: decode(encoder.tokenizer, ids),
        think_start=get_format(job.request.format).think_start,
        finished=response.finished,
    )


def _job(request: Request, encoder: TextEncoder, lm: Any) -> _Job:
    fmt = _format(request.format, encoder, lm)
    prompt = encoder.encode(encoder.rendered_pieces(request.context, request.question, fmt))
    return _Job(
        request,
        prompt + encoder.scaffold_ids(fmt.think_start),
        plan(
            request.budget,
            encoder,
            fmt,
            prompt_length=len(prompt),
            max_new_tokens=request.max_gen_toks,
            context=int(lm.max_length),
        ),
    )


def _family(job: _Job) -> tuple:
    """What requests must have in common to share a trajectory: all but cap and Waits."""
    r = job.request
    return (
        tuple(job.prompt),
        r.sampling,
        r.seed,
        r.format,
        r.sample,
        job.plan.wait_ids,
        job.plan.min_thinking,
        job.plan.max_new_tokens,
    )


def _longest(family: Sequence[_Job]) -> _Job:
    """The budget of which all others in the family are prefixes."""
    top = max(family, key=lambda job: (job.plan.cap, job.plan.waits))
    largest = replace(top.plan, waits=max(job.plan.waits for job in family))
    return _Job(top.request, top.prompt, largest)


def _run_all(
    lm: Any,
    encoder: TextEncoder,
    ends_with_newline: Callable[[int], bool],
    jobs: Iterable[_Job],
    bar: tqdm,
) -> None:
    """Generates what ``jobs`` lack, filling in their responses."""
    groups: dict[tuple, list[_Job]] = defaultdict(list)
    for job in jobs:
        groups[(job.request.sampling, job.request.seed, job.request.format)].append(job)
    for (sampling, seed, format_name), members in groups.items():
        # Long budgets first, like beside like: a batch waits for its slowest member.
        members.sort(key=lambda j: (-j.plan.cap, -j.plan.waits, -len(_input(j))))
        size, start = _batch_size(lm), 0
        while start < len(members):
            batch = members[start : start + size]
            begun = [job.begun for job in batch if job.begun is not None]
            forcing = ForcedDecoding(
                [job.plan for job in batch],
                [stream_of(job.prompt, str(job.request.sample)) for job in batch],
                ends_with_newline=ends_with_newline,
                vocabulary=len(lm.tokenizer),
                seed=seed,
                begun=begun or None,
            )
            try:
                _generate(lm, forcing, [_input(job) for job in batch], dict(sampling))
            except torch.OutOfMemoryError:
                if size == 1 or not _is_auto(lm):
                    raise
                size //= 2
                torch.cuda.empty_cache()
                tqdm.write(f"[s1-plugin] out of memory: batch size {size}")
                continue
            done = responses(forcing, encoder, get_format(format_name).think_start)
            for job, row, response in zip(batch, forcing.rows, done, strict=True):
                job.state, job.response = row.state, response
            bar.update(len(batch))
            start += len(batch)


def _input(job: _Job) -> list[int]:
    return job.prompt + (job.begun[1] if job.begun else [])


@torch.inference_mode()
def _generate(
    lm: Any, forcing: ForcedDecoding, inputs: list[list[int]], sampling: dict[str, Any]
) -> None:
    arguments = generate_arguments(forcing)
    width = max(map(len, inputs))
    pad = arguments["pad_token_id"]
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in inputs], device=lm.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in inputs], device=lm.device)
    # The model's generation_config.json may hold sampling defaults (Qwen2.5 ships a
    # repetition penalty of 1.05): what the command says is what is done.
    neutral: dict[str, Any] = {"repetition_penalty": 1.0}
    if sampling["do_sample"]:
        neutral |= {"top_p": 1.0, "top_k": 0, "temperature": 1.0}
    else:
        neutral |= {"top_p": None, "top_k": None, "temperature": None}
    lm.model.generate(
        input_ids=ids, attention_mask=mask, use_cache=True, **{**neutral, **sampling}, **arguments
    )


def _format(name: str, encoder: TextEncoder, lm: Any) -> TraceFormat:
    fmt = get_format(name)
    missing = encoder.missing_tokens(fmt)
    if missing:
        raise ValueError(
            f"the tokenizer of {getattr(lm, 'pretrained', 'the model')} has no single token for "
            f"{', '.join(missing)}, which the format {name!r} needs; set format= in --gen_kwargs"
        )
    return fmt


def _is_auto(lm: Any) -> bool:
    return str(getattr(lm, "batch_size_per_gpu", "")).startswith("auto")


def _batch_size(lm: Any) -> int:
    return _AUTO_BATCH if _is_auto(lm) else int(lm.batch_size)
