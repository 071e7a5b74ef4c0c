import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from s1_plugin.commands.distill import distill
from s1_plugin.distill.questions import Questions
from tests.distill.fake_teacher import FakeTeacher, outcome_of


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
        (["--extra", '{"model": "other", "messages": []}'], "holds 'model', which --teacher says"),
        (["--extra", '{"a": ["sk-0123456789"]}', "--key-env", "MINE"], "holds an API key"),
        (["--tokenizer", "nobody/nothing", "--dry-run"], "--tokenizer nobody/nothing: cannot be"),
        (["--tokenizer", "nobody/nothing", "--format", "s1"], "name a folder with a tokenizer"),
        (["--question-field", "problem"], "DEEPSEEK_API_KEY"),
        (["--question-field", "problem", "--dry-run"], "line 1: field 'problem' is missing"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(
    questions, tmp_path, monkeypatch, arguments, problem
):
    monkeypatch.setenv("MINE", "sk-0123456789")
    out = tmp_path / "out"
    done = CliRunner().invoke(distill, [questions, "--out", str(out), *arguments])
    assert done.exit_code and problem in done.output and done.output.count("\n") < 8
    assert "sk-0123456789" not in done.output
    assert not out.exists()


def test_what_earlier_runs_paid_is_in_the_sums(questions, tmp_path, monkeypatch):
    monkeypatch.setattr("s1_plugin.distill.run._EVERY", 0.0)
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


def ask(folder, questions, teacher=None, *how):
    """The command on ``questions``: what it exits with and says, and the rows there are then."""
    folder.mkdir(exist_ok=True)
    path = folder / "these.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in questions))
    with (teacher or FakeTeacher()).serving() as url:
        arguments = [
            str(path),
            "--out",
            str(folder / "out"),
            "--base-url",
            url,
            "--teacher",
            "fake",
        ]
        done = CliRunner().invoke(distill, [*arguments, *how])
    ledger = folder / "out" / "traces.jsonl"
    lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    return done.exit_code, done.output, [json.loads(line) for line in lines]


def asking(outcome, count):
    """Questions that the teacher lets end so."""
    named = (f"{outcome} {n}" for n in itertools.count())
    found = (name for name in named if outcome_of(name) == outcome)
    return [{"question": name} for name in itertools.islice(found, count)]


def test_a_few_questions_that_are_all_refused_say_why(tmp_path):
    code, said, rows = ask(tmp_path, asking("ok", 30), FakeTeacher(status=400))
    assert code == 1 and not rows
    assert "30 questions failed and brought no row" in said
    assert "30 × error: HTTP 400: no None. Mend what it says" in said
    assert "no key goes to 127.0.0.1; --key-env names the variable of one" in said


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ("truncated", "4 × truncated: cut at the token limit, in the thinking. Where the limit"),
        ("empty", "4 × empty: no text at all. Nothing was answered"),
        ("no_thinking", "4 × no_thinking: an answer without thinking. The teacher shows no"),
        ("refused", "4 × refused: the server's content filter. The teacher or its filter will"),
    ],
)
def test_a_run_without_a_trace_fails_and_says_why(tmp_path, outcome, why):
    code, said, rows = ask(tmp_path, asking(outcome, 4), FakeTeacher())
    assert code == 1 and why in said and {row["status"] for row in rows} == {outcome}
    # One trace, and it is no failure; the others are said all the same.
    code, said, rows = ask(tmp_path, asking(outcome, 8) + asking("ok", 1), FakeTeacher())
    assert code == 0 and why in said and len(rows) == 9


def test_a_student_that_does_not_think_is_no_failure(tmp_path):
    code, said, rows = ask(tmp_path, asking("no_thinking", 4), FakeTeacher(), "--no-thinking")
    assert code == 0 and len(rows) == 4 and " × no_thinking" not in said


