"""The table: what each tool costs, as ratios to bare Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import geometric_mean, median
from typing import NamedTuple

from benchmarks.measure import Measurement
from benchmarks.tools import BARE, label

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


def workloads_of(measurements: Sequence[Measurement]) -> list[str]:
    return list(dict.fromkeys(m.workload for m in measurements))


def tools_of(measurements: Sequence[Measurement]) -> list[str]:
    """Those that are compared with bare Python."""
    return [tool for tool in dict.fromkeys(m.tool for m in measurements) if tool != BARE]


def ratios(measurements: Sequence[Measurement], tool: str, figure: Figure) -> dict[str, Ratio]:
    """A tool's ratio in each workload that it did not fail in."""
    found = {workload: ratio(measurements, workload, tool, figure) for workload in workloads_of(measurements)}
    return {workload: value for workload, value in found.items() if value is not None}


def mean(values: dict[str, Ratio]) -> float:
    """The geometric mean of the medians."""
    return geometric_mean(value.median for value in values.values())


def markdown(measurements: Sequence[Measurement]) -> str:
    """A row per workload, and the geometric mean of the medians."""
    tools = tools_of(measurements)
    heading = [
        "workload",
        "bare CPU s",
        "bare peak MB",
        *(f"{label(tool)} {figure}" for tool in tools for figure in ("CPU", "RSS")),
    ]
    rows = [heading, ["---", *["---:"] * (len(heading) - 1)]]
    rows += [_workload_row(measurements, workload, tools) for workload in workloads_of(measurements)]
    rows.append(_mean_row(measurements, tools))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _workload_row(measurements: Sequence[Measurement], workload: str, tools: Sequence[str]) -> list[str]:
    seconds = median(_by_repetition(measurements, workload, BARE, cpu_seconds).values())
    megabytes = median(_by_repetition(measurements, workload, BARE, peak_rss_bytes).values()) / 1e6
    row = [workload, f"{seconds:.2f}", f"{megabytes:.0f}"]
    for tool in tools:
        cpu = ratio(measurements, workload, tool, cpu_seconds)
        rss = ratio(measurements, workload, tool, peak_rss_bytes)
        row += ["failed", "failed"] if cpu is None or rss is None else [str(cpu), f"{rss.median:.2f}"]
    return row


def _mean_row(measurements: Sequence[Measurement], tools: Sequence[str]) -> list[str]:
    row = ["**geometric mean**", "", ""]
    for tool in tools:
        for figure in (cpu_seconds, peak_rss_bytes):
            values = ratios(measurements, tool, figure)
            row.append(f"**{mean(values):.2f}**" if values else "failed")
    return row


def failures(measurements: Sequence[Measurement]) -> list[str]:
    """A sentence for each measurement that failed."""
    return [f"Failed in repetition {m.repetition + 1}: {m.failure}" for m in measurements if m.failure]
