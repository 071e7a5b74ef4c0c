"""Writes a curve: `curve.json`, `curve.png`, and `curve.html`, one page that needs nothing else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from s1_plugin.evaluation.curve import build
from s1_plugin.evaluation.embed import LIMIT, script_json, traces
from s1_plugin.evaluation.plot import draw
from s1_plugin.evaluation.runs import Run

_SCRIPTS = ("dom.js", "chart.js", "strip.js", "trace.js", "page.js")
_SLOT = re.compile(r"\{\{(title|style|script|data)\}\}")


def write(
    runs: Sequence[Run],
    folder: Path,
    *,
    title: str,
    commands: Sequence[str],
    notes: Sequence[str] = (),
    limit: int = LIMIT,
) -> dict[str, Path]:
    """Writes the three files into ``folder`` (made if need be).

    Args:
        commands: the commands that made the runs; without any, the page shows those put
            together from lm-eval's records.
        notes: further lines for the reader.
        limit: most characters of traces in the page.

    Returns:
        Their paths, by "json", "png" and "html".
    """
    folder.mkdir(parents=True, exist_ok=True)
    curve = build(runs, title=title, commands=commands, notes=notes)
    paths = {kind: folder / f"curve.{kind}" for kind in ("json", "png", "html")}
    paths["json"].write_text(
        json.dumps(curve, indent=1, ensure_ascii=True, allow_nan=False) + "\n", encoding="utf-8"
    )
    draw(curve, paths["png"])
    embedded, left_out = traces(runs, limit)
    curve["notes"] = [*curve["notes"], *left_out]
    paths["html"].write_text(page({**curve, "traces": embedded}), encoding="utf-8")
    return paths


def page(data: dict[str, Any]) -> str:
    """The page for a curve with its ``traces``; everything is inside it."""
    source = files("s1_plugin.evaluation").joinpath("page")

    def load(name: str) -> str:
        return source.joinpath(name).read_text(encoding="utf-8")

    fill = {
        "title": lambda: html.escape(data["title"]),
        "style": lambda: load("style.css"),
        "script": lambda: "\n".join(map(load, _SCRIPTS)),
        "data": lambda: script_json(data),
    }
    # One pass: what has been put in is not searched for slots again.
    return _SLOT.sub(lambda slot: fill[slot[1]](), load("page.html"))
