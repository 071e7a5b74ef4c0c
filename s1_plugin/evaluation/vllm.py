"""The driver for lm-eval's ``--model vllm`` (lm-eval 0.4.13 and later).

    lm_eval run --model vllm --model_args '{"pretrained": "MODEL", "logits_processors":
        ["s1_plugin.forcing.vllm:BudgetForcingProcessor"]}' --tasks s1_aime --apply_chat_template

An engine with our processor forces in one pass. Any other engine gets rounds of requests: think up
to an end token, put in what is due, go on. With prefix caching these repeat little, but each round
waits for the slowest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from s1_plugin.console import say
from s1_plugin.encoding import TextEncoder, decode, newline_test
from s1_plugin.evaluation.request import Request
from s1_plugin.evaluation.sharing import Job, job_of, share
from s1_plugin.forcing import vllm_request
from s1_plugin.forcing.draw import stream_of
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking
from s1_plugin.formats import get_format


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

    def generate(self, inputs: list[list[int]], params: list[Any]) -> list[Any]:
        """vLLM's completions, in order; with its progress bar where there is one engine."""
        if self.lm.data_parallel_size > 1:
            outputs = self.lm._model_generate(inputs, generate=True, sampling_params=params)
        else:
            from vllm import TokensPrompt

            outputs = self.lm.model.generate(
                [TokensPrompt(prompt_token_ids=ids) for ids in inputs],
                sampling_params=params,
                lora_request=self.lm.lora_request,
            )
        return [output.outputs[0] for output in outputs]

    def make(self, jobs: Sequence[Job]) -> None:
        """Generates what ``jobs`` lack, filling in their responses."""
        if fresh := [job for job in jobs if job.begun is None]:
            (self.one_pass if self.forces else self.rounds)(fresh)
        if begun := [job for job in jobs if job.begun is not None and job.response is None]:
            self.answers(begun)

    def one_pass(self, jobs: Sequence[Job]) -> None:
        """Thinking and answer of every job, forced inside the engine."""
        traces = [vllm_request.new_trace() for _ in jobs]
        params = [
            vllm_request.sampling_params(
                job.request.budget,
                job.plan,
                format=job.request.format,
                trace=trace,
                **self._sampling(job),
            )
            for job, trace in zip(jobs, traces, strict=True)
        ]
        try:
            done = self.generate([job.prompt for job in jobs], params)
            for job, trace, output in zip(jobs, traces, done, strict=True):
                job.response, lane = vllm_request.response(
                    output.token_ids,
                    output.finish_reason,
                    job.plan,
                    vllm_request.read_trace(trace),
                    self.encoder,
                    self.ends_with_newline,
                    get_format(job.request.format).think_start,
                )
                job.state = lane.state
        finally:
            vllm_request.forget(traces)

    def rounds(self, jobs: Sequence[Job]) -> None:
        """Thinking of every job in rounds of requests, then the answers."""
        begun = [(Thinking(job.plan, self.ends_with_newline), list[int]()) for job in jobs]
        number = 0
        while True:
            number += 1
            for state, tokens in begun:
                while (due := state.due()) is not None:
                    tokens.append(due)
                    state.push(due)
            open_ = [i for i, (state, _) in enumerate(begun) if not state.answering]
            if not open_:
                break
            inputs, params = [], []
            for i in open_:
                state, tokens = begun[i]
                inputs.append(jobs[i].prompt + tokens)
                limit = jobs[i].plan.cap - state.thinking_tokens
                # `min_tokens` keeps the stop tokens from being drawn: right after a Wait, once.
                least = int(state.must_not_end())
                params.append(
                    self._plain(jobs[i], limit, jobs[i].plan.end_ids, number, min_tokens=least)
                )
            for i, output in zip(open_, self.generate(inputs, params), strict=True):
                state, tokens = begun[i]
                for token in output.token_ids:
                    stands = state.push(token)
                    if stands is not None:
                        tokens.append(stands)
        for job, start in zip(jobs, begun, strict=True):
            job.begun = start
        self.answers(jobs)

    def answers(self, jobs: Sequence[Job]) -> None:
        """The answers of jobs whose thinking is there."""
        inputs = [job.input_ids for job in jobs]
        params = []
        for job in jobs:
            assert job.begun is not None
            left = job.plan.max_new_tokens - len(job.begun[1])
            params.append(self._plain(job, left, job.plan.stop_ids, 0))
        for job, output in zip(jobs, self.generate(inputs, params), strict=True):
            assert job.begun is not None
            state, before = job.begun
            stopped = output.finish_reason == "stop"
            tokens = [*before, *output.token_ids]
            job.state = state
            job.response = Response.from_tokens(
                tokens[:-1] if stopped else tokens,
                state,
                decode=lambda ids: decode(self.encoder.tokenizer, ids),
                think_start=get_format(job.request.format).think_start,
                finished="stop" if stopped else "length",
            )
            if output.finish_reason not in ("stop", "length"):
                why = f"vLLM ended the request: {output.finish_reason}"
                job.response = job.response.failed(why)

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


def run(lm: Any, requests: Sequence[Request]) -> list[Response]:
    """Responses to ``requests`` in order."""
    engine = Engine(lm)
    if not engine.forces:
        if lm.data_parallel_size > 1:
            raise ValueError(
                "without budget forcing inside the engine, data_parallel_size > 1 would load the "
                "model anew for every round; give --model_args as JSON with "
                f'"logits_processors": ["{vllm_request.PROCESSOR}"]'
            )
        say(
            "this vLLM engine was started without budget forcing: rounds of requests, which is "
            "slower. For one pass give --model_args as JSON with "
            f'"logits_processors": ["{vllm_request.PROCESSOR}"]'
        )
    wanted = [job_of(request, engine.encoder, int(lm.max_length)) for request in requests]
    return share(wanted, engine.make, engine.encoder, engine.ends_with_newline)
