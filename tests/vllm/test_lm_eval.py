"""The real command: `lm_eval --model vllm`, in one pass and in rounds, against `--model hf`."""

import json

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from s1_plugin.forcing import vllm_request
from tests.vllm.test_lm_eval_server import agreement, lm_eval

pytestmark = pytest.mark.e2e

RUNS = {
    "one pass": {"logits_processors": [vllm_request.PROCESSOR]},
    "rounds": {},
}


@pytest.fixture(scope="module")
def want(small, tmp_path_factory):
    folder, _ = small
    out = tmp_path_factory.mktemp("hf") / "results"
    return lm_eval(out, "hf", f"pretrained={folder},dtype=float32", "--batch_size", "60")[0]


@pytest.mark.parametrize("way", RUNS)
def test_results_are_those_of_transformers(way, tmp_path, small, want, nano_tokenizer):
    folder, model = small
    settings = {
        "pretrained": str(folder),
        "dtype": "float32",
        "max_model_len": 1024,
        "max_num_seqs": 64,
        "enable_prefix_caching": True,
        **RUNS[way],
    }
    got, row, done = lm_eval(
        tmp_path / "vllm", "vllm", json.dumps(settings), "--batch_size", "auto"
    )
    seen = agreement(got, want, model, nano_tokenizer)
    print(seen)
    assert min(seen["natural"], seen["cap"], seen["waits"]) >= 50 and seen["ties"] <= 3, seen
    assert row["thinking_tokens@cap40,none"] <= 40
    assert ("rounds of requests" in done.stderr) == (way == "rounds")
