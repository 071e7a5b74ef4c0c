"""Every task through the real `lm_eval` command, on a model with random weights."""

import json

import pytest

from tests.conftest import ROOT
from tests.e2e.commands import run, samples

pytestmark = pytest.mark.e2e
PATH = str(ROOT / "eval_tasks")
GPQA = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


@pytest.fixture(scope="module")
def model(nano_base, tmp_path_factory):
    from transformers import AutoTokenizer

    from tests.vllm.models import random_model

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    ends = [tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|im_start|>")]
    folder = tmp_path_factory.mktemp("model")
    random_model(folder, nano_base, len(tokenizer), ends)
    return folder


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """Stand-ins in the authors' columns; the nano tokenizer knows these characters."""
    folder = tmp_path_factory.mktemp("problems")

    def write(name, rows):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("aime24.jsonl", [{"problem": "1+1", "answer": "02"}, {"problem": "1+2", "answer": 3}])
    write("math500.jsonl", [{"problem": "half", "answer": "\\frac12", "unique_id": "test/a"}])
    write(
        "gpqa_diamond.jsonl",
        [{"Question": f"Which {n}?", **{c: f"{c} {n}" for c in GPQA}} for n in range(3)],
    )
    return folder


def evaluate(model, problems, out, task, *gen_kwargs):
    given = ",".join(["max_tokens_thinking=6", "max_gen_toks=60", "answer_reserve=10", *gen_kwargs])
    run(
        "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
        "--tasks", task, "--include_path", PATH, "--apply_chat_template", "--batch_size", "32",
        "--gen_kwargs", given, "--output_path", str(out), "--log_samples", cwd=out,
        S1_EVAL_DATA=str(problems),
    )  # fmt: skip
    (path,) = out.rglob("results_*.json")
    results = json.loads(path.read_text())
    told = results["configs"][task]["metadata"]
    assert told["problems_from"].startswith(str(problems)) and len(told["problems_sha256"]) == 64
    return results["results"][task], samples(out)


def test_gpqa_asks_with_the_authors_prompt(model, problems, tmp_path):
    results, rows = evaluate(model, problems, tmp_path, "s1_gpqa_diamond")
    assert len(rows) == 3 and 0 <= results["exact_match,none"] <= 1
    for n, row in enumerate(rows):
        doc = row["doc"]
        choices = "\n".join(f"{'ABCD'[i]}) {doc[f'choice{i + 1}']}" for i in range(4))
        assert row["arguments"]["gen_args_0"]["arg_2"] == f"Which {n}?\n\n{choices}"
        assert doc[f"choice{'ABCD'.index(row['target']) + 1}"] == f"Correct Answer {n}"


def test_math500(model, problems, tmp_path):
    results, (row,) = evaluate(model, problems, tmp_path, "s1_math500")
    assert results["ungraded,none"] == 0
    assert row["arguments"]["gen_args_0"]["arg_2"] == "half"


def test_64_samples(model, problems, tmp_path):
    results, rows = evaluate(model, problems, tmp_path, "s1_aime24_agg64")
    for row in rows:
        assert len(row["correct"]) == len(row["resps"][0]) == 64
        assert len({r["text"] for r in row["resps"][0]}) > 32  # each its own draws
    for k in (2, 4, 8, 16, 32, 64):
        assert 0 <= results[f"maj@{k},none"] <= 1 and 0 <= results[f"pass@{k},none"] <= 1
    drawn = run("s1", "curve", str(tmp_path), "--out", str(tmp_path / "curve"), cwd=tmp_path)
    assert "s1_aime24_agg64" in drawn.stdout


def test_check_tasks(problems, tmp_path):
    done = run(
        "s1", "check-tasks", "--include-path", PATH, cwd=tmp_path, S1_EVAL_DATA=str(problems)
    )
    assert "s1_gpqa_diamond: 3 of 3 right answers are graded as right (letter)" in done.stdout
    assert "s1_math500: 1 of 1" in done.stdout and "s1_nano: 300 of 300" in done.stdout
    assert "s1_aime25: not checked" in done.stdout and "aime25.jsonl is not there" in done.stdout
    bad = tmp_path / "aime24.jsonl"
    bad.write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1/2", "answer": "0.5"}\n')
    found = run(
        "s1", "check-tasks", "s1_aime24", "--include-path", PATH, cwd=tmp_path, check=False,
        S1_EVAL_DATA=str(tmp_path),
    )  # fmt: skip
    assert found.returncode == 1 and "s1_aime24: 1 of 2" in found.stdout
    assert "problem 2" in found.stdout and "'0.5'" in found.stdout


def test_the_gated_data_set_says_how_to_be_let_in(model, tmp_path):
    found = run("s1", "check-tasks", "s1_gpqa_diamond", "--include-path", PATH, cwd=tmp_path,
                check=False, S1_EVAL_DATA="", HF_HOME=str(tmp_path))  # fmt: skip
    assert found.returncode == 1
    assert "huggingface.co/datasets/Idavidrein/gpqa" in found.stdout and "HF_TOKEN" in found.stdout
    assert "gpqa_diamond.jsonl" in found.stdout and "`Correct Answer`" in found.stdout
