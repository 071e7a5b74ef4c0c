"""The data card beside a ledger: who wrote the traces, how, when, and what their terms say.

What somebody wrote by hand, or changed in an earlier draft, stays; see `s1_plugin.training.card`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s1_plugin import __version__
from s1_plugin.console import printable, say
from s1_plugin.distill import terms
from s1_plugin.distill.ledger import Ledger
from s1_plugin.distill.replies import STATUSES
from s1_plugin.training.card import BESIDE, FILE_NAME, by_hand, signed

#: Stands in every draft of ours; `s1 curate` and training sign theirs in the same way.
_OURS = "written by `s1 distill` of"


def write(ledger: Ledger, questions: str, teacher: tuple[str, str]) -> Path:
    """Writes the card into the ledger's folder; returns where.

    Args:
        questions: where they came from.
        teacher: name and host of the one that is asked now; it may have no row yet.
    """
    path = ledger.path.parent / FILE_NAME
    there = path.read_text(encoding="utf-8") if path.is_file() else ""
    if there.strip() and (by_hand(there) or _OURS not in there):
        beside = path.with_name(BESIDE)
        if not beside.exists():
            whose = "was written by hand" if by_hand(there) else "tells of other files here"
            say(f"{path} {whose} and stays; a draft of the data card is in {beside}")
        path = beside
    path.write_text(signed(render(ledger, questions, teacher)), encoding="utf-8")
    return path


def render(ledger: Ledger, questions: str, teacher: tuple[str, str]) -> str:
    """The card, in Markdown with the hub's YAML front matter
    (https://huggingface.co/docs/hub/datasets-cards)."""
    import yaml

    groups: dict[tuple[str, str, str], dict[str, Mapping[str, int]]] = {}
    for (name, host, parameters, status), counter in sorted(ledger.contents.tally.items()):
        groups.setdefault((name, host, parameters), {})[status] = counter
    teachers = list(dict.fromkeys([*((name, host) for name, host, _ in groups), teacher]))
    front = yaml.safe_dump(
        {
            "pretty_name": ledger.path.resolve().parent.name,
            "task_categories": ["text-generation"],
            "tags": ["reasoning", "distillation", "s1"],
            "configs": [{"config_name": "default", "data_files": ledger.path.name}],
        },
        sort_keys=False,
    )
    lines = [
        *["---", "# TODO license: see the teacher's terms below", *front.splitlines(), "---"],
        f"# {ledger.path.resolve().parent.name}",
        "",
        f"Questions of {_code(_named(questions))}, thought through and answered by a teacher; "
        f"{_OURS} [s1-plugin](https://arxiv.org/abs/2501.19393) {__version__}.",
        "",
        "## Terms of the teacher",
        "",
        *[
            f"- {_code(name)}: {terms.sentence(terms.of(name, host), host)}"
            for name, host in teachers
        ],
        "- TODO: the licence of the questions.",
        "",
        "## Rows",
        "",
        f"One line of `{ledger.path.name}` per question and sample. Only those with `status: ok` "
        "are traces (`question`, `thinking_trajectories`, `attempt`); what the others brought "
        "stands under `partial_…`, and why under `reason`. Each row names its teacher as asked "
        "(`teacher`) and as the server calls it (`served_as`), parameters, date and tokens.",
        "",
        *_table(groups),
        "",
        "TODO: what was checked; nothing here was graded or decontaminated.",
        "",
    ]
    return "\n".join(lines)


def _table(groups: Mapping[tuple[str, str, str], Mapping[str, Mapping[str, int]]]) -> Sequence[str]:
    if not groups:
        return ["None yet."]
    lines = [
        f"| teacher | host | parameters | {' | '.join(STATUSES)} | tokens in | tokens out |",
        "| --- " * (len(STATUSES) + 5) + "|",
    ]
    for (name, host, parameters), statuses in groups.items():
        counts: list[Any] = [statuses.get(status, {}).get("rows", 0) for status in STATUSES]
        tokens = [
            sum(counter.get(kind, 0) for counter in statuses.values())
            for kind in ("prompt_tokens", "completion_tokens")
        ]
        texts = [_code(text).replace("|", "\\|") for text in (name, host, parameters)]
        cells = [*texts, *(f"{n:,}" for n in [*counts, *tokens])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _code(text: str) -> str:
    """``text`` as it is, in as many backticks as it takes."""
    text = " ".join(printable(text).split())
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _named(questions: str) -> str:
    """A hub id, or a file's name; nobody needs to know where it is."""
    return Path(questions).name if Path(questions).exists() else questions
