"""`s1 curve DIR`: accuracy against thinking tokens, from logged samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_FOLDER = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=_FOLDER, metavar="DIR...")
@click.option(
    "--out",
    default="curve",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where curve.json, curve.png and curve.html are written.",
)
@click.option("--compare", multiple=True, type=_FOLDER, metavar="DIR", help="Another model's runs.")
@click.option("--task", "tasks", multiple=True, help="Only this task; may be given again.")
@click.option("--title", help="Title of the page and the figure.")
def curve(
    folders: tuple[Path, ...],
    out: Path,
    compare: tuple[Path, ...],
    tasks: tuple[str, ...],
    title: str | None,
) -> None:
    """Draw accuracy against thinking tokens from the samples in DIR.

    DIR is what `lm_eval --output_path DIR --log_samples` wrote; several folders are drawn
    together. No model is run.
    """
    from s1_plugin.evaluation import report, samples
    from s1_plugin.evaluation.runs import told_apart

    try:
        runs = told_apart([*samples.read(folders, tasks), *samples.read(compare, tasks)])
    except samples.SamplesError as error:
        raise click.ClickException(str(error)) from None
    names = ", ".join(dict.fromkeys(run.task for run in runs))
    paths = report.write(
        runs,
        out,
        title=title or f"Accuracy against thinking tokens: {names}",
        commands=[],
    )
    for line in table(runs):
        click.echo(line)
    for path in paths.values():
        click.echo(str(path))


def table(runs: list[Any]) -> list[str]:
    """Lines for the terminal: accuracy ± standard error and thinking tokens of each run."""
    from s1_plugin.evaluation.curve import short_models, sort
    from s1_plugin.evaluation.shown import accuracy, fixed, percent

    models = short_models(runs)
    rows = [("task", "model", "budget", "thinking tokens", "accuracy %", "95 % interval", "n")]
    for task in dict.fromkeys(run.task for run in runs):
        for run in sort([r for r in runs if r.task == task]):
            low, high = run.interval
            rows.append(
                (
                    run.task,
                    models[run.model],
                    run.label,
                    f"{run.mean_thinking_tokens:.1f}",
                    accuracy(run.accuracy, run.standard_error),
                    f"{fixed(percent(low))} to {fixed(percent(high))}",
                    str(run.n),
                )
            )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
