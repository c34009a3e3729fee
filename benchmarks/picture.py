"""The picture: a row for each tool, a dot for each workload, as ratios to bare Python on logarithmic axes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks import table
from benchmarks.measure import Measurement
from benchmarks.table import Figure, Ratio
from benchmarks.tools import TOOLS, label

# Of the palette by Okabe and Ito, which does not depend on telling red from green.
_OURS, _PEERS = "#0072B2", "#D55E00"
_HALF_ROW = 0.32
_ROOM_FOR_NAMES = 0.3  # of the width


def draw(measurements: Sequence[Measurement], description: str, path: Path) -> None:
    """Write a PNG: CPU time on the left, peak RSS on the right; `description` says where it was measured."""
    tools = table.tools_of(measurements)
    canvas = Canvas(figsize=(10, 1.9 + 0.62 * len(tools)), dpi=150, layout="constrained")
    left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    _panel(left, measurements, tools, table.cpu_seconds, "CPU time, times bare Python")
    _panel(right, measurements, tools, table.peak_rss_bytes, "peak RSS, times bare Python")
    left.set_yticks(range(len(tools)), [label(tool) for tool in tools], fontsize=12)
    left.set_ylim(len(tools) - 0.5, -0.5)
    canvas.supxlabel(textwrap.fill(f"{_legend(measurements)} {description}", 150), fontsize=8, x=0.01, ha="left")
    canvas.savefig(path)


def _legend(measurements: Sequence[Measurement]) -> str:
    repetitions = len(table.repetitions_of(measurements))
    return (
        f"Dot: a workload's median of {repetitions} in whole processes; line: lowest to highest; "
        "bar and number: geometric mean of the workloads; the costliest is named."
    )


def _panel(axes: Axes, measurements: Sequence[Measurement], tools: Sequence[str], figure: Figure, title: str) -> None:
    axes.set_title(title, fontsize=12, loc="left")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="0.9")
    axes.axvline(1, color="0.4", linewidth=1)
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for row, tool in enumerate(tools):
        _row(axes, row, tool, table.ratios(measurements, tool, figure))
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** _ROOM_FOR_NAMES)


def _row(axes: Axes, row: int, tool: str, ratios: dict[str, Ratio]) -> None:
    color = _PEERS if tool in TOOLS and TOOLS[tool].is_peer else _OURS
    across = axes.get_yaxis_transform()
    if not ratios:
        axes.text(1.01, row, "failed", transform=across, fontsize=12, va="center")
        return
    step = 2 * _HALF_ROW / len(ratios)
    places = {workload: row - _HALF_ROW + (number + 0.5) * step for number, workload in enumerate(ratios)}
    for workload, (median, low, high) in ratios.items():
        axes.plot([low, high], [places[workload]] * 2, color=color, linewidth=1.2, alpha=0.5)
        axes.plot(median, places[workload], "o", color=color, markersize=3.5)
    mean = table.mean(ratios)
    axes.plot([mean] * 2, [row - _HALF_ROW, row + _HALF_ROW], color="black", linewidth=2)
    axes.text(1.01, row, f"{mean:.2f}", transform=across, fontsize=12, fontweight="bold", va="center")
    worst = max(ratios, key=lambda workload: ratios[workload].median)
    axes.annotate(
        worst, (ratios[worst].high, places[worst]), (4, 0), textcoords="offset points", fontsize=8, va="center"
    )
