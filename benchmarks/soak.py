"""``python -m benchmarks.soak``: a long day in one process, with exact expectations checked as it goes.

Cells and tasks of mixed work come and go; blocks of known sizes are looked up in the owner table, and the sums are
audited at intervals. The first half runs without a reset, the rest with one every so often, and what our own memory
grows by is told for both. It exits with 1 when a figure was wrong or when our records grow in either; without a reset,
once there have been as many contexts as are kept that hold nothing. The table of owners covers the addresses that the
program uses: it grows and stays with them, and is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import io
import random
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from IPython.core.interactiveshell import InteractiveShell

import thag_nb
from thag_nb import _native

ROOT = 1
KNOWN = 512
CELL_EVERY = 20
REPORTED_EVERY = 2000
WITHOUT_RESET = 0.5
FLAT_BYTES = 2 << 20  # that records may grow by in half of either: two steps of the memory for timelines

_pointer, _size = ctypes.c_void_p, ctypes.c_size_t
raw_malloc = ctypes.PYFUNCTYPE(_pointer, _size)(("PyMem_RawMalloc", ctypes.pythonapi))
raw_free = ctypes.PYFUNCTYPE(None, _pointer)(("PyMem_RawFree", ctypes.pythonapi))
raw_free_without_gil = ctypes.CFUNCTYPE(None, _pointer)(("PyMem_RawFree", ctypes.CDLL(None)))

CELLS = (
    "kept = [str(number) * 3 for number in range(200)]",
    "import numpy as np; table = np.arange(5_000); (table * 2).sum()",
    "import asyncio; await asyncio.sleep(0); kept = bytearray(10_000)",
    "1 / 0",
    "not python at all",
    "",
    "%thag_system\nkept = dict.fromkeys(range(500))",
    "import thag_nb\nwith thag_nb.task('inside'):\n    kept = [object() for _ in range(100)]",
)


class KnownBlocks:
    """Blocks whose owners and sizes we wrote down."""

    def __init__(self) -> None:
        self.addresses = (ctypes.c_void_p * KNOWN)()
        self.expected: dict[int, tuple[int, int]] = {}

    def put(self, place: int, context_id: int, size: int) -> None:
        self.take(place)
        self.addresses[place] = raw_malloc(size)
        self.expected[place] = (context_id, size)
        self.check(place)

    def take(self, place: int) -> None:
        if self.expected.pop(place, None) is not None:
            free = raw_free if place % 2 else raw_free_without_gil
            free(self.addresses[place])

    def check(self, place: int) -> None:
        found = _native.owner_of(self.addresses[place])
        assert found == self.expected[place], f"block {place}: {found}, not {self.expected[place]}"

    def check_all(self) -> None:
        for place in self.expected:
            self.check(place)

    def pass_to_root(self) -> None:
        """After a reset outside of any context."""
        self.expected = {place: (ROOT, size) for place, (_, size) in self.expected.items()}


class Measured(NamedTuple):
    """How things stood after so many cells."""

    cells: int
    events: int
    live_bytes: int
    owners_bytes: int
    records_bytes: int
    rss_bytes: int
    contexts: int


class Soak:
    """The work, the expectations and the measurements."""

    def __init__(self, cells: int, reset_every: int, check_every: int) -> None:
        self.cells = cells
        self.reset_every = reset_every
        self.check_every = check_every
        self.chosen = random.Random(2024)
        self.known = KnownBlocks()
        self.kept: list[Any] = [None] * 64
        self.loop = asyncio.new_event_loop()
        self.pool = ThreadPoolExecutor(4)
        self.shell = InteractiveShell.instance()
        self.events_before_reset = 0
        self.slowest_read = self.slowest_reset = 0.0
        self.wrong: list[str] = []
        self.history: list[Measured] = []
        self.kinds: tuple[Callable[[], None], ...] = (
            self.objects,
            self.arrays,
            self.gather,
            self.threads,
            self.foreign_frees,
            self.failing,
            self.generators,
        )

    # ---- the work ----

    def size(self) -> int:
        return self.chosen.randrange(1, 20_000)

    def place(self) -> int:
        return self.chosen.randrange(KNOWN)

    def keep(self, value: object) -> None:
        self.kept[self.chosen.randrange(len(self.kept))] = value

    def objects(self) -> None:
        with thag_nb.task("objects") as context:
            self.known.put(self.place(), context.id, self.size())
            self.keep([{"number": number, "text": str(number)} for number in range(50)])

    def arrays(self) -> None:
        with thag_nb.task("arrays") as context:
            array = np.arange(self.size(), dtype=np.float64)
            owner = _native.owner_of(array.ctypes.data)
            assert owner == (context.id, array.nbytes), f"array: {owner}"
            self.keep(array[::2])
            self.keep(array * 2 + 1)

    def gather(self) -> None:
        async def work(place: int, size: int) -> None:
            async with thag_nb.task("coroutine") as context:
                await asyncio.sleep(0)
                self.known.put(place, context.id, size)
                await asyncio.sleep(0)
                assert thag_nb.current_context() == context

        async def all_of_them() -> None:
            await asyncio.gather(*(work(self.place(), self.size()) for _ in range(5)))

        with thag_nb.task("gather"):
            self.loop.run_until_complete(all_of_them())

    def threads(self) -> None:
        def work(place: int, size: int, context_id: int) -> None:
            self.known.put(place, context_id, size)

        with thag_nb.task("pool") as context:
            places = self.chosen.sample(range(KNOWN), 4)
            futures: list[Future[None]] = [self.pool.submit(work, place, self.size(), context.id) for place in places]
            for future in futures:
                future.result()

    def foreign_frees(self) -> None:
        place = self.place()
        with thag_nb.task("allocates") as context:
            self.known.put(place, context.id, self.size())
            mine = [bytearray(1000) for _ in range(10)]
        with thag_nb.task("frees"):
            self.known.take(place)
            mine.clear()

    def failing(self) -> None:
        with contextlib.suppress(ZeroDivisionError), thag_nb.task("failing") as context:
            self.known.put(self.place(), context.id, self.size())
            self.keep(1 / 0)
        assert thag_nb.current_context().id == ROOT

    def generators(self) -> None:
        @thag_nb.task("generator")
        def blocks(places: list[int]) -> Generator[int, None, None]:
            for place in places:
                self.known.put(place, thag_nb.current_context().id, 1000)
                yield place

        with thag_nb.task("consumer") as context:
            for place in blocks(self.chosen.sample(range(KNOWN), 3)):
                other = (place + 7) % KNOWN
                self.known.put(other, context.id, 2000)
            next(blocks([self.place(), self.place()]))  # dropped unfinished

    def cell(self, number: int) -> None:
        code = CELLS[number // CELL_EVERY % len(CELLS)]
        if number % REPORTED_EVERY == 0:
            code = "%%thag_task reported\nkept = bytearray(100_000)"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.shell.run_cell(code, store_history=False)

    # ---- expectations ----

    def check(self) -> None:
        started = time.perf_counter()
        recording = thag_nb.read()
        self.slowest_read = max(self.slowest_read, time.perf_counter() - started)
        self.known.check_all()
        self.expect_sums()
        live_bytes = sum(record.self_live_bytes for record in recording.contexts)
        assert recording.contexts[0].live_bytes == live_bytes
        for record in recording.contexts:
            assert record.peak_bytes >= record.live_bytes
            high_bytes = max(bucket.high_bytes for bucket in recording.timeline(record.context_id))
            assert high_bytes == record.peak_bytes, f"{record}: timeline {high_bytes}"

    def expect_sums(self) -> None:
        """A thread without the GIL may be in the middle of an event: then once more."""
        for _ in range(3):
            uneven = {key: counts for key, counts in _native.audit().items() if counts[0] != counts[1]}
            if not uneven:
                return
        raise AssertionError(f"counted and added up: {uneven}")

    def reset(self) -> None:
        self.events_before_reset = self.events()
        started = time.perf_counter()
        thag_nb.reset()
        self.slowest_reset = max(self.slowest_reset, time.perf_counter() - started)
        self.known.pass_to_root()

    def events(self) -> int:
        root = thag_nb.read().contexts[0]
        return self.events_before_reset + root.allocations + root.frees

    # ---- the run ----

    def run(self) -> bool:
        thag_nb.start()
        self.shell.run_line_magic("load_ext", "thag_nb")
        thag_nb.reset()
        print(
            f"{'cells':>8} {'events':>12} {'live':>11} {'owners':>11} {'records':>11} {'RSS':>12} {'contexts':>8}  "
            "read ms reset ms"
        )
        for number in range(1, self.cells + 1):
            self.one(number)
            if number % max(1, self.cells // 50) == 0:
                self.history.append(self.measure(number))
            if number % max(1, self.cells // 10) == 0:
                self.tell(self.history[-1])
        self.finish()
        return self.conclude()

    def one(self, number: int) -> None:
        try:
            if number % CELL_EVERY == 0:
                self.cell(number)
            else:
                self.kinds[self.chosen.randrange(len(self.kinds))]()
            if number % self.check_every == 0:
                self.check()
        except AssertionError as error:
            self.wrong.append(f"cell {number}: {error}")
            print(self.wrong[-1], flush=True)
        if number >= WITHOUT_RESET * self.cells and self.reset_every and number % self.reset_every == 0:
            self.reset()

    def measure(self, cells: int) -> Measured:
        recording = thag_nb.read()
        overhead = _native.overhead()
        return Measured(
            cells,
            self.events(),
            recording.contexts[0].live_bytes,
            overhead["owners"],
            overhead["contexts"] + overhead["timelines"] + overhead["logs"],
            rss_bytes(),
            len(recording.contexts),
        )

    def tell(self, now: Measured) -> None:
        print(
            f"{now.cells:>8,} {now.events:>12,} {now.live_bytes:>11,} {now.owners_bytes:>11,} {now.records_bytes:>11,} "
            f"{now.rss_bytes:>12,} "
            f"{now.contexts:>8,} {self.slowest_read * 1e3:>8.1f} {self.slowest_reset * 1e3:>8.1f}",
            flush=True,
        )
        self.slowest_read = self.slowest_reset = 0.0

    def finish(self) -> None:
        self.pool.shutdown()
        self.loop.close()
        for place in list(self.known.expected):
            self.known.take(place)
        try:
            self.expect_sums()
        except AssertionError as error:
            self.wrong.append(str(error))

    def conclude(self) -> bool:
        border = WITHOUT_RESET * self.cells
        without = [now for now in self.history if border / 2 <= now.cells < border]
        later = [now for now in self.history if now.cells >= border + (self.cells - border) / 2]
        status = thag_nb.status()
        print(f"figures exact: {'no' if self.wrong else 'yes'} ({len(self.wrong)} wrong)")
        with thag_nb.task("last") as context:
            print(f"opened in all: {context.id - _native.SYSTEM_ID:,} contexts")
        for name, history in (("without reset", without), ("with resets", later)):
            grown = ", ".join(f"{what} {bytes_:+,.0f}" for what, bytes_ in slopes(history).items())
            print(f"{name}: per 1000 cells {grown}")
        flat = max(map(growth, (without, later))) <= FLAT_BYTES
        print(f"records and timelines are flat: {'yes' if flat else 'no'}")
        print(f"owners to RSS: {self.history[-1].owners_bytes / self.history[-1].rss_bytes:.1%}; {trimmed()}")
        print(status)
        return not self.wrong and flat


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def trimmed() -> str:
    """What malloc itself was holding on to: freed by everybody, and not given back to the system."""
    before = rss_bytes()
    ctypes.CDLL(None).malloc_trim(0)
    return f"malloc_trim gives {before - rss_bytes():,} bytes of RSS back"


def growth(history: Sequence[Measured]) -> int:
    """How much larger our records were at the end than at the beginning."""
    return history[-1].records_bytes - history[0].records_bytes if history else 0


def slopes(history: Sequence[Measured]) -> dict[str, float]:
    """Least squares of everything measured but the events, per 1000 cells."""
    names = [name for name in Measured._fields if name not in ("cells", "events")]
    if len(history) < 2:
        return dict.fromkeys(names, 0.0)
    cells = [now.cells / 1000 for now in history]
    return {name: float(np.polyfit(cells, [getattr(now, name) for now in history], 1)[0]) for name in names}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--cells", type=int, default=100_000, metavar="N", help="cells and tasks (default 100,000)")
    parser.add_argument("--reset-every", type=int, default=1000, metavar="N", help="0: never (default 1000)")
    parser.add_argument("--check-every", type=int, default=1000, metavar="N", help="audits (default every 1000)")
    options = parser.parse_args(arguments)
    if not Soak(options.cells, options.reset_every, options.check_every).run():
        sys.exit(1)


if __name__ == "__main__":
    main()
