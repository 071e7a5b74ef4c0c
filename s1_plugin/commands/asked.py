"""The models that `s1 ask` asks: in this process by transformers or vLLM, or on a server."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s1_plugin.console import printable, say
from s1_plugin.encoding import TextEncoder, newline_test
from s1_plugin.forcing.dialect import Server
from s1_plugin.forcing.http import Endpoint, Refused, Unavailable
from s1_plugin.forcing.openai import Job, complete
from s1_plugin.forcing.response import Response

if TYPE_CHECKING:
    from s1_plugin.forcing.budget import Budget, Plan
    from s1_plugin.formats import TraceFormat

#: Told of each token, and whether it was forced.
OnToken = Callable[[int, bool], None]

#: Where vLLM forces on the device, it is told so many steps later which ends were drawn
#: (`board._LAG` and the step itself); until then a forced Wait looks like one of the model's own.
_BEHIND = 3


@dataclass(frozen=True)
class Choice:
    """What is asked, and how it draws: greedy at temperature 0."""

    model: str
    tokenizer: str | None = None
    name: str | None = None
    temperature: float = 0.0
    seed: int = 0


@contextmanager
def _loading(choice: Choice, engine: str) -> Iterator[None]:
    """Says what is loaded; keeps to itself what libraries say meanwhile, but for errors."""
    if choice.name:
        raise ValueError("--model-name names a server's model; MODEL is no address")
    say(f"loading {choice.model} ({engine})")
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise ValueError(
            f"cannot load {choice.model!r}, which must be a folder, a hub id or the http address "
            f"of a server: {error}"
        ) from None
    finally:
        logging.disable(logging.NOTSET)


def _encoder(name: str) -> TextEncoder:
    from transformers import AutoTokenizer

    return TextEncoder(AutoTokenizer.from_pretrained(name))


class Transformers:
    """A model in this process, by transformers."""

    def __init__(self, choice: Choice) -> None:
        with _loading(choice, "transformers"):
            import torch
            from transformers import AutoModelForCausalLM
            from transformers.utils import logging as progress

            progress.disable_progress_bar()
            self.encoder = _encoder(choice.tokenizer or choice.model)
            self.model = AutoModelForCausalLM.from_pretrained(
                choice.model,
                dtype="auto",
                # Over all GPUs, if one is too small.
                device_map="auto" if torch.cuda.is_available() else None,
            ).eval()
        self.context = getattr(self.model.config, "max_position_embeddings", None)
        self.temperature, self.seed = choice.temperature, choice.seed

    def generate(
        self, prompt: list[int], budget: Budget, plan: Plan, fmt: TraceFormat, on_token: OnToken
    ) -> Response:
        """The response to ``prompt``, which ends with the thinking prefix."""
        import torch

        from s1_plugin.forcing import transformers as driver
        from s1_plugin.forcing.draw import stream_of

        def told(row: int, token: int) -> None:
            done = run.rows[row]
            on_token(token, done.state.forced[-1:] == [len(done.tokens) - 1])

        run = driver.ForcedDecoding(
            [plan],
            [stream_of(prompt)],
            ends_with_newline=newline_test(self.encoder.tokenizer),
            vocabulary=len(self.encoder.tokenizer),
            seed=self.seed,
            on_token=told,
        )
        ids = torch.tensor([prompt], device=self.model.device)
        # The model's generation_config.json may hold sampling defaults; what is said here counts.
        how = {
            **driver.NEUTRAL,
            "do_sample": self.temperature > 0,
            "temperature": self.temperature or None,
        }
        self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            use_cache=True,  # a model that was just trained may have it switched off
            **how,
            **driver.generate_arguments(run),
        )
        return driver.responses(run, self.encoder, fmt.think_start)[0]


class Vllm:
    """A model in this process, by vLLM with our processor: one pass, as on a server of it."""

    def __init__(self, choice: Choice) -> None:
        # In this process: a question needs no second one, and ctrl-C reaches it.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from s1_plugin.forcing.vllm_request import PROCESSOR

        with _loading(choice, "vLLM"):
            try:
                from vllm import LLM
            except ImportError as error:
                raise ImportError(
                    f"--engine vllm needs vLLM ({error}): in a checkout of s1-plugin, pip install "
                    "'.[vllm]' into an environment of its own; or use --engine transformers"
                ) from None
            from transformers import AutoConfig

            self.encoder = _encoder(choice.tokenizer or choice.model)
            dtype = getattr(AutoConfig.from_pretrained(choice.model), "dtype", None)
            llm = LLM(
                choice.model,
                # The model's own: vLLM's "auto" would halve the precision of float32.
                dtype=str(dtype).removeprefix("torch.") if dtype else "auto",
                tokenizer=choice.tokenizer or choice.model,
                logits_processors=[PROCESSOR],
                max_num_seqs=1,
                max_model_len=-1,  # as much as fits into memory
                enforce_eager=True,  # compiling takes longer than one answer
                use_tqdm_on_load=False,
            )
        self.engine, self.context = llm.llm_engine, llm.model_config.max_model_len
        self.temperature, self.seed = choice.temperature, choice.seed

    def generate(
        self, prompt: list[int], budget: Budget, plan: Plan, fmt: TraceFormat, on_token: OnToken
    ) -> Response:
        """The response to ``prompt``, which ends with the thinking prefix."""
        from vllm import TokensPrompt

        from s1_plugin.forcing import vllm_request
        from s1_plugin.forcing.lane import Lane

        trace = vllm_request.new_trace()
        params = vllm_request.sampling_params(
            budget,
            plan,
            format=fmt.name,
            trace=trace,
            temperature=self.temperature,
            seed=self.seed,
        )
        ends_with_newline = newline_test(self.encoder.tokenizer)
        lane = Lane(plan, ends_with_newline)
        shown = 0
        self.engine.add_request("ask", TokensPrompt(prompt_token_ids=prompt), params)
        try:
            while self.engine.has_unfinished_requests():
                for output in self.engine.step():
                    reply = output.outputs[0]
                    tokens = list(reply.token_ids)
                    if reply.finish_reason == "stop" and tokens[-1] in plan.stop_ids:
                        tokens.pop()
                    events = vllm_request.read_trace(trace, keep=True)
                    if events != lane.events:  # of tokens that it has followed, perhaps
                        lane = Lane(plan, ends_with_newline, events=events)
                    certain = len(tokens) if output.finished else len(tokens) - _BEHIND
                    lane.follow(tokens[: max(certain, 0)])
                    for i in range(shown, certain):
                        on_token(tokens[i], i in lane.state.forced)
                    shown = max(shown, certain)
        finally:
            self.engine.abort_request(["ask"])
            vllm_request.forget([trace])
        return vllm_request.response(
            reply.token_ids,
            reply.finish_reason,
            plan,
            lane.events,
            self.encoder,
            ends_with_newline,
            fmt.think_start,
        )[0]


class Remote:
    """A model on a server, by rounds of requests: they show exactly what was forced, which the
    reply of a server that forces by itself does not."""

    def __init__(self, choice: Choice) -> None:
        base = choice.model.rstrip("/").removesuffix("/completions").removesuffix("/chat")
        self.url = f"{base}/completions"
        models = asyncio.run(self._models(needed=choice.name is None))
        self.name = choice.name or next((str(m["id"]) for m in models if "id" in m), "")
        if not self.name:
            raise ValueError(f"{self.url} names no models; set --model-name")
        named: dict[str, Any] = next((m for m in models if m.get("id") == self.name), {})
        self.context = named.get("max_model_len")
        # A server must not choose which files are read here.
        tokenizer = choice.tokenizer or choice.name
        if not tokenizer:
            raise ValueError(
                f"the server calls its model {self.name!r}; budgets are counted with the model's "
                "tokenizer: set --tokenizer to its folder or hub id"
            )
        say(f"asking {printable(self.name)}, tokenizer {printable(tokenizer)}")
        try:
            self.encoder = _encoder(tokenizer)
        except OSError:
            raise ValueError(
                f"no tokenizer found for {tokenizer!r}; set --tokenizer to the model's folder or "
                "hub id, since budgets are counted with it"
            ) from None
        self.sampling = {"temperature": choice.temperature}
        self.seed = choice.seed

    async def _models(self, needed: bool) -> list[dict[str, Any]]:
        async with Endpoint(self.url, timeout=30) as endpoint:
            try:
                return await endpoint.models()
            except Unavailable as error:
                raise ValueError(f"cannot reach {self.url}: {error}") from None
            except Refused as error:  # not every server lists its models
                if needed:
                    raise ValueError(
                        f"{self.url} does not say which models it serves: {error}; if the address "
                        "is right, set --model-name"
                    ) from None
                return []

    def generate(
        self, prompt: list[int], budget: Budget, plan: Plan, fmt: TraceFormat, on_token: OnToken
    ) -> Response:
        """The response to ``prompt``, which ends with the thinking prefix."""

        async def one() -> Response:
            async with Endpoint(self.url) as endpoint:
                server = Server(endpoint, self.name, self.encoder)
                await server.learn(prompt, plan.end_ids | plan.stop_ids)
                job = Job(prompt, plan, fmt, self.sampling, stream=f"{self.seed}/0/{prompt}")
                response, _ = await complete(server, job, on_token)
                return response

        return asyncio.run(one())
