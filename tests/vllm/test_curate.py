"""`s1 curate` on Ray, which is installed where vLLM is: the same rows as on one process."""

import json

import pytest

pytest.importorskip("vllm", reason="needs Ray, which comes with vLLM: make test-vllm")

from s1_plugin.data.engine import Job, Ray
from s1_plugin.data.rows import GROUP, load
from tests.data import traced
from tests.data.test_engine import die
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


def test_the_distributed_engine_gives_the_same_rows(data_dir, tmp_path):
    traced.write(tmp_path / "in.jsonl", data_dir, times=3)

    def curate(out, *options, lengths="tokens", **more):
        return run(
            *("s1", "curate", "in.jsonl", "-o", out, "--rows", "1000", *traced.WITHOUT),
            *("--length-column", lengths, *options),
            cwd=tmp_path,
            S1_EVAL_DATA=str(data_dir),
            S1_CACHE=str(tmp_path / f"cache-{out}"),
            RAY_USAGE_STATS_ENABLED="0",
            **more,
        )

    curate("one")
    curate("ray", "--engine", "ray")
    one, ray = ((tmp_path / out / "train.jsonl").read_bytes() for out in ("one", "ray"))
    assert one == ray and one.count(b"\n") == 1000
    steps = json.loads((tmp_path / "ray" / "curate.json").read_text())["steps"]
    assert all(step["rows_in"] > 3 * GROUP for step in steps)  # four jobs or more, each
    failed = curate("ray", "--engine", "ray", lengths="host", check=False)
    assert "Error: in.jsonl, line 1, field `host`: is 'api.deepseek.com'" in failed.stderr


def test_a_killed_worker_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "q"}) + "\n")
    rows = load([str(tmp_path / "a.jsonl")], tmp_path)
    engine = Ray()
    try:
        with pytest.raises(RuntimeError, match=r"^Ray: WorkerCrashedError: .*RAY_ADDRESS.*$"):
            list(engine.run(die, rows, ("question",), [Job(0, [0], {})]))
    finally:
        engine.close()


def test_nobody_at_the_address_is_one_line_at_once(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(RuntimeError, match=r"^Ray: ConnectionRefusedError: .*RAY_ADDRESS.*$"):
        Ray()
