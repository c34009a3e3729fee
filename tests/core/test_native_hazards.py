"""Where hooks in loaded libraries could bring a process down: at the ends of threads and of the process, under load."""

import ctypes
import ctypes.util
import importlib.machinery
import importlib.util
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from figures import assert_sums_hold, of
from processes import python

import thag_nb
from thag_nb import _native

SUPPORT = Path(__file__).parents[1] / "support"
SIZE = 5120
UNDER_SANITIZER = "san.so" in os.environ.get("LD_PRELOAD", "")  # it has an operator new of its own
UNDER_THREAD_SANITIZER = "tsan.so" in os.environ.get("LD_PRELOAD", "")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a compiler"
)


def library(path: Path, *pointers: str) -> ctypes.CDLL:
    dll = ctypes.CDLL(str(path))
    for name in pointers:
        getattr(dll, name).restype = ctypes.c_void_p
    return dll


@pytest.mark.usefixtures("native")
def test_a_thread_that_allocates_when_it_is_over(build: Callable[..., Path]):
    dll = library(build("endings.c"), "end_a_thread")
    with thag_nb.task("cell") as task:
        _native.set_foreground(task.id)
        blocks = [dll.end_a_thread() for _ in range(200)]
        assert {_native.owner_of(block) for block in blocks} == {(task.id, SIZE)}
    before = of("cell")
    for block in blocks:
        dll.give_back(ctypes.c_void_p(block))
    assert before.self_live_bytes - of("cell").self_live_bytes >= len(blocks) * SIZE
    assert_sums_hold()


@pytest.mark.skipif(UNDER_SANITIZER, reason="the sanitizer's operator new calls no malloc")
@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("kind", ["", "_array", "_aligned"])
def test_what_is_new_in_c_plus_plus(build: Callable[..., Path], kind: str):
    dll = library(build("news.cpp"), "take" + kind)
    with thag_nb.task("asker") as task:
        block = getattr(dll, "take" + kind)(ctypes.c_size_t(SIZE))
        assert _native.owner_of(block) == (task.id, SIZE)
    getattr(dll, "give_back" + kind)(ctypes.c_void_p(block))
    assert _native.owner_of(block) is None
    assert_sums_hold()


@pytest.mark.skipif(UNDER_SANITIZER, reason="the sanitizer's operator new calls no malloc")
@pytest.mark.usefixtures("native")
def test_what_is_a_threads_own_in_c_plus_plus_allocates_when_it_is_destroyed(build: Callable[..., Path]):
    dll = library(build("news.cpp"), "end_a_thread")
    with thag_nb.task("cell") as task:
        _native.set_foreground(task.id)
        blocks = [dll.end_a_thread() for _ in range(200)]
        assert {_native.owner_of(block) for block in blocks} == {(task.id, SIZE)}
    for block in blocks:
        dll.give_back_array(ctypes.c_void_p(block))
    assert {_native.owner_of(block) for block in blocks} == {None}
    assert_sums_hold()


ENDS = """
    import ctypes, os, sys, thag_nb
    thag_nb.start(native=True)
    dll = ctypes.CDLL({path!r})
    assert dll.never_end(3) == 0
    task = thag_nb.task("open to the end")
    task.__enter__()
    {more}
    os.dup2(1, 2)  # a message would be read as well
    sys.stdout.write("well")
"""


