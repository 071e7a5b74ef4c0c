"""The run against a real server; kills and all faults at once are in tests/e2e."""

import asyncio
import hashlib
import json
from collections import Counter
from itertools import pairwise

import pytest
from tqdm import tqdm

from s1_plugin.distill import card
from s1_plugin.distill.cost import Prices
from s1_plugin.distill.failures import Busy, Free
from s1_plugin.distill.ledger import Contents, Ledger
from s1_plugin.distill.limits import Hopeless
from s1_plugin.distill.questions import Question
from s1_plugin.distill.replies import Reply
from s1_plugin.distill.run import Run, Settings, expected_tokens, jobs, key_of
from s1_plugin.distill.teachers import Asked, Server
from s1_plugin.forcing.http import Refused, Unavailable
from s1_plugin.records import BadRow, detect
from tests.distill.fake_teacher import FakeTeacher, outcome_of

QUESTIONS = [Question(f"q{n}", id=str(n), answer="5") for n in range(60)]


#: Those that the teacher answers with a trace: 1 token of a prompt, 32 of a reply each.
GOOD = [question for question in QUESTIONS if outcome_of(question.text) == "ok"]
ERROR = next(
    q for q in (Question(f"error {n}") for n in range(1000)) if outcome_of(q.text) == "error"
)


def settings(concurrency=8, **how):
    return Settings(Asked("", 100), "{}", concurrency=concurrency, **how)


def distil(folder, teacher, questions=QUESTIONS, how=None, expected=(10, 100), stall=10.0):
    """One run, as the command makes it: the ledger's rows and the run."""
    how = how or settings()

    async def go():
        ledger = Ledger(folder / "traces.jsonl")
        try:
            with teacher.serving() as url:
                async with Server("fake", url, stall=stall) as server:
                    run = Run(server, ledger, how, expected)
                    todo = jobs(questions, "fake", how, ledger.contents.done)
                    await run.over(todo, len(questions), 0)
            return run
        finally:
            await ledger.close()
            card.write(ledger, "questions.jsonl", ("fake", "127.0.0.1"))

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
    rows, _ = distil(tmp_path, teacher, GOOD[:10], how)
    assert Counter((row["question"], row["sample"]) for row in rows) == {
        (question.text, sample): 1 for question in GOOD[:10] for sample in range(3)
    }
    assert Counter(body["seed"] for body in teacher.log.bodies) == {5: 10, 6: 10, 7: 10}


def test_rows_are_what_training_reads(tmp_path):
    rows, run = distil(tmp_path, FakeTeacher())
    read = detect(list(rows[0]), "x").read
    for row in rows:
        assert row["status"] == outcome_of(row["question"])
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
    monkeypatch.setattr("tests.distill.fake_teacher.FAULTS", ("429",))
    monkeypatch.setattr("s1_plugin.distill.limits._LONGEST_PAUSE", 0.1)
    monkeypatch.setattr("tests.distill.fake_teacher.MOST_FAULTS", 10**9)
    rows, _ = distil(tmp_path, FakeTeacher(faulty=0.5), how=settings(retries=0))
    assert all(row["status"] == outcome_of(row["question"]) for row in rows) and len(rows) == 60
    assert max(row["attempts"] for row in rows) > 1


