"""``python -m benchmarks``: measures, and writes tables, a picture and the raw figures; prints the tables.

What is measured is a wheel of the checkout, installed (see environment.py), as users have it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import environment, machine, measure, picture, table, tools
from benchmarks.measure import ChildError, Measurement
from benchmarks.tools import BARE, TOOLS
from benchmarks.workloads import QUICK, WORKLOADS


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    workloads = options.workloads or (tuple(WORKLOADS) if options.full else QUICK)
    chosen = options.tools or (tools.FULL if options.full else tools.QUICK)
    repetitions = options.repetitions or (5 if options.full else 3)
    if options.full:
        where = environment.own(TOOLS[tool].requirement for tool in chosen if TOOLS[tool].requirement)
    else:
        workloads = _installed(workloads)
        where = environment.lent()
    chosen = _installed_tools(chosen, where.python)
    description = machine.describe(where.python, [TOOLS[tool].package for tool in chosen if TOOLS[tool].package])
    options.out = options.out or (Path(__file__).with_name("results") if options.full else Path("out"))
    options.out.mkdir(parents=True, exist_ok=True)
    children = measure.plan(workloads, chosen, repetitions)
    try:
        measurements = _measure(children, where, options.out / "measurements.csv", options.resume)
    except ChildError as error:
        sys.exit(str(error))
    if options.csv is not None:
        measure.write_csv(options.csv, measurements)
    report = "\n\n".join([table.markdown(measurements), _explanation(repetitions, measurements), description])
    (options.out / "table.md").write_text(f"{report}\n")
    if table.programs_of(measurements):
        picture.draw(measurements, description, options.out / "picture.png")
    print(report)


def _measure(
    children: Sequence[measure.Child], where: environment.Environment, path: Path, resume: bool
) -> list[Measurement]:
    """Everything that was planned. What is measured stands in the file at once, whatever happens later."""
    wanted = set(children)
    earlier = [m for m in measure.read_csv(path) if resume and not m.failure and measure.Child(*m[:3]) in wanted]
    everything = (m for part in (earlier, measure.measure_all(children, where, earlier)) for m in part)
    order = {child: place for place, child in enumerate(children)}
    return sorted(measure.record(path, everything), key=lambda m: order[measure.Child(*m[:3])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What recording costs, next to bare Python and to other tools."
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"every workload under {', '.join(tools.FULL)}, in an environment of their own (installs the tools)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--quick", dest="workloads", action="store_const", const=QUICK, help=f"{', '.join(QUICK)} (default)"
    )
    which.add_argument("--all", dest="workloads", action="store_const", const=tuple(WORKLOADS), help="every workload")
    which.add_argument(
        "--workloads", type=_some_of("workload", WORKLOADS), metavar="A,B", help=f"some of {', '.join(WORKLOADS)}"
    )
    parser.add_argument(
        "--tools", type=_some_of("tool", TOOLS), metavar="A,B", help=f"bare, and some of {', '.join(TOOLS)}"
    )
    parser.add_argument(
        "--repetitions", type=_positive, metavar="N", help="how often each is run (default 3; with --full, 5)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where table.md, picture.png and measurements.csv go (default out; with --full, benchmarks/results)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="measure only what is not in DIR/measurements.csv yet, or failed there"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the raw measurements to FILE as well")
    return parser


def _some_of(noun: str, known: Mapping[str, object]) -> Callable[[str], tuple[str, ...]]:
    def names_in(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {noun} {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return names_in


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


def _installed_tools(names: Sequence[str], python: str) -> list[str]:
    """Bare Python, and the tools that this Python has; a sentence on stderr about the others."""
    found = machine.versions(python)
    missing = [name for name in names if TOOLS[name].package and TOOLS[name].package not in found]
    if missing:
        print(f"Left out: {', '.join(missing)}, which {python} does not have.", file=sys.stderr)
    return [BARE, *(name for name in dict.fromkeys(names) if name != BARE and name not in missing)]


def _explanation(repetitions: int, measurements: Sequence[Measurement]) -> str:
    sentence = (
        "CPU: user and system time of the whole process and of those it waits for, the tool's own report included, "
        f"to bare Python in the same repetition; median (lowest-highest) of {repetitions}. RSS: peak of the largest of "
        "them, likewise, without the spread. Over all workloads: of these medians (lowest-highest of single "
        f"repetitions). A start: a process that does nothing, {measure.STARTS} times in each repetition, in no mean or "
        "median of the others."
    )
    return "\n\n".join([sentence, *table.failures(measurements)])


if __name__ == "__main__":
    main()
