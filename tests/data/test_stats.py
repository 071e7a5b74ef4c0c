from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
from click.testing import CliRunner

from s1_plugin.commands.data import data
from s1_plugin.data import pipeline, stats
from s1_plugin.data import rows as rows_module


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Let x be the sum of all of them", "English"),
        ("Was ist die Summe der Zahlen, und ist sie eine Primzahl?", "German"),
        ("Quelle est la somme des nombres que nous avons", "French"),
        ("求所有正整数的和 x", "Chinese"),
        ("すべての整数の和を求めよ", "Japanese"),
        ("Найдите сумму x", "Cyrillic"),
        ("$1+1$", "unclear"),
        ("xyz", "unclear"),
    ],
)
def test_language(text, found):
    assert stats.language(text) == found


def test_repeated_runs():
    line = " ".join(f"w{i}" for i in range(30))
    assert stats.repeated(line) == 0
    assert stats.repeated("short") == 0
    assert stats.repeated(f"{line} {line} {line}") > 0.3
    assert stats.repeated("again " * 100) > 0.9


def run(*arguments):
    result = CliRunner().invoke(data, ["stats", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_against_counting_by_hand(data_dir, traces, qwen, tmp_path, monkeypatch):
    import numpy as np

    from s1_plugin import records
    from s1_plugin.encoding import TextEncoder
    from s1_plugin.formats import S1

    monkeypatch.setenv("S1_EVAL_DATA", str(data_dir))
    rows = traces[:40]
    math = json.loads((data_dir / "math500.jsonl").read_text().splitlines()[3])["problem"]
    rows = [*rows, rows[0], {**rows[1], "question": math}]
    rows.append({**rows[2], "thinking_trajectories": "round and round again " * 200})
    rows.append({**rows[3], "attempt": ""})
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = (path, "--tokenizer", data_dir / "qwen2.5-tokenizer", "--context", 1000, "--json")
    found = json.loads(run(*options))

    reader = records.detect(list(rows[0]), "a")
    read = [reader.read(row) for row in rows[:-1]]
    lengths = np.array([len(e.input_ids) for e in TextEncoder(qwen).rows(read, S1)])
    waits = [sum(w.strip(".,:;!?") == "Wait" for w in r.thinking.split()) for r in read]
    assert found["rows"] == len(rows) and found["with_a_whole_trace"] == len(rows) - 1
    assert found["row_tokens"]["mean"] == lengths.mean()
    assert found["row_tokens"]["max"] == lengths.max()
    assert sorted(lengths)[len(lengths) // 2] == found["row_tokens"]["p50"]
    assert found["over_context"] == (lengths > 1000).sum() > 0
    assert abs(found["waits_per_trace"]["sum"] - sum(waits)) <= 0.02 * sum(waits)
    assert found["looping"] == 1
    assert found["most_repeated"][0]["place"] == f"a.jsonl, line {len(rows) - 1}"
    assert found["exact_copies"] == 3  # of rows 0, 2 and 3
    assert found["contaminated"] == 1
    assert found["contaminated_first"][0].endswith("the whole question")
    assert set(found["not_compared_with"]) == {"aime25", "gpqa_diamond"}
    said = run(*options[:-1])
    assert "traces that go in circles" in said and "not compared with aime25" in said
    assert json.loads(run(*options, "--workers", 2)) == found


def test_no_tokens_needs_no_tokenizer(data_dir, monkeypatch):
    monkeypatch.setenv("S1_EVAL_DATA", str(data_dir))
    found = json.loads(run(data_dir / "math500.jsonl", "--no-tokens", "--json"))
    assert found["rows"] == 500 and found["row_tokens"] is None
    assert found["contaminated"] == 500
    assert found["over_context"] is None
    said = run(data_dir / "math500.jsonl", "--no-tokens")
    assert "rows over 32,768 tokens: not counted" in said


def test_a_tokenizer_that_cannot_be_had(data_dir):
    result = CliRunner().invoke(data, ["stats", str(data_dir / "math500.jsonl")])
    assert result.exit_code == 1 and "or give --no-tokens" in result.output


def test_errors_end_in_one_line_with_a_remedy(data_dir, tmp_path, monkeypatch):
    def said(*more):
        options = ["stats", str(data_dir / "math500.jsonl"), "--no-tokens", *more]
        result = CliRunner().invoke(data, options)
        assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
        return result.output.splitlines()[-1]

    monkeypatch.setenv("S1_EVAL_DATA", str(data_dir))
    monkeypatch.setenv("S1_CACHE", str(tmp_path / "cache"))
    assert "aime23: there are aime24, aime25" in said("--without-benchmark", "aime23")

    def die(self, *job):
        raise BrokenProcessPool

    with monkeypatch.context() as patch:
        patch.setattr(ProcessPoolExecutor, "submit", die)
        for module in (rows_module, pipeline):
            patch.setattr(module, "GROUP", 100)  # work for two
        assert "was killed, likely for want of memory; give fewer --workers" in said(
            "--workers", "2"
        )
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("S1_CACHE", str(tmp_path / "file"))
    assert "set S1_CACHE to another folder" in said()
