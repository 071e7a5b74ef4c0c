"""`s1 ask MODEL [QUESTION]`: one question, with thinking and answer as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from s1_plugin.commands.asked import Local, Remote
    from s1_plugin.forcing.budget import Budget
    from s1_plugin.forcing.response import Response
    from s1_plugin.formats import TraceFormat


class _Cap(click.ParamType):
    name = "tokens|auto"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if value == "auto" else click.IntRange(min=0).convert(value, param, ctx)


@click.command()
@click.argument("model")
@click.argument("question", required=False)
@click.option("--cap", type=_Cap(), default="auto", show_default=True, help="Most thinking tokens.")
@click.option(
    "--waits", type=click.IntRange(min=0), default=0, help="Natural ends that are replaced."
)
@click.option(
    "--wait-string",
    "wait_strings",
    multiple=True,
    default=("Wait",),
    show_default=True,
    help="What replaces them; given several times, they are used in turn.",
)
@click.option("--format", "format_name", default="s1", show_default=True, help="Trace format.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=32768,
    show_default=True,
    help="Most tokens of thinking and answer together.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="0 is greedy.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--model-name", help="The model's name on a server; its first one by default.")
@click.option("--tokenizer", help="Folder or hub id, if it is not the model's name.")
def ask(
    model: str,
    question: str | None,
    cap: Any,
    waits: int,
    wait_strings: tuple[str, ...],
    format_name: str,
    max_tokens: int,
    temperature: float,
    seed: int,
    model_name: str | None,
    tokenizer: str | None,
) -> None:
    """Ask MODEL a QUESTION, and watch it think under a budget.

    MODEL is a folder, a hub id, or the address of a server (http://localhost:8000/v1). Without
    QUESTION it is read from standard input, or asked for at the terminal. What was put in by force
    stands out. A server's key is read from OPENAI_API_KEY.
    """
    from s1_plugin.commands.asked import Local, Remote
    from s1_plugin.forcing.budget import Budget
    from s1_plugin.formats import get_format

    try:
        budget = Budget(cap=cap, waits=waits, wait_text=wait_strings)
        fmt = get_format(format_name)
        questions = _questions(question)
        kind = Remote if model.startswith(("http://", "https://")) else Local
        asked = kind(model, model_name, tokenizer, temperature, seed)
        for text in questions:
            _show(asked, text, budget, fmt, max_tokens)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        raise click.ClickException(str(error)) from None


def _questions(question: str | None) -> Iterable[str]:
    """The question given, the one piped in, or those typed at the terminal until an empty one."""
    if question is None and not sys.stdin.isatty():
        question = sys.stdin.read().strip()
    if question is not None:
        if not question.strip():
            raise click.UsageError("the question is empty")
        return [question]
    return iter(_typed, "")


def _typed() -> str:
    try:
        return click.prompt("Question (empty to leave)", default="", show_default=False).strip()
    except click.Abort:
        return ""


def _show(
    asked: Local | Remote, question: str, budget: Budget, fmt: TraceFormat, max_tokens: int
) -> None:
    """One question and what comes of it, streamed to standard output."""
    from s1_plugin.commands.live import Live
    from s1_plugin.encoding import decode
    from s1_plugin.forcing.budget import plan

    encoder = asked.encoder
    if missing := encoder.missing_tokens(fmt):
        raise ValueError(
            f"the tokenizer has no single token for {', '.join(missing)}, which the format "
            f"{fmt.name!r} needs; choose another with --format"
        )
    prompt = encoder.encode(encoder.prompt_pieces(question, fmt))
    start = encoder.scaffold_ids(fmt.think_start)
    settings = plan(
        budget,
        encoder,
        fmt,
        prompt_length=len(prompt),
        max_new_tokens=max_tokens,
        context=asked.context,
    )
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    live = Live(
        lambda ids: decode(encoder.tokenizer, ids), lambda t: click.echo(t, nl=False), colour
    )
    try:
        for token in start:
            live.token(token, True)
        response = asked.generate(prompt + start, settings, fmt, live.token)
    finally:
        live.end()
        click.echo()
    if response.error:
        raise RuntimeError(response.error)
    click.echo(summary(response), err=True)


def summary(response: Response) -> str:
    """One line of counts."""
    how = {
        "natural": "ended by itself",
        "cap": "cut at the cap",
        "context": "cut at the end of the context",
    }
    waits = f", {response.waits} Wait{'s' * (response.waits != 1)}" if response.waits else ""
    cut = "" if response.finished == "stop" else ", cut at --max-tokens"
    return (
        f"thinking: {response.thinking_tokens} tokens{waits}, "
        f"{how.get(response.ended, response.ended)}; answer: {response.answer_tokens} tokens{cut}; "
        f"forced: {len(response.forced)} tokens"
    )
