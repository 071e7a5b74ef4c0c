"""The trained nano model in an engine, against the multi-round procedure, token for token."""

import itertools
import os

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

import torch

from s1_plugin.encoding import TextEncoder
from tests.forcing.test_openai import against_oracle
from tests.vllm.engine import start
from tests.vllm.server import serve
from tests.vllm.test_parity import compare
from tests.vllm.test_rounds import grid, rounds


@pytest.fixture(scope="module")
def folder():
    """The model that `make demo` leaves; it is trained by axolotl, which cannot be had here."""
    folder = os.environ.get("S1_NANO_MODEL")
    if not folder:
        pytest.skip("run `make demo` first, or set S1_NANO_MODEL to the folder of its model")
    return folder


def test_greedy_equals_the_multi_round_procedure(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from s1_plugin.nano.task import problems

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    questions = [problem.question for problem in problems(40, 0, "test")]
    llm = start(folder, max_model_len=model.config.max_position_embeddings)
    cells = list(itertools.product((5, 60), range(3)))
    seen = compare(llm, model, tokenizer, questions, cells, 90)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen
    assert seen["ties"] <= seen["compared"] // 100, seen


def test_so_do_rounds_of_completion_requests(folder, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from s1_plugin.nano.task import problems

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = TextEncoder(tokenizer)
    questions = [problem.question for problem in problems(40, 0, "test")]
    jobs = grid(encoder, questions, (5, 60), range(3), 90)
    with serve(folder, tmp_path / "server.log") as url:
        got, _ = rounds(url, encoder, jobs)
    seen = against_oracle(model, tokenizer, jobs, got)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen
