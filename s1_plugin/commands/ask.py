"""`s1 ask MODEL [QUESTION]`: one question, with thinking and answer as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from s1_plugin.commands.asked import Remote, Transformers, Vllm
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
@click.option(
    "--cap",
    type=_Cap(),
    default="auto",
    show_default=True,
    help="Most thinking tokens; auto leaves room for an answer.",
)
@click.option(
    "--waits",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="How often the end of thinking is replaced by Wait.",
)
@click.option(
    "--wait-string",
    "wait_strings",
    metavar="TEXT",
    multiple=True,
    default=("Wait",),
    show_default=True,
    help="What stands in its place; given several times, they are used in turn.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    default=32768,
    show_default=True,
    help="Most tokens of thinking and answer together.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    metavar="T",
    default=0.0,
    show_default=True,
    help="0 takes the most likely token always.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="The same seed draws the same tokens.",
)
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    default="s1",
    show_default=True,
    help="How the model was taught to write its thinking: s1 or think-tags.",
)
@click.option(
    "--engine",
    type=click.Choice(["transformers", "vllm"]),
    help="What runs a local model; transformers unless said.",
)
@click.option(
    "--model-name", metavar="NAME", help="The model's name on a server, if it has several."
)
@click.option(
    "--tokenizer",
    metavar="NAME",
    help="Folder or hub id; a local MODEL has its own, for a server's it is --model-name "
    "unless said.",
)
def ask(
    model: str,
    question: str | None,
    cap: Any,
    waits: int,
    wait_strings: tuple[str, ...],
    max_tokens: int,
    temperature: float,
    seed: int,
    format_name: str,
    engine: str | None,
    model_name: str | None,
    tokenizer: str | None,
) -> None:
    """Ask MODEL a QUESTION, and watch it think under a budget.

    MODEL is a folder, a hub id, or the address of a server of completions (vLLM, SGLang, …).
    Without QUESTION it is read from standard input, or asked for at the terminal. What was put in
    by force stands out: in reverse on a terminal, in [[double brackets]] elsewhere.

    \b
    s1 ask simplescaling/s1.1-1.5B "How many r in raspberry?"
    s1 ask outputs/s1/model "How many r in raspberry?" --waits 2
    s1 ask outputs/s1/model --cap 500 < question.txt
    s1 ask outputs/s1/model --waits 2 --wait-string Wait --wait-string Hmm
    s1 ask http://localhost:8000/v1 "How many r in raspberry?" --tokenizer outputs/s1/model

    A server's key is read from OPENAI_API_KEY.
    """
    from s1_plugin.commands.asked import Choice, Remote, Transformers, Vllm
    from s1_plugin.console import printable
    from s1_plugin.forcing.budget import Budget
    from s1_plugin.formats import get_format

    try:
        budget = Budget(cap=cap, waits=waits, wait_text=wait_strings)
        fmt = get_format(format_name)
        questions = _questions(question)
        choice = Choice(model, tokenizer, model_name, temperature, seed)
        kind: type[Remote | Transformers | Vllm]
        if model.startswith(("http://", "https://")):
            if engine:
                raise ValueError("--engine runs a local model; MODEL is a server's address")
            kind = Remote
        else:
            kind = Vllm if engine == "vllm" else Transformers
        asked = kind(choice)
        for text in questions:
            _show(asked, text, budget, fmt, max_tokens)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        raise click.ClickException(printable(str(error))) from None


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
    asked: Transformers | Vllm | Remote,
    question: str,
    budget: Budget,
    fmt: TraceFormat,
    max_tokens: int,
) -> None:
    """One question and what comes of it, streamed to standard output."""
    from s1_plugin.commands.live import Live
    from s1_plugin.encoding import decode
    from s1_plugin.forcing.budget import plan

    encoder = asked.encoder
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
        response = asked.generate(prompt + start, budget, settings, fmt, live.token)
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
