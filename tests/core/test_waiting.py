"""Whom the threads of a library work for: who gave up the GIL in its code."""

import ctypes
import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from figures import assert_sums_hold, of
from processes import python

import thag_nb
from thag_nb import _native

SUPPORT = Path(__file__).parents[1] / "support"
SIZE = 51_200

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a compiler"),
    pytest.mark.usefixtures("native"),
]


class Library:
    """workers.c, as part of a package."""

    def __init__(self, path: Path) -> None:
        self.dll = ctypes.PyDLL(str(path))
        self.dll.ask_for.restype = self.dll.ask_holding.restype = ctypes.c_void_p
        assert self.dll.begin() == 0

    def ask_for(self, size: int = SIZE) -> int:
        return self.dll.ask_for(ctypes.c_size_t(size))

    def ask_holding(self, size: int = SIZE) -> int:
        return self.dll.ask_holding(ctypes.c_size_t(size))

    def ask_to_call(self, function: Callable[[], object], *, by_state: bool = False) -> None:
        self.dll.ask_to_call(ctypes.py_object(function), int(by_state))

    def give_back(self, block: int) -> None:
        self.dll.give_back(ctypes.c_void_p(block))

    @contextmanager
    def lingering(self, name: str) -> Iterator[thag_nb.AllocatorContext]:
        """A thread waits in the library, in a task of this name."""
        opened: list[thag_nb.AllocatorContext] = []

        def wait() -> None:
            with thag_nb.task(name) as task:
                opened.append(task)
                self.dll.linger()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        while not opened:
            time.sleep(0.001)
        time.sleep(0.05)
        try:
            yield opened[0]
        finally:
            self.dll.let_go_on()
            thread.join()


@pytest.fixture(scope="module")
def workers(build: Callable[..., Path]) -> Callable[[str], Library]:
    """The library under this name: its folder says what package it is of."""
    include = f"-I{sysconfig.get_path('include')}"
    return lambda name: Library(build("workers.c", include, name=name))


@pytest.fixture(scope="module")
def libraries(workers: Callable[[str], Library]) -> tuple[Library, Library, Library]:
    """Two in packages of their own, and one in none."""
    return (
        workers("site-packages/one/workers.so"),
        workers("site-packages/other/workers.so"),
        workers("elsewhere/workers.so"),
    )


def owner(block: int) -> int:
    found = _native.owner_of(block)
    assert found is not None
    assert found[1] == SIZE
    return found[0]


def in_thread(name: str, function: Callable[[], int]) -> tuple[int, int]:
    """The id of the task, and what the function returned in it, in a thread."""
    answers: list[tuple[int, int]] = []

    def run() -> None:
        with thag_nb.task(name) as task:
            answers.append((task.id, function()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return answers[0]


def test_who_waits_for_a_library_is_charged_for_what_its_thread_takes(libraries):
    with thag_nb.task("cell"):
        _native.set_foreground(_native.current_id())
        for library in libraries:
            task, block = in_thread("asker", library.ask_for)
            assert owner(block) == task
            library.give_back(block)
    assert of("asker").self_live_bytes < SIZE
    assert_sums_hold()


def test_libraries_at_once_each_work_for_who_waits_for_them(libraries):
    one, other, _ = libraries
    with thag_nb.task("cell"), one.lingering("first") as first, other.lingering("second") as second:
        for library, waits in ((one, first), (other, second)):
            block = library.ask_holding()
            assert owner(block) == waits.id
            library.give_back(block)


def test_two_that_wait_for_one_library_share_what_is_above_them(libraries):
    one, other, _ = libraries
    with thag_nb.task("cell") as cell, one.lingering("first") as first, other.lingering("unconcerned"):
        second, block = in_thread("second", one.ask_for)
        assert owner(block) == cell.id
        assert (cell.id, first.id, second, SIZE) in _native.shared()
        assert "both 'first' and 'second'" not in "".join(thag_nb.status().notes)  # it is too little to be told
        one.give_back(block)
        in_thread("third", lambda: one.give_back(one.ask_for(1_000_000)) or 0)
        assert "976.6 KiB that threads of a library took while both 'first' and 'third' waited for it" in "".join(
            thag_nb.status().notes
        )
    thag_nb.reset()
    assert _native.shared() == []


def test_who_waits_through_ctypes_is_worked_for(libraries):
    """It gives up the GIL in ctypes, and the library's thread is in a package where nobody waits."""
    one, other, _ = libraries
    unlocked = ctypes.CDLL(one.dll._name)
    unlocked.ask_holding.restype = ctypes.c_void_p
    with thag_nb.task("cell"), other.lingering("unconcerned"):
        task, block = in_thread("asker", lambda: unlocked.ask_holding(ctypes.c_size_t(SIZE)))
        assert owner(block) == task
        one.give_back(block)


def test_two_libraries_of_a_package(workers: Callable[[str], Library]):
    """The one is waited for, and the other's thread works."""
    first, second = workers("site-packages/several/first.so"), workers("site-packages/several/deep/second.so")
    third = workers("site-packages/another/third.so")
    with thag_nb.task("cell"), first.lingering("waits") as waits, third.lingering("unconcerned"):
        block = second.ask_holding()
        assert owner(block) == waits.id
        second.give_back(block)


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        ("anywhere/several/first.so", "anywhere/several/deep/second.so", "anywhere/another/third.so"),
        ("anywhere/_one.cpython-399.so", "anywhere/other/_one/second.so", "anywhere/_three.abi3.so"),
    ],
    ids=["packages", "modules"],
)
def test_packages_that_are_not_installed_are_told_apart(
    first: str, second: str, third: str, build: Callable[..., Path]
):
    """They may be anywhere on the path; what is a package has an ``__init__.py``."""
    include = f"-I{sysconfig.get_path('include')}"
    paths = [build("workers.c", include, name=name) for name in (first, second, third)]
    for path in paths:
        for folder in itertools.takewhile(lambda folder: folder.name not in ("anywhere", "other"), path.parents):
            (folder / "__init__.py").touch()
    one, other, unconcerned = map(Library, paths)
    with thag_nb.task("cell"), one.lingering("waits") as waits, unconcerned.lingering("unconcerned"):
        block = other.ask_holding()
        assert owner(block) == waits.id
        other.give_back(block)