@pytest.mark.parametrize(
    "more",
    [
        "",
        "import atexit; atexit.register(lambda: [bytearray(i) for i in range(10_000)])",
        "thag_nb.stop()",
        "import threading; threading.Thread(target=__import__('time').sleep, args=(100,), daemon=True).start()",
        "import gc; kept = [type('Late', (), {'__del__': lambda self: bytearray(99_999)})()]; kept.append(kept)",
    ],
)
def test_a_process_ends_well_while_a_library_s_threads_go_on(build: Callable[..., Path], more: str):
    for _ in range(5):
        assert python(ENDS.format(path=str(build("endings.c")), more=more)) == "well"


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="its allocator is locked after a fork, often")
def test_many_forks_while_a_library_s_threads_go_on(build: Callable[..., Path]):
    forks = f"""
        import ctypes, os, signal, sys, warnings, thag_nb
        warnings.simplefilter("ignore")
        dll = ctypes.CDLL({str(build("endings.c"))!r})
        dll.end_a_thread.restype = ctypes.c_void_p
        assert dll.never_end(3) == 0
        thag_nb.start(native=True)
        for _ in range(200):
            child = os.fork()
            if child == 0:
                signal.alarm(100)  # one that hangs does not stay
                with thag_nb.task("child") as task:
                    block = dll.end_a_thread()
                    kept = bytearray(100_000)
                found = thag_nb.read().find("child")
                equal = all(counted == tabled for counted, tabled in thag_nb._native.audit().values())
                os._exit(0 if block and found.self_live_bytes >= 100_000 and equal else 1)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
        print("all", flush=True)
        os._exit(0)
    """
    assert python(forks) == "all\n"


@pytest.mark.skipif(UNDER_THREAD_SANITIZER, reason="it looks at what is loaded, and has a thread of its own")
def test_a_child_that_is_forked_while_a_thread_looks_at_what_is_loaded(build: Callable[[str], Path]):
    """What it has locked is never unlocked in the child, which would wait for ever to see what was loaded."""
    forks = f"""
        import ctypes, os, warnings, thag_nb
        warnings.simplefilter("ignore")
        thag_nb.start(native=True)
        dll = ctypes.CDLL({str(build("endings.c"))!r})
        assert dll.never_stop_looking() == 0
        for _ in range(20):
            child = os.fork()
            if child == 0:
                with thag_nb.task("child"):
                    kept = bytearray(100_000)
                seen = thag_nb.read().find("child").self_live_bytes >= 100_000
                thag_nb.stop()
                thag_nb.start(native=True)
                thag_nb.stop()
                os._exit(0 if seen else 1)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
        print("all", flush=True)
        os._exit(0)
    """
    assert python(forks) == "all\n"


@pytest.mark.skipif(UNDER_THREAD_SANITIZER, reason="it looks at what is loaded, and has a thread of its own")
def test_a_child_sees_what_it_loads(build: Callable[[str], Path]):
    """And no thread is left of what is done to find out that it may look."""
    code = f"""
        import ctypes, os, thag_nb
        thag_nb.start(native=True)
        child = os.fork()
        if child == 0:
            dll = ctypes.CDLL({str(build("slots.c"))!r})
            dll.take.restype = ctypes.c_void_p
            with thag_nb.task("child") as task:
                block = dll.take(ctypes.c_size_t({SIZE}))
            is_seen = thag_nb._native.owner_of(block) == (task.id, {SIZE})
            os._exit(0 if is_seen and len(os.listdir("/proc/self/task")) == 1 else 1)
        print(os.waitpid(child, 0)[1])
    """
    assert python(code) == "0\n"


IN_SLOTS = """
        import array, ctypes, pathlib
        def in_slots():
            \"\"\"How many words in the data of loaded libraries lead to the native core's code.\"\"\"
            parts = [line.split() for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if ".so" in line]
            parts = [([int(edge, 16) for edge in span.split("-")], kind, path) for span, kind, *_, path in parts]
            [(start, end)] = [span for span, kind, path in parts if "thag_nb/_native" in path and "x" in kind]
            words = 0
            for (first, last), kind, path in parts:
                if "thag_nb/_native" not in path and kind.startswith("r") and "x" not in kind:
                    data = array.array("Q", ctypes.string_at(first, last - first))
                    words += sum(start <= word < end for word in data)
            return words
"""


@pytest.mark.usefixtures("native")
def test_a_hundred_starts_and_stops_while_a_library_s_threads_go_on(build: Callable[..., Path]):
    code = f"""{IN_SLOTS}
        import thag_nb
        from thag_nb import _native
        dll = ctypes.CDLL({str(build("endings.c"))!r})
        assert dll.never_end(3) == 0
        before = in_slots()
        thag_nb.start(native=True)
        assert in_slots() > before
        for _ in range(100):
            thag_nb.start(native=True)
            assert _native.hooks()["native"] == "on top"
            with thag_nb.task("turn"):
                kept = bytearray(50_000)
            thag_nb.stop()
            assert _native.hooks()["native"] == "absent"
            thag_nb.start(native=False)
            assert all(counted == tabled for counted, tabled in _native.audit().values())
            thag_nb.stop()
        assert in_slots() == before
        print("all")
    """
    assert python(code) == "all\n"


