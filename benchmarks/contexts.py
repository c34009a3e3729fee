"""``python -m benchmarks.contexts``: what contexts cost, from opening one to reading ten thousand.

Each figure is measured in a process of its own (see probes.py), of a wheel of the checkout as users have it (see
environment.py); what is compared takes turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import environment, machine
from benchmarks.environment import children_variables
from benchmarks.table import Ratio

Figures = dict[str, list[float]]
Rows = list[list[str]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contexts", description=__doc__)
    parser.add_argument("--full", action="store_true", help="up to a million contexts and 1e9 events (minutes)")
    parser.add_argument("--repetitions", type=int, default=7, metavar="N", help="processes of each kind (default 7)")
    options = parser.parse_args(arguments)
    existing = (1, 1_000, 100_000, *([1_000_000] if options.full else []))
    sections: tuple[Callable[[], str], ...] = (
        lambda: opening(existing, options.repetitions),
        lambda: gathering(10_000, options.repetitions),
        lambda: viewing(10_000),
        lambda: lasting(10**9 if options.full else 10**8),
        lambda: starting(options.repetitions),
    )
    for section in sections:
        print(section(), end="\n\n", flush=True)
    print(machine.describe(environment.lent().python))


def probe(name: str, *numbers: int) -> Figures:
    """What a process of its own measured. Raises `subprocess.CalledProcessError`."""
    where = environment.lent()
    command = [where.python, "-m", "benchmarks.probes", name, *map(str, numbers)]
    done = subprocess.run(command, cwd=where.program, env=children_variables(), stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def opening(existing: Sequence[int], repetitions: int) -> str:
    """Nanoseconds of one open and close, against the number of contexts that exist."""
    rounds = [{number: probe("open_and_close", number) for number in existing} for _ in range(repetitions)]
    figures = {number: {key: _pooled(rounds, number, key) for key in rounds[0][number]} for number in existing}
    heading = ["ns, median (best)", *(f"{number:,} existing" for number in existing)]
    statements = [name for name in figures[existing[0]] if name != "bytes"]
    rows = [[name, *(_median_and_best(figures[number][name], 0) for number in existing)] for name in statements]
    sizes = ["bytes for each that exists", *(f"{figures[n]['bytes'][0] / n:,.0f}" if n > 1 else "" for n in existing)]
    return _markdown([heading, *rows, sizes])


def _pooled(rounds: Sequence[dict[int, Figures]], number: int, key: str) -> list[float]:
    return [value for figures in rounds for value in figures[number][key]]


def gathering(tasks: int, repetitions: int) -> str:
    """Milliseconds of many asyncio tasks at once, with a context for each and without thag_nb."""
    without: list[float] = []
    own: list[float] = []
    for _ in range(repetitions):
        without += probe("gather", tasks, 0)["gather"]
        own += probe("gather", tasks, 1)["gather"]
    heading = [f"{tasks:,} gathered asyncio tasks", "ms, median (best)", "ratio, median (lowest-highest)"]
    return _markdown(
        [
            heading,
            ["without thag_nb", _median_and_best(without, 1), ""],
            ["each in a task of its own", _median_and_best(own, 1), str(_ratio(own, without))],
        ]
    )


def viewing(contexts: int) -> str:
    """Milliseconds of reading everything."""
    figures = probe("views", contexts)
    heading = [f"{contexts:,} contexts", "ms, median (best)"]
    return _markdown([heading, *([name, _median_and_best(times, 1)] for name, times in figures.items())])


def lasting(events: int) -> str:
    """Bytes after many events in one context."""
    (seen,), (timeline,), (tables,), (seconds,) = probe("long_task", events).values()
    return _markdown(
        [
            ["events in one task", "its timeline, bytes", "all tables, bytes", "events per second"],
            [f"{seen:,.0f}", f"{timeline:,.0f}", f"{tables:,.0f}", f"{seen / seconds:,.0f}"],
        ]
    )


def starting(repetitions: int) -> str:
    """Milliseconds that importing and loading take."""
    empty, ours = importing(3 * repetitions)
    loading = [milliseconds for _ in range(repetitions) for milliseconds in probe("load_extension")["load"]]
    more = _median_and_best([a - b for a, b in zip(ours, empty, strict=True)], 1)
    return _markdown(
        [
            ["", "ms, median (best)"],
            ["a process that imports an empty module", _median_and_best(empty, 1)],
            ["a process that imports thag_nb", _median_and_best(ours, 1)],
            ["the difference", more],
            ["%load_ext thag_nb in a plain shell, without pandas and matplotlib", _median_and_best(loading, 1)],
        ]
    )


def importing(repetitions: int) -> tuple[list[float], list[float]]:
    """Milliseconds of whole processes that import an empty module, and thag_nb, in turn."""
    empty, ours = [], []
    python = environment.lent().python
    with TemporaryDirectory() as folder:
        Path(folder, "empty.py").touch()
        _process(python, "import empty", folder)  # which compiles it
        for _ in range(repetitions):
            empty.append(_process(python, "import empty", folder))
            ours.append(_process(python, "import thag_nb", folder))
    return empty, ours


def _process(python: str, code: str, folder: str) -> float:
    began = time.perf_counter()
    subprocess.run([python, "-c", code], cwd=folder, env=children_variables(), check=True)
    return (time.perf_counter() - began) * 1e3


def _ratio(ours: Sequence[float], bare: Sequence[float]) -> Ratio:
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def _median_and_best(values: Sequence[float], digits: int) -> str:
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f})"


def _markdown(rows: Rows) -> str:
    heading, *others = rows
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heading, rule, *others])


if __name__ == "__main__":
    main()
