"""The run against a real server; kills and all faults at once are in tests/e2e."""

import asyncio
import json
from collections import Counter

import pytest

from s1_plugin.data import teacher_card
from s1_plugin.data.cost import Prices
from s1_plugin.data.distill import Run, Settings, expected_tokens, jobs, key_of
from s1_plugin.data.ledger import Contents, Ledger
from s1_plugin.data.limits import Hopeless
from s1_plugin.data.questions import Question
from s1_plugin.data.replies import Reply
from s1_plugin.data.teachers import Asked, Busy, Server
from s1_plugin.forcing.http import Refused, Unavailable
from s1_plugin.records import BadRow, detect
from tests.data.fake_teacher import FakeTeacher, outcome_of

QUESTIONS = [Question(f"q{n}", id=str(n), answer="5") for n in range(60)]


def settings(**how):
    return Settings(Asked("", 100), "{}", concurrency=8, **how)


def distil(folder, teacher, questions=QUESTIONS, how=None):
    """One run, as the command makes it: the ledger's rows and the run."""
    how = how or settings()

    async def go():
        ledger = Ledger(folder / "traces.jsonl")
        try:
            with teacher.serving() as url:
                async with Server("fake", url, stall=0.3) as server:
                    run = Run(server, ledger, how, (10, 100))
                    todo = jobs(questions, "fake", how, ledger.contents.done)
                    await run.over(todo, len(questions), 0)
            return run
        finally:
            await ledger.close()
            teacher_card.write(ledger, "questions.jsonl", ("fake", "127.0.0.1"))

    run = asyncio.run(go())
    lines = (folder / "traces.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line], run


def test_keys_tell_everything_apart():
    keys = {key_of(*args) for args in [
        ("q", "t", "{}", 0), ("q2", "t", "{}", 0), ("q", "t2", "{}", 0), ("q", "t", "{1}", 0),
        ("q", "t", "{}", 1), ('q", "t', "t", "{}", 0),
    ]}  # fmt: skip
    assert len(keys) == 6


def test_jobs_are_each_key_once():
    how = settings(samples=3)
    todo = list(jobs([*QUESTIONS, QUESTIONS[0]], "t", how))
    assert len(todo) == 180 == len({job.key for job in todo})
    assert list(jobs(QUESTIONS, "t", how, {job.key for job in todo[:-1]})) == todo[-1:]


def test_samples_and_seeds(tmp_path):
    teacher = FakeTeacher()
    how = Settings(Asked("", 100, seed=5), "{}", samples=3, concurrency=8)
    good = [question for question in QUESTIONS if outcome_of(question.text) == "ok"][:10]
    rows, _ = distil(tmp_path, teacher, good, how)
    assert Counter((row["question"], row["sample"]) for row in rows) == {
        (question.text, sample): 1 for question in good for sample in range(3)
    }
    assert Counter(body["seed"] for body in teacher.log.bodies) == {5: 10, 6: 10, 7: 10}


def test_rows_are_what_training_reads(tmp_path):
    rows, run = distil(tmp_path, FakeTeacher())
    read = detect(list(rows[0]), "x").read
    for row in rows:
        assert row["status"] == outcome_of(row["question"]) and len(row["prompt_sha256"]) == 64
        if row["status"] == "ok":
            assert read(row).answer == row["attempt"]
        else:  # `s1: {bad_rows: skip}` counts it and goes on
            with pytest.raises(BadRow):
                read(row)
            assert row["reason"]
    assert run.counts.statuses == Counter(row["status"] for row in rows)
    (truncated, *_) = [row for row in rows if row["status"] == "truncated"]
    assert truncated["partial_thinking"].startswith("About") and truncated["finish_reason"]


def test_the_ledger_loads_as_a_data_set(tmp_path):
    from datasets import load_dataset

    rows, _ = distil(tmp_path, FakeTeacher())
    loaded = load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["status"] == [row["status"] for row in rows]


def test_the_card_names_terms_and_counts(tmp_path):
    rows, _ = distil(tmp_path, FakeTeacher())
    card = (tmp_path / "README.md").read_text()
    assert "read the model's licence" in card and "`questions.jsonl`" in card
    assert f"| {sum(row['status'] == 'ok' for row in rows)} |" in card
    mine = "# Mine\n"
    (tmp_path / "README.md").write_text(mine)
    distil(tmp_path, FakeTeacher())
    assert (tmp_path / "README.md").read_text() == mine
    assert (tmp_path / "README.draft.md").read_text() == card


def test_a_teacher_that_is_down_leaves_no_row(tmp_path):
    teacher = FakeTeacher(status=500)
    with pytest.raises(Hopeless, match=r"nothing has come.*HTTP 500"):
        distil(tmp_path, teacher, how=settings(patience=0.5, retries=100))
    assert not Contents(tmp_path / "traces.jsonl").done


@pytest.mark.parametrize(("status", "most"), [(401, 8), (404, 8), (400, 30)])
def test_a_teacher_that_takes_nothing_is_not_asked_everything(tmp_path, status, most):
    teacher = FakeTeacher(status=status)
    with pytest.raises(Hopeless):
        distil(tmp_path, teacher)
    assert teacher.log.asked.total() <= most
    assert not Contents(tmp_path / "traces.jsonl").done


def test_a_busy_teacher_is_no_fault_of_the_questions(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.data.fake_teacher.FAULTS", ("429",))
    monkeypatch.setattr("s1_plugin.data.limits._LONGEST_PAUSE", 0.1)
    monkeypatch.setattr("tests.data.fake_teacher.MOST_FAULTS", 10**9)
    rows, _ = distil(tmp_path, FakeTeacher(faulty=0.5), how=settings(retries=0))
    assert all(row["status"] == outcome_of(row["question"]) for row in rows) and len(rows) == 60
    assert max(row["attempts"] for row in rows) > 1


def test_a_student_need_not_think(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.data.fake_teacher.outcome_of", lambda question: "no_thinking")
    with pytest.raises(Hopeless, match="--no-thinking"):
        distil(tmp_path / "teacher", FakeTeacher())
    rows, _ = distil(tmp_path / "student", FakeTeacher(), how=settings(no_thinking=True))
    assert len(rows) == 60 and {row["status"] for row in rows} == {"no_thinking"}
    assert rows[0]["partial_attempt"].startswith("Answer: ") and rows[0]["answer"] == "5"


class Local:
    """A teacher in this process, to which ``does(question, heard)`` happens."""

    name, host = "fake", "local"

    def __init__(self, does):
        self._does = does

    async def ask(self, asked, heard):
        return await self._does(asked.question, heard)


def over(folder, teacher, questions, how):
    """One run with ``teacher``; what it raised, the run, and the rows of the ledger."""

    async def go():
        ledger = Ledger(folder / "traces.jsonl")
        run = Run(teacher, ledger, how, (10, 100))
        try:
            todo = jobs(questions, "fake", how, ledger.contents.done)
            await run.over(todo, len(questions), 0)
        except Exception as error:
            return error, run
        finally:
            await ledger.close()
        return None, run

    error, run = asyncio.run(go())
    rows = (folder / "traces.jsonl").read_text(encoding="utf-8").splitlines()
    return error, run, [json.loads(row) for row in rows]


def test_a_fault_of_ours_loses_nothing_that_is_under_way(tmp_path):
    async def does(question, heard):
        if question == "q3":
            raise ZeroDivisionError("ours")
        await asyncio.sleep(0.1)
        return Reply("t", "a", "stop")

    error, _, rows = over(tmp_path, Local(does), QUESTIONS, settings())
    assert isinstance(error, ZeroDivisionError)
    assert {row["question"] for row in rows} == {f"q{n}" for n in range(8) if n != 3}


async def answers(question, heard):
    heard()
    await asyncio.sleep(0.1)
    return Reply("t", "a", "stop")


def test_a_teacher_that_always_breaks_off_is_not_paid_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("s1_plugin.data.limits._LONGEST_PAUSE", 0.01)
    asked = []

    async def does(question, heard):
        asked.append(question)
        heard()
        raise Unavailable("half")

    error, run, rows = over(tmp_path, Local(does), QUESTIONS, settings(retries=10**6))
    assert isinstance(error, Hopeless) and "every reply breaks off: 20 in a row" in str(error)
    assert not rows and 20 <= len(asked) == run.counts.lost < 20 + 8


@pytest.mark.parametrize("before", [True, False])
def test_a_refused_question_that_is_left_alone_ends(tmp_path, monkeypatch, before):
    """Once the teacher has shown that it answers; one that is down is asked again."""
    if before:
        over(tmp_path, Local(answers), QUESTIONS[:3], settings())

    async def does(question, heard):
        raise Refused("too long") if question == "q3" else Unavailable("down")

    error, run, rows = over(tmp_path, Local(does), QUESTIONS[:5], settings(retries=0))
    if before:
        assert {row["question"]: row["status"] for row in rows}.pop("q3") == "error"
    assert error is None and len(rows) == 4 * before
    assert run.held == (1 if before else 5)


def test_a_question_that_is_always_too_much_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("s1_plugin.data.limits._LONGEST_PAUSE", 0.05)

    async def does(question, heard):
        if question == "q0":
            raise Busy("HTTP 429: larger than your tokens per minute")
        return await answers(question, heard)

    error, _, rows = over(tmp_path, Local(does), QUESTIONS, settings(patience=0.4))
    (bad,) = [row for row in rows if row["status"] != "ok"]
    assert error is None and len(rows) == 60 and bad["question"] == "q0"
    assert bad["status"] == "error" and "too many requests for 0 s: HTTP 429" in bad["reason"]


def test_a_question_that_always_fails_is_an_error_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.data.fake_teacher.MOST_FAULTS", 10**9)
    monkeypatch.setattr("s1_plugin.data.limits._LONGEST_PAUSE", 0.1)
    rows, run = distil(
        tmp_path, FakeTeacher(faulty=0.6, stall=0.5), QUESTIONS[:40], settings(retries=1)
    )
    given_up = [row for row in rows if row["reason"].startswith("given up after 2 failures")]
    assert given_up and {row["status"] for row in given_up} == {"error"}
    assert len(rows) == 40 and not run.held


def test_what_is_expected_is_learned_from_what_is_there(tmp_path):
    contents = Contents(tmp_path / "none")
    assert expected_tokens(settings(), contents)[0] == 4700
    for tokens in (100, 200):
        contents.count(
            {
                **{"key": str(tokens), "status": "ok", "teacher": "t", "host": "h"},
                **{"parameters": "{}", "completion_tokens": tokens},
            }
        )
    assert expected_tokens(settings(), contents)[0] == 150
    assert expected_tokens(settings(expected_tokens=7), contents)[0] == 7
    assert Prices(0.5, 2.0).dollars(1e6, 3e6) == 6.5 and Prices().dollars(1, 1) is None
