"""The trained nano model on a local server: the rounds driver, and the real `lm_eval` command."""

import json

import pytest
import torch

from s1_plugin.encoding import TextEncoder
from tests.e2e.commands import responses, run
from tests.forcing import completion_server
from tests.forcing.completion_server import TorchModel, some_faults
from tests.forcing.test_openai import against_oracle, ids_of, job
from tests.forcing.test_openai import run as rounds

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def nano(demo):
    """The demo's model, and a server of it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = demo / "outputs" / "nano" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    eos = ids_of(TextEncoder(tokenizer), "<|im_end|>", "<|endoftext|>")
    served = TorchModel(model, len(tokenizer))
    with completion_server.Server(served, tokenizer, eos=eos) as server:
        yield model, tokenizer, server


def test_rounds_equal_the_multi_round_procedure(nano):
    from s1_plugin.nano.task import problems

    model, tokenizer, server = nano
    encoder = TextEncoder(tokenizer)
    questions = [problem.question for problem in problems(40, 0, "test")]
    jobs = [job(encoder, q, cap, n, 90) for q in questions for cap in (5, 60) for n in (0, 1, 2)]
    seen = against_oracle(model, tokenizer, jobs, rounds(server, encoder, jobs))
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 100, seen


def test_lm_eval_gives_the_results_of_transformers_whatever_the_network_does(demo, nano):
    server = nano[2]
    kwargs = json.dumps({"max_tokens_thinking": [2, 8, "auto"], "thinking_n_ignore": [2]})
    common = [
        "--tasks",
        "s1_nano",
        "--apply_chat_template",
        "--gen_kwargs",
        kwargs,
        "--log_samples",
    ]
    server.faults.extend(some_faults(20))
    got = {}
    for name, model, how in (
        ("hf", "hf", ["pretrained=outputs/nano/model,dtype=float32", "--batch_size", "50"]),
        (
            "server",
            "local-completions",
            [
                f"base_url={server.url},model=tiny,tokenizer=outputs/nano/model,"
                "num_concurrent=8,max_retries=5"
            ],
        ),
    ):
        out = demo / f"servers-{name}"
        run(
            "lm_eval", "run", "--model", model, *common, "--limit", "60", "--output_path", str(out),
            "--model_args", *how, cwd=demo,
        )  # fmt: skip
        got[name] = responses(out)
    assert len(got["hf"]) == 60 * 4 and not server.faults
    assert got["server"] == got["hf"]


@pytest.mark.parametrize(
    ("kwargs", "labels"),
    [
        ({"control": "token", "control_limit": [16, 64]}, ["token16+auto", "token64+auto"]),
        (
            {"control": "rejection", "control_limit": [8, 16]},
            ["rejection8+auto", "rejection16+auto"],
        ),
    ],
)
def test_the_other_control_methods(demo, kwargs, labels):
    out = demo / kwargs["control"]
    run(
        "lm_eval", "run", "--model", "hf", "--model_args", "pretrained=outputs/nano/model",
        "--tasks", "s1_nano", "--apply_chat_template", "--gen_kwargs", json.dumps(kwargs),
        "--batch_size", "50", "--limit", "50", "--output_path", str(out), "--log_samples", cwd=demo,
    )  # fmt: skip
    (path,) = out.rglob("results_*.json")
    row = json.loads(path.read_text())["results"]["s1_nano"]
    assert {f"exact_match@{label},none" for label in labels} <= set(row)
    for i, response in enumerate(responses(out)):
        if kwargs["control"] == "rejection":
            limit = kwargs["control_limit"][i % 2]
            fits = response["ended"] == "natural" and response["thinking_tokens"] <= limit
            assert fits or (response["tries"] == 64 and response["answer"] is None)
    if kwargs["control"] == "rejection":
        assert max(r["tries"] for r in responses(out)) > 1
    else:
        (samples,) = out.rglob("samples_*.jsonl")
        first = json.loads(samples.read_text().splitlines()[0])
        assert first["arguments"]["gen_args_1"]["arg_1"]["control_limit"] == 64
