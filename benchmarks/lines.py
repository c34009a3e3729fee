"""``python -m benchmarks.lines``: what it costs to record the lines that allocate, next to what else records them.

Whole processes, as in ``python -m benchmarks``; but a tool that is so slow in a program that noise does not matter runs
it only once. And what is kept of lines after a cell of pandas and after its import, in processes of their own (see
probes.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import median

from benchmarks import contexts, environment, machine, measure, table
from benchmarks.environment import Environment
from benchmarks.measure import Measurement
from benchmarks.tools import AGAIN, BARE, TOOLS, label
from benchmarks.workloads import WORKLOADS

PROGRAMS = (
    "async_tree_none",
    "small_objs",
    "json_dumps",
    "pprint",
    "raytrace",
    "mdp",
    "numpy_small",
    "pandas_gb",
)
COMPARED = (
    BARE,
    AGAIN,
    "thag_nb",
    "thag_nb_lines",
    "thag_nb_lines_4096",
    "tracemalloc",
    "tracemalloc_25",
    "memray_python",
)
ONCE_SECONDS = 8.0
LIMIT_SECONDS = 180
_MIB = 1 << 20
Rows = list[list[str]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lines", description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="processes of each kind (default 5)")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"some of {', '.join(PROGRAMS)} (default: all)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.programs if name not in PROGRAMS]
    if unknown:
        parser.error(f"there is no program {unknown[0]!r}; name some of {', '.join(PROGRAMS)}")
    where = environment.lent()
    found = machine.versions(where.python)
    tools = [name for name in COMPARED if not TOOLS[name].package or TOOLS[name].package in found]
    programs = [name for name in options.programs or PROGRAMS if not WORKLOADS[name].missing()]
    description = machine.describe(where.python, [TOOLS[name].package for name in tools if TOOLS[name].package])
    measurements = [one for name in programs for one in measured(name, tools, options.repetitions, where)]
    print(
        "\n\n".join(
            [
                markdown(measurements),
                explanation(options.repetitions, measurements),
                memory(options.repetitions),
                description,
            ]
        )
    )


def measured(program: str, tools: Sequence[str], repetitions: int, where: Environment) -> Iterator[Measurement]:
    """The program under each tool in turn, but for those that are too slow in it, or failed."""
    results: list[Measurement] = []
    left_out: set[str] = set()
    for _, turn in groupby(measure.plan([program], tools, repetitions), lambda child: child.repetition):
        children = [child for child in turn if child.tool not in left_out]
        for measurement in measure.measure_all(children, where, results, LIMIT_SECONDS):
            yield measurement
            if measurement.failure or measurement.cpu_seconds > ONCE_SECONDS:
                left_out.add(measurement.tool)
            if not measurement.failure:
                results.append(measurement)


def markdown(measurements: Sequence[Measurement]) -> str:
    """A row per program with ratios to bare, and two over all of them."""
    tools = table.tools_of(measurements)
    heading = ["CPU, to bare", "bare, s", *map(label, tools)]
    rows = [_program_row(measurements, program, tools) for program in table.programs_of(measurements)]
    cpu = ["geometric mean", "", *(_over_all(measurements, tool, table.cpu_seconds, table.mean) for tool in tools)]
    rss = [
        "peak RSS, median of all",
        "",
        *(_over_all(measurements, tool, table.peak_rss_bytes, table.middle) for tool in tools),
    ]
    return table.rendered([heading, *rows, cpu, rss])


def _program_row(measurements: Sequence[Measurement], program: str, tools: Sequence[str]) -> list[str]:
    bare = median(m.cpu_seconds for m in measurements if (m.workload, m.tool) == (program, BARE))
    ratios = [table.ratio(measurements, program, tool, table.cpu_seconds) for tool in tools]
    return [program, f"{bare:.2f}", *(f"{ratio or 'failed'}" for ratio in ratios)]


def _over_all(measurements: Sequence[Measurement], tool: str, figure: table.Figure, summary: table.Summary) -> str:
    return f"{table.over_all(measurements, tool, figure, summary) or 'failed'}"


def explanation(repetitions: int, measurements: Sequence[Measurement]) -> str:
    """What the table above says, and what failed."""
    sentence = (
        "User and system time of the whole process, the tool's own report included, to bare Python in the same "
        f"repetition; median (lowest-highest) of {repetitions}, but what takes longer than {ONCE_SECONDS:.0f} s runs "
        "once. Over all: of these medians (lowest-highest of single repetitions). thag_nb without lines tells tasks "
        "apart, tracemalloc the innermost line and with 25 frames that many; the others whole stacks."
    )
    return "\n\n".join([sentence, *table.failures(measurements)])


_CELLS = {"pandas_cell": "a cell of pandas", "pandas_import": "import pandas"}
_LEAST = {-1: "no lines", 0: "lines", 4096: "lines of 4 KiB"}


def memory(repetitions: int) -> str:
    """What the core keeps of lines after a cell, and by how much the process is larger than without them; medians."""
    heading = [
        "kept after",
        "call sites",
        "accounts",
        "tables of lines, KiB",
        "RSS, MiB",
        "more than without, MiB",
    ]
    return table.rendered([heading, *(row for probe in _CELLS for row in _memory_rows(probe, repetitions))])


def _memory_rows(probe: str, repetitions: int) -> Iterator[list[str]]:
    without = 0.0
    for least, name in _LEAST.items():
        runs = [contexts.probe(probe, least) for _ in range(repetitions)]
        sites, accounts, tables, rss = (median(run[key][0] for run in runs) for key in runs[0])
        without = without or rss
        yield [
            f"{_CELLS[probe]}, {name}",
            f"{sites:,.0f}",
            f"{accounts:,.0f}",
            f"{tables / 1024:,.0f}",
            f"{rss / _MIB:.1f}",
            f"{(rss - without) / _MIB:.1f}",
        ]


if __name__ == "__main__":
    main()
