"""Libraries that keep their own memory, with an allocator that nobody can ask."""

import _ctypes
import ctypes
import ctypes.util
import json
import mmap
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import python

import thag_nb
from thag_nb import _native
from thag_nb.holders.foreign.asked import _Blocks
from thag_nb.runtime import dispatcher, own_memory
from thag_nb.units import format_bytes

MIB = 1 << 20
MARKS = {"jemalloc": "<jemalloc>: ", "mimalloc": "mimalloc: error: "}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a compiler"
)


class Allocator:
    """own_allocator.c, made with a mark."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dll = ctypes.CDLL(str(path))
        self.dll.take.restype = ctypes.c_void_p

    def take(self, size: int) -> int:
        return self.dll.take(ctypes.c_size_t(size))

    def drop(self, start: int, size: int) -> None:
        assert self.dll.drop(ctypes.c_void_p(start), ctypes.c_size_t(size)) == 0

    def close(self) -> None:
        handle = self.dll._handle
        del self.dll
        _ctypes.dlclose(handle)

    def said(self) -> list[str]:
        return [sentence for sentence in own_memory.sentences() if self.path.stem in sentence]


@pytest.fixture
def made(build: Callable[..., Path], native: None) -> Iterator[Callable[[str, str], Allocator]]:
    """Makes one by its name and mark; no later test has anything to do with it."""
    del native
    allocators = []

    def make(name: str, mark: str) -> Allocator:
        allocators.append(Allocator(build("own_allocator.c", f'-DMARK="{mark}"', name=f"{name}.so")))
        thag_nb.start()
        return allocators[-1]

    yield make
    for allocator in allocators:
        allocator.close()


def keeps(name: str, size: str) -> str:
    return f"{name} keeps its own memory: {size} of address space that it was seen to map; what is in it is not seen"


@pytest.mark.parametrize("kind", MARKS)
def test_it_is_said_how_much_address_space_such_a_library_keeps(made: Callable[..., Allocator], kind: str):
    allocator = made(f"libown_{kind}", MARKS[kind])
    assert allocator.said() == [f"libown_{kind} brings an allocator along, and what that keeps is not seen"]
    with thag_nb.task("first") as first:
        block = allocator.take(1000)
    allocator.take(2000)
    assert _native.owner_of(block) == (first.id, MIB)  # whoever needed the piece is charged all of it
    assert allocator.said() == [keeps(f"libown_{kind}", "1.0 MiB")]
    second = allocator.take(MIB)
    assert allocator.said() == [keeps(f"libown_{kind}", "2.0 MiB")]
    allocator.drop(second + MIB // 2, MIB // 2)
    assert allocator.said() == [keeps(f"libown_{kind}", "1.5 MiB")]
    assert own_memory.is_kept(second)
    assert own_memory.is_kept(second + MIB // 2 - 1)
    assert not own_memory.is_kept(second + MIB // 2)
    allocator.drop(second, MIB // 2)
    assert allocator.said() == [keeps(f"libown_{kind}", "1.0 MiB")]
    allocator.drop(block, MIB)
    assert allocator.said() == [f"libown_{kind} brings an allocator along, and what that keeps is not seen"]


@pytest.mark.parametrize("text", ["no more", "we use <jemalloc>: see there", "mimalloc: error: see there"])
def test_a_library_that_only_maps_memory_is_none(made: Callable[..., Allocator], text: str):
    plain = made(f"libplain_{text.split()[0].strip(':')}", text)
    block = plain.take(1000)
    assert (str(plain.path), MIB) in _native.address_space()
    assert _native.mapper_of(block) == str(plain.path)
    assert not own_memory.is_kept(block)
    assert _native.mapper_of(0) is _native.mapper_of(1 << 63) is None
    assert plain.said() == []


def test_a_part_of_what_it_keeps_is_not_all_of_it(made: Callable[..., Allocator]):
    """An object in it goes, and the piece stays: `retained` must not promise it."""
    kept, plain = made("libown_kept", MARKS["jemalloc"]), made("libplain_kept", "no mark")
    blocks = [allocator.take(1000) for allocator in (kept, plain, kept, plain)]
    found = _Blocks()
    for _ in range(2):
        assert found.around([block + 500 for block in blocks]) == (blocks[1],)


def test_where_it_is_said(made: Callable[..., Allocator]):
    allocator = made("libown_told", MARKS["jemalloc"])
    allocator.take(1000)
    sentence = keeps("libown_told", "1.0 MiB")
    assert f" {sentence}." in dispatcher.seen()
    assert sentence in thag_nb.status().notes
    thag_nb.stop()
    assert "libown_told" not in dispatcher.seen()
    assert "libown_told" not in str(thag_nb.status())
    assert own_memory.sentences() == []


@pytest.mark.parametrize("native", [True, False])
def test_nothing_is_said_where_there_are_none(native: bool):
    code = f"""
        import mmap, thag_nb
        from thag_nb.runtime import own_memory
        thag_nb.start(native={native})
        kept = mmap.mmap(-1, 1 << 20)
        print(own_memory.sentences(), thag_nb.status().notes)
    """
    assert python(code) == "[] ()\n"


@pytest.mark.parametrize("at", [0, 7, -1, MIB - 17, MIB - 5, MIB, 2 * MIB - 1])
def test_a_mark_is_found_wherever_it_is_in_the_file(tmp_path: Path, at: int):
    mark = b"\0mimalloc: error: \0"
    file = tmp_path / "library"
    file.write_bytes(bytes([7]) * (3 * MIB))
    assert not own_memory._brings_an_allocator.__wrapped__(str(file))
    with file.open("r+b") as written:
        written.seek(at if at >= 0 else 3 * MIB - len(mark))
        written.write(mark)
    assert own_memory._brings_an_allocator.__wrapped__(str(file))


def test_a_file_that_is_gone_says_nothing(tmp_path: Path):
    assert not own_memory._brings_an_allocator(str(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/lib/python3.13/site-packages/fusion/_internal.abi3.so", "fusion/_internal"),
        ("/a/lib/site-packages/one/../one.libs/libown-1a2b.so.3", "one.libs/libown-1a2b"),
        ("/usr/lib/python3/dist-packages/_own.cpython-313-x86_64-linux-gnu.so", "_own"),
        ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "libjemalloc"),
        ("/tmp/o\nwn.so", "o wn"),
    ],
)
def test_a_library_is_called_as_a_person_knows_it(path: str, name: str):
    assert own_memory._name(path) == name


def test_a_duckdb_that_is_not_as_we_know_it_is_said_to_keep_its_memory(build: Callable[..., Path]):
    path = build("own_allocator.c", f'-DMARK="{MARKS["jemalloc"]}"', name="duckdb/duckdb.so")
    code = f"""
        import ctypes, thag_nb
        from thag_nb import _native
        from thag_nb.runtime import own_memory
        thag_nb.start(native=True)
        library = ctypes.CDLL({str(path)!r})
        library.take.restype = ctypes.c_void_p
        library.drop.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        thag_nb.start()
        block = library.take(1000)
        print(_native.pools()["DuckDB"], _native.owner_of(block))
        print(*own_memory.sentences())
        library.drop(block, 1 << 19)
        print(*own_memory.sentences())
    """
    assert python(code).splitlines() == ["unfit None", keeps("duckdb", "1.0 MiB"), keeps("duckdb", "512.0 KiB")]


@pytest.mark.parametrize("package", ["pyarrow", "polars", "duckdb"])
def test_nothing_is_said_of_an_allocator_that_is_seen_from_within(package: str):
    pytest.importorskip(package)
    uses = {
        "pyarrow": "pyarrow.allocate_buffer(1 << 24)",
        "polars": "polars.zeros(1 << 21, eager=True)",
        "duckdb": "duckdb.sql('select count(*) from range(1000000) t(i) group by i % 100000').fetchall()",
    }
    code = f"""
        import thag_nb, {package}
        from thag_nb import _native
        from thag_nb.runtime import own_memory
        thag_nb.start(native=True)
        kept = {uses[package]}
        print(sorted(state for state in _native.pools().values() if state != "absent"))
        print([path for path, size in _native.address_space() if size], own_memory.sentences())
    """
    states, said = python(code).splitlines()
    if states != "['seen']":
        pytest.skip(f"this {package} cannot be seen from within")
    assert said == "[] []"


def test_what_jemalloc_says_that_it_maps_is_what_is_said():
    name = ctypes.util.find_library("jemalloc")
    if name is None:
        pytest.skip("needs jemalloc as a library")
    code = f"""
        import ctypes, json, thag_nb
        from thag_nb import _native
        from thag_nb.runtime import own_memory
        library = ctypes.CDLL({name!r})
        library.malloc.restype = ctypes.c_void_p
        library.free.argtypes = [ctypes.c_void_p]
        def number(of):
            value, size = ctypes.c_size_t(1), ctypes.c_size_t(8)
            library.mallctl(b"epoch", None, None, ctypes.byref(value), size)
            assert library.mallctl(of, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0
            return value.value
        def mapped():
            return number(b"stats.mapped") + number(b"stats.retained")
        thag_nb.start(native=True)
        before, steps = mapped(), []
        for size in (1 << 20, 1 << 24, 1 << 26):
            library.malloc(size)
            seen = [size for path, size in _native.address_space() if "jemalloc" in path]
            steps.append((mapped() - before, seen, own_memory.sentences()))
        print(json.dumps(steps))
    """
    steps = json.loads(python(code, GLIBC_TUNABLES="glibc.rtld.optional_static_tls=65536"))
    assert all(seen == [mapped] for mapped, seen, _ in steps)
    mapped, _, said = steps[-1]
    assert mapped >= 1 << 26
    assert said == [keeps("libjemalloc", format_bytes(mapped))]


@pytest.mark.parametrize("module", ["pydantic_core._pydantic_core", "datafusion._internal", "granian._granian"])
def test_a_module_in_rust_is_said_to_have_one_if_it_has(module: str):
    """Some have, some had in earlier versions."""
    pytest.importorskip(module)
    code = f"""
        import importlib, json, re, thag_nb
        from thag_nb.runtime import own_memory
        thag_nb.start(native=True)
        path = importlib.import_module({module!r}).__file__
        print(json.dumps([path, own_memory.sentences()]))
    """
    path, said = json.loads(python(code))
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        has_one = any(text.find(mark.encode()) >= 0 for mark in MARKS.values())
    named = [sentence for sentence in said if sentence.startswith(f"{module.replace('.', '/')} ")]
    assert len(named) == has_one
