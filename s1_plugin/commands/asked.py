"""The models that `s1 ask` asks: one in this process, or one on a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.dialect import Server
from s1_plugin.forcing.http import Endpoint
from s1_plugin.forcing.openai import Job, complete
from s1_plugin.forcing.response import Response

if TYPE_CHECKING:
    from s1_plugin.forcing.budget import Plan
    from s1_plugin.formats import TraceFormat

#: Told of each token, and whether it was forced.
OnToken = Callable[[int, bool], None]


def _tokenizer(name: str) -> TextEncoder:
    from transformers import AutoTokenizer

    return TextEncoder(AutoTokenizer.from_pretrained(name))


class Local:
    """A model in this process, by transformers."""

    def __init__(
        self, model: str, name: str | None, tokenizer: str | None, temperature: float, seed: int
    ) -> None:
        if name:
            raise ValueError("--model-name names a server's model; MODEL is no address")
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            loaded = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
            self.encoder = _tokenizer(tokenizer or model)
        except OSError as error:
            raise ValueError(
                f"cannot load {model!r}, which must be a folder, a hub id or the http address of a "
                f"server: {error}"
            ) from None
        self.model = loaded.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.context = getattr(self.model.config, "max_position_embeddings", None)
        # The model's generation_config.json may hold sampling defaults; what is said here counts.
        self.how: dict[str, Any] = {
            "do_sample": temperature > 0,
            "temperature": temperature or None,
            "top_p": 1.0 if temperature else None,
            "top_k": 0 if temperature else None,
            "repetition_penalty": 1.0,
        }
        self.seed = seed

    def generate(
        self, prompt: list[int], plan: Plan, fmt: TraceFormat, on_token: OnToken
    ) -> Response:
        """The response to ``prompt``, which ends with the thinking prefix."""
        import torch

        from s1_plugin.forcing import transformers as driver

        def told(row: int, token: int) -> None:
            done = run.rows[row]
            on_token(token, done.state.forced[-1:] == [len(done.tokens) - 1])

        run = driver.ForcedDecoding(
            [plan],
            [driver.stream_of(prompt)],
            ends_with_newline=driver.newline_test(self.encoder.tokenizer),
            vocabulary=len(self.encoder.tokenizer),
            seed=self.seed,
            on_token=told,
        )
        ids = torch.tensor([prompt], device=self.model.device)
        self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **{**self.how, **driver.generate_arguments(run)},
        )
        return driver.responses(run, self.encoder, fmt.think_start)[0]


class Remote:
    """A model on a server, by rounds of requests."""

    def __init__(
        self, url: str, name: str | None, tokenizer: str | None, temperature: float, seed: int
    ) -> None:
        url = url.rstrip("/")
        self.url = url if url.endswith("/completions") else f"{url}/completions"
        models = asyncio.run(self._models())
        self.name = name or next((str(m["id"]) for m in models if "id" in m), "")
        if not self.name:
            raise ValueError(f"{self.url} names no models (is it there?); set --model-name")
        named: dict[str, Any] = next((m for m in models if m.get("id") == self.name), {})
        self.context = named.get("max_model_len")
        try:
            self.encoder = _tokenizer(tokenizer or self.name)
        except OSError:
            raise ValueError(
                f"no tokenizer found for {tokenizer or self.name!r}; set --tokenizer to the "
                "model's folder or hub id, since budgets are counted with it"
            ) from None
        self.sampling = {"temperature": temperature}
        self.seed = seed

    async def _models(self) -> list[dict[str, Any]]:
        async with Endpoint(self.url, timeout=30) as endpoint:
            return await endpoint.models()

    def generate(
        self, prompt: list[int], plan: Plan, fmt: TraceFormat, on_token: OnToken
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
