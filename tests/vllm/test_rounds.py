"""Rounds of completion requests to a real `vllm serve` that knows nothing of us."""

import asyncio
import itertools

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

import torch

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.dialect import Dialect, Server, ServerError
from s1_plugin.forcing.http import Endpoint
from s1_plugin.forcing.openai import complete
from tests.forcing.test_openai import against_oracle, ids_of, job, sums
from tests.vllm.models import random_model
from tests.vllm.server import MODEL, serve


@pytest.fixture(scope="module")
def encoder(nano_tokenizer):
    return TextEncoder(nano_tokenizer)


def rounds(url, encoder, jobs, dialect=None):
    """Responses and states, at most 32 requests at a time; and the dialect that was found."""

    async def all_jobs():
        limit = asyncio.Semaphore(32)
        async with Endpoint(url, timeout=120) as endpoint:
            server = Server(endpoint, MODEL, encoder)
            if dialect is None:
                await server.learn(jobs[0].prompt, jobs[0].plan.end_ids)
            else:
                server.dialect = dialect
                await server._check_ends(jobs[0].prompt, jobs[0].plan.end_ids)

            async def one(wanted):
                async with limit:
                    return await complete(server, wanted)

            return await asyncio.gather(*map(one, jobs)), server.dialect

    return asyncio.run(all_jobs())


def grid(encoder, questions, caps, waits, max_new_tokens):
    cells = itertools.product(questions, caps, waits)
    return [job(encoder, q, cap, n, max_new_tokens) for q, cap, n in cells]


def test_greedy_equals_the_multi_round_procedure(plain_server, small, encoder):
    jobs = grid(encoder, sums(14), (1, 5, 13, 40, 90, 160, 220), range(4), 260)
    got, dialect = rounds(plain_server, encoder, jobs)
    assert dialect == Dialect(token_prompts=True, extensions=True, token_replies=True)
    seen = against_oracle(small[1], encoder.tokenizer, jobs, got)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen


def test_so_it_is_with_the_real_tokenizer(tmp_path, qwen, data_dir):
    model = random_model(
        tmp_path, data_dir / "qwen2.5-tokenizer", 152064, [151645, 151644, 151643], "Qwen2"
    )
    encoder = TextEncoder(qwen)
    jobs = grid(encoder, sums(36), (10, 32, 55), range(3), 68)
    with serve(tmp_path, tmp_path / "server.log") as url:
        got, _ = rounds(url, encoder, jobs)
    seen = against_oracle(model, qwen, jobs, got)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen


def test_and_where_the_server_returns_text_only(tmp_path, nano_base, encoder):
    """Text can be encoded again without loss only where the model writes what no merge touches:
    all other rows of the output layer are set to zero, and are never the best."""
    ends = ids_of(encoder, "<|im_end|>", "<|im_start|>")
    model = random_model(tmp_path, nano_base, len(encoder.tokenizer), ends)
    keep = {*ends, *(i for c in ".,;:!?*\n" for i in encoder.text_ids(c))}
    with torch.inference_mode():
        for token in set(range(len(encoder.tokenizer))) - keep:
            model.lm_head.weight[token] = 0
    model.save_pretrained(tmp_path)
    jobs = grid(encoder, sums(14), (1, 5, 13, 40, 90, 160, 220), range(4), 260)
    with serve(tmp_path, tmp_path / "server.log") as url:
        # As an older vLLM, which cannot return token ids.
        got, _ = rounds(url, encoder, jobs, Dialect())
        seen = against_oracle(model, encoder.tokenizer, jobs, got)
        assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen
        # As a server that knows OpenAI's protocol alone: it hides the end of thinking.
        with pytest.raises(ServerError, match=r"drops '<\|\w+\|>'"):
            rounds(url, encoder, jobs[:1], Dialect(extensions=False))
