"""What a distillation says before it starts and after it has ended: questions, tokens, dollars, and
why questions brought no trace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from s1_plugin.console import printable, say
from s1_plugin.distill import cost
from s1_plugin.distill.ledger import Contents, along, rows
from s1_plugin.distill.questions import Question
from s1_plugin.distill.reasons import Reasons
from s1_plugin.distill.run import Counts, Run, Settings, expected_tokens, jobs, key_of


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
    others = {group[2] for group in contents.tally if group[0] == teacher} - {settings.parameters}
    given = left = elsewhere = 0
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
            elsewhere += any(key_of(question.text, teacher, o, 0) in contents.done for o in others)
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
    if elsewhere:
        say(
            f"{many(elsewhere, 'question')} of these asked of {teacher} before, with other "
            "parameters (--max-tokens, …): this asks, and pays for, all again"
        )
    reply, whence = expected_tokens(settings, contents, teacher)
    replies = left * reply
    if left:
        price = cost.money(settings.prices.dollars(prompts, replies))
        rate = settings.tokens_per_minute
        minutes = (prompts + replies) / (rate or 1)
        say(
            f"about {prompts:,.0f} tokens of prompts ({how}) and {replies:,.0f} of replies "
            f"({reply:,.0f} each: {whence}): {price}"
            + (" (--price-in, --price-out)" if settings.prices.prompt is None else "")
            + (f"; {many(max(1, round(minutes)), 'minute')} at that rate" * bool(rate))
        )
    return Plan(left, total, prompts / max(left, 1), reply)


def there(questions: Iterable[Question], teacher: str, settings: Settings, path: Path) -> Counts:
    """Says, and returns, what the ledger at ``path`` holds for a job of which all is there."""
    keys, counts = {job.key for job in jobs(questions, teacher, settings)}, Counts()
    for _, row in rows(path):
        if row["key"] in keys:
            counts.add(row, settings)
    none = "" if counts.wanted else f", none of which brought {settings.sought}"
    say(
        f"{path}: nothing to ask; {many(counts.rows, 'row')} there already{none} "
        f"({_statuses(counts, settings)})"
    )
    _said(counts, settings)
    return counts


def _statuses(counts: Counts, settings: Settings) -> str:
    names = {"no_thinking": "without thinking"} if settings.no_thinking else {}
    found = counts.statuses.most_common()
    return ", ".join(f"{n:,} {names.get(status, status)}" for status, n in found) or "none"


def _said(counts: Counts, settings: Settings) -> None:
    """Says which rows are not what was sought, and what helps."""
    if settings.names and counts.rows:
        answers = sum(n for status, n in counts.statuses.items() if settings.answered(status))
        say(f"{counts.wanted:,} name a domain, {answers - counts.wanted:,} none or several")
    for line in counts.reasons.lines():
        say(line)


def after(run: Run, path: Path, left: int) -> None:
    """Says what came of ``run``, which had ``left`` rows to ask, into the ledger at ``path``."""
    counts, prices = run.counts, run.settings.prices
    spent = prices.dollars(counts.prompt_tokens, counts.completion_tokens)
    paid = run.paid()
    in_all = prices.dollars(paid["prompt_tokens"], paid["completion_tokens"])
    say(
        f"{path}: {many(counts.rows, 'row')} written ({_statuses(counts, run.settings)}); "
        f"{counts.prompt_tokens:,} tokens of prompts and {counts.completion_tokens:,} of replies"
        + (f": {cost.money(spent)}" if spent is not None else "")
    )
    _said(counts, run.settings)
    if paid["rows"] > counts.rows:
        say(
            f"with earlier runs {many(paid['rows'], 'row')}, {paid['prompt_tokens']:,} tokens of "
            f"prompts and {paid['completion_tokens']:,} of replies"
            + (f": {cost.money(in_all)}" if in_all is not None else "")
        )
    if counts.failures:
        kinds = ", ".join(f"{n:,} × {kind}" for kind, n in counts.failures.most_common(8))
        say(
            f"{many(counts.failures.total(), 'attempt')} failed ({kinds}); asked again "
            f"{many(counts.again, 'time')}"
        )
    if counts.lost:
        say(
            f"{many(counts.lost, 'attempt')} broke off, or nothing came for too long: the teacher "
            "may have charged for that, which is not in the sum"
        )
    if counts.untold:
        say(
            f"the server told no token counts for {many(counts.untold, 'row')}: what these cost is "
            "not in the sum"
        )
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
    if counts.stopped:
        say(
            f"stopped with {many(left - counts.rows, 'row')} left to ask; the same command goes on "
            "there"
        )


def many(count: int, what: str) -> str:
    """``count`` of something, such as "1 row" and "2 rows"."""
    return f"{count:,} {what}" + "s" * (count != 1)
