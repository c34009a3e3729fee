"""Measurements: running a workload under a tool in a process of its own, and what that process used."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.child import ORIGIN, RESULT
from benchmarks.environment import Environment, children_variables
from benchmarks.tools import TOOLS
from benchmarks.workloads import START

_LAUNCHER = Path(__file__).with_name("launcher.py")
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
LIMIT_SECONDS = 1800
_USUAL_SECONDS = 2.5  # of a process, before any was seen
STARTS = 4  # in each repetition, as one takes so little that it needs more of them


class ChildError(RuntimeError):
    """A child failed, or its workload did not return what it returned before."""


class Measurement(NamedTuple):
    """What one child used: seconds of CPU time, bytes of memory; and what its workload returned.

    Or the sentence that says why it could not be measured; then the figures mean nothing.
    """

    workload: str
    tool: str
    repetition: int
    user_seconds: float
    system_seconds: float
    peak_rss_bytes: int
    result: str
    failure: str = ""

    @property
    def cpu_seconds(self) -> float:
        return self.user_seconds + self.system_seconds


class Child(NamedTuple):
    """One process to measure."""

    workload: str
    tool: str
    repetition: int = 0


def measure(
    workload: str,
    tool: str,
    repetition: int = 0,
    *,
    environment: Environment,
    size: int | None = None,
    limit_seconds: int = LIMIT_SECONDS,
) -> Measurement:
    """Run one child to its end.

    Raises `ChildError` if it fails, if it takes longer than the limit, if its tool recorded nothing of something, or if
    the thag_nb that it imported is not the installed one, with its bytecode.
    """
    with TemporaryDirectory() as folder:
        arguments = TOOLS[tool].arguments(workload, size, Path(folder))
        # The launcher is isolated and without site packages: it has to be smaller than any child.
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(limit_seconds)]
        began = time.time()
        done = subprocess.run(
            [*launcher, environment.python, *arguments],
            cwd=environment.program,
            env=children_variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        *lines, usage = done.stdout.splitlines() or [""]
        if done.returncode or usage.split()[-1:] != ["0"]:
            raise ChildError(f"{workload} under {tool} failed:\n{done.stdout}{done.stderr}")
        if workload != START and not TOOLS[tool].recorded(Path(folder)):
            raise ChildError(f"{workload} under {tool} ran, but {tool} recorded nothing")
    for origin in _after(ORIGIN, lines):
        check_origin(Path(origin), environment, began)
    results = _after(RESULT, lines)
    if len(results) != 1:
        raise ChildError(f"{workload} under {tool} printed {len(results)} results")
    user, system, rss, _ = usage.split()
    return Measurement(workload, tool, repetition, float(user), float(system), int(rss) * _RSS_UNIT, results[0])


def _after(beginning: str, lines: Iterable[str]) -> list[str]:
    return [line.removeprefix(beginning) for line in lines if line.startswith(beginning)]


def check_origin(origin: Path, environment: Environment, began: float) -> None:
    """Raises `ChildError` unless this file is the environment's, and was compiled before that moment."""
    if not origin.is_relative_to(environment.packages):
        raise ChildError(f"thag_nb was imported from {origin}, not from {environment.packages}")
    compiled = Path(cache_from_source(str(origin)))
    if not compiled.exists() or compiled.stat().st_mtime >= began:
        raise ChildError(f"{origin} was compiled while it was measured")


def plan(workloads: Sequence[str], tools: Sequence[str], repetitions: int) -> list[Child]:
    """Every workload under each tool in turn, again in each repetition.

    Backwards in every second one, so that no tool always runs when the machine has become warmer or busier.
    """
    return [
        Child(workload, tool, repetition)
        for round_ in range(repetitions)
        for workload in workloads
        for repetition in _repetitions(workload, round_)
        for tool in (tools if repetition % 2 == 0 else tools[::-1])
    ]


def _repetitions(workload: str, round_: int) -> range:
    """Those of a workload that belong to a round of all of them."""
    times = STARTS if workload == START else 1
    return range(round_ * times, (round_ + 1) * times)


def measure_all(
    children: Sequence[Child],
    environment: Environment,
    measured: Sequence[Measurement] = (),
    limit_seconds: int = LIMIT_SECONDS,
) -> Iterator[Measurement]:
    """Run the children but those that are `measured` already; progress, and what is left of it, on stderr.

    A peer that fails is a measurement that says so. Raises `ChildError` for a failure of bare Python or of ours.
    """
    results: dict[str, Measurement] = {}
    for measurement in measured:
        results.setdefault(measurement.workload, measurement)
    done = {Child(*measurement[:3]) for measurement in measured}
    left = [child for child in children if child not in done]
    began = time.monotonic()
    _tell(f"{len(left)} processes, usually about {_minutes(len(left) * _USUAL_SECONDS)}")
    for number, child in enumerate(left, 1):
        measurement = _attempt(child, environment, results, limit_seconds)
        seconds = (time.monotonic() - began) / number * (len(left) - number)
        _tell(f"[{number}/{len(left)}] {_progress(measurement)}; about {_minutes(seconds)} left")
        yield measurement


def _attempt(
    child: Child, environment: Environment, results: dict[str, Measurement], limit_seconds: int
) -> Measurement:
    try:
        measurement = measure(*child, environment=environment, limit_seconds=limit_seconds)
        check_result(results.setdefault(child.workload, measurement), measurement)
    except ChildError as error:
        if not TOOLS[child.tool].is_peer:
            raise
        return Measurement(*child, 0.0, 0.0, 0, "", _sentence(error))
    return measurement


def _sentence(error: ChildError) -> str:
    """What failed and the last thing that was said about it."""
    first, *_, last = [line.strip() for line in str(error).splitlines() if line.strip()] * 2
    return first if first == last else f"{first} {last}"


def check_result(first: Measurement, measurement: Measurement) -> None:
    """Raises `ChildError` unless both workloads returned the same."""
    if measurement.result != first.result:
        raise ChildError(
            f"{first.workload} returned {measurement.result} under {measurement.tool}, "
            f"but {first.result} under {first.tool}"
        )


def _progress(measurement: Measurement) -> str:
    if measurement.failure:
        return measurement.failure
    megabytes = measurement.peak_rss_bytes / 1e6
    return f"{measurement.workload}, {measurement.tool}: {measurement.cpu_seconds:.2f} s, {megabytes:.0f} MB"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def record(path: Path, measurements: Iterable[Measurement]) -> Iterator[Measurement]:
    """The measurements again, each written to a CSV file as it passes: one row per child."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Measurement._fields)
        for measurement in measurements:
            writer.writerow(measurement)
            file.flush()
            yield measurement


def write_csv(path: Path, measurements: Iterable[Measurement]) -> None:
    """One row per child, as measured."""
    for _ in record(path, measurements):
        pass


def read_csv(path: Path) -> list[Measurement]:
    """What was measured before; nothing if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [_measurement(*row) for row in list(csv.reader(file))[1:]]


def _measurement(
    workload: str, tool: str, repetition: str, user: str, system: str, rss: str, result: str, failure: str
) -> Measurement:
    return Measurement(workload, tool, int(repetition), float(user), float(system), int(rss), result, failure)
