from __future__ import annotations

import json
import os
import signal

import pytest

from s1_plugin.data.engine import Job, Local
from s1_plugin.data.rows import InputError, load


def die(batch):
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(batch):
    raise InputError(f"{batch['place'][0]}: no")


def lengths(batch):
    pairs = zip(batch["question"], batch["more"], strict=True)
    return {"n": [len(question) + more for question, more in pairs]}


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"question": "q" * (i + 1)}) + "\n" for i in range(700)))
    return load([str(path)], tmp_path)


JOBS = [Job(0, [0, 3], {"more": [0, 100]}), Job(1, [1], {"more": [0]}), Job(0, [7], {"more": [0]})]


def test_results_come_in_the_order_of_jobs(rows):
    one, two = (list(Local(n).run(lengths, rows, ("question",), JOBS)) for n in (1, 2))
    assert one == two == [{"n": [1, 104]}, {"n": [502]}, {"n": [8]}]


def test_what_a_stage_says_comes_through(rows):
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"a\.jsonl, line 1: no"):
            list(Local(workers).run(refuse, rows, ("place",), JOBS))


def test_a_killed_process_is_said(rows):
    with pytest.raises(RuntimeError, match="give fewer --workers"):
        list(Local(2).run(die, rows, ("place",), JOBS))