def test_an_answer_that_changed_is_said(tmp_path):
    """The ledger keeps the first, in one file and between runs."""
    first, second = asking("ok", 2)
    file = [{**first, "answer": "1"}, {**first, "answer": "2"}, {**second, "answer": "3"}, second]
    code, said, rows = ask(
        tmp_path, [*file, {"question": f" {first['question']}\n", "answer": "1"}]
    )
    assert code == 0 and [row["answer"] for row in rows] == ["1", "3"]
    assert "5 questions × 1 sample, 3 rows left out" in said and "2 to ask" in said
    assert "2 rows left out with another answer or solution" in said
    assert repr(first["question"]) in said and "in its lines" not in said
    code, said, rows = ask(tmp_path, [{**first, "answer": "5"}, {**second, "answer": "3"}])
    assert code == 0 and [row["answer"] for row in rows] == ["1", "3"] and "nothing to ask" in said
    assert f"1 question in {tmp_path / 'out' / 'traces.jsonl'} with another answer" in said
    assert "(the first: " + repr(first["question"]) in said and "paid for, again" in said


def test_no_reply_is_longer_than_the_limit(questions, tmp_path):
    how = [questions, "--out", str(tmp_path / "out"), "--dry-run", "--max-tokens", "100"]
    done = CliRunner().invoke(distill, how)
    assert "10,000 of replies (100 each: --max-tokens)" in done.output


def test_a_full_disk_is_said_once(tmp_path):
    """A limit on the size of files stands in for it: the same error, at the same place."""
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in asking("ok", 60)))
    command = [Path(sys.executable).with_name("s1"), "distill", path, "--out", tmp_path / "out"]
    with FakeTeacher().serving() as url:
        ran = subprocess.run(
            ["bash", "-c", 'ulimit -f 16; exec "$@"', "-", *command, "--base-url", url],
            capture_output=True, text=True,
        )  # fmt: skip
    assert ran.returncode == 1 and "Traceback" not in ran.stderr and "never" not in ran.stderr
    assert "File too large; make room, and give the same command again" in ran.stderr
    # The card is the one from before: on a full disk it would have been cut to nothing.
    assert "None yet." in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("outcome", ["truncated", "empty", "no_thinking", "refused"])
def test_a_job_without_a_trace_fails_however_often_it_is_asked(tmp_path, outcome):
    these = asking(outcome, 8)
    first, once, _ = ask(tmp_path, these)
    code, again, rows = ask(tmp_path, these)
    assert first == code == 1 and len(rows) == 8
    assert "nothing to ask; 8 rows there already, none of which brought a trace" in again
    (hint,) = [line for line in once.splitlines() if f"8 × {outcome}" in line]
    assert hint in again.splitlines() and f"(8 {outcome})" in again
    # Rows of other questions are no trace of this job's.
    assert ask(tmp_path, asking("ok", 2))[0] == 0 and ask(tmp_path, these)[0] == 1
    code, said, _ = ask(tmp_path, these + asking("ok", 2))
    assert code == 0 and "10 rows there already (8 " in said


def test_token_counts_are_only_missed_where_there_are_none(tmp_path, monkeypatch):
    """The teacher's replies without thinking have 2 tokens of a prompt and none of a reply."""
    said = ask(tmp_path, asking("no_thinking", 4) + asking("empty", 4))[1]
    assert "token counts" not in said and "16 tokens of prompts and 0 of replies" in said
    events = FakeTeacher._events
    monkeypatch.setattr(FakeTeacher, "_events", lambda *args: events(*args)[:-1])
    said = ask(tmp_path / "none", asking("ok", 3) + asking("empty", 4))[1]
    assert "the server told no token counts for 3 rows" in said


def test_attempts_that_are_repeated_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("s1_plugin.distill.run.pause", lambda failures: 0)
    said = ask(tmp_path, asking("ok", 8), FakeTeacher(status=500), "--retries", "1")[1]
    assert "16 attempts failed (16 × HTTP 500); asked again 8 times" in said
    said = ask(tmp_path, asking("ok", 8), FakeTeacher(status=500), "--retries", "0")[1]
    assert "8 attempts failed (8 × HTTP 500); asked again 0 times" in said


