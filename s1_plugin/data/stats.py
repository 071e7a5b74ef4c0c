"""What is in a file of traces: lengths, loops, languages, Waits, copies, contamination."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from s1_plugin.data import benchmarks, duplicates
from s1_plugin.data.decontaminate import Index
from s1_plugin.data.engine import Batch, Local, Ray
from s1_plugin.data.pipeline import jobs_of
from s1_plugin.data.rows import InputError, Rows
from s1_plugin.data.words import grams
from s1_plugin.encoding import Piece, TextEncoder
from s1_plugin.formats import TraceFormat

#: Runs of this many words that a trace holds twice.
LOOP_WORDS = 20
#: A trace with more of its runs repeated than this goes in circles. Of 582 traces by s1.1-32B and
#: 40 of LIMO the highest share is 6.5 %, and 99 of 100 have less than 3.5 %.
LOOP_SHARE = 0.1
_WAIT = re.compile(r"\bWait\b")
_LETTERS = re.compile(r"[^\W\d_]+")
#: Scripts by ranges of code points (https://www.unicode.org/charts/), the common ones.
_SCRIPTS = (
    ("Latin", re.compile(r"[A-Za-z\u00c0-\u024f]")),
    ("Greek", re.compile(r"[\u0370-\u03ff]")),
    ("Cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("Hebrew", re.compile(r"[\u0590-\u05ff]")),
    ("Arabic", re.compile(r"[\u0600-\u06ff]")),
    ("Devanagari", re.compile(r"[\u0900-\u097f]")),
    ("Thai", re.compile(r"[\u0e00-\u0e7f]")),
    ("Japanese", re.compile(r"[\u3040-\u30ff]")),
    ("Korean", re.compile(r"[\uac00-\ud7af]")),
    ("Chinese", re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")),
)
#: Frequent words that few other languages have.
_STOPWORDS = {
    "English": "the of and is that to we this with for are which so be let",
    "German": "der und ist das nicht ein wir mit für auf sich dass auch eine",
    "French": "le la les des est une que dans pour nous avec sur donc qui cette",
    "Spanish": "el los las que una para por con como está entonces donde sea del",
    "Italian": "il che di della per una sono con gli nel questo quindi anche è",
    "Portuguese": "os que uma para não com por então são seja como ao dos se",
}
_STOP = {language: frozenset(words.split()) for language, words in _STOPWORDS.items()}


def language(text: str) -> str:
    """The language that a text is mostly in, as a simple count tells it: the most frequent script,
    and for Latin the most frequent of a few stop words; "unclear" without either.

    Japanese with more Chinese signs than kana counts as Japanese if one in ten is kana.
    """
    scripts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS}
    if not any(scripts.values()):
        return "unclear"
    if scripts["Japanese"] * 9 >= scripts["Chinese"] > 0:
        scripts["Japanese"] += scripts["Chinese"]
    script = max(scripts, key=lambda name: scripts[name])
    if script != "Latin":
        return script
    words = Counter(_LETTERS.findall(text.lower()))
    counts = {name: sum(words[word] for word in stop) for name, stop in _STOP.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else "unclear"


def repeated(text: str) -> float:
    """The share of the runs of `LOOP_WORDS` words that stand in the text a second time."""
    words = text.split()
    runs = grams(words, LOOP_WORDS)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def measured(
    encoder: TextEncoder | None, fmt: TraceFormat, index: Index, batch: Batch
) -> dict[str, Any]:
    """What is counted of each row. ``row_tokens`` and ``thinking_tokens`` are -1 for rows without a
    whole trace, or without a tokenizer."""
    n = len(batch["question"])
    whole = [
        bool(thinking.strip()) and not problem
        for thinking, problem in zip(batch["thinking"], batch["problem"], strict=True)
    ]
    rows, thinking = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    if encoder is not None:
        at = [i for i in range(n) if whole[i]]
        records = [(batch["question"][i], batch["thinking"][i], batch["attempt"][i]) for i in at]
        # One by one: a batch would hold all ids of all rows.
        for i, record in zip(at, records, strict=True):
            found = encoder.rows([record], fmt)[0]
            rows[i] = len(found.input_ids)
            thinking[i] = len(encoder.encode_batch([[Piece(record[1].strip(), data=True)]])[0])
    matches = [index.find(question) for question in batch["question"]]
    return {
        "row_tokens": rows,
        "thinking_tokens": thinking,
        "whole": np.array(whole, bool),
        "repeated": np.array([repeated(text) for text in batch["thinking"]]),
        "waits": np.array([len(_WAIT.findall(text)) for text in batch["thinking"]], np.int64),
        "language": [
            f"{language(q)} → {language(t)}" if w else language(q)
            for q, t, w in zip(batch["question"], batch["thinking"], whole, strict=True)
        ],
        "match": [str(match) if match else "" for match in matches],
        "prints": np.array([duplicates.fingerprint(q) for q in batch["question"]], np.uint64),
        "bands": duplicates.bands(list(batch["question"])),
    }


@dataclass
class Stats:
    """The whole of it, as JSON, and the lines that people read."""

    data: dict[str, Any]
    lines: list[str] = field(default_factory=list)


def available(without: Sequence[str]) -> tuple[list, dict[str, str]]:
    """The benchmarks that can be had, and why others cannot."""
    benchmarks.check(without)
    found, missing = [], {}
    for name in benchmarks.PLACES:
        if name in without:
            missing[name] = "left out by name"
            continue
        try:
            found += benchmarks.load([other for other in benchmarks.PLACES if other != name])
        except InputError as error:
            missing[name] = str(error)
    return found, missing


def of(
    rows: Rows,
    engine: Local | Ray,
    *,
    encoder: TextEncoder | None,
    fmt: TraceFormat,
    context: int,
    without: Sequence[str] = (),
) -> Stats:
    """Counts everything once over ``rows``."""
    found, missing = available(without)
    index = Index.build(found)
    reads = ("question", "thinking", "attempt", "problem")
    parts: dict[str, list[Any]] = {}
    measure = partial(measured, encoder, fmt, index)
    for part in engine.run(measure, rows, reads, jobs_of(list(range(len(rows))), {})):
        for name, values in part.items():
            parts.setdefault(name, []).append(values)
    columns: dict[str, Any] = {
        name: [v for values in lists for v in values]
        if isinstance(lists[0], list)
        else np.concatenate(lists)
        for name, lists in parts.items()
    }
    copies = duplicates.copies(
        columns["prints"], columns["bands"], lambda row: rows.value(row, "question")
    )
    return _summed(columns, copies, rows, context, [b.name for b in found], missing)


def _summed(
    columns: Mapping[str, Any],
    copies: Mapping[int, tuple[int, float]],
    rows: Rows,
    context: int,
    compared: list[str],
    missing: Mapping[str, str],
) -> Stats:
    whole = columns["whole"]
    loops = (columns["repeated"] > LOOP_SHARE) & whole
    matches = [(row, match) for row, match in enumerate(columns["match"]) if match]
    tokens = columns["row_tokens"][columns["row_tokens"] >= 0]
    waits = columns["waits"][whole]
    data: dict[str, Any] = {
        "rows": len(whole),
        "with_a_whole_trace": int(whole.sum()),
        "row_tokens": _spread(tokens),
        "thinking_tokens": _spread(columns["thinking_tokens"][columns["thinking_tokens"] >= 0]),
        "context": context,
        "over_context": int((tokens > context).sum()) if len(tokens) else None,
        "share_over_context": float((tokens > context).mean()) if len(tokens) else None,
        "looping": int(loops.sum()),
        "most_repeated": [
            {"place": rows.value(int(row), "place"), "share": float(columns["repeated"][row])}
            for row in np.argsort(-columns["repeated"], kind="stable")[:3]
            if columns["repeated"][row] > 0
        ],
        "languages": dict(Counter(columns["language"]).most_common()),
        "waits_per_trace": _spread(waits),
        "without_wait": int((waits == 0).sum()),
        "exact_copies": sum(alike == 1.0 for _, alike in copies.values()),
        "near_copies": sum(alike < 1.0 for _, alike in copies.values()),
        "contaminated": len(matches),
        "contaminated_first": [f"{rows.value(row, 'place')}: {m}" for row, m in matches[:5]],
        "compared_with": compared,
        "not_compared_with": dict(missing),
    }
    return Stats(data, _lines(data))


def _spread(values: Any) -> dict[str, float] | None:
    """Mean, median, 95th percentile (nearest value above) and maximum; None of nothing."""
    if not len(values):
        return None
    p50, p95 = np.quantile(values, [0.5, 0.95], method="inverted_cdf")
    return {
        "mean": float(values.mean()),
        "p50": float(p50),
        "p95": float(p95),
        "max": float(values.max()),
        "sum": float(values.sum()),
    }


def _lines(data: Mapping[str, Any]) -> list[str]:
    rows, whole = data["rows"], data["with_a_whole_trace"]

    def share(n: int | None, of: int) -> str:
        if n is None:
            return "not counted"
        return f"{n:,} ({n / of:.1%})" if of else f"{n:,}"

    def spread(found: Mapping[str, float] | None) -> str:
        if found is None:
            return "not counted"
        return (
            f"mean {found['mean']:,.1f}, p50 {found['p50']:,.0f}, p95 {found['p95']:,.0f}, max "
            f"{found['max']:,.0f}, in all {found['sum']:,.0f}"
        )

    lines = [
        f"rows: {rows:,}, with a whole trace {share(whole, rows)}",
        f"tokens of a row as trained on: {spread(data['row_tokens'])}",
        f"thinking tokens: {spread(data['thinking_tokens'])}",
        f"rows over {data['context']:,} tokens: {share(data['over_context'], whole)}",
        f"traces that go in circles (over {LOOP_SHARE:.0%} of the runs of {LOOP_WORDS} words "
        f"repeated): {share(data['looping'], whole)}",
        *[f"  most repeated: {m['place']}: {m['share']:.1%}" for m in data["most_repeated"]],
        "languages, question → thinking (a simple count of scripts and stop words): "
        + ", ".join(f"{name} {share(n, rows)}" for name, n in data["languages"].items()),
        f'"Wait" per trace: {spread(data["waits_per_trace"])}; none in '
        f"{share(data['without_wait'], whole)}",
        f"copies: exact {share(data['exact_copies'], rows)}, near "
        f"{share(data['near_copies'], rows)}",
    ]
    if data["compared_with"]:
        lines.append(
            f"contaminated by {', '.join(data['compared_with'])}: "
            f"{share(data['contaminated'], rows)}"
        )
        lines += [f"  {line}" for line in data["contaminated_first"]]
    lines += [f"not compared with {name}: {why}" for name, why in data["not_compared_with"].items()]
    return lines
