"""The driver for lm-eval's ``--model vllm`` (lm-eval 0.4.13 and later).

    lm_eval run --model vllm --model_args '{"pretrained": "MODEL", "logits_processors":
        ["s1_plugin.forcing.vllm:BudgetForcingProcessor"]}' --tasks s1_aime --apply_chat_template

An engine with our processor forces in one pass. Any other engine gets rounds of requests: think up
to an end token, put in what is due, go on. With prefix caching these repeat little. Whatever is
finished is followed up at once (an answer that forks off it, the next round), while its prefix is
still in the engine's cache.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from s1_plugin.console import say
from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.evaluation.journal import Journal, stamp
from s1_plugin.evaluation.progress import Progress
from s1_plugin.evaluation.request import Request
from s1_plugin.evaluation.sharing import Job, Work, job_of, response_of
from s1_plugin.forcing import vllm_request
from s1_plugin.forcing.draw import stream_of
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking
from s1_plugin.formats import get_format

#: Engine arguments that say where and in how much memory it computes, not what.
_WHERE = (
    "gpu_memory_utilization",
    "device",
    "distributed_executor_backend",
    "tensor_parallel_size",
    "seed",
    "max_num_seqs",
)


def identity(lm: Any) -> dict[str, Any]:
    """What the model's responses depend on, but for the requests. Where the engine runs and how
    much memory it has may change; the numbers it computes with may not."""
    from vllm import __version__ as vllm_version

    names = [lm.model_args["model"], lm.tokenizer.name_or_path]
    names.append(getattr(lm.lora_request, "lora_path", ""))
    return {
        "name": str(lm.model_args["model"]),
        "engine": ["vllm", vllm_version],
        "files": [(str(name), stamp(name)) for name in names if name],
        "arguments": {k: v for k, v in lm.model_args.items() if k not in _WHERE},
        "commit": getattr(lm._config, "_commit_hash", None),
        "max_length": int(lm.max_length),
    }


@dataclass
class _Asked:
    """A request that is in the engine for ``job``.

    Attributes:
        begun: state and tokens so far, of a job in rounds or of an answer; None in one pass.
        trace: where the processor says what it did, in one pass.
    """

    job: Job
    ids: list[int]
    params: Any
    begun: tuple[Thinking, list[int]] | None = None
    trace: str = ""


class Engine:
    """lm-eval's vLLM model, with the two ways to make a thinking in it."""

    def __init__(self, lm: Any) -> None:
        self.lm = lm
        self.encoder = TextEncoder(lm.tokenizer)
        self.ends_with_newline = newline_test(lm.tokenizer)
        named = lm.model_args.get("logits_processors") or []
        self.forces = any(
            p == vllm_request.PROCESSOR or getattr(p, "__name__", "") == "BudgetForcingProcessor"
            for p in named
        )
        size = lm._config.get_text_config().vocab_size
        #: Ids of the embedding that the tokenizer does not know; never to be drawn.
        self.spare = range(len(lm.tokenizer), size)
        self._traces: set[str] = set()

    def make(self, jobs: Sequence[Job], work: Work, progress: Progress) -> None:
        """Generates what ``jobs`` lack, and what follows from that."""

        def arrived(asked: _Asked, output: Any) -> list[_Asked]:
            progress.tokens(len(output.token_ids))
            if not self._take(asked, output):
                return [self._ask(asked.job, asked.begun)]
            return [self._ask(job) for job in work.finished(asked.job)]

        try:
            self._stream([self._ask(job) for job in jobs], arrived)
        finally:
            vllm_request.forget(self._traces)

    def _stream(self, first: list[_Asked], arrived: Callable[..., list[_Asked]]) -> None:
        """Everything in the engine at once; what follows from an output is added as it comes."""
        llm, open_ = self.lm.model, dict[str, _Asked]()

        def add(more: list[_Asked]) -> None:
            from vllm import TokensPrompt

            if more:
                names = llm.enqueue(
                    [TokensPrompt(prompt_token_ids=asked.ids) for asked in more],
                    [asked.params for asked in more],
                    lora_request=self.lm.lora_request,
                    use_tqdm=False,
                )
                # vLLM numbers requests; names inside the engine have something random behind that.
                open_.update(zip((name.split("-")[0] for name in names), more, strict=True))

        try:
            add(first)
            while open_:
                for output in llm.llm_engine.step():
                    if output.finished:
                        add(arrived(open_.pop(output.request_id), output.outputs[0]))
        finally:
            if open_:  # something failed, or somebody interrupted
                llm.llm_engine.abort_request(list(open_))

    def _ask(self, job: Job, begun: tuple[Thinking, list[int]] | None = None) -> _Asked:
        """The next request for ``job``; ``begun`` is what the rounds before have made."""
        if self.forces and job.begun is None:
            trace = vllm_request.new_trace()
            self._traces.add(trace)
            params = vllm_request.sampling_params(
                job.request.budget,
                job.plan,
                format=job.request.format,
                trace=trace,
                **self._sampling(job),
            )
            return _Asked(job, job.prompt, params, trace=trace)
        begun = begun or job.begun or (Thinking(job.plan, self.ends_with_newline), [])
        # Every request of a job has a random stream of its own, by the tokens before it; one pass,
        # which has none before it, has number 0. Equal streams would repeat the same noise.
        state, tokens = begun
        while (due := state.due()) is not None:
            tokens.append(due)
            state.push(due)
        if state.answering:
            left = job.plan.max_new_tokens - len(tokens)
            params = self._plain(job, left, job.plan.stop_ids, len(tokens) + 1)
        else:
            left = job.plan.cap - state.thinking_tokens
            # `min_tokens` keeps the stop tokens from being drawn: right after a Wait, once.
            least = int(state.must_not_end())
            params = self._plain(job, left, job.plan.end_ids, len(tokens) + 1, min_tokens=least)
        return _Asked(job, job.prompt + tokens, params, begun)

    def _take(self, asked: _Asked, output: Any) -> bool:
        """Puts what came into the job; whether it is finished."""
        job = asked.job
        if asked.begun is None:
            try:
                events = vllm_request.read_trace(asked.trace)
            except RuntimeError as refusal:
                job.state = Thinking(job.plan, self.ends_with_newline)
                job.response = response_of(job, [], job.state, "length", self.encoder)
                job.response = job.response.failed(str(refusal))
                return True
            job.response, lane = vllm_request.response(
                output.token_ids,
                output.finish_reason,
                job.plan,
                events,
                self.encoder,
                self.ends_with_newline,
                get_format(job.request.format).think_start,
            )
            job.state = lane.state
            self._traces.discard(asked.trace)
            return True
        state, tokens = asked.begun
        went_wrong = output.finish_reason not in ("stop", "length")
        if not state.answering and not went_wrong:
            for token in output.token_ids:
                stands = state.push(token)
                if stands is not None:
                    tokens.append(stands)
            return False
        stopped = output.finish_reason == "stop"
        made = [*tokens, *output.token_ids]
        job.state = state
        kept, finished = (made[:-1], "stop") if stopped else (made, "length")
        job.response = response_of(job, kept, state, finished, self.encoder)
        if went_wrong:
            why = f"vLLM ended the request: {output.finish_reason}"
            job.response = job.response.failed(why)
        return True

    def _plain(
        self, job: Job, limit: int, stops: frozenset[int], number: int, min_tokens: int = 0
    ) -> Any:
        """A request without forcing that stops at ``stops`` only."""
        from vllm import SamplingParams

        rest: dict[str, Any] = {"extra_args": {vllm_request.ANSWERING: 1}}
        if not self.forces:
            rest = {"logit_bias": dict.fromkeys(self.spare, -100.0)} if self.spare else {}
        return SamplingParams(
            max_tokens=limit,
            min_tokens=min_tokens,
            stop_token_ids=sorted(stops),
            ignore_eos=True,
            detokenize=False,
            **rest,
            **self._sampling(job, number),
        )

    def _sampling(self, job: Job, number: int = 0) -> dict[str, Any]:
        sampling = dict(job.request.sampling)
        if not sampling.pop("do_sample"):
            return {"temperature": 0.0}
        text = f"{job.request.seed}/{number}/{stream_of(job.prompt, str(job.request.sample))}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return {**sampling, "seed": int.from_bytes(digest, "big") >> 1}


