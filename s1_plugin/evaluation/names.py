"""Names of models by which a reader tells the lines of a curve apart."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from s1_plugin.evaluation.runs import Run

#: Between a model's name and what tells its runs from others of the same name.
APART = " · "


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """``runs`` with names by which they can be told apart. Sampling is said: runs of a model that
    differ in it are not one curve. Neither are those of which two have the same budget but stand
    in different folders, or have different seeds."""
    ways: dict[tuple, set[str]] = defaultdict(set)
    for run in runs:
        ways[run.task, run.model].add(run.sampling)
    # Greedy goes without saying, where all is greedy.
    several = {key for key, found in ways.items() if found != {"greedy"}}
    found = _named(runs, several, lambda run: run.sampling)
    twice = _twice(found, lambda run: run.folder)
    folders = [run.folder for run in found if (run.task, run.model) in twice and run.folder]
    shared = os.path.commonpath(folders) if folders else ""
    found = _named(found, twice, lambda r: os.path.relpath(r.folder, shared) if r.folder else "")
    return _named(found, _twice(found, lambda run: run.seed), lambda run: run.seed)


def _twice(runs: Sequence[Run], what: Callable[[Run], str]) -> set[tuple[str, str]]:
    """Tasks and models of which two runs of one budget differ in ``what``."""
    found = {(run.task, run.model, run.label, what(run)) for run in runs}
    counts = Counter(key[:3] for key in found)
    return {(task, model) for (task, model, _), n in counts.items() if n > 1}


def _named(
    runs: Sequence[Run], which: set[tuple[str, str]], what: Callable[[Run], str]
) -> list[Run]:
    """``runs`` with ``what`` behind the model's name of those in ``which``, if it is not empty."""
    return [
        replace(run, model=f"{run.model}{APART}{what(run)}")
        if (run.task, run.model) in which and what(run)
        else run
        for run in runs
    ]


def short_models(runs: Sequence[Run]) -> dict[str, str]:
    """A short name for every model: the last two parts of its path (so many has a hub id; the last
    alone is often `model`), or as many as tell them apart, and what `told_apart` has added."""
    full = list(dict.fromkeys(run.model for run in runs))
    split = [name.partition(APART) for name in full]
    parts = [name.rstrip("/").split("/") for name, _, _ in split]
    for depth in range(2, max(2, *map(len, parts)) + 1):
        short = ["/".join(p[-depth:]) + a + b for p, (_, a, b) in zip(parts, split, strict=True)]
        if len(set(short)) == len(full):
            break
    return dict(zip(full, short, strict=True))