def test_a_student_need_not_think(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.distill.fake_teacher.outcome_of", lambda question: "no_thinking")
    with pytest.raises(Hopeless, match="--no-thinking"):
        distil(tmp_path / "teacher", FakeTeacher())
    rows, _ = distil(tmp_path / "student", FakeTeacher(), how=settings(no_thinking=True))
    assert len(rows) == 60 and {row["status"] for row in rows} == {"no_thinking"}
    assert rows[0]["partial_attempt"].startswith("Answer: ") and rows[0]["answer"] == "5"
    assert not any(row["reason"] for row in rows)  # it is what was asked for


def test_the_prompt_is_in_the_hash(tmp_path):
    how = settings(prompt=lambda text: f"Name the domain of {text}")
    rows, _ = distil(tmp_path, FakeTeacher(), QUESTIONS[:3], how)
    for row in rows:
        sent = f"Name the domain of {row['question']}".encode()
        assert row["prompt_sha256"] == hashlib.sha256(sent).hexdigest()


# -- when it asks: by the server's clock ----------------------------------------------------------


def test_nobody_asks_before_a_retry_after_is_over(tmp_path):
    questions = [Question(f"q{n}") for n in range(150)]
    teacher = FakeTeacher(planned={"q10": ["429 later"]}, later=2.0)
    rows, _ = distil(tmp_path, teacher, questions)
    (failed,) = teacher.log.failed
    after = [at - failed for at, _ in teacher.log.came if at > failed]
    assert len(rows) == 150 and len(after) > 100
    # What was on its way when the answer came is there within 0.6 s.
    assert not [seconds for seconds in after if 0.6 < seconds < 1.95]


def test_no_minute_holds_more_tokens_than_the_limit(tmp_path, monkeypatch):
    """Of a second each: ten questions of 33 tokens."""
    monkeypatch.setattr("s1_plugin.distill.limits._MINUTE", 1.0)
    teacher = FakeTeacher()
    how = settings(concurrency=30, tokens_per_minute=330)
    distil(tmp_path, teacher, GOOD[:30], how, expected=(1, 32))
    came = [at for at, _ in teacher.log.came]
    # On their way they may come closer together.
    assert max(sum(at <= other < at + 0.6 for other in came) for at in came) == 10
    assert len(came) == 30 and came[-1] - came[0] > 1.6


@pytest.mark.parametrize(
    ("first", "expected", "minute"),
    [
        (GOOD[0], 2, 1.5),  # 33 came: the next has to wait
        (ERROR, 33, 20.0),  # a question that is not taken costs nothing
    ],
)
def test_the_limit_knows_what_was_spent(tmp_path, monkeypatch, first, expected, minute):
    monkeypatch.setattr("s1_plugin.distill.limits._MINUTE", minute)
    teacher, how = FakeTeacher(), settings(concurrency=1, tokens_per_minute=40)
    distil(tmp_path, teacher, [first, GOOD[1]], how, expected=(1, expected - 1))
    (before, _), (last, _) = teacher.log.came
    assert (last - before > minute - 0.1) == (first is not ERROR)


@pytest.mark.parametrize("fault", ["500", "429", "no reply"])
def test_only_what_surely_costs_nothing_is_given_back(tmp_path, monkeypatch, fault):
    """A server that was silent may have thought all the while."""
    lost = fault == "no reply"
    minute = 2.0 if lost else 20.0
    monkeypatch.setattr("s1_plugin.distill.limits._MINUTE", minute)
    monkeypatch.setattr("s1_plugin.distill.run.pause", lambda failures: 0.0)
    teacher = FakeTeacher(planned={GOOD[0].text: [fault]}, stall=1.0)
    how = settings(concurrency=1, tokens_per_minute=40)
    stall = 0.4 if lost else 10.0
    _, run = distil(tmp_path, teacher, GOOD[:1], how, expected=(1, 32), stall=stall)
    (first, _), (second, _) = teacher.log.came
    assert (second - first > minute - 0.1) == lost == run.counts.lost


def test_pauses_lie_between_attempts(tmp_path, monkeypatch):
    failures = []
    monkeypatch.setattr("s1_plugin.distill.run.pause", lambda n: failures.append(n) or 0.3)
    teacher = FakeTeacher(planned={"q0": ["500", "503", "dropped"]})
    rows, _ = distil(tmp_path, teacher, QUESTIONS[:1])
    came = [at for at, _ in teacher.log.came]
    assert failures == [1, 2, 3] and rows[0]["attempts"] == 4
    assert min(later - at for at, later in pairwise(came)) > 0.29


def test_what_is_to_come_is_of_what_is_left(tmp_path, monkeypatch):
    said = []

    class Bar(tqdm):
        def set_postfix_str(self, s="", refresh=True):
            said.append((self.n, s))

    monkeypatch.setattr("s1_plugin.distill.run._EVERY", 0.0)
    monkeypatch.setattr("s1_plugin.distill.run.tqdm", Bar)
    how = settings(concurrency=1, prices=Prices(0.0, 1e6))  # a dollar a token of a reply
    distil(tmp_path, FakeTeacher(), GOOD[:5], how)
    said.clear()
    over_all = GOOD[:12]

    async def go():
        ledger = Ledger(tmp_path / "traces.jsonl")
        with FakeTeacher().serving() as url:
            async with Server("fake", url) as server:
                run = Run(server, ledger, how, (1, 32))
                await run.over(jobs(over_all, "fake", how, ledger.contents.done), 12, 5)
        await ledger.close()

    asyncio.run(go())
    assert [n for n, _ in said] == list(range(6, 13))
    for n, text in said:
        assert f"${32 * n:,.2f} so far, ${32 * (12 - n):,.2f} to come" in text


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


@pytest.mark.parametrize("comes", [True, False])
def test_a_teacher_that_always_breaks_off_is_not_paid_for_ever(tmp_path, monkeypatch, comes):
    """One that is silent for --stall may think all the while."""
    monkeypatch.setattr("s1_plugin.distill.limits._LONGEST_PAUSE", 0.01)
    asked = []

    async def does(question, heard):
        asked.append(question)
        if comes:
            heard()
        raise Unavailable("half")

    error, run, rows = over(tmp_path, Local(does), QUESTIONS, settings(retries=10**6))
    assert isinstance(error, Hopeless) and "no reply comes whole: 20 attempts" in str(error)
    assert not rows and 20 <= len(asked) == run.counts.lost < 20 + 8


def test_one_that_is_busy_charges_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("s1_plugin.distill.limits._LONGEST_PAUSE", 0.01)
    left = [30]

    async def does(question, heard):
        left[0] -= 1
        if left[0] >= 0:
            raise Free("HTTP 503: crowded")
        return await answers(question, heard)

    error, run, rows = over(tmp_path, Local(does), QUESTIONS[:9], settings(retries=40))
    assert error is None and len(rows) == 9 and run.counts.lost == 0


def test_a_403_before_any_answer_stops(tmp_path):
    teacher = FakeTeacher(planned={GOOD[0].text: ["403"]})
    with pytest.raises(Hopeless, match=r"HTTP 403.*no question was answered before"):
        distil(tmp_path, teacher, GOOD[:4], settings(concurrency=1))
    assert not Contents(tmp_path / "traces.jsonl").done


@pytest.mark.parametrize("earlier", [True, False])
def test_a_403_is_the_questions_once_another_was_answered(tmp_path, earlier):
    how, bad = settings(concurrency=1), GOOD[1].text
    if earlier:  # in a run before; else in this one
        distil(tmp_path, FakeTeacher(), GOOD[3:4], how)
    teacher = FakeTeacher(planned={bad: ["403"]})
    rows, _ = distil(tmp_path, teacher, GOOD[1:4] if earlier else GOOD[:4], how)
    ended = {row["question"]: row["status"] for row in rows}
    assert ended.pop(bad) == "error" and set(ended.values()) == {"ok"}


def test_a_403_that_nothing_was_answered_beside_is_asked_again(tmp_path):
    """The key may have lost its rights since."""
    distil(tmp_path, FakeTeacher(), GOOD[:1])
    rows, run = distil(tmp_path, FakeTeacher(planned={GOOD[1].text: ["403"]}), GOOD[:2])
    assert len(rows) == 1 and len(run.held) == 1


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
    assert len(run.held) == (1 if before else 5)


def test_a_question_that_is_always_too_much_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("s1_plugin.distill.limits._LONGEST_PAUSE", 0.05)

    async def does(question, heard):
        if question == "q0":
            raise Busy("HTTP 429: larger than your tokens per minute")
        return await answers(question, heard)

    error, _, rows = over(tmp_path, Local(does), QUESTIONS, settings(patience=0.4))
    (bad,) = [row for row in rows if row["status"] != "ok"]
    assert error is None and len(rows) == 60 and bad["question"] == "q0"
    assert bad["status"] == "error" and "too many requests for 0 s: HTTP 429" in bad["reason"]


def test_a_question_that_always_fails_is_an_error_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.distill.fake_teacher.MOST_FAULTS", 10**9)
    monkeypatch.setattr("s1_plugin.distill.limits._LONGEST_PAUSE", 0.1)
    rows, run = distil(
        tmp_path, FakeTeacher(faulty=0.6, stall=0.5), QUESTIONS[:40], settings(retries=1), stall=0.3
    )
    given_up = [row for row in rows if row["reason"].startswith("given up after 2 failures")]
    assert given_up and {row["status"] for row in given_up} == {"error"}
    assert len(rows) == 40 and not run.held


def test_what_is_expected_is_learned_from_what_is_there(tmp_path):
    contents = Contents(tmp_path / "none")
    assert expected_tokens(settings(), contents, "t") == (100, "--max-tokens")  # no reply is longer
    much = Settings(Asked("", 32768), "{}")
    assert expected_tokens(much, contents, "t")[0] == 4700
    for tokens in (50, 100):
        contents.count(
            {
                **{"key": str(tokens), "status": "ok", "teacher": "t", "host": "h"},
                **{"parameters": "{}", "completion_tokens": tokens},
            }
        )
    assert expected_tokens(settings(), contents, "t")[0] == 75
    assert expected_tokens(settings(expected_tokens=7), contents, "t")[0] == 7
    assert expected_tokens(settings(expected_tokens=7000), contents, "t") == (100, "--max-tokens")
    assert Prices(0.5, 2.0).dollars(1e6, 3e6) == 6.5 and Prices().dollars(1, 1) is None
