"""The stages of `s1 curate`, in their order: what each is made of, and how it decides."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from s1_plugin.data import difficulty, domains, duplicates, filters, lengths, select
from s1_plugin.data.attempts import Attempts
from s1_plugin.data.decontaminate import Benchmark, Index
from s1_plugin.data.engine import Batch, Measure
from s1_plugin.data.pipeline import Found, Outcome, Stage
from s1_plugin.data.rows import InputError

_ME = "s1_plugin.data.stages"
_WORDS = "s1_plugin.data.words"
_FILTERS = (filters.__name__, "s1_plugin.distill.replies", "s1_plugin.formats")
#: An attempt is found by the fingerprint of its question.
_ATTEMPTS = ("s1_plugin.data.attempts", duplicates.__name__, _WORDS)
_GRADING = (
    difficulty.__name__,
    *_ATTEMPTS,
    *(f"s1_plugin.evaluation.{name}" for name in ("grading", "answers", "integers", "letters")),
    *(f"s1_plugin.evaluation.{name}" for name in ("maths", "math_worker", "verifier")),
    "s1_plugin.formats",
)
#: What the verifier works with.
_MATHS = ("math-verify", "latex2sympy2_extended", "sympy", "mpmath", "antlr4-python3-runtime")


def _gone(found: Found) -> Outcome:
    return Outcome(list(found["reason"]))


def _answered(found: Found) -> Outcome:
    foreign = sum(found["foreign"])
    said = f"{foreign} rows stay whose `status` is none that `s1 distill` writes"
    return Outcome(list(found["reason"]), said=[said] if foreign else [])


def status() -> Stage:
    return Stage(
        "status",
        _answered,
        {},
        (_ME, *_FILTERS),
        reads=("status",),
        measure=filters.status,
    )


def complete() -> Stage:
    return Stage(
        "complete",
        _gone,
        {},
        (_ME, *_FILTERS),
        reads=("problem", "thinking"),
        measure=filters.complete,
    )


def form(patterns: Sequence[Mapping[str, Any]]) -> Stage:
    return Stage(
        "form",
        _gone,
        {"patterns": list(patterns)},
        (_ME, *_FILTERS),
        reads=tuple(sorted({"question", *(column for p in patterns for column in p["in"])})),
        measure=partial(filters.form, patterns),
    )


def _sampled(batch: Batch) -> dict[str, list[Any]]:
    """Of each row: which question it answers, whether rightly (None: not known), and how long it
    thinks."""
    texts = zip(batch["attempt"], batch["answer"], batch["solution"], strict=True)
    gold = [(attempt, difficulty.gold(answer, solution)) for attempt, answer, solution in texts]
    return {
        "question": [sha256(text.strip().encode()).hexdigest() for text in batch["question"]],
        "right": [None if true is None else difficulty.right(one, true) for one, true in gold],
        "thinking": [len(text) for text in batch["thinking"]],
    }


def _best(found: Found) -> Outcome:
    right = found["right"]
    groups: dict[str, list[int]] = {}
    for at, question in enumerate(found["question"]):
        groups.setdefault(question, []).append(at)
    reasons, several, rightly = [""] * len(found), 0, 0
    for rows in groups.values():
        # A right one before a wrong one, a long one before a short one, the first of equals.
        kept = max(rows, key=lambda at: (bool(right[at]), found["thinking"][at], -at))
        several += len(rows) > 1
        rightly += len(rows) > 1 and bool(right[kept])
        for at in rows:
            if at != kept:
                reasons[at] = f"other sample: {found.text(kept, 'place')} stays"
    said = f"{several} questions have several samples; the one that stays is right in {rightly}"
    return Outcome(reasons, said=[said])


def samples() -> Stage:
    return Stage(
        "samples",
        _best,
        {},
        (_ME, *_GRADING),
        reads=("question", "thinking", "attempt", "answer", "solution"),
        measure=_sampled,
    )


def _fingerprints(batch: Batch) -> dict[str, Any]:
    import numpy as np

    texts = list(batch["question"])
    prints = np.array([duplicates.fingerprint(text) for text in texts], np.uint64)
    return {"prints": prints, "bands": duplicates.bands(texts)}


def _copies(found: Found) -> Outcome:
    reasons = [""] * len(found)
    copies = duplicates.copies(found["prints"], found["bands"], found.text)
    for row, (other, alike) in copies.items():
        kind = "exact copy" if alike == 1.0 else "near copy"
        reasons[row] = f"{kind}: {alike:.2f} of {found.text(other, 'place')}"
    return Outcome(reasons)


def copies() -> Stage:
    return Stage(
        "copies",
        _copies,
        {},
        (_ME, duplicates.__name__, _WORDS),
        reads=("question",),
        measure=_fingerprints,
        packages=("numpy",),
    )


def _matches(index: Index, batch: Batch) -> dict[str, list[Any]]:
    found = [index.find(question) for question in batch["question"]]
    return {
        "reason": [f"in {match.benchmark}: {match}" if match else "" for match in found],
        "stock": [bool(match and match.stock) for match in found],
    }


def _uncontaminated(found: Found) -> Outcome:
    stock = sum(found["stock"])
    said = f"{stock} of them only by a phrase that several benchmark questions share"
    return Outcome(list(found["reason"]), said=[said] if stock else [])


def contamination(benchmarks: Sequence[Benchmark]) -> Stage:
    return Stage(
        "contamination",
        _uncontaminated,
        {"benchmarks": [[b.name, list(b.ids), list(b.questions)] for b in benchmarks]},
        (_ME, "s1_plugin.data.decontaminate", _WORDS),
        reads=("question",),
        measure=partial(_matches, Index.build(benchmarks)),
    )


def _solved(found: Found) -> Outcome:
    said = []
    untried = sum(tried == 0 for tried in found["tried"])
    unknown = sum(not known for known in found["known"])
    failed = sum(found["failed"])
    if failed:
        said.append(f"{failed} failed or refused requests of students count as no attempt")
    if untried == len(found):
        raise InputError(
            "--student: no row has an attempt of any student"
            + (f" ({failed} requests failed or were refused)" if failed else "")
            + "; give the file that `s1 distill` wrote for the same questions, or a column of the "
            "input"
        )
    if untried:
        said.append(f"{untried} rows that no student tried stay")
    if unknown:
        said.append(f"{unknown} rows stay, as they have no answer to grade against")
    return Outcome([f"solved by {by}" if by else "" for by in found["solved_by"]], said=said)


def hard(students: Sequence[difficulty.Student]) -> Stage:
    return Stage(
        "difficulty",
        _solved,
        {"students": [[s.name, s.digest] for s in students]},
        (_ME, *_GRADING),
        reads=("question", "answer", "solution", "other"),
        measure=partial(difficulty.solved, list(students)),
        packages=_MATHS,
    )


def _not_longer(most: int | None, found: Found) -> Outcome:
    tokens = [int(n) for n in found["trace_tokens"]]
    reasons = ["" if most is None or n <= most else f"over {most} tokens: {n}" for n in tokens]
    return Outcome(reasons, {"trace_tokens": tokens})


def length(tokenizer: Path | None, column: str | None, most: int | None) -> Stage:
    """Thinking tokens: counted by a tokenizer.json, or from a column."""
    reads: tuple[str, ...]
    if column is not None:
        measure, reads = partial(lengths.given, column), ("other", "place")
        settings: dict[str, Any] = {"column": column}
    else:
        assert tokenizer is not None
        measure, reads = partial(lengths.counted, str(tokenizer)), ("thinking",)
        settings = {"tokenizer": _digest(tokenizer)}
    return Stage(
        "length",
        partial(_not_longer, most),
        {**settings, "most": most},
        (_ME, lengths.__name__),
        reads=reads,
        measure=measure,
        packages=() if tokenizer is None else ("tokenizers",),
    )


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _given_domain(column: str, batch: Batch) -> dict[str, list[str]]:
    out = []
    for other, place in zip(batch["other"], batch["place"], strict=True):
        value = json.loads(other or "{}").get(column)
        if not isinstance(value, str) or not value.strip():
            raise InputError(
                f"{place}, field `{column}`: is {value!r:.40}, not the name of a domain; fill it "
                "in, or leave --domains out to have domains told by words"
            )
        out.append(value.strip())
    return {"domain": out}


def _domains(found: Found) -> Outcome:
    names = list(found["domain"])
    none = names.count(domains.NONE)
    kinds = len(set(names))
    said = [f"{kinds} domain{'s' * (kinds != 1)}"]
    if "told" in found.columns and (untold := len(found) - sum(found["told"])):
        if untold == len(found):
            raise InputError(
                "--domains: for no row does the file name one of our domains; give the file that "
                "`s1 distill --ask domain` wrote for the same questions, or a column of the input"
            )
        said.append(f"{untold} rows that the file of --domains names none of ours for: by words")
    if none:
        said.append(f"{none} rows hold no word that tells: domain {domains.NONE!r}")
    return Outcome([""] * len(found), {"domain": names}, said)


def domain(source: str | Attempts | None) -> Stage:
    """By a column of the input, by what a model named, or by words."""
    settings: dict[str, Any]
    reads: tuple[str, ...]
    measure: Measure
    if isinstance(source, str):
        measure, reads = partial(_given_domain, source), ("other", "place")
        settings = {"column": source}
    elif source is not None:
        measure, reads = partial(domains.told_or_classified, source), ("question",)
        settings = {"told": source.rows.digest, "words": _table_digest()}
    else:
        measure, reads = domains.classified, ("question",)
        settings = {"words": _table_digest()}
    return Stage(
        "domain",
        _domains,
        settings,
        (_ME, domains.__name__, *_ATTEMPTS),
        reads=reads,
        measure=measure,
        packages=("PyYAML",),
    )


def _table_digest() -> str:
    import hashlib

    source = files("s1_plugin.data").joinpath("domains.yaml")
    return hashlib.sha256(source.read_bytes()).hexdigest()


def direct_rules(path: Path | None) -> list[dict[str, Any]]:
    """The rules of direct picks in ``path``, or the paper's (direct.yaml).

    Raises:
        InputError: naming file, entry, field and remedy.
    """
    what = "rules; [] takes no row directly"
    source, found = filters.entries(path, "direct.yaml", what)
    for number, rule in enumerate(found, 1):
        place = f"{source}, rule {number}"
        if not isinstance(rule, dict) or not {"source"} <= set(rule) <= _RULE.keys():
            raise InputError(f"{place}: needs source, and may have correct and min_tokens")
        for name, kind in _RULE.items():
            if name in rule and type(rule[name]) is not kind:
                raise InputError(f"{place}, field `{name}`: give {kind.__name__}")
        try:
            re.compile(rule["source"], re.I)
        except re.error as error:
            raise InputError(f"{place}, field `source`: {error}; mend the expression") from None
    return found


_RULE = {"source": str, "correct": bool, "min_tokens": int}


def _direct(rules: Sequence[Mapping[str, Any]], batch: Batch) -> dict[str, list[Any]]:
    """Whether a rule takes a row, and whether one would if its answer could be graded."""
    taken, unknown = [], []
    for at, source in enumerate(batch["source_type"]):
        graded: bool | None = None
        hit = blind = False
        for rule in rules:
            if not re.search(rule["source"], source, re.I):
                continue
            if batch["trace_tokens"][at] < rule.get("min_tokens", 0):
                continue
            if rule.get("correct"):
                if graded is None:
                    graded = _right(batch, at)
                if not graded:
                    blind |= graded is None
                    continue
            hit = True
            break
        taken.append(hit)
        unknown.append(blind and not hit)
    return {"direct": taken, "ungraded": unknown}


def _right(batch: Batch, at: int) -> bool | None:
    given = json.loads(batch["other"][at] or "{}").get("correct")
    if isinstance(given, bool):
        return given
    true = difficulty.gold(batch["answer"][at], batch["solution"][at])
    return None if true is None else difficulty.right(batch["attempt"][at], true)


def _selected(
    mode: str, rows: int, seed: int, weights: Mapping[str, float] | None, found: Found
) -> Outcome:
    names = found["domain"]
    tokens = found["trace_tokens"] if "trace_tokens" in found.columns else [0] * len(found)
    said = []
    if mode == "s1":
        direct = [at for at, taken in enumerate(found["direct"]) if taken]
        ungraded = sum(found["ungraded"])
        if ungraded:
            said.append(f"{ungraded} rows fit a rule of direct picks but have no answer to grade")
        if len(direct) > rows:
            said.append(f"{len(direct)} rows are direct picks; the first {rows} are taken")
        picked = select.s1(tokens, names, rows=rows, seed=seed, direct=direct, weights=weights)
        said += _said_of_weights(weights, names)
    else:
        picked = select.ablation(mode, tokens, names, rows=rows, seed=seed)
    if len(picked) < rows and mode != "all":
        said.append(f"{len(picked)} rows are all there are; {rows} were asked for")
    how = [""] * len(found)
    for one in picked:
        how[one.row] = one.how
    said.append(", ".join(f"{n} {name}" for name, n in Counter(filter(None, how)).items()))
    return Outcome(["" if one else "not drawn" for one in how], {"picked": how}, said)


def _said_of_weights(weights: Mapping[str, float] | None, names: Sequence[str]) -> list[str]:
    if not weights:
        return ["no benchmark to weigh domains by: every domain weighs the same, for all rows"]
    absent = {name: weight for name, weight in weights.items() if name not in set(names)}
    if len(absent) == len(weights):
        return [
            "no row has a domain of the benchmarks, which have names of ours: every domain weighs "
            "the same; a file of `s1 distill --ask domain` has these names"
        ]
    if not absent:
        return []
    largest = sorted(absent, key=lambda name: (-absent[name], name))
    return [
        f"{sum(absent.values()):.1%} of the benchmarks' questions are of domains that no row has "
        f"({', '.join(largest[:3])}{', …' if len(largest) > 3 else ''}); the others share it"
    ]


def selection(
    mode: str,
    rows: int,
    seed: int,
    *,
    rules: Sequence[Mapping[str, Any]] = (),
    weights: Mapping[str, float] | None = None,
    with_lengths: bool = True,
) -> Stage:
    by_s1 = mode == "s1"
    return Stage(
        "selection",
        partial(_selected, mode, rows, seed, weights),
        {"mode": mode, "rows": rows, "seed": seed, "rules": list(rules), "weights": weights},
        (_ME, select.__name__, *_GRADING),
        reads=("source_type", "attempt", "answer", "solution", "other") if by_s1 else (),
        needs=("domain", "trace_tokens") if with_lengths else ("domain",),
        measure=partial(_direct, rules) if by_s1 else None,
        packages=_MATHS if by_s1 else (),
    )
