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
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import FuncFormatter

    points = task["points"]
    several = len({p["model"] for p in points}) > 1
    keys = list(dict.fromkeys((p["model"], p["series"]) for p in points))
    reference = task["reference"]
    if reference:
        axes.errorbar(
            [p["tokens"] for p in reference["points"]],
            [p["accuracy"] for p in reference["points"]],
            yerr=_whiskers(reference["points"]),
            elinewidth=0.5,
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
        start = _before_waits(points, drawn) if series != "cap" else []
        line = [*start, *drawn]
        axes.plot(
            [p["thinking_tokens"]["mean"] for p in line],
            [p["accuracy"] for p in line],
            color=colour,
            linewidth=1.3,
            linestyle="-" if series == "cap" else "--",
        )
        name = series_name(series)
        _, _, whiskers = axes.errorbar(
            [p["thinking_tokens"]["mean"] for p in drawn],
            [p["accuracy"] for p in drawn],
            yerr=_whiskers(drawn),
            color=colour,
            marker="o" if series == "cap" else "D",
            markersize=5,
            markerfacecolor=colour if series in ("cap", "wait:Wait") else "white",
            elinewidth=0.7,
            capsize=0,
            linestyle="none",
            label=f"{model}, {name}" if several else name,
        )
        for bars in whiskers:
            bars.set_alpha(0.5)
        # Budgets that made no difference stand on one point: one label for all of them.
        places: dict[tuple[float, float], list[str]] = {}
        for p in drawn:
            place = (p["thinking_tokens"]["mean"], p["accuracy"])
            places.setdefault(place, []).append(short_label(p))
        for place, labels in places.items():
            axes.annotate(
                ", ".join(labels),
                place,
                textcoords="offset points",
                # Curves rise to the right: below a cap and left of a Wait there is room.
                xytext=(5, -10) if series == "cap" else (-6, 4),
                ha="left" if series == "cap" else "right",
                fontsize=7,
                color=colour,
                path_effects=[withStroke(linewidth=2, foreground="white")],
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


def _whiskers(points: list[dict[str, Any]]) -> list[list[float]]:
    # Rounding may put a published accuracy a hair outside of its own interval.
    return [
        [max(0.0, p["accuracy"] - p["wilson"][0]) for p in points],
        [max(0.0, p["wilson"][1] - p["accuracy"]) for p in points],
    ]


def _before_waits(
    points: list[dict[str, Any]], waits: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The run without Waits that those with Waits go on from: same model, same cap."""
    if not waits:
        return []
    key = (waits[0]["model"], waits[0]["cap"], "cap")
    same = [p for p in points if (p["model"], p["cap"], p["series"]) == key]
    return [p for p in same if p["thinking_tokens"]["mean"] > 0][:1]


def series_name(series: str) -> str:
    """``cap`` and ``wait:<word>`` for people."""
    if series == "cap":
        return "thinking capped"
    return f"“{series.removeprefix('wait:').strip() or 'nothing'}” put in for the end"


def short_label(point: dict[str, Any]) -> str:
    """What stands beside a point: its cap, or how often Wait was put in."""
    if point["waits"]:
        return f"{point['waits']}×"
    return f"≥{point['at_least']}" if point["at_least"] else str(point["cap"])
