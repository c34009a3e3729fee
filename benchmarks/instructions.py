"""``python -m benchmarks.instructions``: how many instructions an allocation and its free take, hooked and not.

Counted by callgrind (valgrind) in the loop of pairs.c alone, as the difference between a shorter and a longer run. They
do not depend on how busy the machine is, so they are recorded beside this file: a change of the hot path shows what it
costs. They depend on the compiler and on the C library, so compare counts of one machine only. A recording also reads
the clock, and what that tells differs from run to run: its counts differ by one or two with it.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import pairs

RECORDED = Path(__file__).with_name("instructions.csv")
_ROOT = Path(__file__).parent.parent
_WARM_UP, _SHORT, _LONG = 100, 1_000, 41_000
_FROM_THE_CLOCK = 3


class Count(NamedTuple):
    """Instructions per pair of an allocation and its free; sizes are bytes."""

    domain: str
    size_bytes: int
    state: str
    instructions: float


def count(state: str, cases: Sequence[pairs.Case] = pairs.CASES) -> list[Count]:
    """Run the cases under callgrind. Raises `subprocess.CalledProcessError`."""
    pairs.load()  # built by the compiler, not under callgrind
    with TemporaryDirectory() as folder:
        _walk_under_callgrind(state, len(cases), Path(folder))
        collected = [_collected(Path(folder, f"out.{number}")) for number in range(1, 3 * len(cases) + 1)]
    per_case = zip(cases, collected[1::3], collected[2::3], strict=True)
    return [Count(*case, state, round((long - short) / (_LONG - _SHORT), 1)) for case, short, long in per_case]


def _walk_under_callgrind(state: str, cases: int, folder: Path) -> None:
    callgrind = [
        "valgrind",
        "--tool=callgrind",
        "--toggle-collect=pairs_loop",
        "--dump-after=pairs_loop",
        f"--callgrind-out-file={folder}/out",
    ]
    walk = f"from benchmarks import instructions; instructions.walk({state!r}, {cases})"
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [*callgrind, sys.executable, "-c", walk]
    subprocess.run(command, cwd=_ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)


def walk(state: str, cases: int) -> None:
    """What runs under callgrind: each of the first cases in three lengths, one of them to warm up."""
    module = pairs.load()
    hooks, task = pairs.STATES[state]
    with hooks(module):
        for case in pairs.CASES[:cases]:
            for length in (_WARM_UP, _SHORT, _LONG):
                pairs.run(module, case, length, task)


def _collected(dump: Path) -> int:
    """The instructions of one call of the loop."""
    total = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)
    assert total is not None, dump
    return int(total[1])


def missing() -> str:
    """The sentence that says what is not here, or nothing."""
    if pairs.compiler() is None:
        return "No C compiler was found, which the counted loop is built with."
    return "" if shutil.which("valgrind") else "valgrind was not found; on Debian: apt-get install valgrind."


def conditions() -> str:
    """The Python, compiler, flags and valgrind of the counts."""
    compiler, valgrind = (_first_line(command) for command in (pairs.compiler() or "cc", "valgrind"))
    ours = " ".join(re.findall(r'"(-[^"{]+)"', (_ROOT / "setup.py").read_text()))
    python = f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"
    libc = " ".join(platform.libc_ver())
    return f"{python}; {libc}; {compiler}; thag_nb {ours}; loop {' '.join(pairs.FLAGS)}; {valgrind}"


def _first_line(command: str) -> str:
    return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def write(counts: Iterable[Count]) -> None:
    """The conditions as a comment, then a row per count."""
    with RECORDED.open("w", newline="") as file:
        file.write(f"# {conditions()}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Count._fields)
        writer.writerows(counts)


def read() -> tuple[str, list[Count]]:
    """The recorded conditions and counts."""
    comment, _, *lines = RECORDED.read_text().splitlines()
    rows = csv.reader(lines)
    return comment.removeprefix("# "), [Count(d, int(size), state, float(n)) for d, size, state, n in rows]


def differences(recorded: Iterable[Count], counts: Iterable[Count]) -> str:
    """A row for each count that is not as recorded. Less than three instructions come from the clock."""
    before = {one[:3]: one.instructions for one in recorded}
    rows = ["| domain | bytes | state | recorded | now | difference |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    for domain, size, state, now in counts:
        then = before.get((domain, size, state), 0.0)
        if abs(now - then) >= _FROM_THE_CLOCK:
            rows.append(f"| {domain} | {size} | {state} | {then:.1f} | {now:.1f} | {now - then:+.1f} |")
    return "\n".join(rows) if len(rows) > 2 else "All counts are as recorded."


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--check", action="store_true", help="print what differs from the record, and leave it alone")
    options = parser.parse_args(arguments)
    if missing():
        sys.exit(missing())
    counts = [one for state in pairs.STATES for one in count(state)]
    print(pairs.markdown({(pairs.Case(domain, size), state): n for domain, size, state, n in counts}))
    print(f"\nInstructions per allocation and free. {conditions()}")
    if options.check:
        recorded_with, recorded = read()
        print(f"\nRecorded with: {recorded_with}\n\n{differences(recorded, counts)}")
    else:
        write(counts)


if __name__ == "__main__":
    main()
