"""The tables: what each tool costs, as ratios to bare Python, in each workload and over all; and what its start costs.

A start is the workload that does nothing. Its cost is fixed, so it stands apart, in milliseconds and MiB, and no mean
or median counts it as a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import geometric_mean, median
from typing import NamedTuple

from benchmarks.measure import Measurement
from benchmarks.tools import BARE, label
from benchmarks.workloads import START

Figure = Callable[[Measurement], float]
Rows = list[list[str]]


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


def ratio(measurements: Sequence[Measurement], workload: str, tool: str, figure: Figure) -> Ratio | None:
    """A tool's figure to the bare one of the same repetition, which ran next to it on the same noisy machine.

    None if it always failed.
    """
    bare = _by_repetition(measurements, workload, BARE, figure)
    watched = _by_repetition(measurements, workload, tool, figure)
    ratios = [watched[repetition] / bare[repetition] for repetition in bare if repetition in watched]
    return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None


def _by_repetition(measurements: Sequence[Measurement], workload: str, tool: str, figure: Figure) -> dict[int, float]:
    return {m.repetition: figure(m) for m in measurements if (m.workload, m.tool) == (workload, tool) and not m.failure}


def programs_of(measurements: Sequence[Measurement]) -> list[str]:
    """The workloads that do something."""
    return [workload for workload in dict.fromkeys(m.workload for m in measurements) if workload != START]


def repetitions_of(measurements: Sequence[Measurement]) -> list[int]:
    """Those of the programs; starts have more."""
    return sorted({m.repetition for m in measurements if m.workload != START})


def tools_of(measurements: Sequence[Measurement]) -> list[str]:
    """Those that are compared with bare Python."""
    return [tool for tool in dict.fromkeys(m.tool for m in measurements) if tool != BARE]


def ratios(measurements: Sequence[Measurement], tool: str, figure: Figure) -> dict[str, Ratio]:
    """A tool's ratio in each program that it did not always fail in."""
    found = {workload: ratio(measurements, workload, tool, figure) for workload in programs_of(measurements)}
    return {workload: value for workload, value in found.items() if value is not None}


def mean(values: dict[str, Ratio]) -> float:
    """The geometric mean of the medians."""
    return geometric_mean(value.median for value in values.values())


def middle(values: dict[str, Ratio]) -> float:
    """The median of the medians."""
    return median(value.median for value in values.values())


Summary = Callable[[dict[str, Ratio]], float]


def over_all(measurements: Sequence[Measurement], tool: str, figure: Figure, summary: Summary) -> Ratio | None:
    """The mean or the middle of all programs, and the lowest and highest of it in a single repetition.

    A repetition in which the tool failed somewhere is none of those, as others would be the costly ones in it.
    """
    values = ratios(measurements, tool, figure)
    if not values:
        return None
    single = []
    for repetition in repetitions_of(measurements):
        part = ratios([m for m in measurements if m.repetition == repetition], tool, figure)
        if part.keys() == values.keys():
            single.append(summary(part))
    value = summary(values)
    return Ratio(value, min(single, default=value), max(single, default=value))


def markdown(measurements: Sequence[Measurement]) -> str:
    """Three tables: a row per workload, a row per tool over all of them, and what a start costs."""
    tables = [_summary_rows(measurements), _start_rows(measurements)]
    if programs_of(measurements):
        tables.insert(0, _workload_rows(measurements))
    return "\n\n".join(rendered(rows) for rows in tables if len(rows) > 1)


def rendered(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: names on the left, figures on the right."""
    heading, *others = rows
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heading, rule, *others])


def _workload_rows(measurements: Sequence[Measurement]) -> Rows:
    tools = tools_of(measurements)
    figures = [f"{label(tool)} {figure}" for tool in tools for figure in ("CPU", "RSS")]
    heading = ["workload", "bare CPU s", "bare peak MB", *figures]
    return [heading, *(_workload_row(measurements, workload, tools) for workload in programs_of(measurements))]


def _workload_row(measurements: Sequence[Measurement], workload: str, tools: Sequence[str]) -> list[str]:
    seconds = median(_by_repetition(measurements, workload, BARE, cpu_seconds).values())
    megabytes = median(_by_repetition(measurements, workload, BARE, peak_rss_bytes).values()) / 1e6
    row = [workload, f"{seconds:.2f}", f"{megabytes:.0f}"]
    for tool in tools:
        cpu = ratio(measurements, workload, tool, cpu_seconds)
        rss = ratio(measurements, workload, tool, peak_rss_bytes)
        row += ["failed", "failed"] if cpu is None or rss is None else [str(cpu), f"{rss.median:.2f}"]
    return row


def _summary_rows(measurements: Sequence[Measurement]) -> Rows:
    heading = ["over these workloads", "CPU geometric mean", "CPU worst", "RSS median", "RSS worst"]
    tools = tools_of(measurements) if programs_of(measurements) else []
    return [heading, *(_summary_row(measurements, tool) for tool in tools)]


def _summary_row(measurements: Sequence[Measurement], tool: str) -> list[str]:
    row = [label(tool)]
    for figure, summary in ((cpu_seconds, mean), (peak_rss_bytes, middle)):
        values = ratios(measurements, tool, figure)
        worst = max(values, key=lambda workload: values[workload].median, default="")
        row.append(f"{over_all(measurements, tool, figure, summary) or 'failed'}")
        row.append(f"{values[worst].median:.2f} {worst}" if worst else "failed")
    return row


def _start_rows(measurements: Sequence[Measurement]) -> Rows:
    heading = ["a start", "CPU ms", "more than bare, ms", "peak RSS MiB", "more than bare, MiB"]
    starts = [m for m in measurements if m.workload == START]
    return [heading, *(_start_row(starts, tool) for tool in dict.fromkeys(m.tool for m in starts))]


def _start_row(starts: Sequence[Measurement], tool: str) -> list[str]:
    row = [label(tool)]
    for figure, unit in ((cpu_seconds, 1e-3), (peak_rss_bytes, 1 << 20)):
        own = _by_repetition(starts, START, tool, figure)
        bare = _by_repetition(starts, START, BARE, figure)
        more = [(own[repetition] - bare[repetition]) / unit for repetition in own if repetition in bare]
        row.append(f"{median(own.values()) / unit:.1f}" if own else "failed")
        row.append(f"{median(more):.1f} ({min(more):.1f}-{max(more):.1f})" if more and tool != BARE else "")
    return row


def failures(measurements: Sequence[Measurement]) -> list[str]:
    """A sentence for each measurement that failed."""
    return [f"Failed in repetition {m.repetition + 1}: {m.failure}" for m in measurements if m.failure]
