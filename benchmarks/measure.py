"""Measurements: running a workload under a tool in a process of its own, and what that process used."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.child import RESULT
from benchmarks.tools import TOOLS

_ROOT = Path(__file__).parent.parent
_LAUNCHER = Path(__file__).with_name("launcher.py")
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_NOT_FOR_CHILDREN = ("PYTHONTRACEMALLOC", "PYTHONMALLOC", "PYTHONDEVMODE")


class ChildError(RuntimeError):
    """A child failed, or its workload did not return what it returned before."""


class Measurement(NamedTuple):
    """What one child used: seconds of CPU time, bytes of memory; and what its workload returned."""

    workload: str
    tool: str
    repetition: int
    user_seconds: float
    system_seconds: float
    peak_rss_bytes: int
    result: str

    @property
    def cpu_seconds(self) -> float:
        return self.user_seconds + self.system_seconds


def measure(workload: str, tool: str, repetition: int = 0, *, size: int | None = None) -> Measurement:
    """Run one child to its end. Raises `ChildError` if it fails."""
    # The launcher is isolated and without site packages: it has to be smaller than any child.
    command = [sys.executable, "-I", "-S", str(_LAUNCHER), sys.executable, *TOOLS[tool].arguments(workload, size)]
    done = subprocess.run(
        command, cwd=_ROOT, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    *lines, usage = done.stdout.splitlines() or [""]
    if done.returncode or usage.split()[-1:] != ["0"]:
        raise ChildError(f"{workload} under {tool} failed:\n{done.stderr}{done.stdout}")
    user, system, rss, _ = usage.split()
    result = next(line.removeprefix(RESULT) for line in lines if line.startswith(RESULT))
    return Measurement(workload, tool, repetition, float(user), float(system), int(rss) * _RSS_UNIT, result)


def _environment() -> dict[str, str]:
    """Ours, with hashes that do not differ between children, and nothing that makes a bare one less than bare."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    return {**kept, "PYTHONHASHSEED": "0"}


def measure_all(workloads: Sequence[str], tools: Sequence[str], repetitions: int) -> Iterator[Measurement]:
    """Every workload under each tool in turn, again in each repetition; progress on stderr. Raises `ChildError`."""
    plan = [(w, t, r) for r in range(repetitions) for w in workloads for t in tools]
    results: dict[str, Measurement] = {}
    for number, (workload, tool, repetition) in enumerate(plan, 1):
        measurement = measure(workload, tool, repetition)
        check_result(results.setdefault(workload, measurement), measurement)
        print(f"[{number}/{len(plan)}] {_progress(measurement)}", file=sys.stderr, flush=True)
        yield measurement


def check_result(first: Measurement, measurement: Measurement) -> None:
    """Raises `ChildError` unless both workloads returned the same."""
    if measurement.result != first.result:
        raise ChildError(
            f"{first.workload} returned {measurement.result} under {measurement.tool}, "
            f"but {first.result} under {first.tool}"
        )


def _progress(measurement: Measurement) -> str:
    megabytes = measurement.peak_rss_bytes / 1e6
    return f"{measurement.workload}, {measurement.tool}: {measurement.cpu_seconds:.2f} s, {megabytes:.0f} MB"


def write_csv(path: Path, measurements: Iterable[Measurement]) -> None:
    """One row per child, as measured."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Measurement._fields)
        writer.writerows(measurements)
