"""``python -m benchmarks.live``: what the live view costs the cell that it shows.

The same cells, of a fixed amount of work, run with and without ``%thag_live`` by turns in one kernel; each measures
itself. Wall time is what the person waits; CPU time is the whole process's, with the threads that publish and send.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from statistics import median

from benchmarks.cells import kernel, printed

WORKLOADS = {
    "arithmetic": """
for _ in range(120):
    total = 0
    for number in range(100_000):
        total += number & 7
""",
    "small objects": """
for _ in range(60):
    kept = [(number, str(number)) for number in range(30_000)]
""",
    "arrays": """
for _ in range(6_000):
    b = a * 2 + 1
""",
    "200 tasks": """
for number in range(200):
    with thag_nb.task(f"t{number}"):
        kept = [(place, str(place)) for place in range(10_000)]
""",
}
_SETUP = "%load_ext thag_nb\nimport json, time, thag_nb, numpy\na = numpy.ones(50_000)"
_TIMED = """
began = time.perf_counter(), time.process_time()
{work}
print(json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]))
"""


def measure(work: str, rounds: int) -> list[tuple[float, float]]:
    """Wall and CPU time with the live view, relative to the run without it right before or after."""
    ratios = []
    with kernel() as client:
        printed(client, _SETUP)
        for live in (True, False):  # what is imported first
            printed(client, _cell("pass", live))
        for number in range(rounds):
            times = {}
            for live in (True, False) if number % 2 else (False, True):
                times[live] = json.loads(printed(client, _cell(work, live)))
            ratios.append((times[True][0] / times[False][0], times[True][1] / times[False][1]))
            printed(client, "thag_nb.reset()")
    return ratios


def _cell(work: str, live: bool) -> str:
    return ("%thag_live" if live else "") + _TIMED.format(work=work)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="pairs of runs of each cell")
    options = parser.parse_args(arguments)
    print("| cell | wall time | CPU time of the process | pairs |")
    print("| --- | ---: | ---: | --- |")
    for name, work in WORKLOADS.items():
        ratios = measure(work, options.rounds)
        wall, cpu = zip(*ratios, strict=True)
        pairs = ", ".join(f"{ratio:.3f}" for ratio in cpu)
        print(f"| {name} | {median(wall):.3f} | {median(cpu):.3f} | {pairs} |", flush=True)


if __name__ == "__main__":
    main()