def test_pools_come_and_go_while_libraries_work():
    for module in ("polars", "duckdb", "pyarrow"):
        pytest.importorskip(module)
    code = """
        import threading, time
        import duckdb, numpy as np, polars as pl, pyarrow as pa, thag_nb
        from thag_nb import _native
        rows = 50_000
        keys = np.arange(rows) % 977
        frame = pl.DataFrame({"k": keys, "s": [f"n{i % 500}" for i in range(rows)]})
        table = pa.table({"k": pa.array(keys), "v": pa.array(np.arange(rows))})
        base = duckdb.connect()
        base.execute(f"create table t as select i, hash(i) h from range({rows}) r(i)")
        stop = threading.Event()
        def polars():
            while not stop.is_set():
                frame.lazy().sort("s").with_columns(pl.col("s").str.to_uppercase()).collect()
        def arrow():
            while not stop.is_set():
                table.group_by("k").aggregate([("v", "sum")])
        def duck():
            while not stop.is_set():
                base.cursor().execute("select * from t order by h").fetchmany(1)
        threads = [threading.Thread(target=work) for work in (polars, arrow, duck)]
        thag_nb.start(native=True)
        for thread in threads:
            thread.start()
        for turn in range(30):
            thag_nb.start(native=True)
            assert set(_native.pools().values()) == {"seen"}, _native.pools()
            with thag_nb.task("turn"):
                time.sleep(0.01)
            thag_nb.stop() if turn % 2 else _native.detach_native()
            if turn % 10 == 0:
                thag_nb.reset()
            assert set(_native.pools().values()) == {"absent"}
        stop.set()
        for thread in threads:
            thread.join()
        thag_nb.start(native=False)
        assert all(counted == tabled for counted, tabled in _native.audit().values())
        print("all")
    """
    assert python(code) == "all\n"


def test_blocks_that_are_live_at_a_stop_may_be_freed_and_made_again(build: Callable[..., Path]):
    dll = library(build("endings.c"), "end_a_thread")
    for _ in range(3):
        thag_nb.start(native=True)
        with thag_nb.task("left behind") as task:
            _native.set_foreground(task.id)
            blocks = [dll.end_a_thread() for _ in range(50)]
        thag_nb.stop()
        for block in blocks:
            dll.give_back(ctypes.c_void_p(block))
        thag_nb.start(native=True)
        assert not any(_native.owner_of(block) for block in blocks)
        assert of("left behind").self_live_bytes == 0
        again = [dll.end_a_thread() for _ in range(50)]
        assert all(_native.owner_of(block)[1] == SIZE for block in again)
        for block in again:
            dll.give_back(ctypes.c_void_p(block))
        assert_sums_hold()
    thag_nb.stop()
    thag_nb.start(native=False)
    thag_nb.stop()


@pytest.mark.parametrize("name", ["sklearn.ensemble", "torch", "scipy.linalg", "lxml.etree", "PIL.Image"])
def test_big_libraries_are_imported_while_recording(name: str):
    pytest.importorskip(name.partition(".")[0])
    code = f"""
        import thag_nb
        thag_nb.start(native=True)
        with thag_nb.task("import") as task:
            import {name}
        assert all(counted == tabled for counted, tabled in thag_nb._native.audit().values())
        print(thag_nb.status().hooks["native"])
    """
    assert python(code) == "on top\n"


INCLUDE = f"-I{sysconfig.get_path('include')}"