def run(
    lm: Any, requests: Sequence[Request], journal: Journal | None = None, shown: bool = True
) -> list[Response]:
    """Responses to ``requests`` in order; with a progress bar if it is to be ``shown``."""
    if lm.data_parallel_size > 1:
        return _replicas(lm, requests, journal)
    engine = Engine(lm)
    if not engine.forces and shown:
        say(
            "this vLLM engine was started without budget forcing: rounds of requests, which is "
            "slower. For one pass give --model_args as JSON with "
            f'"logits_processors": ["{vllm_request.PROCESSOR}"]'
        )
    wanted = [job_of(request, engine.encoder, int(lm.max_length)) for request in requests]
    work = Work(wanted, engine.encoder, engine.ends_with_newline, journal)
    todo = work.begin()
    with Progress(work, shown) as progress:
        engine.make(todo, work, progress)
    return work.responses()


def _replicas(lm: Any, requests: Sequence[Request], journal: Journal | None) -> list[Response]:
    """``data_parallel_size`` engines, each in a Ray worker with GPUs of its own, as lm-eval starts
    them. Each gets all budgets of its questions, and writes a journal file of its own."""
    import ray

    questions: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        questions[request.context, request.sample].append(i)
    count = lm.data_parallel_size
    shares = [
        [i for members in list(questions.values())[rank::count] for i in members]
        for rank in range(count)
    ]
    names = ("model_args", "tokenizer", "_config", "lora_request", "max_length")
    settings = {name: getattr(lm, name) for name in names}
    folder = journal.folder if journal else None
    replica = ray.remote(num_gpus=lm.tensor_parallel_size)(_replica)
    found: dict[int, Response] = {}
    try:
        waiting = [
            replica.remote(settings, [requests[i] for i in share], folder, rank == 0)
            for rank, share in enumerate(shares)
            if share
        ]
        for share, responses in zip(filter(None, shares), ray.get(waiting), strict=True):
            found.update(zip(share, responses, strict=True))
    finally:
        ray.shutdown()
    return [found[i] for i in range(len(requests))]


def _replica(
    settings: dict[str, Any], requests: list[Request], folder: Path | None, first: bool
) -> list[Response]:
    """One of several engines, in its own process."""
    from vllm import LLM

    # What vLLM leaves in the environment about its own kind of data parallelism.
    for name in [name for name in os.environ if name.startswith("VLLM_DP_")]:
        del os.environ[name]
    # An engine inside a Ray worker must not start Ray workers.
    arguments = {**settings["model_args"]}
    arguments.pop("distributed_executor_backend", None)
    lm = SimpleNamespace(**settings, model=LLM(**arguments), data_parallel_size=1)
    return run(lm, requests, Journal(folder) if folder else None, first)
