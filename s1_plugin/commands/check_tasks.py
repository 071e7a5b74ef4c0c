"""`s1 check-tasks [TASK …]`: every task grades its own right answers."""

from __future__ import annotations

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

    from s1_plugin.evaluation.maths import readable
    from s1_plugin.evaluation.task import S1Task, Ungradable

    manager = TaskManager(include_path=include_path)
    # The _agg64 variants ask the same problems.
    ours = [n for n in manager.all_subtasks if n.startswith("s1_") and not n.endswith("_agg64")]
    checked = failed = 0
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise click.ClickException(
            f"no such task: {', '.join(unknown)}; ours are {', '.join(sorted(ours))}"
        )
    for name in tasks or sorted(ours):
        try:
            loaded = _tasks(manager, name)
        except Ungradable as error:
            right = error.problems - len(error.rows)
            click.echo(f"{name}: {right} of {error.problems} right answers are graded as right")
            for number, why in error.rows:
                click.echo(f"  problem {number}: {why}")
            failed += 1
            continue
        except Exception as error:  # whatever keeps lm-eval from loading it
            click.echo(f"{name}: not checked: {error}")
            failed += bool(tasks)
            continue
        for task in loaded:
            if not isinstance(task, S1Task):
                click.echo(f"{task.config.task}: not checked: it is not an s1 task")
                failed += bool(tasks)
                continue
            golds = [str(task.doc_to_target(doc)) for doc in task.eval_docs]
            click.echo(
                f"{task.config.task}: {len(golds)} of {len(golds)} right answers are graded as "
                f"right ({task.kind})"
            )
            checked += 1
            if task.kind == "math":
                for number, gold in enumerate(golds, 1):
                    if not readable(gold):
                        click.echo(f"  problem {number}: only the same text is right: {gold!r:.80}")
    if failed:
        raise click.ClickException("not every task grades its own right answers")
    if not checked:
        raise click.ClickException(
            "no task could be checked; set S1_EVAL_DATA to a folder with their problems, or let "
            "the hub be reached"
        )


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
