"""`s1 data stats FILE`: what is in a file of traces."""

from __future__ import annotations

import json
from typing import Any

import click

from s1_plugin.formats import FORMATS


@click.group()
def data() -> None:
    """Look at training data."""


@data.command()
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--layout",
    type=click.Choice(["limo"]),
    help="limo: a `solution` is a thinking trace. Every other layout is told by its columns.",
)
@click.option(
    "--tokenizer",
    default="Qwen/Qwen2.5-32B-Instruct",
    show_default=True,
    metavar="MODEL",
    help="Whose tokens are counted: a folder or a model of the hub.",
)
@click.option("--no-tokens", is_flag=True, help="Count no tokens; needs no tokenizer.")
@click.option(
    "--format",
    "format_name",
    default="s1",
    show_default=True,
    type=click.Choice(sorted(FORMATS)),
    help="How rows are written for training.",
)
@click.option("--context", default=32768, show_default=True, type=click.IntRange(1))
@click.option(
    "--without-benchmark", "without", multiple=True, metavar="NAME", help="Do not compare with it."
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="JSON instead of lines.")
def stats(
    inputs: tuple[str, ...],
    layout: str | None,
    tokenizer: str,
    no_tokens: bool,
    format_name: str,
    context: int,
    without: tuple[str, ...],
    workers: int,
    as_json: bool,
) -> None:
    """Rows and tokens of FILE (.jsonl, .parquet, or a data set of the hub), and what to look out
    for: rows over the context, traces that go in circles, languages, "Wait"s, copies, and questions
    of the benchmarks."""
    from s1_plugin import cache
    from s1_plugin.commands.curate import KEPT, needs

    needs("numpy", "pyarrow")
    from s1_plugin.console import printable
    from s1_plugin.data import stats as counting
    from s1_plugin.data.engine import Local
    from s1_plugin.data.rows import InputError, load

    fmt, folder = FORMATS[format_name], cache.folder("curate")
    try:
        encoder = None if no_tokens else _encoder(tokenizer, fmt)
        rows = load(inputs, folder, layout)
        found = counting.of(
            rows, Local(workers), encoder=encoder, fmt=fmt, context=context, without=without
        )
    except (InputError, RuntimeError) as error:
        raise click.ClickException(printable(str(error))) from None
    except OSError as error:
        raise click.ClickException(printable(f"{error}; {KEPT.format(folder)}")) from None
    if as_json:
        click.echo(json.dumps(found.data, indent=1))
    else:
        click.echo(printable("\n".join(found.lines)))


def _encoder(tokenizer: str, fmt: Any) -> Any:
    from s1_plugin.encoding import TextEncoder

    try:
        from transformers import AutoTokenizer

        encoder = TextEncoder(AutoTokenizer.from_pretrained(tokenizer))
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(
            f"--tokenizer {tokenizer}: cannot be had ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); name a folder with a tokenizer and its chat template, "
            "or give --no-tokens"
        ) from None
    unfit = encoder.unfit(fmt)
    if unfit:
        raise click.ClickException(f"--tokenizer {tokenizer}: {unfit}")
    return encoder
