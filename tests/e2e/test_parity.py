"""The trained nano model in transformers, against the multi-round procedure, token for token."""

import itertools

import pytest
import torch

from tests.forcing.test_transformers import parity

pytestmark = pytest.mark.e2e


def test_greedy_equals_the_multi_round_procedure(demo):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from s1_plugin.nano.task import problems

    folder = demo / "outputs" / "nano" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    questions = [problem.question for problem in problems(40, 0, "test")]
    cells = list(itertools.product((5, 60), range(3), (8,)))
    seen = parity(model, tokenizer, questions, cells, 90)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen
    assert seen["ties"] <= seen["compared"] // 100, seen
