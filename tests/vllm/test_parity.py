"""Greedy responses of the engine against the multi-round procedure, token for token."""

import itertools
import random

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from s1_plugin.encoding import TextEncoder
from s1_plugin.forcing.budget import Budget
from tests.conftest import FULL
from tests.forcing.oracle import multi_round
from tests.forcing.test_transformers import two_best_are_tied
from tests.vllm import kernel
from tests.vllm.engine import forced, prompts_of, start
from tests.vllm.models import random_model


def compare(llm, model, tokenizer, questions, cells, max_new_tokens):
    """Counts how thinking ended; all cells and questions go through the engine together."""
    prompts = prompts_of(TextEncoder(tokenizer), questions)
    work = [(p, cap, waits) for cap, waits in cells for p in prompts]
    got = forced(
        llm,
        tokenizer,
        [p for p, _, _ in work],
        [Budget(cap, waits) for _, cap, waits in work],
        max_new_tokens,
    )
    seen = {"natural": 0, "cap": 0, "waits": 0, "ties": 0, "compared": len(work)}
    ends = {tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>")}
    for (prompt, cap, waits), response in zip(work, got, strict=True):
        want = multi_round(
            model,
            tokenizer,
            prompt,
            cap=cap,
            waits=waits,
            wait_text="Wait",
            max_new_tokens=max_new_tokens,
            vocabulary=len(tokenizer),
        )
        if response.token_ids != want.tokens:
            pairs = itertools.zip_longest(response.token_ids, want.tokens)
            at = next(i for i, (a, b) in enumerate(pairs) if a != b)
            prefix = prompt + want.tokens[:at]
            assert two_best_are_tied(model, prefix, len(tokenizer)) or two_best_are_tied(
                model, prefix, len(tokenizer), ends
            ), (cap, waits, at)
            seen["ties"] += 1
            continue
        assert response.thinking_tokens == want.thinking_tokens <= cap
        assert (response.waits, response.ended) == (want.waits, want.ended)
        assert response.finished == want.finished
        seen[want.ended] += 1
        seen["waits"] += want.waits
    print(seen)
    return seen


def test_greedy_equals_the_multi_round_procedure(engine, processor, small, nano_tokenizer):
    chance = random.Random(0)
    questions = ["+".join(str(chance.randint(0, 9)) for _ in range(n)) for n in range(2, 12)]
    caps = range(1, 201) if FULL else [1, 2, 5, 13, 34, 70, 110, 200]
    least = 100
    if processor == kernel.PROCESSOR and not FULL:  # interpreted, it takes its time
        questions, caps, least = questions[::3], [1, 34, 110], 8
    cells = list(itertools.product(caps, range(5)))
    seen = compare(engine, small[1], nano_tokenizer, questions, cells, 260)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= least, seen
    assert seen["ties"] <= seen["compared"] // 100, seen


def test_greedy_equals_the_multi_round_procedure_with_the_real_tokenizer(tmp_path, qwen, data_dir):
    model = random_model(
        tmp_path,
        data_dir / "qwen2.5-tokenizer",
        152064,
        [151645, 151644, 151643],
        "Qwen2",
        share=0.3,  # short thinking is enough then: each token costs 152,064 logits
    )
    questions = [f"{n} + {n * n % 7}?" for n in range(58)] + ["How many r in raspberry? " * 4, "Hi"]
    cells = list(itertools.product([4, 12], range(3)))
    seen = compare(start(tmp_path), model, qwen, questions, cells, 22)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen
    assert seen["ties"] <= seen["compared"] // 100, seen
