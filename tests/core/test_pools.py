"""What Arrow, Polars and DuckDB hand out from allocators of their own."""

import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from figures import assert_sums_hold, of
from processes import python

import thag_nb
from thag_nb import _native

np = pytest.importorskip("numpy")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
    pytest.mark.usefixtures("native"),
]
ROWS = 1_000_000
BYTES = 8 * ROWS


# ---- Arrow ----


@pytest.fixture(params=["default", "system", "mimalloc", "jemalloc"])
def pool(request: pytest.FixtureRequest):
    pa = pytest.importorskip("pyarrow")
    if request.param == "default":
        return pa.default_memory_pool()
    try:
        return getattr(pa, f"{request.param}_memory_pool")()
    except NotImplementedError:
        pytest.skip(f"this Arrow is built without {request.param}")


def test_arrow_is_seen():
    pytest.importorskip("pyarrow")
    assert _native.pools()["Arrow"] == "seen"


def test_an_arrow_buffer_is_its_bytes_and_repaid(pool):
    import pyarrow as pa

    kept = pool.bytes_allocated()
    with thag_nb.task("buffer") as task:
        buffer = pa.allocate_buffer(BYTES, memory_pool=pool)
        assert pool.bytes_allocated() - kept == BYTES
        assert _native.owner_of(buffer.address) == (task.id, BYTES)
    before = of("buffer")
    del buffer
    assert before.self_live_bytes - of("buffer").self_live_bytes >= BYTES
    assert pool.bytes_allocated() == kept
    assert_sums_hold()


def test_an_arrow_buffer_that_is_resized(pool):
    import pyarrow as pa

    with thag_nb.task("buffer") as task:
        buffer = pa.allocate_buffer(BYTES, memory_pool=pool, resizable=True)
        for size in (10 * BYTES, 64, 640, BYTES):
            buffer.resize(size, shrink_to_fit=True)
            assert _native.owner_of(buffer.address) == (task.id, size)
        address = buffer.address
        buffer.resize(0, shrink_to_fit=True)
        assert _native.owner_of(address) is None
        buffer.resize(BYTES, shrink_to_fit=True)
        assert _native.owner_of(buffer.address) == (task.id, BYTES)
    assert_sums_hold()


@pytest.mark.parametrize("backend", ["mimalloc", "jemalloc", "system"])
def test_the_whole_of_arrow_s_pool_is_ours_live_and_at_its_peak(backend: str):
    """But for the few bytes of Python's and C++'s objects beside it."""
    pa = pytest.importorskip("pyarrow")
    if backend not in pa.supported_memory_backends():
        pytest.skip(f"this Arrow is built without {backend}")
    python(
        "import numpy, thag_nb, pyarrow as pa, pyarrow.compute as pc\n"
        "numbers, pool, few = pa.array(numpy.arange(1_000_000)), pa.default_memory_pool(), 60_000\n"
        f"assert pool.backend_name == {backend!r}\n"
        "pc.multiply(numbers, 3)\n"
        "kept = pool.bytes_allocated()\n"
        "thag_nb.start(native=True)\n"
        "with thag_nb.task('arrow'):\n"
        "    results = [pc.multiply(pc.multiply(numbers, i), 2) for i in range(5)]\n"
        "record = thag_nb.read().find('arrow')\n"
        "live, peak = pool.bytes_allocated() - kept, pool.max_memory() - kept\n"
        "assert live == 40_000_000 and live <= record.live_bytes <= live + few, (live, record)\n"
        "assert peak > live and peak <= record.peak_bytes <= peak + few, (peak, record)\n"
        "assert thag_nb._native.health()['stale_records'] == 0\n"  # nothing is told of twice
        "del results\n"
        "assert thag_nb.read().find('arrow').live_bytes <= few\n",
        ARROW_DEFAULT_MEMORY_POOL=backend,
    )


def test_an_arrow_that_fails_to_allocate_leaves_nothing(pool):
    import pyarrow as pa

    with thag_nb.task("too much") as task:
        buffer = pa.allocate_buffer(BYTES, memory_pool=pool, resizable=True)
        with pytest.raises(MemoryError):
            pa.allocate_buffer(1 << 60, memory_pool=pool)
        with pytest.raises(MemoryError):
            buffer.resize(1 << 60)
        assert _native.owner_of(buffer.address) == (task.id, BYTES)
    assert of("too much").peak_bytes < BYTES + 1_000_000
    assert_sums_hold()


def test_after_a_stop_arrow_calls_its_own_again(pool):
    import pyarrow as pa

    buffer = pa.allocate_buffer(BYTES, memory_pool=pool)
    thag_nb.stop()
    assert _native.pools()["Arrow"] == "absent"
    thag_nb.start(native=False)
    unseen = pa.allocate_buffer(BYTES, memory_pool=pool)
    assert _native.owner_of(unseen.address) is None
    del buffer
    thag_nb.stop()
    thag_nb.start(native=True)
    assert _native.owner_of(unseen.address) is None
    del unseen
    with thag_nb.task("again") as task:
        buffer = pa.allocate_buffer(BYTES, memory_pool=pool)
        assert _native.owner_of(buffer.address) == (task.id, BYTES)
    assert_sums_hold()


