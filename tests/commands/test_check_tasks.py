import json
from functools import partial

import pytest
from click.testing import CliRunner

from s1_plugin.commands.check_tasks import check_tasks
from tests.conftest import ROOT

tasks = pytest.importorskip("lm_eval.tasks")


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Runs the command with these rows for each file, and no hub."""
    monkeypatch.setenv("S1_EVAL_DATA", str(tmp_path))
    # lm-eval's own thousands of tasks take seconds to list.
    manager = partial(tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(tasks, "TaskManager", manager)

    def run(*names, **files):
        for name, rows in files.items():
            text = "".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in rows)
            (tmp_path / f"{name}.jsonl").write_text(text)
        return CliRunner().invoke(check_tasks, [*names, "--include-path", str(ROOT / "eval_tasks")])

    return run


GOOD = [("1+1", "2")]


def test_a_task_that_cannot_be_loaded_is_not_one_that_grades_wrongly(check):
    found = check("s1_aime25")
    assert found.exit_code == 1 and "aime25.jsonl is not there" in found.output
    assert "no task could be checked; set S1_EVAL_DATA" in found.output
    assert "not every task grades" not in found.output


def test_the_nano_task_alone_is_not_enough_unless_it_is_named(check):
    found = check()
    assert "s1_nano: 300 of 300" in found.output
    assert found.exit_code == 1 and "no task could be checked" in found.output
    assert "as right: 0; that do not: 0; not checked: 4 (s1_nano not counted)" in found.output
    assert check("s1_nano").exit_code == 0
    found = check(aime24=GOOD)
    assert found.exit_code == 0
    assert "as right: 1; that do not: 0; not checked: 3 (s1_nano not counted)" in found.output


@pytest.mark.parametrize("group", ["s1_aime", "s1_aime_agg64"])
def test_a_group_is_checked_member_by_member(check, group):
    found = check(group, aime24=GOOD)
    agg = group.removeprefix("s1_aime")
    assert f"s1_aime24{agg}: 1 of 1" in found.output
    assert f"s1_aime25{agg}: not checked" in found.output
    assert found.exit_code == 1 and "not every task that was named could be checked" in found.output
    assert check(group, aime24=GOOD, aime25=GOOD).exit_code == 0


def test_wrong_rows_fail_and_unreadable_ones_have_a_reason(check):
    found = check("s1_aime24", aime24=[*GOOD, ("1/2", "0.5")])
    assert found.exit_code == 1 and "not every task grades" in found.output
    assert "s1_aime24: 1 of 2" in found.output and "problem 2" in found.output
    golds = [("x", "1"), ("large", "9^{9^{9^9}}"), ("long", "1+" * 200 + "1"), ("none", "\\frac")]
    found = check("s1_math500", math500=golds)
    assert found.exit_code == 0, found.output
    lines = [line for line in found.output.splitlines() if "only the same text" in line]
    reasons = ["(too large)", "(too long)", "(it is no formula)"]
    assert [reason in line for reason, line in zip(reasons, lines, strict=True)] == [True] * 3