def test_after_the_wait_the_foreground_is_charged_again(libraries):
    one, _, _ = libraries
    with thag_nb.task("cell") as cell:
        _native.set_foreground(cell.id)
        in_thread("asker", lambda: one.give_back(one.ask_for()) or 0)
        block = one.ask_holding()
        assert owner(block) == cell.id
        one.give_back(block)
        task, block = in_thread("asker again", one.ask_for)
        assert owner(block) == task
        one.give_back(block)


def test_all_that_two_share_is_told(workers: Callable[[str], Library]):
    one, other = workers("site-packages/several/first.so"), workers("site-packages/several/deep/second.so")
    with thag_nb.task("cell") as cell, one.lingering("first") as first, other.lingering("second") as second:
        for asked in range(1, 4):
            block = one.ask_holding()
            assert owner(block) == cell.id
            assert _native.shared() == [(cell.id, first.id, second.id, asked * SIZE)]
            one.give_back(block)


def test_what_is_left_over_is_for_whom_the_thread_worked_last(libraries):
    """Libraries go on for a moment after they have answered, and others begin and end to wait meanwhile."""
    one, other, _ = libraries
    with thag_nb.task("cell") as cell:
        _native.set_foreground(cell.id)
        with thag_nb.task("asker") as asker:
            one.give_back(one.ask_for())
            for _ in range(2):
                with other.lingering("unconcerned"):
                    block = one.ask_holding()
                    assert owner(block) == asker.id
                    one.give_back(block)
            block = one.ask_holding()
            assert owner(block) == asker.id
            one.give_back(block)
        for library in (one, other):
            block = library.ask_holding()
            assert owner(block) == cell.id  # whom they worked for has ended
            library.give_back(block)
    assert_sums_hold()


def test_the_root_does_not_wait(libraries):
    one, _, _ = libraries
    threads = [threading.Thread(target=one.dll.linger, daemon=True)]
    threads[0].start()
    time.sleep(0.05)
    task, block = in_thread("asker", one.ask_for)
    assert owner(block) == task
    one.give_back(block)
    one.dll.let_go_on()
    threads[0].join()


def test_a_callback_on_a_library_s_thread_is_who_waits(libraries):
    one, _, _ = libraries
    kept: list[bytes] = []
    with thag_nb.task("cell"):
        _native.set_foreground(_native.current_id())

        def ask() -> int:
            one.ask_to_call(lambda: kept.append(bytes(SIZE)))
            return 0

        task, _ = in_thread("asker", ask)
    assert of("asker").self_live_bytes >= SIZE
    assert thag_nb.read().find("asker").context_id == task


def test_a_library_s_thread_that_is_known_to_have_no_state_may_get_one(libraries):
    """Its blocks are who waits' until it calls back; in a task that it opens there, they are the task's."""
    one, _, _ = libraries
    taken: list[tuple[int, int]] = []
    with_gil = ctypes.PyDLL(None)
    with_gil.malloc.restype = ctypes.c_void_p

    def call_back() -> None:
        with thag_nb.task("inner") as inner:
            taken.append((inner.id, with_gil.malloc(ctypes.c_size_t(SIZE))))

    with thag_nb.task("asker") as asker:
        for _ in range(3):
            for _ in range(3):
                block = one.ask_for()
                assert owner(block) == asker.id
                one.give_back(block)
            one.ask_to_call(call_back)
    for task, block in taken:
        assert owner(block) == task
        with_gil.free(ctypes.c_void_p(block))
    assert_sums_hold()


