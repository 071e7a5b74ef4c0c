"""An evaluation that is killed goes on where it stopped; ranks do not tread on one another."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.commands import run, samples

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
BUDGETS = json.dumps({"max_tokens_thinking": [2, 6, 8, "auto"], "thinking_n_ignore": [1, 3]})


def arguments(demo, out):
    return [
        *("--model", "hf", "--tasks", "s1_nano", "--apply_chat_template", "--limit", "60"),
        *("--model_args", f"pretrained={demo}/outputs/nano/model,dtype=float32"),
        *("--device", "cpu", "--batch_size", "7", "--gen_kwargs", BUDGETS),
        *("--log_samples", "--output_path", str(out)),
    ]


def lines(cache):
    return [line for file in cache.rglob("*.jsonl") for line in file.read_text().splitlines()]


def whole(line):
    try:
        return json.loads(line)
    except ValueError:
        return None  # cut short by a kill


@pytest.mark.parametrize("seed", [0])
def test_killed_ten_times_it_ends_as_if_undisturbed(demo, tmp_path, seed):
    run("lm_eval", *arguments(demo, tmp_path / "calm"), cwd=demo, S1_CACHE=str(tmp_path / "one"))
    disturbed = ["python", HERE / "killed.py", seed, 10, *arguments(demo, tmp_path / "killed")]
    done = run(*disturbed, cwd=demo, S1_CACHE=str(tmp_path / "two"), PYTHONPATH=str(ROOT))
    assert done.stdout.count("killed with") == 10
    assert done.stdout.count("finished before") <= 1, done.stdout
    assert samples(tmp_path / "killed") == samples(tmp_path / "calm")
    want, got = ([*filter(None, map(whole, lines(tmp_path / n)))] for n in ("one", "two"))
    keys = [(row["family"], row["thinking"]) for row in got]
    assert len(keys) == len(set(keys))  # nothing twice
    assert sorted(keys) == sorted((row["family"], row["thinking"]) for row in want)


def test_the_same_command_twice_costs_nothing(demo, tmp_path):
    cache = tmp_path / "cache"
    for number, expected in ((1, None), (2, "360 of 360 responses were generated before")):
        out = tmp_path / str(number)
        done = run("lm_eval", *arguments(demo, out), cwd=demo, S1_CACHE=str(cache))
        told = re.search(r"\d+ of \d+ responses were generated before", done.stderr)
        assert (told and told[0]) == expected
        if number == 2:
            assert samples(out) == samples(tmp_path / "1")
            assert len(list(cache.rglob("*.jsonl"))) == 1  # nothing was written either


def test_ranks_share_the_work_and_the_journal(demo, tmp_path):
    model, tasks = demo / "outputs" / "nano" / "model", ROOT / "eval_tasks"
    found = {}
    for ranks in (1, 2):
        out, cache = tmp_path / f"{ranks}.json", tmp_path / f"cache{ranks}"
        command = ["torchrun", "--standalone", "--nproc-per-node", ranks, HERE / "ranks.py"]
        run(*command, model, tasks, out, cwd=tmp_path, S1_CACHE=str(cache), OMP_NUM_THREADS="1")
        found[ranks] = json.loads(out.read_text())
        assert found[ranks]["ranks"] == ranks == len(list(cache.rglob("*.jsonl")))
    assert found[1]["rows"] == found[2]["rows"] and len(found[1]["rows"]) == 41
    assert len(lines(tmp_path / "cache1")) == len(lines(tmp_path / "cache2"))
    # a run of one rank takes up what two have made
    out = tmp_path / "again.json"
    command = ["torchrun", "--standalone", "--nproc-per-node", 1, HERE / "ranks.py"]
    done = run(*command, model, tasks, out, cwd=tmp_path, S1_CACHE=str(cache), OMP_NUM_THREADS="1")
    assert "123 of 123 responses were generated before" in done.stderr, done.stderr[-2000:]
    assert json.loads(out.read_text())["rows"] == found[1]["rows"]
