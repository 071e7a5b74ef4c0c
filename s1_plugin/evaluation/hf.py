"""The driver for lm-eval's ``--model hf``."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from tqdm import tqdm

from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.evaluation.journal import Journal, stamp
from s1_plugin.evaluation.kvcache import Forks
from s1_plugin.evaluation.progress import Progress
from s1_plugin.evaluation.request import Request
from s1_plugin.evaluation.sharing import Job, Work, job_of
from s1_plugin.forcing.draw import stream_of
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.transformers import (
    NEUTRAL,
    ForcedDecoding,
    Row,
    generate_arguments,
    left_padded,
    response,
)
from s1_plugin.formats import get_format

#: Where `--batch_size auto` starts; it is halved as long as memory runs out.
_AUTO_BATCH = 64


def identity(lm: Any) -> dict[str, Any]:
    """What the model's responses depend on, but for the requests."""
    config, tokenizer = lm.model.config, lm.tokenizer.name_or_path
    given = isinstance(lm.pretrained, str)  # else it is a model that somebody made
    return {
        "name": lm.pretrained if given else type(lm.model).__name__,
        "engine": ["transformers", version("transformers"), version("torch")],
        "model": [(n, stamp(n)) for n in (lm.pretrained, lm.peft, lm.delta) if isinstance(n, str)],
        "revision": [lm.revision, getattr(config, "_commit_hash", None)],
        "class": [type(lm.model).__name__, getattr(config, "_attn_implementation", None)],
        "config": config.to_dict(),  # quantisation is in it
        "dtype": str(lm.model.dtype),
        # Of one name there may be several models: subfolders, checkpoints, quantisations.
        "weights": [_sample(weights) for weights in lm.model.parameters()],
        "tokenizer": [tokenizer, stamp(tokenizer)],
        "max_length": int(lm.max_length),
    }


def _sample(weights: torch.Tensor, count: int = 4) -> list[float]:
    """A few of ``weights``, spread over them; none of those that are not here (offloaded)."""
    if weights.is_meta or not weights.numel():
        return []
    flat = weights.detach().flatten()
    return flat[:: max(1, flat.numel() // count)][:count].float().tolist()


def run(lm: Any, requests: Sequence[Request], journal: Journal | None = None) -> list[Response]:
    """Responses to ``requests`` in order; batched by length, with a progress bar."""
    if getattr(lm, "mixed_precision_dtype", None) is not None:
        raise ValueError(
            "mixed_precision_dtype is lm-eval's own way to generate, which budget forcing does not "
            "take; set dtype in --model_args instead"
        )
    encoder = TextEncoder(lm.tokenizer)
    wanted = [job_of(request, encoder, int(lm.max_length)) for request in requests]
    work = Work(wanted, encoder, newline_test(lm.tokenizer), journal)
    todo = work.begin()
    with Progress(work, shown=not getattr(lm, "rank", 0)) as progress:
        _Batches(lm, work, progress).make(todo)
    return work.responses()


class _Batches:
    """Makes jobs in batches, and after each batch the answers that fork off it."""

    def __init__(self, lm: Any, work: Work, progress: Progress) -> None:
        self.lm, self.work, self.progress = lm, work, progress
        self.auto = str(getattr(lm, "batch_size_per_gpu", "")).startswith("auto")
        self.size = _AUTO_BATCH if self.auto else int(lm.batch_size)

    def make(self, jobs: Sequence[Job]) -> None:
        """Generates what ``jobs`` lack, and the answers that come of it."""
        groups: dict[tuple, list[Job]] = defaultdict(list)
        for job in jobs:
            asked = job.request
            groups[asked.sampling, asked.seed, asked.format, job.begun is None].append(job)
        for members in groups.values():
            # Long budgets first, like beside like: a batch waits for its slowest member.
            members.sort(key=lambda j: (-j.plan.cap, -j.plan.waits, -len(j.input_ids)))
            while members:
                batch, members = members[: self.size], members[self.size :]
                forks: list[tuple[int, Job]] = []
                try:
                    self._generate(batch, forks)
                except torch.OutOfMemoryError:
                    if len(batch) == 1 or not self.auto:
                        raise
                    self.size = len(batch) // 2
                    torch.cuda.empty_cache()
                    tqdm.write(f"[s1-plugin] out of memory: batch size {self.size}")
                    members = [job for job in batch if job.response is None] + members
                self.make([job for _, job in forks if job.response is None])

    def _generate(self, batch: Sequence[Job], forks: list[tuple[int, Job]]) -> None:
        """Makes one batch, and what forks off it as far as its cache can be kept for that.

        Args:
            forks: gets the answers that fork off it, with the rows they come from.
        """
        prompts = [job.input_ids for job in batch]
        ids, mask = left_padded(prompts, self._pad(batch))
        run, cache = self._decode(batch, ids, mask, None, forks)
        rows = [[*job.prompt, *row.tokens] for job, row in zip(batch, run.rows, strict=True)]
        source = Forks(cache, ids.shape[1], rows, [len(prompt) for prompt in prompts])
        if not forks or not source.possible:
            return
        places = [(i, job.input_ids) for i, job in forks]
        try:
            for chunk in source.chunks(places):
                members = [forks[i][1] for i in chunk]
                inputs = source.take([places[i] for i in chunk], self._pad(members))
                self._decode(members, *inputs, forks=[])
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # the rest without the batch's own cache beside it, then

    def _pad(self, batch: Sequence[Job]) -> int:
        return min(min(job.plan.stop_ids) for job in batch)

    @torch.inference_mode()
    def _decode(
        self,
        batch: Sequence[Job],
        ids: torch.Tensor,
        mask: torch.Tensor,
        cache: Any,
        forks: list[tuple[int, Job]],
    ) -> tuple[ForcedDecoding, Any]:
        """Generates ``batch``; each job is finished as soon as its row is. Returns what decoded it,
        and the key-value cache."""
        request = batch[0].request
        # The state of an answer goes on counting: a batch that runs out of memory starts from a
        # fresh one again.
        begun = [(copy.copy(job.begun[0]), job.begun[1]) for job in batch if job.begun]

        def done(i: int) -> None:
            forks.extend((i, fork) for fork in self._done(batch[i], decoding.rows[i]))

        decoding = ForcedDecoding(
            [job.plan for job in batch],
            [stream_of(job.prompt, str(job.request.sample)) for job in batch],
            ends_with_newline=self.work.ends_with_newline,
            vocabulary=len(self.lm.tokenizer),
            seed=request.seed,
            begun=begun or None,
            on_token=lambda row, token: self.progress.tokens(),
            on_done=done,
        )
        arguments = generate_arguments(decoding)
        # The model's generation_config.json may hold sampling defaults (Qwen2.5 ships a
        # repetition penalty of 1.05): what the command says is what is done.
        out = self.lm.model.generate(
            input_ids=ids.to(self.lm.device),
            attention_mask=mask.to(self.lm.device),
            past_key_values=cache,
            use_cache=True,
            return_dict_in_generate=True,
            **{**NEUTRAL, **dict(request.sampling)},
            **arguments,
        )
        return decoding, getattr(out, "past_key_values", None)

    def _done(self, job: Job, row: Row) -> list[Job]:
        job.state = row.state
        start = get_format(job.request.format).think_start
        job.response = response(row, self.work.encoder, start)
        return self.work.finished(job)
