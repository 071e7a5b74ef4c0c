"""The curve as a figure for print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_PAPER = "#777777"
#: In a chart's place.
NOTHING = "No run has thinking tokens that were counted: there is nothing to draw."


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
        drawn = [p for p in mine if _drawn(p)]
        if not drawn:
            continue
        start = _before_waits(points, drawn)
        line = [*start, *drawn]
        axes.plot(
            [p["thinking_tokens"]["mean"] for p in line],
            [p["accuracy"] for p in line],
            color=colour,
            linewidth=1.3,
            linestyle="-" if series == "cap" else "--",
        )
        name = drawn[0]["series_name"]
        _, _, whiskers = axes.errorbar(
            [p["thinking_tokens"]["mean"] for p in drawn],
            [p["accuracy"] for p in drawn],
            yerr=_whiskers(drawn),
            color=colour,
            marker="s" if drawn[0]["control"] else "o" if series == "cap" else "D",
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
            places.setdefault(place, []).append(p["short"])
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
    if not reference and not any(map(_drawn, points)):
        axes.text(0.5, 0.5, NOTHING, ha="center", transform=axes.transAxes, fontsize=9)
        axes.set_axis_off()
        return
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


def _drawn(point: dict[str, Any]) -> bool:
    return (point["thinking_tokens"]["mean"] or 0) > 0


def _before_waits(
    points: list[dict[str, Any]], waits: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The run without Waits that those with Waits go on from: same model, control and cap."""
    names = ("model", "control", "cap")
    return [
        p
        for p in points
        if waits[0]["prolonged"]
        and not p["prolonged"]
        and all(p[name] == waits[0][name] for name in names)
        and _drawn(p)
    ][:1]
