"""`s1 distill` against a server that fails in every way, killed five times: each question ends
exactly once in the output, and none is paid for twice but those in flight at a kill."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.distill.fake_teacher import FAULTS, MODEL, FakeTeacher, echoes, outcome_of, reply_of

pytestmark = pytest.mark.e2e

QUESTIONS, KILLS, SEED, CONCURRENCY = 2000, 5, 7, 64
KEY = "sk-distill-0123456789abcdef"
#: Seconds for which the server falls silent; the client hangs up after a quarter. By hand 30, too.
STALL = float(os.environ.get("S1_TEST_STALL", "5"))


def test_five_kills_and_every_fault(tmp_path):
    questions = [f"Question {n}: how much is {n} + {n}?" for n in range(QUESTIONS)]
    (tmp_path / "questions.jsonl").write_text(
        "".join(json.dumps({"question": q, "id": n}) + "\n" for n, q in enumerate(questions))
    )
    ledger = tmp_path / "traces" / "traces.jsonl"
    teacher, chance = FakeTeacher(faulty=0.4, stall=STALL, echo=True), random.Random(SEED)
    at_kill: list[set[str]] = []
    times: list[float] = []
    with teacher.serving() as url:
        command = [
            str(Path(sys.executable).with_name("s1")), "distill", "questions.jsonl",
            "--out", "traces", "--teacher", "fake", "--base-url", url,
            "--key-env", "TEACHER_KEY", "--concurrency", str(CONCURRENCY),
            "--stall", str(min(STALL / 4, 10)), "--price-in", "1", "--price-out", "2",
        ]  # fmt: skip
        for kill in range(KILLS + 1):
            teacher.log.generation = kill
            with (tmp_path / f"log-{kill}.txt").open("w") as log:
                process = subprocess.Popen(
                    command, cwd=tmp_path, stdout=log, stderr=log,
                    env={**os.environ, "TEACHER_KEY": KEY},
                )  # fmt: skip
            if kill == KILLS:
                break
            more = len(lines(ledger)) + chance.randint(1, QUESTIONS // (KILLS + 1))
            while len(lines(ledger)) < more and process.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.random() * 0.1)
            assert process.poll() is None, (tmp_path / f"log-{kill}.txt").read_text()
            if kill == 0:
                listed = subprocess.run(
                    ["ps", "-ww", "-o", "args", "-p", str(process.pid)],
                    capture_output=True, text=True,
                )  # fmt: skip
                assert "--key-env TEACHER_KEY" in listed.stdout and KEY not in listed.stdout
                other = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
                assert other.returncode == 1 and "is not set" in other.stderr
                locked = subprocess.run(
                    command, cwd=tmp_path, capture_output=True, text=True,
                    env={**os.environ, "TEACHER_KEY": KEY},
                )  # fmt: skip
                assert locked.returncode == 1 and "another `s1 distill`" in locked.stderr
            process.kill()
            times.append(time.monotonic())
            process.wait()
            at_kill.append({json.loads(line)["question"] for line in lines(ledger)})
            with ledger.open("ab") as file:  # what a kill in the middle of a write leaves
                file.write(b'{"key": "torn by the ki')
        assert process.wait(timeout=300) == 0, (tmp_path / f"log-{KILLS}.txt").read_text()

    rows = [json.loads(line) for line in lines(ledger)]
    assert Counter(row["question"] for row in rows) == Counter(questions)  # each exactly once
    for row in rows:
        assert row["status"] == outcome_of(row["question"]), row
        trace = (row["thinking_trajectories"], row["attempt"])
        echoed = "Bearer ***" * echoes(row["question"])
        thinking, answer = (text + echoed for text in reply_of(row["question"]))
        assert trace == (([thinking], answer) if row["status"] == "ok" else ([], ""))
        assert row["served_as"] == ("" if row["status"] == "error" else MODEL + echoed)
    assert len({row["status"] for row in rows}) == 6

    twice = 0
    for first in range(KILLS):
        assert max(teacher.log.paid[first].values()) == 1  # never by one process
        later = Counter[str]()
        for generation in range(first + 1, KILLS + 1):
            later.update(teacher.log.paid[generation].keys())
        again = teacher.log.paid[first].keys() & later.keys()
        assert not again & at_kill[first]  # what was on the disk was not asked for again
        assert len(again) <= CONCURRENCY
        # Whatever had come two seconds before was on the disk.
        late = {q for q, at in teacher.log.paid_at[first].items() if at > times[first] - 2}
        assert teacher.log.paid[first].keys() - at_kill[first] <= late
        twice += len(again)
    assert set(teacher.log.faults) == set(FAULTS)
    assert set(teacher.log.keys) == {f"Bearer {KEY}"}
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    said = (tmp_path / f"log-{KILLS}.txt").read_text()
    assert "a row that was cut short by a kill" in said and "so far" in said
    print(f"{twice} paid twice, all in flight at a kill; {teacher.log.faults.total()} faults")


def test_ctrl_c_loses_nothing_that_is_paid_for(tmp_path):
    questions = [f"Question {n}" for n in range(400)]
    (tmp_path / "questions.jsonl").write_text(
        "".join(json.dumps({"question": question}) + "\n" for question in questions)
    )
    ledger, teacher = tmp_path / "traces" / "traces.jsonl", FakeTeacher()
    with teacher.serving() as url:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("s1"), "distill", "questions.jsonl", "--out", "traces",
             "--teacher", "fake", "--base-url", url],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while len(lines(ledger)) < 40 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "replies under way come to their end" in said
    rows = [json.loads(line) for line in lines(ledger)]
    assert 40 <= len(rows) < 400
    paid = {row["question"] for row in rows if row["status"] != "error"}
    assert teacher.log.paid[0] == dict.fromkeys(paid, 1)


def test_domains_that_a_model_names(tmp_path, monkeypatch):
    """Rows and benchmarks are asked about; by what comes rows are labelled and drawn."""
    names = ("Differential geometry", "Topology", "Astrology")  # the last is none of ours

    def write(name, column, numbers):
        rows = [
            {column: f"Question {n}: find me {n}.", "id": n, "tokens": 100 + n} for n in numbers
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def s1(*arguments):
        ran = subprocess.run(
            [Path(sys.executable).with_name("s1"), *arguments],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stderr

    write("questions.jsonl", "question", range(100, 160))
    write("aime24.jsonl", "problem", range(200, 230))
    monkeypatch.setenv("S1_EVAL_DATA", str(tmp_path))
    curate = [
        *("curate", "questions.jsonl", "-o", "out", "--rows", "20", "--domains"),
        *("domains/domains.jsonl", "--length-column", "tokens"),
        *(part for name in ("aime25", "math500", "gpqa_diamond")
          for part in ("--without-benchmark", name)),
    ]  # fmt: skip

    def domain_of(prompt):
        number = int(re.search(r"Question (\d+)", prompt)[1])
        return f"**{names[number % 3 if number < 200 else 1]}**"

    with FakeTeacher(answer=domain_of).serving() as url:
        ask = ("--out", "domains", "--ask", "domain", "--teacher", "m", "--base-url", url)
        said = s1("distill", "questions.jsonl", *ask, "--dry-run")
        assert "600 of replies (10 each" in said
        s1("distill", "questions.jsonl", *ask)
        assert not (tmp_path / "domains" / "README.md").exists()  # it is no data set
        said = s1(*curate)
        assert "30 of 30 questions of the benchmarks" in said
        s1("distill", "aime24.jsonl", *ask, "--question-field", "problem")
        said = s1(*curate)
    assert "questions of the benchmarks" not in said
    assert "20 rows that the file of --domains names none of ours for: by words" in said
    rows = [json.loads(line) for line in (tmp_path / "out" / "questions.jsonl").open()]
    for row in rows:
        kind = int(row["question"].split()[1][:-1]) % 3
        assert (row["domain"] == names[kind]) == (kind < 2)
    # All benchmarks' questions are of Topology.
    assert {row["domain"] for row in rows if row["picked"] == "benchmark"} == {"Topology"}
    assert "As m named them (domains.jsonl)" in (tmp_path / "out" / "README.md").read_text()


def lines(ledger):
    """The whole lines of the ledger as it stands."""
    return ledger.read_bytes().split(b"\n")[:-1] if ledger.exists() else []
