"""What a distillation says before it starts and after it has ended: questions, tokens, dollars, and
why questions brought no trace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from s1_plugin.console import printable, say
from s1_plugin.distill import cost
from s1_plugin.distill.ledger import Contents, along
from s1_plugin.distill.questions import Question
from s1_plugin.distill.reasons import Reasons
from s1_plugin.distill.run import Run, Settings, expected_tokens, key_of


class Plan(NamedTuple):
    """Rows left to ask of all there are to be, and tokens of a prompt and of a reply."""

    left: int
    total: int
    prompt: float
    reply: float


class _Others:
    """Questions that come with another answer or solution than one of the same text."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def add(self, question: Question) -> None:
        self.count += 1
        self.first = self.first or printable(question.text.replace("\n", " "))[:60]


def before(
    questions: Iterable[Question],
    teacher: str,
    settings: Settings,
    contents: Contents,
    tokenizer: str | None,
) -> Plan:
    """Says what is left to do and what it will cost."""
    tokens, how = cost.counter(tokenizer)
    given = left = 0
    prompts = 0.0
    seen: dict[str, int] = {}
    in_file, in_ledger = _Others(), _Others()
    for given, question in enumerate(questions, 1):  # noqa: B007
        keys = [
            key_of(question.text, teacher, settings.parameters, sample)
            for sample in range(settings.samples)
        ]
        mine = along(question._asdict())
        if keys[0] in seen:
            if seen[keys[0]] != mine:
                in_file.add(question)
            continue
        seen[keys[0]] = mine
        there = [contents.done[key] for key in keys if key in contents.done]
        if any(known != mine for known in there):
            in_ledger.add(question)
        if len(there) < len(keys):
            left += len(keys) - len(there)
            prompts += tokens(settings.prompt(question.text)) * (len(keys) - len(there))
    total, twice = len(seen) * settings.samples, (given - len(seen)) * settings.samples
    also = f", {many(twice, 'row')} left out as the same question stands there before"
    say(
        f"{many(given, 'question')} × {many(settings.samples, 'sample')}{also if twice else ''}: "
        f"{total - left:,} {'is' if total - left == 1 else 'are'} there, {left:,} to ask of "
        f"{teacher}"
    )
    if in_file.count:
        say(
            f"{many(in_file.count, 'row')} left out with another answer or solution than the "
            f"same question before (the first: {in_file.first!r}): those of the first row count; "
            "mend the file if they should not"
        )
    if in_ledger.count:
        say(
            f"{many(in_ledger.count, 'question')} in {contents.path} with another answer or "
            f"solution than now (the first: {in_ledger.first!r}): the ledger keeps its own. "
            "Mend them in its lines, which are found all the same; or take the lines out, and the "
            "questions are asked, and paid for, again"
        )
    reply, whence = expected_tokens(settings, contents)
    replies = left * reply
    if left:
        price = cost.money(settings.prices.dollars(prompts, replies))
        minutes = (prompts + replies) / (settings.tokens_per_minute or 1)
        say(
            f"about {prompts:,.0f} tokens of prompts ({how}) and {replies:,.0f} of replies "
            f"({reply:,.0f} each: {whence}): {price}"
            + (" (--price-in, --price-out)" if settings.prices.prompt is None else "")
            + (f"; {minutes:,.0f} minutes at that rate" if settings.tokens_per_minute else "")
        )
    return Plan(left, total, prompts / max(left, 1), reply)


def after(run: Run, path: Path) -> None:
    """Says what came of ``run`` into the ledger at ``path``."""
    counts, prices = run.counts, run.settings.prices
    statuses = ", ".join(f"{n:,} {status}" for status, n in counts.statuses.most_common())
    spent = prices.dollars(counts.prompt_tokens, counts.completion_tokens)
    paid = run.paid()
    in_all = prices.dollars(paid["prompt_tokens"], paid["completion_tokens"])
    say(
        f"{path}: {many(counts.rows, 'row')} written ({statuses or 'none'}); "
        f"{counts.prompt_tokens:,} tokens of prompts and {counts.completion_tokens:,} of replies"
        + (f": {cost.money(spent)}" if spent is not None else "")
    )
    for line in counts.reasons.lines():
        say(line)
    if paid["rows"] > counts.rows:
        say(
            f"with earlier runs {many(paid['rows'], 'row')}, {paid['prompt_tokens']:,} tokens of "
            f"prompts and {paid['completion_tokens']:,} of replies"
            + (f": {cost.money(in_all)}" if in_all is not None else "")
        )
    if counts.failures:
        kinds = ", ".join(f"{n:,} × {kind}" for kind, n in counts.failures.most_common(8))
        say(f"asked again {many(counts.failures.total(), 'time')}: {kinds}")
    if counts.lost:
        say(
            f"{many(counts.lost, 'attempt')} broke off, or nothing came for too long: the teacher "
            "may have charged for that, which is not in the sum"
        )
    if counts.rows and not counts.completion_tokens:
        say("the server tells no token counts, so nothing can be said about the cost")
    if run.held:
        say(
            f"{many(len(run.held), 'question')} failed and brought no row, as nothing was answered "
            "after them; the same command asks them again"
        )
        reasons = Reasons()
        for row in run.held:
            reasons.add(row["status"], row["reason"])
        for line in reasons.lines():
            say(line)


def many(count: int, what: str) -> str:
    """``count`` of something, such as "1 row" and "2 rows"."""
    return f"{count:,} {what}" + "s" * (count != 1)
