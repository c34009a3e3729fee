"""The table: what each tool costs, as ratios to bare Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import geometric_mean, median
from typing import NamedTuple

from benchmarks.measure import Measurement
from benchmarks.tools import BARE

Figure = Callable[[Measurement], float]


class Ratio(NamedTuple):
    """The median over the repetitions, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def cpu_seconds(measurement: Measurement) -> float:
    return measurement.cpu_seconds


def peak_rss_bytes(measurement: Measurement) -> float:
    return measurement.peak_rss_bytes


def ratio(measurements: Sequence[Measurement], workload: str, tool: str, figure: Figure) -> Ratio:
    """A tool's figure to the bare one of the same repetition, which ran next to it on the same noisy machine."""
    bare = _by_repetition(measurements, workload, BARE, figure)
    watched = _by_repetition(measurements, workload, tool, figure)
    ratios = [watched[repetition] / bare[repetition] for repetition in bare]
    return Ratio(median(ratios), min(ratios), max(ratios))


def _by_repetition(measurements: Sequence[Measurement], workload: str, tool: str, figure: Figure) -> dict[int, float]:
    return {m.repetition: figure(m) for m in measurements if (m.workload, m.tool) == (workload, tool)}


def markdown(measurements: Sequence[Measurement]) -> str:
    """A row per workload, and the geometric mean of the medians."""
    workloads = list(dict.fromkeys(m.workload for m in measurements))
    tools = [tool for tool in dict.fromkeys(m.tool for m in measurements) if tool != BARE]
    heading = [
        "workload",
        "bare CPU s",
        "bare peak MB",
        *(f"{tool} {figure}" for tool in tools for figure in ("CPU", "RSS")),
    ]
    rows = [heading, ["---", *["---:"] * (len(heading) - 1)]]
    rows += [_workload_row(measurements, workload, tools) for workload in workloads]
    rows.append(_mean_row(measurements, workloads, tools))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _workload_row(measurements: Sequence[Measurement], workload: str, tools: Sequence[str]) -> list[str]:
    seconds = median(_by_repetition(measurements, workload, BARE, cpu_seconds).values())
    megabytes = median(_by_repetition(measurements, workload, BARE, peak_rss_bytes).values()) / 1e6
    row = [workload, f"{seconds:.2f}", f"{megabytes:.0f}"]
    for tool in tools:
        row.append(str(ratio(measurements, workload, tool, cpu_seconds)))
        row.append(f"{ratio(measurements, workload, tool, peak_rss_bytes).median:.2f}")
    return row


def _mean_row(measurements: Sequence[Measurement], workloads: Sequence[str], tools: Sequence[str]) -> list[str]:
    row = ["**geometric mean**", "", ""]
    for tool in tools:
        for figure in (cpu_seconds, peak_rss_bytes):
            mean = geometric_mean(ratio(measurements, workload, tool, figure).median for workload in workloads)
            row.append(f"**{mean:.2f}**")
    return row
