import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from s1_plugin.commands.distill import distill
from tests.data.fake_teacher import FakeTeacher


@pytest.fixture
def questions(tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    path = tmp_path / "q.jsonl"
    texts = [f"{n} apples cost {n} dollars" for n in range(100)]
    path.write_text("".join(json.dumps({"question": q}) + "\n" for q in [*texts, texts[0]]))
    return str(path)


def test_a_dry_run_prices_the_job_and_leaves_nothing(questions, tmp_path):
    out = tmp_path / "out"
    said = "--dry-run --samples 3 --price-in 0.5 --price-out 2 --tokens-per-minute 100000"
    done = CliRunner().invoke(distill, [questions, "--out", str(out), *said.split()])
    assert done.exit_code == 0 and not out.exists()
    said = done.output
    assert "R1 is MIT-licensed" in said
    assert "101 questions × 3 samples, 3 rows left out" in said and "300 to ask" in said
    # 300 x 4,700 tokens at $2, and 7 or 8 tokens each at $0.50
    assert "1,410,000 of replies (4,700 each: the mean of s1K" in said
    assert "$2.82" in said and "14 minutes" in said


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "DEEPSEEK_API_KEY is not set"),
        (["--samples", "2", "--temperature", "0"], "all the same"),
        (["--price-in", "1"], "both --price-in and --price-out"),
        (["--format", "x"], "unknown trace format 'x'"),
        (["--format", "s1"], "--tokenizer"),
        (["--extra", "high"], "is not JSON"),
        (["--extra", "[1]"], "no JSON object"),
        (["--engine-args", '{"a": 1}'], "vllm:FOLDER"),
        (["--teacher", "vllm:x", "--extra", '{"a": 1}'], "--engine-args"),
        (["--question-field", "problem"], "DEEPSEEK_API_KEY"),
        (["--question-field", "problem", "--dry-run"], "line 1: field 'problem' is missing"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(
    questions, tmp_path, arguments, problem
):
    out = tmp_path / "out"
    done = CliRunner().invoke(distill, [questions, "--out", str(out), *arguments])
    assert done.exit_code and problem in done.output
    assert not out.exists()


def test_what_earlier_runs_paid_is_in_the_sums(questions, tmp_path, monkeypatch):
    monkeypatch.setattr("s1_plugin.data.distill._EVERY", 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    rows = Path(questions).read_text().splitlines(keepends=True)
    files = [tmp_path / "few.jsonl", Path(questions)]
    files[0].write_text("".join(rows[:40]))
    out, said, spent = tmp_path / "out", [], []
    with FakeTeacher().serving() as url:
        for path in files:
            # A dollar a token of the reply.
            how = f"--out {out} --teacher fake --base-url {url} --price-in 0 --price-out 1e6"
            done = CliRunner().invoke(distill, [str(path), *how.split()])
            assert done.exit_code == 0, done.output
            said.append(done.output)
            lines = (out / "traces.jsonl").read_text(encoding="utf-8").splitlines()
            spent.append(sum(json.loads(line)["completion_tokens"] for line in lines))
    assert f"{spent[0]:,} of replies: ${spent[0]:,}.00" in said[0] and "with earlier" not in said[0]
    assert f"{spent[1] - spent[0]:,} of replies: ${spent[1] - spent[0]:,}.00" in said[1]
    assert "with earlier runs 100 rows, " in said[1] and f": ${spent[1]:,}.00" in said[1]
    shown = [float(x.replace(",", "")) for x in re.findall(r"\$([\d,.]+) so far", said[1])]
    assert spent[0] <= min(shown) < max(shown) == spent[1]