def test_replies_that_name_a_domain_are_counted(tmp_path):
    questions = [
        {"question": f"q{n}", "id": n, "solution": "long", "trace": "longer", "answer": str(n)}
        for n in range(8)
    ]
    number = {f"q{n}": n for n in range(8)}

    def name(prompt):
        n = number[prompt.split("The problem:\n\n")[1].split("\n")[0]]
        return ["Topology", "Astrology", "Topology or Number theory"][n % 3]

    how = ("--ask", "domain")
    code, said, _ = ask(tmp_path, questions, FakeTeacher(answer=name), *how)
    assert code == 0 and "3 name a domain, 5 none or several" in said
    assert "8 rows written (8 without thinking)" in said and "no_thinking" not in said
    ledger = tmp_path / "out" / "domains.jsonl"
    rows = sorted(map(json.loads, ledger.read_text().splitlines()), key=lambda row: row["id"])
    assert [(row["id"], row["answer"]) for row in rows] == [(str(n), str(n)) for n in range(8)]
    assert not any(row["solution"] or row["metadata"] or row["reason"] for row in rows)
    code, said, _ = ask(tmp_path, questions, FakeTeacher(answer=name), *how)
    assert code == 0 and "3 name a domain, 5 none or several" in said
    assert "another answer or solution" not in said
    for _ in range(2):
        none = FakeTeacher(answer=lambda prompt: "Astrology")
        code, said, _ = ask(tmp_path / "none", questions, none, *how)
        assert code == 1 and "0 name a domain, 8 none or several" in said
    assert "none of which brought a domain" in said


def test_the_bar_counts_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("s1_plugin.distill.run._EVERY", 0.0)
    for how, missing in [
        (("--ask", "domain"), "4 without a domain"),
        (("--no-thinking",), None),
    ]:
        teacher = FakeTeacher(answer=lambda prompt: "Astrology")
        said = ask(tmp_path / how[0], asking("ok", 4), teacher, *how)[1]
        assert "4/4" in said
        assert missing in said if missing else " without a" not in said.replace("thinking", "")


def test_other_parameters_are_asked_again_and_that_is_said_before(tmp_path):
    """Of 8 replies with 32 tokens; those without thinking have none."""
    these = asking("ok", 6) + asking("truncated", 2)
    ask(tmp_path, these)
    more = [*these, {"question": "new"}]
    how = ("--max-tokens", "65536", "--dry-run")
    said = ask(tmp_path, more, None, *how)[1]
    assert "8 questions of these asked of fake before, with other parameters" in said
    assert "9 to ask" in said
    (each,) = re.findall(
        r"\(([\d,]+) each: the mean of the 8 replies with other parameters, 2", said
    )
    assert 30 <= int(each) <= 34
    said = ask(tmp_path, [{"question": "new"}], None, *how)[1]
    assert "asked of fake before" not in said
    said = ask(tmp_path, these, None, "--teacher", "other", *how)[1]
    assert "asked of" not in said and "4,700 each" in said
    assert "asked of fake before" not in ask(tmp_path, more, None, "--dry-run")[1]


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
def test_what_was_cut_can_be_asked_alone(tmp_path):
    """As docs/distill.md has it."""
    these = [{**q, "id": n, "year": n} for n, q in enumerate(asking("truncated", 2))]
    _, _, rows = ask(tmp_path, these + asking("ok", 2))
    text = (Path(__file__).parents[2] / "docs" / "distill.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`(jq .* traces/traces\.jsonl) > cut\.jsonl`", text)
    command = command.replace("traces/traces.jsonl", str(tmp_path / "out" / "traces.jsonl"))
    cut = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    (tmp_path / "cut.jsonl").write_text(cut.stdout)
    before = [(row["question"], row["id"], row["metadata"]) for row in rows if row["id"]]
    found = [(q.text, q.id, q.metadata) for q in Questions(str(tmp_path / "cut.jsonl"))]
    assert sorted(found) == sorted(before) and len(found) == 2


def test_a_minute_is_one(tmp_path):
    for rate, said in [("4700", "; 1 minute at"), ("2350", "; 2 minutes at"), ("90000", "; 1 min")]:
        how = ("--dry-run", "--tokens-per-minute", rate)
        assert said in ask(tmp_path, asking("ok", 1), None, *how)[1]


def test_ctrl_c_says_what_is_left(tmp_path):
    stop = iter([False] * 5 + [True])

    def answer(question):
        if next(stop, False):
            os.kill(os.getpid(), signal.SIGINT)
        return "no"

    how = ("--no-thinking", "--concurrency", "2")
    code, said, rows = ask(tmp_path, asking("ok", 40), FakeTeacher(answer=answer), *how)
    assert code == 1 and 5 <= len(rows) <= 8
    assert f"stopped with {40 - len(rows)} rows left to ask; the same command goes on" in said
