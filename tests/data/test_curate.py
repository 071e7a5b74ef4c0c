"""The whole of it on real questions, through the command."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from importlib.util import find_spec

import pytest
from click.testing import CliRunner

from s1_plugin import records
from s1_plugin.commands.curate import curate
from s1_plugin.data import output
from s1_plugin.data import rows as rows_module
from s1_plugin.training.card import signed
from tests.data import traced
from tests.data.traced import WITHOUT


@pytest.fixture
def folder(data_dir, tmp_path, monkeypatch):
    """A folder with ``in.jsonl``: real questions, and short traces of many lengths."""
    monkeypatch.setenv("S1_EVAL_DATA", str(data_dir))
    traced.write(tmp_path / "in.jsonl", data_dir)
    return tmp_path


def run(folder, *options, out="out", ok=True):
    arguments = [str(folder / "in.jsonl"), "-o", str(folder / out), "--rows", "100", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["s1", *arguments])
        result = CliRunner().invoke(curate, arguments)
    assert (result.exit_code == 0) == ok, result.output
    return result.output


def rows_of(folder, out="out", name="train"):
    lines = (folder / out / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_what_it_writes(folder):
    said = run(folder, *WITHOUT, "--length-column", "tokens")
    assert re.search(r"status +912 → +902  status truncated 10", said)
    rows = rows_of(folder)
    assert len(rows) == 100
    # The trace loader reads it as s1K.
    reader = records.detect(list(rows[0]), "out")
    assert reader.name == "s1K"
    assert all(reader.read(row).thinking.startswith("Wait.") for row in rows)
    picked = [row["picked"] for row in rows]
    direct = [row for row in rows if row["picked"] == "direct"]
    assert picked.count("uniform") + len(direct) == 70 and picked.count("benchmark") == 30
    # Right answers to GPQA, and to MATH with over 5,600 tokens (correct: every 30th, all GPQA).
    assert direct and all(r["source_type"] == "gpqa" for r in direct)
    assert json.loads(rows[0]["provenance"])["teacher"] == "deepseek-reasoner"
    card = (folder / "out" / "README.md").read_text(encoding="utf-8")
    assert "not compared with aime25" in card and "MIT" in card
    assert "100 of 912 rows, chosen as the paper" in card
    record = json.loads((folder / "out" / "curate.json").read_text())
    domains = Counter(row["domain"] for row in rows)
    assert {n: c["chosen"] for n, c in record["domains"].items() if c["chosen"]} == domains
    assert sum(bin["chosen"] for bin in record["thinking_tokens"]) == 100
    assert len(record["nearest"]) == 20 and record["nearest"][0]["shared"] > 0
    assert "| contamination |" in card
    record = json.loads((folder / "out" / "curate.json").read_text())
    assert [s["rows_out"] for s in record["steps"]][-1] == 100
    gone = [json.loads(x) for x in (folder / "out" / "dropped.jsonl").read_text().splitlines()]
    assert len(gone) == record["steps"][0]["rows_in"] - record["steps"][-1]["rows_in"]
    assert any(
        row["stage"] == "contamination"
        and row["reason"].startswith("in aime24: aime24 2024-I-4: '")
        for row in gone
    )
    for name in ("README.md", "curate.html", "curate.json", "train.jsonl", "dropped.jsonl"):
        assert str(folder.parent) not in (folder / "out" / name).read_text(), name
    assert record["command"].startswith("s1 in.jsonl -o out --rows 100")
    assert (folder / "out" / "curate.png").read_bytes()[:4] == b"\x89PNG"


def test_the_second_time_all_is_kept_and_a_hand_written_card_stays(folder):
    run(folder, *WITHOUT, "--length-column", "tokens")
    first = (folder / "out" / "train.jsonl").read_bytes()
    (folder / "out" / "README.md").write_text("# mine\n")
    said = run(folder, *WITHOUT, "--length-column", "tokens")
    assert said.count("kept from before") == 8
    assert (folder / "out" / "README.md").read_text() == "# mine\n"
    assert (folder / "out" / "README.draft.md").is_file()
    assert (folder / "out" / "train.jsonl").read_bytes() == first
    said = run(folder, *WITHOUT, "--length-column", "tokens", "--seed", "1", out="other")
    assert said.count("kept from before") == 7
    assert (folder / "other" / "train.jsonl").read_bytes() != first


@pytest.mark.e2e
def test_four_processes_give_the_same_rows(folder, data_dir, monkeypatch):
    traced.write(folder / "in.jsonl", data_dir, times=3)
    options = [*WITHOUT, "--length-column", "tokens", "--rows", "1000"]
    run(folder, *options)
    monkeypatch.setenv("S1_CACHE", str(folder / "other-cache"))
    said = run(folder, *options, "--workers", "4", out="four")
    assert "kept from before" not in said
    one, four = ((folder / name / "train.jsonl").read_bytes() for name in ("out", "four"))
    assert one == four and one.count(b"\n") == 1000
    steps = json.loads((folder / "four" / "curate.json").read_text())["steps"]
    assert all(step["rows_in"] > 3 * rows_module.GROUP for step in steps)  # four jobs or more, each


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ("/home/me/in.jsonl", "in.jsonl"),
        ("--out=/home/me/x", "--out=x"),
        ("--against=/q.jsonl", "--against=q.jsonl"),
        ("-o/home/me/x", "-ox"),
        ("/home/me/x/", "x/"),
        ("data/in.jsonl", "data/in.jsonl"),
        ("Qwen/Qwen2.5-32B-Instruct", "Qwen/Qwen2.5-32B-Instruct"),
        ("--out=data/x", "--out=data/x"),
    ],
)
def test_a_shown_command_has_no_folders_of_this_machine(part, shown):
    assert output.shown(["s1", "curate", part]) == f"s1 curate {shown}"


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = set()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)


def test_text_from_data_is_never_markup(folder):
    lines = (folder / "in.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    row["question"] = "Find <script>alert(1)</script> <svg onload=x> $\\frac{1$ | `x` in [a](b)"
    row["domain"] = "<iframe>$\\frac{"
    (folder / "in.jsonl").write_text(json.dumps(row) + "\n")
    run(folder, *WITHOUT, "--length-column", "tokens", "--domains", "domain")
    page = _Tags()
    page.feed((folder / "out" / "curate.html").read_text())
    assert not page.found & {"script", "iframe", "svg", "b"}
    assert "<iframe>" not in (folder / "out" / "README.md").read_text()


def test_curated_again_the_card_still_names_the_teacher(folder):
    run(folder, *WITHOUT, "--length-column", "tokens")
    (folder / "out" / "train.jsonl").replace(folder / "in.jsonl")
    lengths = ("--length-column", "trace_tokens")
    run(folder, *WITHOUT, *lengths, "--select", "longest", "--rows", "10", out="again")
    card = (folder / "again" / "README.md").read_text(encoding="utf-8")
    assert "10 rows by deepseek-reasoner at api.deepseek.com: " in card
    assert "10 of 100 rows, those with the longest thinking (an ablation" in card


def test_a_folder_that_cannot_be_is_said_before_any_work(folder):
    (folder / "file").write_text("")
    said = run(folder, *WITHOUT, "--length-column", "tokens", out="file/out", ok=False)
    assert "name another folder with -o" in said and "→" not in said


def test_parquet_and_modes(folder):
    import pyarrow.parquet as pq

    for mode in ("random", "longest", "diverse"):
        run(folder, *WITHOUT, "--length-column", "tokens", "--select", mode, "--parquet", out=mode)
        table = pq.read_table(folder / mode / "train.parquet")
        assert table.num_rows == 100
        assert records.detect(table.column_names, mode).name == "s1K"
    longest = pq.read_table(folder / "longest" / "train.parquet")["trace_tokens"].to_pylist()
    random = pq.read_table(folder / "random" / "train.parquet")["trace_tokens"].to_pylist()
    assert min(longest) > 5000 > min(random)


def test_how_domains_are_weighed_is_said(folder):
    given = ("--length-column", "tokens", "--domains", "domain")
    rows = [json.loads(line) for line in (folder / "in.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["domain"] = ("Geometry", "Elsewhere")[number % 2]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.jsonl").write_text(json.dumps({"question": "Find a potato in a triangle."}))
    said = run(folder, *WITHOUT, *given)
    found = re.search(r"(\d+\.\d)% of the benchmarks' questions are of domains that no row", said)
    assert 50 < float(found[1]) < 100
    # A file of one's own is kept out, and weighs nothing.
    assert found[0] in run(folder, *WITHOUT, *given, "--against", str(folder / "mine.jsonl"))
    for number in (0, 1):
        rows[number]["domain"] = "Nowhere"
    none = [part for name in ("aime24", "math500") for part in ("--without-benchmark", name)]
    for more in ((), ("--against", str(folder / "mine.jsonl"))):
        said = run(folder, *WITHOUT, *none, *given, *more)
        assert "no benchmark to weigh domains by: every domain weighs the same, for all" in said
        assert {row["picked"] for row in rows_of(folder)} == {"uniform", "direct"}


def test_what_students_solve_goes(folder):
    pytest.importorskip("math_verify")
    rows = [json.loads(line) for line in (folder / "in.jsonl").read_text().splitlines()][:40]
    for number, row in enumerate(rows):
        row["answer"], row["big"] = str(number), number % 4 == 0
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    attempts = [
        {"question": row["question"], "thinking_trajectories": [], "attempt": "",
         "status": "no_thinking", "partial_attempt": f"It is \\boxed{{{number // 2 * 2}}}."}
        for number, row in enumerate(rows)
    ]  # fmt: skip
    (folder / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in attempts))
    options = ("--length-column", "tokens", "--student", "big", "--student")
    run(folder, *WITHOUT, *options, str(folder / "small.jsonl"))
    record = json.loads((folder / "out" / "curate.json").read_text())
    step = next(step for step in record["steps"] if step["stage"] == "difficulty")
    assert set(step["reasons"]) == {"solved by big, small.jsonl", "solved by small.jsonl"}
    # The small one is right on the even.
    assert {int(row["answer"]) % 2 for row in rows_of(folder)} == {1}
    assert len(rows_of(folder)) == step["rows_out"] > 10
    # Solved or not, a benchmark is looked at first: nothing is graded that goes anyway.
    names = [step["stage"] for step in record["steps"]]
    assert names.index("contamination") < names.index("difficulty")


def test_the_best_sample_of_a_question_stays(folder):
    pytest.importorskip("math_verify")

    def sample(question, n, thinking, attempt):
        return {
            "question": question, "thinking_trajectories": [thinking], "attempt": attempt,
            "answer": "7", "sample": n, "status": "ok", "tokens": 1,
        }  # fmt: skip

    rows = [
        sample("How many days?", 0, "so very, very long", "Answer: 6"),
        sample("How many days?", 1, "short", "Answer: 7"),
        sample("How many days?", 2, "longer", "\\boxed{7}"),
        sample("How many dwarfs?", 0, "short", "Answer: 8"),
        sample("How many dwarfs?", 1, "longer", "Answer: 9"),
        sample("How many seas?", 0, "x", "Answer: 1"),
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = run(folder, *WITHOUT, "--length-column", "tokens", "--select", "all")
    assert [row["thinking_trajectories"] for row in rows_of(folder)] == [
        ["longer"], ["longer"], ["x"],
    ]  # fmt: skip
    assert "other sample 3" in said
    assert "2 questions have several samples; the one that stays is right in 1" in said
    dropped = (folder / "out" / "dropped.jsonl").read_text()
    assert "other sample: in.jsonl, line 3 stays" in dropped


def test_a_sample_that_is_too_long_does_not_win(folder):
    pytest.importorskip("math_verify")
    row = {"question": "q?", "answer": "7", "status": "ok", "attempt": "Answer: 7"}
    rows = [
        {**row, "thinking_trajectories": ["so " * n], "tokens": n, "sample": at}
        for at, n in enumerate((6, 90, 901))
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--length-column", "tokens", "--select", "all", "--max-tokens", "500")
    run(folder, *WITHOUT, *options)
    assert [row["trace_tokens"] for row in rows_of(folder)] == [90]


@pytest.mark.parametrize("name", ["train.jsonl", "questions.jsonl", "dropped.jsonl"])
def test_what_is_read_is_never_written_over(folder, name):
    source = (folder / "in.jsonl").replace(folder / name)
    before = source.read_bytes()
    arguments = [str(source), "-o", str(folder), "--length-column", "tokens", *WITHOUT]
    result = CliRunner().invoke(curate, arguments)
    assert result.exit_code == 1 and f"{name} is read, and would be written over" in result.output
    assert source.read_bytes() == before
    other = [*arguments[:2], str(folder / "out"), *arguments[3:]]
    (folder / "out").mkdir()
    (folder / "out" / "train.jsonl").write_bytes(before)
    result = CliRunner().invoke(curate, [*other, "--student", str(folder / "out" / "train.jsonl")])
    assert result.exit_code == 1 and "would be written over" in result.output


def test_the_card_of_a_ledger_stays(folder):
    (folder / "out").mkdir()
    ledger = signed("configs:\n- data_files: traces.jsonl\n")
    (folder / "out" / "README.md").write_text(ledger)
    said = run(folder, *WITHOUT, "--length-column", "tokens")
    assert "is of other data and stays; a draft is in" in said
    assert (folder / "out" / "README.md").read_text() == ledger
    assert "data_files: train.jsonl" in (folder / "out" / "README.draft.md").read_text()


def test_names_of_domains_are_no_attempts(folder):
    row = {"question": "q", "thinking_trajectories": [], "attempt": "", "status": "no_thinking"}
    row |= {"partial_attempt": "Geometry", "parameters": '{"ask": "0"}', "teacher": "m"}
    (folder / "domains.jsonl").write_text(json.dumps(row) + "\n")
    name = str(folder / "domains.jsonl")
    said = run(folder, *WITHOUT, "--length-column", "tokens", "--student", name, ok=False)
    assert "holds names of domains, not attempts; give it to --domains" in said


def test_no_row_left_is_said_and_nothing_is_written(folder):
    row = {"question": "q", "thinking_trajectories": ["t"], "attempt": "a", "status": "refused"}
    row["tokens"] = 1
    (folder / "in.jsonl").write_text(json.dumps(row) + "\n")
    said = run(folder, *WITHOUT, "--length-column", "tokens", ok=False)
    assert "status refused 1" in said and "no row is left" in said
    assert not (folder / "out").exists()


def test_questions_without_traces(folder, data_dir):
    rows = [json.loads(line) for line in (folder / "in.jsonl").read_text().splitlines()]
    rows = [
        {"question": row["question"], "solution": row["solution"], "answer": "1"} for row in rows
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "make traces with `s1 distill` first" in run(folder, *WITHOUT, ok=False)
    said = run(folder, *WITHOUT, "--select", "all")
    assert "no row has a trace" in said
    found = rows_of(folder, name="questions")
    assert "thinking_trajectories" not in found[0] and len(found) > 700
    assert not (folder / "out" / "train.jsonl").exists()
    # The same as LIMO's: the solution is a trace.
    tokenizer = str(data_dir / "qwen2.5-tokenizer")
    run(folder, *WITHOUT, "--select", "random", "--layout", "limo", "--tokenizer", tokenizer)
    solutions = {row["solution"] for row in rows}
    assert all(row["thinking_trajectories"][0] in solutions for row in rows_of(folder))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--length-column", "nothing"],
            "--length-column nothing: the input has no such column; name one of its",
        ),
        (["--length-column", "tokens", "--domains", "tokens"], "not the name of a domain"),
        (
            ["--length-column", "tokens", "--domains", "x"],
            "columns: correct, host, teacher, tokens",
        ),
        (["--tokenizer", "."], "has no tokenizer.json"),
        (["--tokenizer", "no/model"], "--tokenizer no/model: cannot be had"),
        (
            ["--length-column", "tokens", "--student", "nobody"],
            "columns: correct, host, teacher, tokens",
        ),
    ],
)
def test_errors_name_option_and_remedy(folder, options, said):
    assert said in run(folder, *WITHOUT, *options, ok=False)
    assert not (folder / "out").exists()


def test_what_is_not_installed_is_said_before_any_work(folder, monkeypatch):
    def without(name):
        return None if name == "math_verify" else find_spec(name)

    monkeypatch.setattr("s1_plugin.commands.curate.find_spec", without)
    said = run(folder, *WITHOUT, "--length-column", "tokens", ok=False)
    assert said == (
        "Error: math_verify is not installed: in a checkout of s1-plugin, pip install '.[curate]'\n"
    )
    run(folder, *WITHOUT, "--length-column", "tokens", "--select", "random")  # grades nothing


def test_places_that_cannot_be_written(folder, monkeypatch):
    (folder / "file").write_text("")
    options = [*WITHOUT, "--length-column", "tokens"]
    assert "name another folder with -o" in run(folder, *options, out="file/out", ok=False)
    monkeypatch.setenv("S1_CACHE", str(folder / "file"))
    assert "set S1_CACHE" in run(folder, *options, ok=False)


def test_a_benchmark_is_never_silently_left_out(folder):
    assert "--without-benchmark aime25" in run(folder, "--length-column", "tokens", ok=False)


def test_tokens_are_the_tokenizers(folder, data_dir, qwen):
    rows = [json.loads(line) for line in (folder / "in.jsonl").read_text().splitlines()][:30]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(folder, *WITHOUT, "--tokenizer", str(data_dir / "qwen2.5-tokenizer"))
    for row in rows_of(folder):
        ids = qwen(row["thinking_trajectories"][0], add_special_tokens=False)["input_ids"]
        assert row["trace_tokens"] == len(ids)