def test_a_library_that_needs_the_gil_to_become_ready_does_not_stop_a_task(build: Callable[..., Path]):
    loader, loaded = build("loading.c", INCLUDE), build("loading.c", INCLUDE, "-DNEEDS_GIL")
    code = f"""
        import ctypes, thag_nb
        loader = ctypes.PyDLL({str(loader)!r}, mode=ctypes.RTLD_GLOBAL)
        thag_nb.start(native=True)
        assert loader.load_meanwhile({str(loaded)!r}.encode()) == 0
        with thag_nb.task("meanwhile"):
            pass
        loaded = ctypes.CDLL({str(loaded)!r})
        loaded.take.restype = ctypes.c_void_p
        with thag_nb.task("taker") as task:
            block = loaded.take(ctypes.c_size_t({SIZE}))
        print(thag_nb._native.owner_of(block) == (task.id, {SIZE}))
    """
    assert python(code) == "True\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="what sleeps is written for this processor")
def test_a_library_that_is_only_half_loaded_when_a_task_begins_is_seen_nevertheless(build: Callable[..., Path]):
    loader, slow = build("loading.c", INCLUDE), build("loading.c", INCLUDE, "-DSLOWLY_LINKED")
    loaded = build("slots.c", "-Wl,-z,now", "-Wl,--no-as-needed", str(slow))
    code = f"""
        import ctypes, pathlib, thag_nb
        loader = ctypes.PyDLL({str(loader)!r})
        thag_nb.start(native=True)
        assert loader.load_without_waiting({str(loaded)!r}.encode()) == 0
        while {str(loaded)!r} not in pathlib.Path("/proc/self/maps").read_text():
            pass
        with thag_nb.task("meanwhile"):
            pass
        loaded = ctypes.CDLL({str(loaded)!r})
        loaded.take.restype = ctypes.c_void_p
        with thag_nb.task("taker") as task:
            block = loaded.take(ctypes.c_size_t({SIZE}))
        print(thag_nb._native.owner_of(block) == (task.id, {SIZE}))
    """
    assert python(code) == "True\n"


@pytest.mark.usefixtures("native")
def test_an_import_that_fails_says_why(build: Callable[..., Path]):
    path = build("loading.c", INCLUDE, "-DNEVER_READY", "-Wl,-z,now")
    loader = importlib.machinery.ExtensionFileLoader("never_ready", str(path))
    spec = importlib.util.spec_from_loader("never_ready", loader)
    assert spec is not None
    library(build("slots.c", "-DUNSEEN"))  # its slots are yet to be redirected
    with pytest.raises(ImportError, match="nobody_has_this"):
        importlib.util.module_from_spec(spec)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are of this processor's compiler")
def test_slots_in_the_middle_of_code_are_left_alone(build: Callable[..., Path]):
    path = build("slots.c", "-fno-pic", "-mcmodel=large", "-Wl,-z,notext")
    other = build("slots.c", "-fno-pic", "-mcmodel=large", "-Wl,-z,notext", name="other.so")
    code = f"""
        import ctypes, thag_nb
        dll = ctypes.CDLL({str(path)!r})
        dll.take.restype = ctypes.c_void_p
        thag_nb.start(native=True)
        dll.give_back(ctypes.c_void_p(dll.take(ctypes.c_size_t({SIZE}))))
        print(*thag_nb.status().notes, sep="\\n")
        dll = ctypes.CDLL({str(other)!r})
        thag_nb.start(native=True)
        print(*thag_nb.status().notes, sep="\\n")
    """
    told = "the memory of {} is not seen: their slots for malloc and free cannot be written"
    assert python(code).splitlines() == [told.format(path.name), told.format(f"{path.name} and another library")]


def test_what_a_library_says_of_itself_may_be_read_only(build: Callable[..., Path], tmp_path: Path):
    """As some linkers make it: then the dynamic linker leaves addresses there as they are in the file."""
    path = tmp_path / "read_only.so"
    path.write_bytes(with_read_only_dynamics(build("slots.c").read_bytes()))
    code = f"""
        import ctypes, thag_nb
        dll = ctypes.CDLL({str(path)!r})
        dll.take.restype = ctypes.c_void_p
        thag_nb.start(native=True)
        with thag_nb.task("taker") as task:
            block = dll.take(ctypes.c_size_t({SIZE}))
        print(thag_nb._native.owner_of(block) == (task.id, {SIZE}))
    """
    assert python(code) == "True\n"


