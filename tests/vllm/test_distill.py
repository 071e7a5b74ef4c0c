"""`s1 distill` with vLLM and the trained nano model: in its own process, and through `vllm serve`;
the same traces."""

import json
import os

import pytest

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: make test-vllm")

from s1_plugin.nano.task import problems
from tests.e2e.commands import run
from tests.vllm.server import MODEL, serve

pytestmark = pytest.mark.e2e


def test_engine_and_server_write_the_same_traces(tmp_path):
    folder = os.environ.get("S1_NANO_MODEL")
    if not folder:
        pytest.skip("run `make demo` first, or set S1_NANO_MODEL to the folder of its model")
    asked = [json.dumps({"question": problem.question}) for problem in problems(64, 0, "test")]
    (tmp_path / "q.jsonl").write_text("\n".join(asked))
    command = ("s1", "distill", "q.jsonl", "--format", "s1", "--temperature", "0")
    # 14 tokens hold a short trace and its answer, and cut a long one.
    limit = ("--max-tokens", "14")
    engine = {"dtype": "float32", "max_model_len": 256}
    local = ("--out", "engine", "--teacher", f"vllm:{folder}", "--engine-args", json.dumps(engine))
    run(*command, *limit, *local, cwd=tmp_path)
    with serve(folder, tmp_path / "serve.log", "--max-model-len", "256") as url:
        run(
            *command, *limit, "--out", "server", "--teacher", MODEL, "--tokenizer", folder,
            "--base-url", url.removesuffix("/completions"), cwd=tmp_path,
        )  # fmt: skip
    found = [traces(tmp_path / out / "traces.jsonl") for out in ("engine", "server")]
    assert found[0] == found[1] and len(found[0]) == len(set(asked))
    statuses = [status for status, *_ in found[0].values()]
    print({status: statuses.count(status) for status in set(statuses)})
    assert {"ok", "truncated"} <= set(statuses)  # or equal traces would mean little
    again = run(*command, *limit, *local, cwd=tmp_path)
    assert "nothing to ask" in again.stderr


def traces(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    names = ("status", "thinking_trajectories", "attempt", "partial_thinking", "partial_attempt")
    tokens = ("prompt_tokens", "completion_tokens")
    return {row["question"]: tuple(str(row[name]) for name in (*names, *tokens)) for row in rows}
