"""``python -m benchmarks``: measures, and prints a Markdown table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, table
from benchmarks.measure import ChildError, Measurement, measure_all, write_csv
from benchmarks.tools import TOOLS
from benchmarks.workloads import QUICK, WORKLOADS


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    workloads = _installed(options.workloads)
    description = machine.describe()
    measurements: list[Measurement] = []
    try:
        for measurement in measure_all(workloads, list(TOOLS), options.repetitions):
            measurements.append(measurement)
    except ChildError as error:
        sys.exit(str(error))
    finally:
        # Also what was measured before a failure.
        if options.csv is not None:
            write_csv(options.csv, measurements)
    print(f"{table.markdown(measurements)}\n\n{_explanation(options.repetitions)}\n{description}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What recording costs, next to bare Python."
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--quick", dest="workloads", action="store_const", const=QUICK, help=f"{', '.join(QUICK)} (default)"
    )
    which.add_argument("--all", dest="workloads", action="store_const", const=tuple(WORKLOADS), help="every workload")
    which.add_argument("--workloads", type=_workloads, metavar="A,B", help=f"some of {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--repetitions", type=_positive, default=3, metavar="N", help="how often each is run (default 3)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the raw measurements to FILE")
    parser.set_defaults(workloads=QUICK)
    return parser


def _workloads(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return names


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _installed(names: Sequence[str]) -> list[str]:
    """The workloads that can run; a sentence on stderr about the others."""
    missing = {name: WORKLOADS[name].missing() for name in names}
    left_out = [name for name in names if missing[name]]
    if left_out:
        packages = sorted({package for name in left_out for package in missing[name]})
        print(
            f"Left out: {', '.join(left_out)}; pip install '.[bench]' is needed for {', '.join(packages)}.",
            file=sys.stderr,
        )
    if len(left_out) == len(names):
        sys.exit(1)
    return [name for name in names if not missing[name]]


def _explanation(repetitions: int) -> str:
    return (
        "CPU: user and system time of the whole process, to bare Python in the same repetition; "
        f"median (lowest-highest) of {repetitions}. RSS: peak, likewise, without the spread."
    )


if __name__ == "__main__":
    main()