# ---- Polars ----


@pytest.fixture
def polars():
    module = pytest.importorskip("polars")
    assert _native.pools()["Polars"] == "seen"
    module.Series([1, 2]) + 1
    return module


def test_a_polars_column_is_its_bytes_and_repaid(polars):
    numbers = polars.Series(np.arange(ROWS))
    with thag_nb.task("column"):
        column = numbers + 1
    # Beside it the few objects of Python's; Polars has no more than the column.
    assert BYTES <= of("column").live_bytes <= BYTES + 30_000
    before = of("column").live_bytes
    del column
    assert before - of("column").live_bytes >= BYTES
    assert_sums_hold()


def test_a_polars_column_of_zeros_is_its_bytes(polars):
    with thag_nb.task("zeros"):
        column = polars.zeros(ROWS, dtype=polars.Int64, eager=True)
    assert BYTES <= of("zeros").live_bytes <= BYTES + 100_000
    del column
    assert of("zeros").live_bytes <= 100_000


def test_after_a_stop_the_words_of_polars_are_what_they_were(polars):
    column = polars.zeros(ROWS, dtype=polars.Int64, eager=True)
    thag_nb.stop()
    thag_nb.start(native=False)
    with thag_nb.task("unseen"):
        del column
        polars.zeros(ROWS, dtype=polars.Int64, eager=True)
    assert of("unseen").peak_bytes < 30_000


def test_polars_zeros_reallocations_and_sorts_add_up(polars):
    with thag_nb.task("frame"):
        frame = polars.DataFrame({"k": np.arange(ROWS) % 977, "v": polars.zeros(ROWS, eager=True)})
        result = frame.sort("k").group_by("k").agg(polars.col("v").sum())
        text = frame.select(polars.col("k").cast(polars.String).str.to_uppercase())
    assert of("frame").peak_bytes > frame.estimated_size()
    assert of("frame").live_bytes > frame.estimated_size() + text.estimated_size()
    del frame, result, text
    gc.collect()
    assert_sums_hold()


def test_polars_imported_while_recording():
    pytest.importorskip("polars")
    python(
        "import thag_nb; thag_nb.start(native=True)\n"
        "import polars as pl\n"
        "with thag_nb.task('column'): s = pl.repeat(1, 1_000_000, dtype=pl.Int64, eager=True)\n"
        "assert thag_nb.read().find('column').live_bytes >= 8_000_000, thag_nb.read().find('column')\n"
    )


def test_another_capsule_than_polars_is_refused():
    import datetime

    capsule = datetime.datetime_CAPI if hasattr(datetime, "datetime_CAPI") else None
    for wrong in (capsule, 3):
        with pytest.raises((ValueError, TypeError)):
            _native.show_polars(wrong)


# ---- Polars, where its words are not as they are known ----

OTHER_WAYS = {
    "shows nothing": "lambda capsule: _native.show_polars(None)",
    "shows other functions": "lambda capsule: _native.show_polars(other)",
}
BY_HOOKS = """
import ctypes, gc, types
import thag_nb
from thag_nb import _native
from thag_nb.runtime import pools

new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
functions = (ctypes.c_void_p * 4)(*[ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value] * 4)
other = new(ctypes.addressof(functions), b"polars.polars._allocator", None)
pools._native = types.SimpleNamespace(show_polars={way}, pools=_native.pools)
thag_nb.start(native=True)
import polars as pl
assert _native.pools()["Polars"] == "seen"

def live(name):
    gc.collect()
    return thag_nb.read().find(name).self_live_bytes

numbers = pl.Series(range(1_000_000))
numbers + 1
for _ in range(2):
    with thag_nb.task("column"):
        column = numbers + 1
    before = live("column")
    assert 8_000_000 <= before <= 8_030_000, before
    with thag_nb.task("frame"):
        frame = pl.DataFrame({"k": numbers % 977, "v": numbers}).sort("k").group_by("k").agg(pl.col("v").sum())
    peak = thag_nb.read().find("frame").peak_bytes
    assert peak > 16_000_000, peak
    del column
    assert before - live("column") >= 8_000_000
    thag_nb.stop()
    thag_nb.start(native=False)
    with thag_nb.task("unseen"):
        numbers + 2
    assert thag_nb.read().find("unseen").peak_bytes < 30_000
    thag_nb.start(native=True)
    assert _native.health()["stale_records"] == 0
"""


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_polars_is_followed_by_the_hooks_of_its_jemalloc(way: str):
    pytest.importorskip("polars")
    python(BY_HOOKS.replace("{way}", OTHER_WAYS[way]))


