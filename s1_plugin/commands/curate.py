"""`s1 curate INPUT -o OUT`: the rows to train on, out of many."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from s1_plugin import cache

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

#: The remedy where files cannot be written.
KEPT = (
    f"what is kept between runs goes to {{}}: make room, or set {cache.VARIABLE} to another folder"
)


def needs(*modules: str) -> None:
    """Stops where a package is not installed, before any work.

    Raises:
        click.ClickException: with the command that installs it.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"{missing[0]} is not installed: in a checkout of s1-plugin, pip install '.[curate]'"
        )


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for train.jsonl (without traces: questions.jsonl), dropped.jsonl, README.md (data "
    "card), curate.html, .png, .json.",
)
@click.option(
    "--layout",
    type=click.Choice(["limo"]),
    help="limo: a `solution` is a thinking trace. Every other layout is told by its columns.",
)
@click.option("--rows", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--select",
    "mode",
    default="s1",
    show_default=True,
    type=click.Choice(["s1", "random", "longest", "diverse", "all"]),
    help="The paper's selection, its ablations, or every row that is left.",
)
@click.option(
    "--tokenizer",
    default="Qwen/Qwen2.5-32B-Instruct",
    show_default=True,
    metavar="MODEL",
    help="Whose tokens are counted: a folder with tokenizer.json, or a model of the hub.",
)
@click.option("--length-column", metavar="NAME", help="Thinking tokens are in this column.")
@click.option(
    "--max-tokens", type=click.IntRange(1), help="Drop traces with more thinking tokens than this."
)
@click.option(
    "--domains",
    metavar="FILE|COLUMN",
    help="Domains as a model names them, by `s1 distill --ask domain`, or in a column. Not given: "
    "told by words.",
)
@click.option(
    "--student",
    "students",
    multiple=True,
    metavar="FILE|COLUMN",
    help="Drop what this model solves: its attempts, by `s1 distill`, or in a column (text, or "
    "true and false). May be given again.",
)
@click.option(
    "--against",
    multiple=True,
    type=_FILE,
    help="More questions to keep out (.jsonl or .parquet). May be given again.",
)
@click.option(
    "--without-benchmark",
    "without",
    multiple=True,
    metavar="NAME",
    help="Do not compare with aime24, aime25, math500 or gpqa_diamond. May be given again.",
)
@click.option("--patterns", type=_FILE, help="Patterns of bad form, instead of ours (YAML).")
@click.option("--direct", type=_FILE, help="Rules of direct picks, instead of the paper's (YAML).")
@click.option("--parquet", is_flag=True, help="Write .parquet instead of .jsonl.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1))
@click.option(
    "--engine",
    default="local",
    show_default=True,
    type=click.Choice(["local", "ray"]),
    help="Processes of this machine, or a Ray cluster. Results are the same.",
)
def curate(out: Path, parquet: bool, workers: int, engine: str, **asked: Any) -> None:
    """Choose the rows to train on from INPUT: what `s1 distill` wrote, or any traces that the
    trace loader reads, as .jsonl, .parquet or a data set of the hub.

    Stages: failed requests; incomplete rows; bad form; exact and near copies; contamination by
    AIME 2024 and 2025, MATH500 and GPQA Diamond; what a student solves; length; domain; selection.
    Each says how many rows go, and why. Outcomes are kept, so that a second run with another
    setting does again only what depends on it.
    """
    counted = () if asked["length_column"] else ("tokenizers",)
    # Students' answers are graded, and the teacher's, for direct picks.
    graded = ("math_verify",) if asked["students"] or asked["mode"] == "s1" else ()
    needs("numpy", "pyarrow", "matplotlib", *counted, *graded)
    from s1_plugin.console import printable, say
    from s1_plugin.data import curate as curating
    from s1_plugin.data import engine as engines
    from s1_plugin.data.pipeline import Step
    from s1_plugin.data.rows import InputError

    def show(step: Step) -> None:
        why = [f"{name} {n:,}" for name, n in step.reasons.items()] + step.said
        kept = " (kept from before)" if step.cached else f" ({step.seconds:.1f} s)"
        line = f"{step.name:<14} {step.rows_in:>9,} → {step.rows_out:>9,}"
        click.echo(printable(f"{line}  {'; '.join(why)}{kept}"), err=True)

    folder = cache.folder("curate")
    request = curating.Asked(**asked)
    _spare(out, asked)
    with _folder(out):
        runner = None
        try:
            runner = engines.Ray(workers) if engine == "ray" else engines.Local(workers)
            found = curating.curate(request, folder, runner, show)
        except (InputError, RuntimeError) as error:
            raise click.ClickException(printable(str(error))) from None
        except OSError as error:
            raise click.ClickException(printable(f"{error}; {KEPT.format(folder)}")) from None
        finally:
            if runner is not None:
                runner.close()
        for note in found.notes:
            say(note)
        if not found.result.numbers:
            raise click.ClickException(
                "no row is left; the lines above say why they went, and nothing was written"
            )
        try:
            data = _write(found, request, ["s1", *sys.argv[1:]], out, parquet)
        except OSError as error:
            remedy = "make room, or name another folder with -o"
            raise click.ClickException(f"{error}; {remedy}") from None
    say(f"{len(found.result.numbers):,} rows are in {data}; a draft of the data card beside it")


#: What a run writes.
_WRITTEN = (
    *("train.jsonl", "train.parquet", "questions.jsonl", "questions.parquet", "dropped.jsonl"),
    *("curate.html", "curate.png", "curate.json", "README.md"),
)


def _spare(out: Path, asked: dict[str, Any]) -> None:
    """Refuses to write over what is read."""
    written = {(out / name).resolve() for name in _WRITTEN}
    read = [*asked["inputs"], *asked["students"], *asked["against"]]
    read += [asked[name] for name in ("domains", "patterns", "direct") if asked[name]]
    for name in read:
        if Path(name).resolve() in written:
            raise click.ClickException(
                f"{name} is read, and would be written over; name another folder with -o"
            )


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Makes ``out`` before any work, so that a place where none can be is said at once; it goes
    again if nothing came into it."""
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{error}; name another folder with -o") from None
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # it is not empty
                out.rmdir()


def _write(found: Any, request: Any, command: list[str], out: Path, parquet: bool) -> Path:
    from s1_plugin.data import output, report

    data = output.write(found, out, parquet)
    output.dropped(found, out)
    output.card(found, request, command, data)
    report.write(found, out, out.resolve().name, output.shown(command))
    return data
