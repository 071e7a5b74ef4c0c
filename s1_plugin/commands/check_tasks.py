"""`s1 check-tasks [TASK …]`: every task grades its own right answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click


@click.command("check-tasks")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--include-path", metavar="DIR", help="A folder of task files, as in lm_eval.")
def check_tasks(tasks: tuple[str, ...], include_path: str | None) -> None:
    """Have every task grade its own right answers, and demand 100 %.

    Without TASK all s1 tasks are checked whose problems can be loaded from here. Problems that
    cannot be graded are listed; so are right answers that math-verify cannot read, for which only
    the same text is right.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=include_path)
    # The _agg64 variants ask the same problems.
    ours = [n for n in manager.all_subtasks if n.startswith("s1_") and not n.endswith("_agg64")]
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise click.ClickException(
            f"no such task: {', '.join(unknown)}; ours are {', '.join(sorted(ours))}"
        )
    named = [member for name in tasks for member in _members(manager, name)]
    counts: Counter[str] = Counter()
    for name in dict.fromkeys(named or sorted(ours)):
        verdict = _checked(manager, name)
        # s1_nano makes its own problems: that it can be checked says nothing of the others.
        counts[verdict] += named != [] or name != "s1_nano"
    click.echo(
        f"tasks that grade all of their right answers as right: {counts['good']}; that do not: "
        f"{counts['bad']}; not checked: {counts['not loaded']}"
        f"{'' if named else ' (s1_nano not counted)'}"
    )
    if counts["bad"]:
        raise click.ClickException(
            "not every task grades its own right answers; mend the rows named above"
        )
    if counts["not loaded"] and (named or not counts["good"]):
        what = "not every task that was named" if counts["good"] else "no task"
        raise click.ClickException(
            f"{what} could be checked; set S1_EVAL_DATA to a folder with their problems, or let "
            "the hub be reached"
        )


def _checked(manager: Any, name: str) -> str:
    """Checks a task and prints what was found: "good", "bad" or "not loaded"."""
    from s1_plugin.evaluation.maths import unreadable
    from s1_plugin.evaluation.task import S1Task, Ungradable

    try:
        found = _tasks(manager, name)
    except Ungradable as error:
        right = error.problems - len(error.rows)
        click.echo(f"{name}: {right} of {error.problems} right answers are graded as right")
        for number, why in error.rows:
            click.echo(f"  problem {number}: {why}")
        return "bad"
    except Exception as error:  # whatever keeps lm-eval from loading it
        click.echo(f"{name}: not checked: {str(error).removeprefix(f'{name}: ')}")
        return "not loaded"
    for task in found:
        if not isinstance(task, S1Task):
            click.echo(f"{name}: not checked: it is not an s1 task")
            return "not loaded"
        golds = [str(task.doc_to_target(doc)) for doc in task.eval_docs]
        click.echo(
            f"{task.config.task}: {len(golds)} of {len(golds)} right answers are graded as right "
            f"({task.kind})"
        )
        for number, gold in enumerate(golds if task.kind == "math" else [], 1):
            if why := unreadable(gold):
                click.echo(f"  problem {number}: only the same text is right ({why}): {gold!r:.80}")
    return "good"


def _members(manager: Any, name: str) -> list[str]:
    """The tasks of a group, which lm-eval loads all or none; of anything else, its own name."""
    import yaml

    entry = manager.task_index[name]
    path = Path(str(entry.get("yaml_path") if isinstance(entry, dict) else entry.yaml_path))
    if name not in manager.all_groups or not path.is_file():
        return [name]
    try:
        members = yaml.safe_load(path.read_text(encoding="utf-8"))["task"]
    except (yaml.YAMLError, KeyError):
        return [name]
    if not isinstance(members, list) or not all(m in manager.all_tasks for m in map(str, members)):
        return [name]
    return [task for member in members for task in _members(manager, member)]


def _tasks(manager: Any, name: str) -> list[Any]:
    found: list[Any] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        else:
            found.append(value)

    walk(manager.load_task_or_group([name]))
    return found