OWN = """
import ctypes, os, sys
import thag_nb
from thag_nb import _native

path, other = sys.argv[1:]
library = ctypes.CDLL(path)
for name in ("take", "resize"):
    getattr(library, name).restype = ctypes.c_void_p
if other:
    os.replace(other, path)
thag_nb.start(native=True)
_native.show_polars(None)
with thag_nb.task("block") as task:
    block = library.take(ctypes.c_size_t(5000))
    found = [_native.owner_of(block) == (task.id, 5000)]
    block = library.resize(ctypes.c_void_p(block), ctypes.c_size_t(70_000))
    found.append(_native.owner_of(block) == (task.id, 70_000))
    library.give_back(ctypes.c_void_p(block))
    found.append(_native.owner_of(block) is None)
state = _native.pools()["Polars"]
is_told = bool(library.is_told())
thag_nb.stop()
print(state, is_told, all(found), bool(library.is_told()))
"""


@pytest.mark.parametrize(
    ("flags", "replaced_by", "expected"),
    [
        ((), None, "seen True True False"),
        (("-DMUTE",), None, "unfit False False False"),
        (("-s",), None, "unfit False False False"),  # no names in the file
        (("-DTRAP",), (), "unfit False False False"),  # the file is not what is loaded
        ((), ("-s",), "unfit False False False"),
    ],
    ids=["as known", "mute", "stripped", "another file", "another stripped file"],
)
def test_a_jemalloc_without_exported_names_is_found_by_those_in_its_file(
    flags: tuple[str, ...],
    replaced_by: tuple[str, ...] | None,
    expected: str,
    build: Callable[..., Path],
    request: pytest.FixtureRequest,
):
    folder = request.node.callspec.id.replace(" ", "-")
    path = build("own_jemalloc.c", *flags, name=f"{folder}/_polars_runtime_own.so")
    other = "" if replaced_by is None else build("own_jemalloc.c", *replaced_by, name=f"{folder}/other.so")
    result = subprocess.run(
        [sys.executable, "-c", OWN, path, other], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.stdout.strip(), result.stderr) == (expected, "")


# ---- DuckDB ----


@pytest.mark.parametrize("gil", [True, False])
def test_a_duckdb_block_is_its_bytes(gil: bool):
    pytest.importorskip("duckdb")
    dll = (ctypes.PyDLL if gil else ctypes.CDLL)((sys.modules.get("_duckdb") or sys.modules["duckdb.duckdb"]).__file__)
    for name in ("malloc", "calloc", "realloc", "aligned_alloc"):
        getattr(dll, f"duckdb_je_{name}").restype = ctypes.c_void_p
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    stale_before = _native.health()["stale_records"]
    for _ in range(2):
        with thag_nb.task("block") as task:
            blocks = {
                dll.duckdb_je_malloc(size(5000)): 5000,
                dll.duckdb_je_calloc(size(100), size(70)): 7000,
                dll.duckdb_je_aligned_alloc(size(64), size(6400)): 6400,
                dll.duckdb_je_realloc(pointer(dll.duckdb_je_malloc(size(100))), size(1_000_000)): 1_000_000,
            }
            for block, block_bytes in blocks.items():
                assert _native.owner_of(block) == (task.id, block_bytes)
        before = of("block")
        for block in blocks:
            dll.duckdb_je_free(pointer(block))
            assert _native.owner_of(block) is None
        after = of("block")
        assert after.frees - before.frees == len(blocks)
        assert before.self_live_bytes - after.self_live_bytes == sum(blocks.values())
        assert _native.health()["stale_records"] == stale_before  # nothing is told of twice
        thag_nb.stop()
        thag_nb.start(native=True)
        thag_nb.reset()


def test_a_duckdb_table_is_seen_and_repaid():
    duckdb = pytest.importorskip("duckdb")
    base = duckdb.connect(config={"threads": 1})
    base.execute("create table warm as select i from range(1000) r(i)")
    assert _native.pools()["DuckDB"] == "seen"
    with thag_nb.task("table"):
        base.execute("create table t as select i, hash(i) h from range(2_000_000) r(i) order by h")
    used = base.execute("select sum(memory_usage_bytes) from duckdb_memory()").fetchone()[0]
    record = of("table")
    assert 0.9 * used <= record.live_bytes <= 1.3 * used
    assert record.peak_bytes > record.live_bytes
    base.execute("drop table t")
    base.close()
    del base
    gc.collect()
    assert of("table").live_bytes < record.live_bytes / 5
    assert_sums_hold()


# ---- all ----


@pytest.mark.parametrize("name", ["pyarrow", "polars", "duckdb"])
def test_status_says_what_is_not_seen(name: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip(name)
    from thag_nb.runtime import pools

    assert "is not seen" not in "".join(thag_nb.status().notes)
    title = {"pyarrow": "Arrow", "polars": "Polars", "duckdb": "DuckDB"}[name]
    states = {**dict.fromkeys(_native.pools(), "absent"), title: "unfit"}
    monkeypatch.setattr(pools._native, "pools", lambda: states)
    said = thag_nb.status()
    assert f"the memory of {title} is not seen" in "".join(said.notes)
    assert f"{title}'s memory" in said.seen


@pytest.mark.parametrize("name", ["pyarrow.compute", "polars", "duckdb"])
def test_the_process_ends_well_while_it_is_hooked(name: str):
    pytest.importorskip(name)
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import thag_nb; thag_nb.start(native=True); import {name}; thag_nb.task('t').__enter__()",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
