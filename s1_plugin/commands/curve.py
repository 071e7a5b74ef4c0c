"""`s1 curve`: accuracy against thinking tokens, from logged samples or from a model."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

_FOLDER = click.Path(exists=True, path_type=Path)


class _Numbers(click.ParamType):
    """Whole numbers (and ``auto`` where it is allowed) between commas."""

    name = "n,n,..."

    def __init__(self, auto: bool = False) -> None:
        self.auto = auto

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        words = [word.strip() for word in str(value).split(",") if word.strip()]
        wrong = [w for w in words if not w.isdecimal() and not (self.auto and w == "auto")]
        if wrong:
            allowed = "whole numbers or auto" if self.auto else "whole numbers"
            self.fail(f"{wrong[0]!r}: give {allowed}, with commas between them", param, ctx)
        return [word if word == "auto" else int(word) for word in words]


@click.command()
@click.argument("folders", nargs=-1, type=_FOLDER, metavar="[DIR]...")
@click.option(
    "--out",
    default="curve",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where curve.json, curve.png and curve.html are written.",
)
@click.option("--compare", multiple=True, type=_FOLDER, metavar="DIR", help="Another model's runs.")
@click.option(
    "--task",
    "tasks",
    metavar="NAME",
    multiple=True,
    help="Only this task; may be given again.",
)
@click.option("--title", help="Title of the page and the figure.")
@click.option("--run", "model", metavar="MODEL", help="Evaluate MODEL (folder or hub id) first.")
@click.option(
    "--caps",
    type=_Numbers(auto=True),
    default="500,1000,2000,4000,8000,16000,auto",
    show_default=True,
    help='With --run: most thinking tokens of each run without Waits. "" for none.',
)
@click.option(
    "--waits",
    type=_Numbers(),
    default="1,2,4,6",
    show_default=True,
    help='With --run: Waits of each run under the automatic cap. "" for none.',
)
@click.option(
    "--engine",
    type=click.Choice(["hf", "vllm"]),
    default="hf",
    show_default=True,
    help="With --run: what runs MODEL.",
)
@click.option(
    "--lm-eval",
    "arguments",
    metavar="ARGUMENTS",
    default="",
    help="With --run: more arguments for lm_eval, in quotes.",
)
def curve(
    folders: tuple[Path, ...],
    out: Path,
    compare: tuple[Path, ...],
    tasks: tuple[str, ...],
    title: str | None,
    model: str | None,
    caps: list[int | str],
    waits: list[int],
    engine: str,
    arguments: str,
) -> None:
    """Draw accuracy against thinking tokens.

    DIR is what `lm_eval --output_path DIR --log_samples` wrote; several folders are drawn
    together.

    \b
    Or evaluate a model first, all budgets in one lm_eval call that shares their thinking:
      s1 curve --run MODEL --task s1_aime24
    Started again after an interruption, it goes on where it stopped.
    """
    from s1_plugin.evaluation import report, samples
    from s1_plugin.evaluation.names import told_apart

    if not folders and model is None:
        raise click.UsageError("give a DIR of samples, or --run MODEL --task NAME")
    if model is None:
        _unused("caps", "waits", "engine", "arguments")
    elif not Path(model).is_dir() and (model.count("/") != 1 or model.startswith(("/", "."))):
        # no hub id either
        raise click.UsageError(f"--run {model}: there is no such folder")
    same = {path.resolve() for path in folders} & {path.resolve() for path in compare}
    if same:
        raise click.UsageError(f"{min(same)} would be compared with itself")
    commands = []
    if model is not None:
        command = evaluation(model, tasks, caps, waits, engine, arguments, out / "samples")
        commands.append(shlex.join(command))
        click.echo(commands[0])
        program = Path(sys.executable).with_name(command[0])
        done = subprocess.run([str(program), *command[1:]])
        if done.returncode:
            raise click.ClickException(f"lm_eval failed (exit status {done.returncode})")
        folders = (*folders, out / "samples")
    try:
        runs = told_apart([*samples.read(folders, tasks), *samples.read(compare, tasks)])
    except samples.SamplesError as error:
        raise click.ClickException(str(error)) from None
    names = ", ".join(dict.fromkeys(run.task for run in runs))
    try:
        paths = report.write(
            runs,
            out,
            title=title or f"Accuracy against thinking tokens: {names}",
            commands=commands if not compare and len(folders) == 1 else [],
        )
    except OSError as error:
        raise click.ClickException(f"cannot write to {out}: {error}; choose --out") from None
    for line in [*table(runs), *words(paths["json"])]:
        click.echo(line)
    for path in paths.values():
        click.echo(str(path))


def _unused(*names: str) -> None:
    """Refuses options that were given and would do nothing."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = {"arguments": "lm-eval"}.get(name, name)
            raise click.UsageError(f"--{option} goes with --run MODEL only")


def evaluation(
    model: str,
    tasks: tuple[str, ...],
    caps: list[int | str],
    waits: list[int],
    engine: str,
    arguments: str,
    out: Path,
) -> list[str]:
    """The lm_eval command for ``model`` under all budgets.

    Raises:
        click.UsageError: if it would evaluate nothing.
    """
    if not tasks:
        raise click.UsageError("--run needs --task NAME; `lm_eval ls tasks` lists those there are")
    budgets: dict[str, Any] = {}
    if caps:
        budgets["max_tokens_thinking"] = caps
    if waits:
        budgets["thinking_n_ignore"] = waits
    if not budgets:
        raise click.UsageError("--run needs --caps or --waits")
    settings = f"pretrained={model}"
    if engine == "vllm":
        from s1_plugin.forcing.vllm_request import PROCESSOR

        engine_settings = {"pretrained": model, "logits_processors": [PROCESSOR]}
        settings = json.dumps({**engine_settings, "enable_prefix_caching": True})
    return [
        *("lm_eval", "run", "--model", engine, "--model_args", settings),
        *("--tasks", ",".join(tasks), "--apply_chat_template", "--batch_size", "auto"),
        *("--gen_kwargs", json.dumps(budgets)),
        *("--output_path", str(out), "--log_samples"),
        *shlex.split(arguments),
    ]


def words(path: Path) -> list[str]:
    """What is to be known about the numbers in a ``curve.json``: what was left out, and which
    differences are within noise."""
    curve = json.loads(path.read_text(encoding="utf-8"))
    several = len(curve["tasks"]) > 1
    found = list(curve["notes"])
    for task in curve["tasks"]:
        found += [f"{task['task']}: {w}" if several else w for w in task["warnings"]]
    return [f"- {line}" for line in found]


def table(runs: list[Any]) -> list[str]:
    """Lines for the terminal: accuracy ± standard error and thinking tokens of each run."""
    from s1_plugin.evaluation.curve import sort
    from s1_plugin.evaluation.names import short_models
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
                    f"{run.mean_thinking_tokens:.1f}" if run.counted else "–",
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
