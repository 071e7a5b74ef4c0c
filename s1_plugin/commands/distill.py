"""`s1 distill QUESTIONS --out FOLDER`: from questions to traces, by a teacher that thinks aloud."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

#: What is asked of the teacher, and the file for it: what is no trace is kept apart.
_FILES = {"solution": "traces.jsonl", "domain": "domains.jsonl"}
#: Tokens of a reply that names a domain, before there is one.
_NAME = (10, "the name of a domain; --expect-tokens says another, where the teacher thinks first")


def _object(ctx: click.Context, option: click.Parameter, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise click.BadParameter('is no JSON object, such as {"reasoning_effort": "high"}')
    return found


@click.command()
@click.argument("questions")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder for {_FILES['solution']} and the data card; given again, the run goes on there.",
)
@click.option(
    "--ask",
    type=click.Choice([*_FILES]),
    default="solution",
    show_default=True,
    help=f"domain: only to name the question's domain, into {_FILES['domain']} (for `s1 curate "
    "--domains`).",
)
@click.option(
    "--teacher",
    default="deepseek-reasoner",
    show_default=True,
    help="The model's name at --base-url, or vllm:FOLDER for a model in this process.",
)
@click.option(
    "--base-url",
    default="https://api.deepseek.com/v1",
    show_default=True,
    help="An OpenAI-compatible address.",
)
@click.option(
    "--key-env",
    metavar="NAME",
    help="The environment variable with the key. Not given: DEEPSEEK_API_KEY, GEMINI_API_KEY or "
    "OPENAI_API_KEY at their own hosts; no other host gets a key.",
)
@click.option(
    "--format",
    "fmt",
    help="The model's own format (s1, think-tags), asked through /completions: for models of ours "
    "and others whose delimiters a chat endpoint hides. vllm: always does that, by default in "
    "think-tags.",
)
@click.option(
    "--tokenizer",
    help="Folder or hub id: for --format the model's own; else it counts for --dry-run.",
)
@click.option("--question-field", default="question", show_default=True, help="Its column.")
@click.option("--split", default="train", show_default=True, help="Of a hub data set.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--max-tokens", type=click.IntRange(min=1), default=32768, show_default=True)
@click.option("--temperature", type=click.FloatRange(min=0), help="Not given: the teacher's own.")
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True))
@click.option("--seed", type=int, help="Of the first sample; each further one adds 1.")
@click.option(
    "--extra",
    default="{}",
    metavar="JSON",
    callback=_object,
    help='More for the body of each request, such as {"reasoning_effort": "high"}.',
)
@click.option(
    "--engine-args",
    default="{}",
    metavar="JSON",
    callback=_object,
    help='For vllm:, such as {"tensor_parallel_size": 8, "data_parallel_size": 2}.',
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=32,
    show_default=True,
    help="Requests at a time.",
)
@click.option(
    "--tokens-per-minute", type=click.IntRange(min=1), help="Prompts and replies together."
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="How often one question is asked again after failures.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    default=900.0,
    show_default=True,
    help="Seconds: no question is retried for longer, and if nothing at all comes for so long, "
    "the run stops.",
)
@click.option(
    "--stall",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds of silence after which a connection counts as lost.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Seconds for a whole reply.",
)
@click.option("--price-in", type=click.FloatRange(min=0), help="Dollars per million tokens.")
@click.option("--price-out", type=click.FloatRange(min=0), help="Of replies, thinking included.")
@click.option(
    "--expect-tokens",
    type=click.IntRange(min=1),
    help="Tokens of a reply, for the forecast. Not given: the mean of the replies that are there, "
    "else 4,700, the mean of s1K.",
)
@click.option(
    "--no-thinking",
    is_flag=True,
    help="None is expected (a student's attempts, for `s1 curate --student`): replies without it "
    "do not stop the run.",
)
@click.option("--dry-run", is_flag=True, help="Price the job; ask nothing, write nothing.")
def distill(questions: str, out: Path, dry_run: bool, **options: Any) -> None:
    """Ask a teacher every one of QUESTIONS, and write down how it thinks.

    \b
    export DEEPSEEK_API_KEY=…
    s1 distill questions.jsonl --out traces --dry-run --price-in 0.55 --price-out 2.19
    s1 distill questions.jsonl --out traces
    s1 distill OWNER/NAME --out traces --teacher vllm:deepseek-ai/DeepSeek-R1-Distill-Qwen-32B

    QUESTIONS is a .jsonl or .parquet file or a data set of the hub, with a column `question`.
    Every question is answered exactly once, also after a kill: give the same command again.
    Before it starts it names what the teacher's terms say about training on its output.
    See docs/distill.md.
    """
    from s1_plugin.distill.ledger import LedgerError
    from s1_plugin.distill.limits import Hopeless

    try:
        code = asyncio.run(_distill(questions, out, dry_run, options))
    except ImportError as error:
        raise click.ClickException(
            f"{error}: in a checkout of s1-plugin, pip install '.[distill]'"
        ) from None
    except (ValueError, OSError, Hopeless, LedgerError) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(code)


async def _distill(source: str, out: Path, dry_run: bool, options: dict[str, Any]) -> int:
    from s1_plugin.console import say
    from s1_plugin.data import domains
    from s1_plugin.distill import accounts, card, cost, run, terms
    from s1_plugin.distill.ledger import Contents, Ledger
    from s1_plugin.distill.questions import Questions

    _check(options)
    asked = run.Asked("", *(options[n] for n in ("max_tokens", "temperature", "top_p", "seed")))
    local = options["teacher"].startswith("vllm:")
    fmt = options["fmt"] or ("think-tags" if local else "chat")
    parameters = {"format": fmt, "max_tokens": asked.max_tokens, **asked.sampling()}
    domain = options["ask"] == "domain"
    if domain:
        # Another list of domains is another prompt.
        parameters["ask"] = hashlib.sha256(domains.prompt("").encode()).hexdigest()[:12]
        options["no_thinking"] = True
    if options["extra"]:
        parameters["extra"] = options["extra"]
    teacher = _teacher(options, fmt, local)
    if local:
        parameters |= teacher.provenance()
    settings = run.Settings(
        asked,
        json.dumps(parameters, sort_keys=True),
        prices=cost.Prices(options["price_in"], options["price_out"]),
        expected_tokens=options["expect_tokens"],
        **{
            name: options[name]
            for name in (
                *("samples", "concurrency", "tokens_per_minute"),
                *("retries", "patience", "timeout", "no_thinking"),
            )
        },
    )
    if domain:
        settings = replace(settings, prompt=domains.prompt, guess=_NAME, names=domains.named)
    asking = Questions(source, options["question_field"], options["split"], bare=domain)
    path = out / _FILES[options["ask"]]
    say(terms.sentence(terms.of(teacher.name, teacher.host), teacher.host))
    if dry_run:
        accounts.before(asking, teacher.name, settings, Contents(path), options["tokenizer"])
        return 0
    if not local:
        teacher.check_key()
        say(teacher.key_said())
    ledger = Ledger(path)
    try:
        plan = accounts.before(
            asking, teacher.name, settings, ledger.contents, options["tokenizer"]
        )
        if not plan.left:
            return int(not accounts.there(asking, teacher.name, settings, path).wanted)
        if not domain:  # names of domains are no data set
            card.write(ledger, source, (teacher.name, teacher.host))
        async with teacher:
            going = run.Run(teacher, ledger, settings, (plan.prompt, plan.reply))
            todo = run.jobs(asking, teacher.name, settings, ledger.contents.done)
            try:
                counts = await going.over(todo, plan.total, plan.total - plan.left)
            finally:
                accounts.after(going, path, plan.left)
        return int(bool(going.held) or counts.stopped or not counts.wanted)
    finally:
        await ledger.close()
        if not (domain or ledger.broken):  # the disk takes no card either
            card.write(ledger, source, (teacher.name, teacher.host))


def _check(options: dict[str, Any]) -> None:
    from s1_plugin.formats import get_format

    if options["fmt"]:
        get_format(options["fmt"])
    if options["samples"] > 1 and options["temperature"] == 0:
        raise ValueError("--samples over 1 at --temperature 0 are all the same; raise one")
    if (options["price_in"] is None) != (options["price_out"] is None):
        raise ValueError("give both --price-in and --price-out, or neither")


def _teacher(options: dict[str, Any], fmt: str, local: bool) -> Any:
    from s1_plugin.formats import get_format

    name = options["teacher"]
    if local:
        from s1_plugin.distill.offline import Engine

        if options["extra"] or options["key_env"]:
            raise ValueError("--extra and --key-env are for servers; vllm: takes --engine-args")
        return Engine(name.removeprefix("vllm:"), get_format(fmt), options["engine_args"])
    if options["engine_args"]:
        raise ValueError("--engine-args are for --teacher vllm:FOLDER; a server takes --extra")
    from s1_plugin.distill.teachers import Server

    how: dict[str, Any] = {}
    if options["fmt"]:
        if not options["tokenizer"]:
            raise ValueError(
                "--format writes the prompt itself: name the model's --tokenizer (folder or hub id)"
            )
        from s1_plugin.distill.cost import load_tokenizer
        from s1_plugin.distill.offline import prompt_ids
        from s1_plugin.encoding import TextEncoder

        encoder = TextEncoder(load_tokenizer(options["tokenizer"]))
        how = {
            "fmt": get_format(fmt),
            "prompt": lambda text: prompt_ids(encoder, text, get_format(fmt)),
        }
    return Server(
        name,
        options["base_url"],
        key_variable=options["key_env"],
        extra=options["extra"],
        stall=options["stall"],
        **how,
    )
