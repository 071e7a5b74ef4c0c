"""The curve as a figure for print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_PAPER = "#777777"


def draw(curve: dict[str, Any], path: Path) -> None:
    """Writes one panel per task to ``path`` (PNG): accuracy against thinking tokens (log2)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Figure and canvas without pyplot: no global state, no display.
    tasks = curve["tasks"]
    figure = Figure(figsize=(7.2, 4.4 * len(tasks)), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(curve["title"], fontsize=11)
    for axes, task in zip(figure.subplots(len(tasks), squeeze=False).flat, tasks, strict=True):
        _panel(axes, task)
    figure.savefig(path)


def _panel(axes: Any, task: dict[str, Any]) -> None:
    from matplotlib.ticker import FuncFormatter

    points = task["points"]
    keys = list(dict.fromkeys((p["model"], p["series"]) for p in points))
    several = len({p["model"] for p in points}) > 1
    reference = task["reference"]
    if reference:
        axes.errorbar(
            [p["tokens"] for p in reference["points"]],
            [p["accuracy"] for p in reference["points"]],
            color=_PAPER,
            linestyle=":",
            marker="x",
            markersize=5,
            linewidth=1,
            label=reference["name"],
        )
    for (model, series), colour in zip(keys, COLOURS * len(keys), strict=False):
        mine = [p for p in points if (p["model"], p["series"]) == (model, series)]
        drawn = [p for p in mine if p["thinking_tokens"]["mean"] > 0]
        x = [p["thinking_tokens"]["mean"] for p in drawn]
        y = [p["accuracy"] for p in drawn]
        errors = [
            [p["accuracy"] - p["wilson"][0] for p in drawn],
            [p["wilson"][1] - p["accuracy"] for p in drawn],
        ]
        name = series_name(series)
        axes.errorbar(
            x,
            y,
            yerr=errors,
            color=colour,
            marker="o" if series == "cap" else "D",
            markersize=5,
            markerfacecolor=colour if series in ("cap", "wait:Wait") else "white",
            linewidth=1.3,
            elinewidth=0.8,
            capsize=2,
            linestyle="-" if series == "cap" else "--",
            label=f"{model}, {name}" if several else name,
        )
        for p in drawn:
            axes.annotate(
                short_label(p),
                (p["thinking_tokens"]["mean"], p["accuracy"]),
                textcoords="offset points",
                xytext=(5, -10 if series == "cap" else 5),
                fontsize=7,
                color=colour,
            )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_xlabel("average thinking tokens")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(
        f"{task['task']}, n = {', '.join(str(n) for n in sorted({p['n'] for p in points}))}; "
        "95 % Wilson intervals",
        fontsize=9,
    )
    axes.grid(True, linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7.5, frameon=False)


def series_name(series: str) -> str:
    """``cap`` and ``wait:<word>`` for people."""
    if series == "cap":
        return "thinking capped"
    return f"“{series.removeprefix('wait:').strip() or 'nothing'}” put in for the end"


def short_label(point: dict[str, Any]) -> str:
    """What stands beside a point: its cap, or how often Wait was put in."""
    return f"{point['waits']}×" if point["waits"] else str(point["cap"])
