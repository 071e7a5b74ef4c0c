"""The driver for lm-eval's ``--model hf``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from s1_plugin.encoding import TextEncoder
from s1_plugin.evaluation.hook import Request
from s1_plugin.forcing.budget import Plan, plan
from s1_plugin.forcing.response import Response
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


def run(lm: Any, requests: Sequence[Request]) -> list[Response]:
    """Responses to ``requests`` in order; batched by length, with a progress bar."""
    encoder = TextEncoder(lm.tokenizer)
    context = int(lm.max_length)
    ends_with_newline = newline_test(lm.tokenizer)
    answers: list[Response | None] = [None] * len(requests)

    prompts: list[list[int]] = []
    plans: list[Plan] = []
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        fmt = _format(request.format, encoder, lm)
        prompt = encoder.encode(request.prompt)
        plans.append(
            plan(
                request.budget,
                encoder,
                fmt,
                prompt_length=len(prompt),
                max_new_tokens=request.max_gen_toks,
                context=context,
            )
        )
        prompts.append(prompt + encoder.scaffold_ids(fmt.think_start))
        groups[(request.sampling, request.seed, request.format)].append(i)

    with tqdm(total=len(requests), desc="budget forcing", unit="response") as bar:
        for (sampling, seed, format_name), members in groups.items():
            # Long budgets first, like beside like: a batch waits for its slowest member.
            members.sort(key=lambda i: (-plans[i].cap, -plans[i].waits, -len(prompts[i])))
            size = _batch_size(lm)
            start = 0
            while start < len(members):
                batch = members[start : start + size]
                forcing = ForcedDecoding(
                    [plans[i] for i in batch],
                    [stream_of(prompts[i], str(requests[i].sample)) for i in batch],
                    ends_with_newline=ends_with_newline,
                    vocabulary=len(lm.tokenizer),
                    seed=seed,
                )
                try:
                    _generate(lm, forcing, [prompts[i] for i in batch], dict(sampling))
                except torch.OutOfMemoryError:
                    if size == 1 or not _is_auto(lm):
                        raise
                    size //= 2
                    torch.cuda.empty_cache()
                    tqdm.write(f"[s1-plugin] out of memory: batch size {size}")
                    continue
                think_start = get_format(format_name).think_start
                done = responses(forcing, encoder, think_start)
                for i, response in zip(batch, done, strict=True):
                    answers[i] = response
                bar.update(len(batch))
                start += len(batch)
    return [answer for answer in answers if answer is not None]


@torch.inference_mode()
def _generate(
    lm: Any, forcing: ForcedDecoding, prompts: list[list[int]], sampling: dict[str, Any]
) -> None:
    arguments = generate_arguments(forcing)
    width = max(map(len, prompts))
    pad = arguments["pad_token_id"]
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=lm.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=lm.device)
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
