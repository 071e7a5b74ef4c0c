"""What curation did: as a page that needs nothing else, a figure, and numbers for programs
(curate.html, .png, .json)."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from s1_plugin.data.curate import Curated
from s1_plugin.data.decontaminate import nearest

_NEAREST = 20
_NUMBER = re.compile(r"[\d,.]+%?|[\d,]+ to [\d,]+")
_BINS = 24
_STYLE = """
.bar { display: inline-block; height: .8em; background: var(--s0); min-width: 1px; }
td.bars { width: 40%; min-width: 8rem; text-align: left; }
@media (max-width: 40rem) { .bars { display: none; } td.text, th.text { min-width: 6.5rem; } }
.q { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def write(curated: Curated, folder: Path, title: str, command: str) -> dict[str, Path]:
    """Writes the three files into ``folder``; returns their paths by "html", "png" and "json"."""
    paths = {kind: folder / f"curate.{kind}" for kind in ("html", "png", "json")}
    bins = histogram(
        curated.result.pool.get("trace_tokens", []), curated.result.columns.get("trace_tokens", [])
    )
    near = _near(curated)
    paths["html"].write_text(page(curated, title, command, bins, near), encoding="utf-8")
    _draw(curated, bins, [share for share, *_ in near], title, paths["png"])
    told = json.dumps(numbers(curated, command, bins, near), indent=1)
    paths["json"].write_text(told + "\n", encoding="utf-8")
    return paths


def numbers(
    curated: Curated,
    command: str,
    bins: list[tuple[int, int, int, int]],
    near: list[tuple[float, str, str, str]],
) -> dict[str, Any]:
    """What page and figure show, for programs."""
    result = curated.result
    steps = [
        {
            "stage": step.name,
            "rows_in": step.rows_in,
            "rows_out": step.rows_out,
            "reasons": step.reasons,
            "examples": step.examples,
            "said": step.said,
        }
        for step in result.steps
    ]
    pool = Counter(result.pool.get("domain", []))
    chosen = Counter(result.columns.get("domain", []))
    return {
        "command": command,
        "input_sha256": curated.rows.digest,
        "steps": steps,
        "notes": curated.notes,
        "domains": {name: {"before": pool[name], "chosen": chosen[name]} for name in sorted(pool)},
        "thinking_tokens": [
            {"from": low, "below": high, "before": before, "chosen": taken}
            for low, high, before, taken in bins
        ],
        "nearest": [
            {"shared": share, "benchmark": name, "question": ours, "benchmark_question": theirs}
            for share, name, theirs, ours in near[:_NEAREST]
        ],
    }


def histogram(pool: Sequence[int], chosen: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """``(from, to, rows of the pool, rows chosen)`` in steps of one width over the pool."""
    if not pool:
        return []
    width = max(1, -(-(max(pool) + 1) // _BINS))
    of_pool = Counter(n // width for n in pool)
    of_chosen = Counter(n // width for n in chosen)
    return [
        (at * width, (at + 1) * width, of_pool[at], of_chosen[at])
        for at in range(max(pool) // width + 1)
    ]


def _near(curated: Curated) -> list[tuple[float, str, str, str]]:
    """The chosen questions nearest to a benchmark's: share of runs of 3 words, benchmark question,
    its text, ours."""
    if not curated.benchmarks:
        return []
    questions = [curated.rows.value(n, "question") for n in curated.result.numbers]
    found = nearest(questions, curated.benchmarks)
    order = sorted(range(len(found)), key=lambda at: (-found[at][0], at))
    return [(*found[at], questions[at]) for at in order]


def page(
    curated: Curated,
    title: str,
    command: str,
    bins: list[tuple[int, int, int, int]],
    near: list[tuple[float, str, str, str]],
) -> str:
    """The page; text from data is escaped, never markup."""
    esc = html.escape
    result = curated.result
    style = files("s1_plugin.evaluation").joinpath("page/style.css").read_text(encoding="utf-8")
    most = max((step.rows_in for step in result.steps), default=1) or 1
    funnel = [
        [esc(s.name), f"{s.rows_in:,}", f"{s.rows_out:,}", _bar(s.rows_out / most), _why(s)]
        for s in result.steps
    ]
    pool = Counter(result.pool.get("domain", []))
    chosen = Counter(result.columns.get("domain", []))
    top = max(chosen.values(), default=1)
    domain_rows = [
        [esc(name), f"{pool[name]:,}", f"{chosen[name]:,}", _bar(chosen[name] / top)]
        for name in sorted(pool, key=lambda name: (-chosen[name], -pool[name], name))
    ]
    top = max((b[3] for b in bins), default=1) or 1
    length_rows = [
        [f"{low:,} to {high - 1:,}", f"{of_pool:,}", f"{of_chosen:,}", _bar(of_chosen / top)]
        for low, high, of_pool, of_chosen in bins
    ]
    near_rows = [
        [
            f"{share:.0%}",
            esc(name),
            f'<div class="q">{esc(ours)}</div>',
            f'<div class="q">{esc(theirs)}</div>',
        ]
        for share, name, theirs, ours in near[:_NEAREST]
        if share > 0
    ]
    examples = [
        f"<li>{esc(s.name)}: {esc(text)}</li>" for s in result.steps for text in s.examples.values()
    ]
    parts = [
        f"<header><h1>{esc(title)}</h1><p id=lead>{len(result.numbers):,} of "
        f"{len(curated.rows):,} rows</p></header>",
        f"<p><code>{esc(command)}</code></p>",
        *(f"<p>{esc(note)}</p>" for note in curated.notes),
        "<h2>What each stage kept</h2>",
        _table(["stage", "rows in", "rows out", "", "why rows went"], funnel),
        "<h3>An example of each</h3><ul>" + "".join(examples) + "</ul>",
        "<h2>Domains</h2>",
        _table(["domain", "before selection", "chosen", ""], domain_rows),
    ]
    if length_rows:
        parts += [
            "<h2>Thinking tokens</h2>",
            _table(["tokens", "before selection", "chosen", ""], length_rows),
        ]
    if curated.benchmarks:
        parts += [
            "<h2>Nearest benchmark questions</h2>",
            "<p class=soft>Of the chosen questions, those that share most of their runs of three "
            "words with one question of a benchmark. All were kept: look whether they should.</p>",
            _table(["shared", "benchmark", "chosen question", "benchmark question"], near_rows),
        ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
        f"<title>{esc(title)}</title><style>{style}{_STYLE}</style></head><body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _why(step: Any) -> str:
    reasons = [f"{why} {n:,}" for why, n in step.reasons.items()]
    return html.escape("; ".join([*reasons, *step.said]))


def _bar(share: float) -> str:
    return f'<span class=bar style="width:{100 * share:.1f}%"></span>'


def _table(head: list[str], rows: list[list[str]]) -> str:
    def kind(text: str) -> str:
        if _NUMBER.fullmatch(text):
            return ""
        return " class=bars" if text.startswith("<span class=bar") else " class=text"

    def cell(text: str) -> str:
        return f"<td{kind(text)}>{text}</td>"

    first = rows[0] if rows else head
    top = "".join(
        f"<th{kind(below)}>{html.escape(name)}</th>"
        for name, below in zip(head, first, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return (
        f"<div class=scroll><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _draw(
    curated: Curated,
    bins: list[tuple[int, int, int, int]],
    shares: list[float],
    title: str,
    path: Path,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from s1_plugin.evaluation.plot import COLOURS

    figure = Figure(figsize=(11, 8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    # Text from data is text: no mathematics of matplotlib's in it.
    figure.suptitle(title, fontsize=11, parse_math=False)
    funnel, by_domain, by_length, near = figure.subplots(2, 2).flat
    steps = curated.result.steps
    names = ["input", *(step.name for step in steps)]
    counts = [steps[0].rows_in, *(step.rows_out for step in steps)]
    funnel.barh(names[::-1], counts[::-1], color=COLOURS[0])
    funnel.set_title("rows after each stage", fontsize=9)
    for at, count in enumerate(counts[::-1]):
        funnel.annotate(f" {count:,}", (count, at), va="center", fontsize=7)
    chosen = Counter(curated.result.columns.get("domain", [])).most_common(25)
    by_domain.barh(range(len(chosen))[::-1], [n for _, n in chosen], color=COLOURS[2])
    by_domain.set_yticks(range(len(chosen))[::-1], [n[:40] for n, _ in chosen], fontsize=6)
    # Few bars stay thin.
    by_domain.set_ylim(len(chosen) - 0.5 - max(len(chosen), 12), len(chosen) - 0.5)
    for label in by_domain.get_yticklabels():
        label.set_parse_math(False)
    by_domain.set_title("chosen rows by domain (25 most frequent)", fontsize=9)
    width = bins[0][1] - bins[0][0] if bins else 1
    for column, name, colour in ((2, "before selection", COLOURS[5]), (3, "chosen", COLOURS[1])):
        total = sum(b[column] for b in bins) or 1
        by_length.stairs(
            [b[column] / total for b in bins],
            [*(b[0] for b in bins), bins[-1][1]] if bins else [0],
            label=name,
            color=colour,
        ) if bins else None
    by_length.set_title(f"rows by thinking tokens (steps of {width:,})", fontsize=9)
    by_length.set_xlabel("thinking tokens", fontsize=8)
    by_length.set_ylabel("share of rows", fontsize=8)
    if bins:
        by_length.legend(fontsize=7, frameon=False)
    near.hist(shares, bins=[i / 20 for i in range(21)], color=COLOURS[3], log=bool(shares))
    near.set_title("chosen rows: what they share with a benchmark question", fontsize=9)
    near.set_xlabel("share of their runs of 3 words, nearest question", fontsize=8)
    near.set_ylabel("rows (log)", fontsize=8)
    for axes in (funnel, by_domain):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (funnel, by_domain, by_length, near):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
    figure.savefig(path)