def with_read_only_dynamics(library: bytes) -> bytes:
    """An ELF file whose PT_DYNAMIC is not flagged as writable."""
    dynamic, writable, part_bytes = 2, 2, 56
    (first,), (count,) = struct.unpack_from("<Q", library, 32), struct.unpack_from("<H", library, 56)
    changed = bytearray(library)
    for part in range(first, first + count * part_bytes, part_bytes):
        kind, flags = struct.unpack_from("<II", changed, part)
        if kind == dynamic:
            struct.pack_into("<I", changed, part + 4, flags & ~writable)
    return bytes(changed)


@pytest.mark.skipif(UNDER_SANITIZER, reason="sanitizers have the address space for themselves")
def test_ranges_as_large_as_the_address_space_are_unmapped_at_once(build: Callable[..., Path]):
    code = f"""
        import ctypes, thag_nb
        dll = ctypes.CDLL({str(build("slots.c"))!r})
        dll.map.restype = dll.map_reserved.restype = ctypes.c_void_p
        size, address = ctypes.c_size_t, ctypes.c_void_p
        thag_nb.start(native=True)
        with thag_nb.task("mapper") as task:
            block = dll.map(size(4096))
        for _ in range(10):
            reserved = dll.map_reserved(size(1 << 46))
            if reserved != 2**64 - 1:  # where there may be as much
                assert dll.unmap(address(reserved), size(1 << 46)) == 0
        assert dll.unmap(address(block), size(1 << 62)) == -1
        print(thag_nb._native.owner_of(block) == (task.id, 4096))
    """
    assert python(code) == "True\n"


DATABASE = """
import gc, sqlite3
import thag_nb
from thag_nb import _native

def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (x)")
    connection.executemany("insert into t values (?)", (("x" * 1000,) for _ in range(20_000)))
    return connection

thag_nb.start(native=True)
assert _native.hooks()["native"] == "on top", thag_nb.status()
database().close()
with thag_nb.task("database"):
    kept = database()
pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
size = kept.execute(pages).fetchone()[0]
held = thag_nb.read().find("database")
assert size <= held.self_live_native_bytes <= size * 1.1, (size, held)
kept.close()
del kept
gc.collect()
assert thag_nb.read().find("database").self_live_bytes < 4096
assert all(counted == found for counted, found in _native.audit().values())
thag_nb.stop()
assert _native.health()["stale_records"] == 0
"""


@pytest.mark.skipif(UNDER_SANITIZER, reason="a sanitizer must be loaded first")
def test_an_allocator_that_was_loaded_before_the_c_library_is_seen_like_it():
    python(DATABASE, LD_PRELOAD=of_another_allocator())


@pytest.mark.skipif(UNDER_SANITIZER, reason="the interpreter is not built for it")
def test_an_interpreter_with_its_library_inside_and_at_a_fixed_place_is_seen_past():
    """As Debian builds its own."""
    in_an_interpreter_at_a_fixed_place(DATABASE)


@pytest.mark.skipif(UNDER_SANITIZER, reason="the interpreter is not built for it")
def test_past_an_interpreter_at_a_fixed_place_the_allocator_is_seen_that_it_uses():
    """Not the C library's, which the library that is looked into first needs."""
    in_an_interpreter_at_a_fixed_place(DATABASE, LD_PRELOAD=f"libm.so.6:{of_another_allocator()}")


def of_another_allocator() -> str:
    name = ctypes.util.find_library("jemalloc")
    if name is None:
        pytest.skip("needs jemalloc as a library")
    return name


def in_an_interpreter_at_a_fixed_place(code: str, **environment: str) -> None:
    version = f"python3.{sys.version_info[1]}"
    others = {
        path for place in ("/usr/bin", "/usr/local/bin") if (path := shutil.which(version, path=place)) is not None
    }
    fixed = [
        path
        for path in others
        if Path(path).read_bytes()[16:18] == b"\2\0" and os.path.realpath(sys.executable) != path
    ]
    if not fixed:
        pytest.skip(f"needs another {version}, linked without -pie")
    result = subprocess.run(
        [fixed[0], "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
