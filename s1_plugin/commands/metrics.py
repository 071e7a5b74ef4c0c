"""`s1 metrics FILE.jsonl`: the paper's three metrics of any published table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def metrics(file: Path, as_json: bool) -> None:
    """Control, Scaling and Performance of every method in FILE.

    Each line is one run: {"method": "TCC", "tokens": 7939, "accuracy": 26.7}, with average
    thinking tokens and accuracy in per cent, and, where limits were asked for, "min" and "max".
    Scaling is in accuracy points per doubling of the tokens. Where every accuracy of a method is
    one of 30 problems, rounded (26.7 for 8 of 30, as AIME is printed), its Scaling is that of the
    fractions.
    """
    from s1_plugin.evaluation.metrics import paper_metrics, scaling, thirtieths

    methods = read(file)
    table = {name: paper_metrics(trials) for name, trials in methods.items()}
    exact = {name: found for name, trials in methods.items() if (found := thirtieths(trials))}
    for name, found in exact.items():
        table[name]["scaling"] = scaling([found[trial] for trial in methods[name]])
    if exact:
        names = ", ".join(exact)
        click.echo(f"{file}: for Scaling, read as shares of 30 problems: {names}", err=True)
    if as_json:
        click.echo(json.dumps(table, ensure_ascii=False, indent=2))
        return
    width = max(map(len, [*table, "method"]))
    click.echo(f"{'method':<{width}}  runs  Control  Scaling  Performance")
    for name, row in table.items():
        slope = "–" if row["scaling"] is None else f"{row['scaling']:.1f}"
        click.echo(
            f"{name:<{width}}  {len(methods[name]):>4}  {row['control']:>5.0f} %  {slope:>7}"
            f"  {row['performance']:>11.1f}"
        )
    click.echo(
        "Control: per cent of runs within the limits asked for (runs without limits are). "
        "Scaling: accuracy points per doubling of the thinking tokens, mean over all pairs of "
        "runs. Performance: per cent, best run."
    )


def read(file: Path) -> dict[str, list[Any]]:
    """The runs of each method, in the file's order.

    Raises:
        click.ClickException: for a bad row, with file, line, field and remedy.
    """
    from s1_plugin.evaluation.metrics import Trial

    methods: dict[str, list[Any]] = {}
    ignored: set[str] = set()
    for where, row in _rows(file):
        if not isinstance(row.get("method"), str) or not row["method"]:
            raise click.ClickException(
                f"{where}, field `method`: give the method's name as a string"
            )
        ignored |= set(row) - {"method", "tokens", "accuracy", "min", "max"}
        limits = [
            _number(row, name, where, "leave it out if there is none", optional=True)
            for name in ("min", "max")
        ]
        tokens = _number(row, "tokens", where, "give the average thinking tokens, above 0")
        accuracy = _number(row, "accuracy", where, "give the accuracy in per cent, 0 to 100")
        assert tokens is not None and accuracy is not None
        if tokens <= 0:
            raise click.ClickException(
                f"{where}, field `tokens`: is {tokens:g}; Scaling counts doublings, so leave runs "
                "without thinking out"
            )
        if not 0 <= accuracy <= 100:
            raise click.ClickException(
                f"{where}, field `accuracy`: is {accuracy:g}; give it in per cent, 0 to 100"
            )
        methods.setdefault(row["method"], []).append(Trial(tokens, accuracy, *limits))
    if ignored:
        click.echo(f"{file}: not used: {', '.join(sorted(ignored))}", err=True)
    return methods


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from s1_plugin.evaluation.jsonl import RowError, rows

    try:
        yield from rows(file, '{"method": "TCC", "tokens": 7939, "accuracy": 26.7}')
    except RowError as error:
        raise click.ClickException(str(error)) from None


def _number(
    row: dict[str, Any], name: str, where: str, remedy: str, optional: bool = False
) -> float | None:
    value = row.get(name)
    if value is None and optional:
        return None
    # json reads NaN and Infinity; neither is a number of tokens or an accuracy
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        what = "is missing" if name not in row else f"is {value!r}"
        raise click.ClickException(f"{where}, field `{name}`: {what}; {remedy}")
    return value