def test_a_library_s_thread_goes_from_one_foreground_to_the_next(libraries):
    """Nobody has begun to wait, or no longer does, between a block and the next."""
    one, _, _ = libraries
    with thag_nb.task("around"):
        for name in ("first", "second", "third"):
            with thag_nb.task(name) as task:
                _native.set_foreground(task.id)
                for _ in range(2):
                    block = one.ask_holding()
                    assert owner(block) == task.id
                    one.give_back(block)
    assert_sums_hold()


def test_a_wait_inside_of_a_wait(libraries):
    """A callback that waits for another library; the outer wait goes on meanwhile, and after it."""
    one, other, _ = libraries
    blocks: list[int] = []

    def inner() -> None:
        with thag_nb.task("inner"):
            blocks.append(other.ask_for())

    with thag_nb.task("outer") as outer:
        one.dll.call_meanwhile(ctypes.py_object(inner))
        block = one.ask_for()
        assert owner(block) == outer.id
        assert owner(blocks[0]) == thag_nb.read().find("inner").context_id
    for library, taken in ((one, block), (other, blocks[0])):
        library.give_back(taken)
        task, block = in_thread("asker", library.ask_for)
        assert owner(block) == task  # neither waits any more
        library.give_back(block)


def assert_nobody_waits_for(library: Library) -> None:
    with thag_nb.task("listening") as listening:
        _native.set_foreground(listening.id)
        block = library.ask_holding()
        assert owner(block) == listening.id
        library.give_back(block)


def test_a_call_back_that_takes_the_gil_by_its_state(libraries):
    """As pybind11 does it: it gives the GIL up again as if to wait, once more than it takes it."""
    one, _, _ = libraries
    calls: list[int] = []
    with thag_nb.task("caller"):
        for _ in range(300):  # more than there are places for
            one.dll.call_meanwhile_by_state(ctypes.py_object(lambda: calls.append(1)))
    assert len(calls) == 300
    assert_nobody_waits_for(one)
    task, block = in_thread("asker", one.ask_for)
    assert owner(block) == task
    one.give_back(block)


def test_a_library_s_thread_that_keeps_its_state_waits_for_nobody(workers: Callable[[str], Library]):
    library = workers("site-packages/keeps/workers.so")
    with thag_nb.task("cell") as cell:
        _native.set_foreground(cell.id)
        task, _ = in_thread("asker", lambda: library.ask_to_call(lambda: bytes(SIZE), by_state=True) or 0)
        assert task != cell.id
    assert_nobody_waits_for(library)


@pytest.mark.parametrize("calls", [60, 70, 300])
def test_calls_back_within_each_other(libraries, calls: int):
    one, other, _ = libraries
    charged: list[int] = []

    def ask() -> None:
        for library in (one, other):
            block = library.ask_holding()
            charged.append(owner(block))
            library.give_back(block)
        with other.lingering("beside") as beside:
            block = other.ask_holding()
            assert owner(block) == beside.id  # there are places left
            other.give_back(block)

    with thag_nb.task("caller") as caller:
        one.dll.call_deeply(ctypes.py_object(ask), calls)
    assert charged == [caller.id, 1]
    assert_nobody_waits_for(one)


def test_many_wait_at_once_and_come_and_go(libraries):
    """More than there are places for: whoever has none is charged as if it did not wait."""
    one, _, _ = libraries
    threads = [threading.Thread(target=one.dll.linger, daemon=True) for _ in range(300)]
    with thag_nb.task("crowd") as crowd:
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        block = one.ask_for()
        assert owner(block) == crowd.id
        one.give_back(block)
        for _ in threads:
            one.dll.let_go_on()
        for thread in threads:
            thread.join()
    task, block = in_thread("alone", one.ask_for)
    assert owner(block) == task
    one.give_back(block)


def test_a_reset_or_a_stop_while_somebody_waits(libraries):
    one, _, _ = libraries
    with one.lingering("waits") as waits:
        thag_nb.reset()
        block = one.ask_holding()
        assert owner(block) == waits.id
        one.give_back(block)
        thag_nb.stop()
        thag_nb.start(native=True)
        block = one.ask_holding()
        assert owner(block) == 1  # it began to wait when nobody was told
        one.give_back(block)
    task, block = in_thread("asker", one.ask_for)
    assert owner(block) == task
    one.give_back(block)
    assert_sums_hold()


