"""`lm_eval --model local-chat-completions` against a real server: chat endpoints force nothing."""

import json

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from tests.conftest import ROOT
from tests.e2e.commands import responses, run
from tests.vllm.server import MODEL

pytestmark = pytest.mark.e2e


def test_a_chat_endpoint_is_refused_or_its_results_say_that_nothing_was_forced(
    tmp_path, plain_server
):
    url = plain_server.replace("/completions", "/chat/completions")

    def lm_eval(*arguments, **how):
        return run(
            "lm_eval", "run", "--model", "local-chat-completions", "--model_args",
            f"base_url={url},model={MODEL},max_retries=1", "--tasks", "s1_nano", "--limit", "4",
            "--apply_chat_template", "--include_path", str(ROOT / "eval_tasks"),
            "--output_path", str(tmp_path / "out"), "--log_samples", *arguments,
            cwd=tmp_path, **how,
        )  # fmt: skip

    refused = lm_eval("--gen_kwargs", "max_gen_toks=50", check=False)
    assert refused.returncode and "allow_unforced=true" in refused.stderr
    lm_eval("--gen_kwargs", "max_gen_toks=50,allow_unforced=true")
    (path,) = (tmp_path / "out").rglob("results_*.json")
    row = json.loads(path.read_text())["results"]["s1_nano"]
    assert row["unforced,none"] == 1.0 and not any(name.startswith("thinking") for name in row)
    assert {r["ended"] for r in responses(tmp_path / "out")} == {"unforced"}
