"""``python -m benchmarks.pairs``: nanoseconds for an allocation and its free, by domain and size, hooked and not.

A foreign pair is one of the obj domain whose free is of a block that another task has allocated.

The loop is C (see pairs.c), built when it is first needed, into a folder that git ignores.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import thag_nb

_SOURCE = Path(__file__).with_name("pairs.c")
FLAGS = ("-std=c11", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror")
COUNT = 100_000
SIZES = (16, 64, 256, 512, 1024, 65536)
FOREIGN = "foreign"
DOMAINS = ("raw", "mem", "obj", "numpy", FOREIGN)  # the first three in the order of CPython's PyMemAllocatorDomain


class Case(NamedTuple):
    """A domain, and a size in bytes."""

    domain: str
    size: int


CASES = (*(Case(domain, size) for domain in DOMAINS if domain != FOREIGN for size in SIZES), Case(FOREIGN, 64))


def compiler() -> str | None:
    """The compiler that this Python was built with, if it is here."""
    command = shlex.split(sysconfig.get_config_var("CC") or "cc")
    return shutil.which(command[0])


def load() -> Any:
    """The loop as a module, built if its source has changed. Exits with a sentence without a compiler."""
    if compiler() is None:
        sys.exit("No C compiler was found: this benchmark is a loop in C that has to be built.")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = _SOURCE.parent / ".work" / f"pairs-{zlib.crc32(_SOURCE.read_bytes()):08x}-numpy{np.__version__}{suffix}"
    if not built.exists():
        _build(built)
    spec = spec_from_file_location("pairs", built)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build(target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    linker = shlex.split(sysconfig.get_config_var("LDSHARED"))
    # System headers, as their warnings are not ours.
    headers = [f"-isystem{path}" for path in (sysconfig.get_path("include"), np.get_include())]
    subprocess.run([*linker, *FLAGS, *headers, str(_SOURCE), "-o", str(target)], check=True)


@contextmanager
def _forwarding(pairs: Any) -> Generator[None]:
    pairs.forward(True)
    try:
        yield
    finally:
        pairs.forward(False)


@contextmanager
def _recording(_: Any) -> Generator[None]:
    thag_nb.start()
    try:
        yield
    finally:
        thag_nb.stop()


Task = Callable[[str], AbstractContextManager[object]]


class State(NamedTuple):
    """What brings hooks in and out, and what stands around work that belongs together."""

    hooks: Callable[[Any], AbstractContextManager[None]]
    task: Task


STATES = {
    "off": State(nullcontext, nullcontext),
    "forwarding": State(_forwarding, nullcontext),
    "recording": State(_recording, thag_nb.task),
    "lines": State(_recording, lambda name: thag_nb.task(name, lines=True)),
    "lines, 4096": State(_recording, lambda name: thag_nb.task(name, lines=4096)),
    "untracked": State(_recording, lambda _name: thag_nb.untracked()),
}


def run(pairs: Any, case: Case, count: int, task: Task) -> int:
    """Nanoseconds for so many pairs, in a task of their own; what foreign pairs free is another one's."""
    if case.domain == FOREIGN:
        with task("owner"):
            pairs.hold(case.size, count)
    with task("pairs"):
        nanoseconds: int = pairs.run(DOMAINS.index(case.domain), case.size, count)
    return nanoseconds


def measure(repetitions: int, count: int = COUNT) -> dict[tuple[Case, str], float]:
    """Nanoseconds per pair in each state, which take turns: medians of the repetitions."""
    pairs = load()
    times: dict[tuple[Case, str], list[float]] = {(case, state): [] for case in CASES for state in STATES}
    for _ in range(repetitions):
        for name, state in STATES.items():
            with state.hooks(pairs):
                for case in CASES:
                    run(pairs, case, count // 100, state.task)
                    times[case, name].append(run(pairs, case, count, state.task) / count)
    return {key: median(values) for key, values in times.items()}


def markdown(figures: dict[tuple[Case, str], float]) -> str:
    """A row for each domain and size, a column for each state."""
    rows = [["domain", "bytes", *STATES], ["---", *["---:"] * (1 + len(STATES))]]
    rows += [[domain, f"{size}", *(f"{figures[Case(domain, size), s]:.1f}" for s in STATES)] for domain, size in CASES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15, metavar="N", help="medians of so many (default 15)")
    options = parser.parse_args(arguments)
    print(markdown(measure(options.repetitions)))
    print(
        "\nNanoseconds per allocation and free, medians. Off: no hook. Forwarding: hooks that only call what they "
        "wrap. Recording: thag_nb, in a task. Lines: in a task whose lines are recorded, all or from 4096 bytes on."
    )


if __name__ == "__main__":
    main()