def test_resets_take_away_what_is_above_who_waits(workers: Callable[[str], Library]):
    """The task above two that wait ends, and its record is used again, while they go on waiting."""
    one, other = workers("site-packages/pair/one.so"), workers("site-packages/pair/other.so")
    with thag_nb.task("outermost"), ExitStack() as waiting:
        with thag_nb.task("above") as above:
            waiting.enter_context(one.lingering("first"))
            waiting.enter_context(other.lingering("second"))
            block = one.ask_holding()
            assert owner(block) == above.id
            one.give_back(block)
        thag_nb.reset()
        charged = []
        for turn in range(5):
            with thag_nb.task(f"takes its place {turn}"):
                block = one.ask_holding()
                charged.append(owner(block))
                one.give_back(block)
            thag_nb.reset()
        outermost = thag_nb.read().find("outermost").context_id
        assert charged == [outermost] * 5
    assert_sums_hold()


def test_who_waited_and_has_ended_is_given_back(libraries):
    """Thousands of tasks that wait once: their records do not stay because of that."""
    one, _, _ = libraries
    before = sum(_native.overhead().values())
    for _ in range(3):
        for _ in range(40_000 // 3):
            with thag_nb.task("short"):
                one.give_back(one.ask_for(64))
    assert len(thag_nb.read().contexts) < 40_000
    assert sum(_native.overhead().values()) - before < 200 << 20


# ---- libraries as they are ----

SCENE = """
import sys, threading
import duckdb, numpy as np, polars as pl, pyarrow as pa, pyarrow.compute
import thag_nb
from thag_nb import _native
ROWS = 200_000
keys = np.arange(ROWS) % 977
frame = pl.DataFrame({"k": keys, "s": [f"n{i % 5000}" for i in range(ROWS)], "v": np.ones(ROWS)})
table = pa.table({"k": pa.array(keys), "v": pa.array(np.arange(ROWS))})
base = duckdb.connect()
base.execute("pragma threads=2")
base.execute(f"create table t as select i, hash(i) h from range({ROWS}) r(i)")
def polars():
    for _ in range(4):
        frame.lazy().sort("s").with_columns(pl.col("s").str.to_uppercase()).group_by("k").agg(pl.col("v").sum()).collect()
def arrow():
    for _ in range(8):
        table.group_by("k").aggregate([("v", "sum")])
        table.sort_by("k")
def duck():
    for _ in range(4):
        base.cursor().execute("select * from t order by h").fetchmany(1)
def numpy():
    for _ in range(40):
        np.random.random(200_000).sum()
names = sys.argv[1:]
for name in names:
    globals()[name]()
ready = threading.Barrier(len(names))
def run(name):
    with thag_nb.task(name):
        ready.wait()
        globals()[name]()
thag_nb.start(native=True)
with thag_nb.task("cell"):
    _native.set_foreground(_native.current_id())
    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
found = {record.name: record.self_total_bytes for record in thag_nb.read().contexts}
assert all(counted == tabled for counted, tabled in _native.audit().values())
in_tasks = sum(found[name] for name in names)
assert found["cell"] + found["root"] < in_tasks / 50, found
print(*(found[name] for name in names))
"""


def scene(*names: str) -> list[int]:
    command = [sys.executable, "-c", SCENE, *names]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    return [int(word) for word in result.stdout.split()]


@pytest.mark.skipif(
    "san.so" in os.environ.get("LD_PRELOAD", ""),
    reason="a sanitizer asks for memory on each new thread, which is then taken for a library's",
)
@pytest.mark.parametrize("names", [("polars", "numpy"), ("polars", "duck"), ("polars", "arrow")])
def test_libraries_beside_each_other(names: tuple[str, str]):
    """Each is charged what it takes alone. Polars' threads share their work differently each time, by up to a tenth."""
    for module in ("polars", "duckdb", "pyarrow"):
        pytest.importorskip(module)
    for alone, beside in zip((scene(names[0])[0], scene(names[1])[0]), scene(*names), strict=True):
        assert abs(alone - beside) < alone / 5


def test_a_file_that_arrow_reads_in_a_task_is_the_task_s(tmp_path: Path):
    pytest.importorskip("pyarrow")
    python(f"""
        import threading, numpy as np, pandas as pd, thag_nb
        from thag_nb import _native
        path = {str(tmp_path / "t.csv")!r}
        pd.DataFrame({{"a": np.arange(200_000), "b": [f"name {{i}}" for i in range(200_000)]}}).to_csv(path)
        pd.read_csv(path, engine="pyarrow")
        def read():
            with thag_nb.task("read"):
                pd.read_csv(path, engine="pyarrow")
        thag_nb.start(native=True)
        with thag_nb.task("cell"):
            _native.set_foreground(_native.current_id())
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
        found = {{record.name: record.self_total_bytes for record in thag_nb.read().contexts}}
        assert found["cell"] + found["root"] < found["read"] / 50, found
        """)
