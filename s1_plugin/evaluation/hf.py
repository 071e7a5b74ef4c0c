"""The driver for lm-eval's ``--model hf``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from tqdm import tqdm

from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.evaluation.request import Request
from s1_plugin.evaluation.sharing import Job, job_of, share
from s1_plugin.forcing.draw import stream_of
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.transformers import (
    NEUTRAL,
    ForcedDecoding,
    generate_arguments,
    responses,
)
from s1_plugin.formats import get_format

#: Where `--batch_size auto` starts; it is halved as long as memory runs out.
_AUTO_BATCH = 64


def run(lm: Any, requests: Sequence[Request]) -> list[Response]:
    """Responses to ``requests`` in order; batched by length, with a progress bar."""
    encoder = TextEncoder(lm.tokenizer)
    ends_with_newline = newline_test(lm.tokenizer)
    wanted = [job_of(request, encoder, int(lm.max_length)) for request in requests]
    with tqdm(
        total=len(wanted),
        desc="budget forcing",
        unit="response",
        disable=bool(getattr(lm, "rank", 0)),
    ) as bar:
        return share(
            wanted,
            lambda jobs: _make(lm, encoder, ends_with_newline, jobs),
            encoder,
            ends_with_newline,
            bar.update,
        )


def _make(
    lm: Any,
    encoder: TextEncoder,
    ends_with_newline: Callable[[int], bool],
    jobs: Iterable[Job],
) -> None:
    """Generates what ``jobs`` lack, filling in their responses."""
    groups: dict[tuple, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[(job.request.sampling, job.request.seed, job.request.format)].append(job)
    for (sampling, seed, format_name), members in groups.items():
        # Long budgets first, like beside like: a batch waits for its slowest member.
        members.sort(key=lambda j: (-j.plan.cap, -j.plan.waits, -len(j.input_ids)))
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
                _generate(lm, forcing, [job.input_ids for job in batch], dict(sampling))
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
            start += len(batch)


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
    lm.model.generate(
        input_ids=ids, attention_mask=mask, use_cache=True, **{**NEUTRAL, **sampling}, **arguments
    )


def _is_auto(lm: Any) -> bool:
    return str(getattr(lm, "batch_size_per_gpu", "")).startswith("auto")


def _batch_size(lm: Any) -> int:
    return _AUTO_BATCH if _is_auto(lm) else int(lm.batch_size)
