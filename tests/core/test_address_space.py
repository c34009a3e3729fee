"""What address space libraries have mapped, and still have."""

import _ctypes
import ctypes
import mmap
import os
import random
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import python

import thag_nb
from thag_nb import _native

PAGE = mmap.PAGESIZE
MAY_MOVE, DONT_UNMAP = 1, 4
FAILS = ctypes.c_void_p(-1).value

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a compiler"
)

not_under_thread_sanitizer = pytest.mark.skipif(
    "tsan.so" in os.environ.get("LD_PRELOAD", ""), reason="it crashes where the system refuses to unmap"
)


class Mapper:
    """slots.c, as a library that maps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dll = ctypes.CDLL(str(path))
        for name in ("map", "map_reserved", "map_over", "reserve_over", "map_file", "remap", "remap_part", "remap_to"):
            getattr(self.dll, name).restype = ctypes.c_void_p

    def __getattr__(self, name: str) -> Callable[..., int]:
        function = getattr(self.dll, name)
        return lambda *numbers: function(*map(ctypes.c_size_t, numbers))

    def close(self) -> None:
        handle = self.dll._handle
        del self.dll
        _ctypes.dlclose(handle)

    @property
    def pages(self) -> float:
        return dict(_native.address_space())[str(self.path)] / PAGE


@pytest.fixture
def one(build: Callable[..., Path]) -> Mapper:
    return Mapper(build("slots.c", name="first-mapper.so"))


@pytest.fixture
def other(build: Callable[..., Path]) -> Mapper:
    return Mapper(build("slots.c", name="second-mapper.so"))


@pytest.fixture
def nobody(build: Callable[..., Path]) -> Mapper:
    """OpenBLAS by its name: what that maps is told otherwise."""
    library = Mapper(build("slots.c", name="libopenblas.so"))
    thag_nb.start()
    return library


@pytest.fixture(autouse=True)
def _recording(one: Mapper, other: Mapper, native: None) -> None:
    """With both libraries, which have nothing yet."""
    del native
    assert one.pages == other.pages == 0


def test_what_is_mapped_is_counted_in_whole_pages_until_it_is_unmapped(one: Mapper):
    block = one.map(7 * PAGE + 1)
    assert one.pages == 8
    one.unmap(block + 2 * PAGE, 3 * PAGE)
    assert one.pages == 5
    one.unmap(block, 4 * PAGE)
    assert one.pages == 3
    one.unmap(block + 5 * PAGE, 2 * PAGE + 1)
    assert one.pages == 0


def test_what_is_only_reserved_counts_and_so_does_what_nobody_is_charged_for(one: Mapper):
    with thag_nb.untracked():
        reserved, block = one.map_reserved(4 * PAGE), one.map(4 * PAGE)
    assert one.pages == 8
    one.unmap(reserved, 4 * PAGE)
    one.unmap(block, 4 * PAGE)
    assert one.pages == 0


def test_a_library_that_cannot_map_is_not_told_of(one: Mapper, build: Callable[..., Path]):
    path = build("own_malloc.c")
    kept = ctypes.CDLL(str(path))
    thag_nb.start()
    assert {str(one.path), str(path)} & dict(_native.address_space()).keys() == {str(one.path)}
    del kept


def test_a_file_is_no_address_space_of_the_library(one: Mapper, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * PAGE))
    with path.open("r+b") as file:
        mapped = one.map_file(file.fileno(), 4 * PAGE)
    assert ctypes.string_at(mapped, PAGE) == bytes(PAGE)
    assert one.pages == 0
    one.unmap(mapped, 4 * PAGE)
    assert one.pages == 0


def test_pages_are_whose_who_mapped_them_last_and_anybody_may_unmap_them(one: Mapper, other: Mapper):
    block = one.map(8 * PAGE)
    one.map_over(block, 2 * PAGE)
    assert (one.pages, other.pages) == (8, 0)
    other.reserve_over(block + 3 * PAGE, 3 * PAGE)
    assert (one.pages, other.pages) == (5, 3)
    other.unmap(block, 4 * PAGE)
    assert (one.pages, other.pages) == (2, 2)
    one.unmap(block, 8 * PAGE)
    assert (one.pages, other.pages) == (0, 0)


@not_under_thread_sanitizer
def test_what_the_system_refuses_to_unmap_stays(one: Mapper):
    block = one.map(2 * PAGE)
    assert [one.unmap(block + 1, PAGE), one.unmap(block, 0), one.unmap(block, 1 << 62)] == [-1] * 3
    assert one.pages == 2
    one.unmap(block, 2 * PAGE)


def test_what_is_remapped_stays_whose_it_was(one: Mapper, other: Mapper):
    block = one.remap(one.map(4 * PAGE), 4 * PAGE, 4096 * PAGE)
    assert one.pages == 4096
    block = one.remap(block, 4096 * PAGE, 6 * PAGE)
    assert one.pages == 6
    part = other.remap_part(block + 4 * PAGE, 2 * PAGE, 512 * PAGE, MAY_MOVE)
    assert (one.pages, other.pages) == (516, 0)
    for too_much in (1 << 46, sys.maxsize):
        assert one.remap_part(block, 4 * PAGE, too_much, MAY_MOVE) == FAILS
        assert one.pages == 516
    one.unmap(part, 512 * PAGE)
    room = other.map(8 * PAGE)
    assert other.remap_to(block, 4 * PAGE, 4 * PAGE, room + 2 * PAGE) == room + 2 * PAGE
    assert (one.pages, other.pages) == (4, 4)
    other.unmap(room, 8 * PAGE)
    assert (one.pages, other.pages) == (0, 0)


def test_pages_that_a_move_leaves_behind_are_there_as_well(one: Mapper):
    block = one.map(4 * PAGE)
    moved = one.remap_part(block, 4 * PAGE, 4 * PAGE, MAY_MOVE | DONT_UNMAP)
    if moved == FAILS:
        pytest.skip("this kernel moves nothing so")
    assert one.pages == 8
    one.unmap(block, 4 * PAGE)
    one.unmap(moved, 4 * PAGE)
    assert one.pages == 0


@pytest.mark.parametrize("seed", range(10))
def test_libraries_in_each_others_way_are_as_a_model_of_their_pages(
    one: Mapper, other: Mapper, nobody: Mapper, seed: int
):
    chance, count = random.Random(seed), 300
    room = one.map_reserved(count * PAGE)
    expected = [one] * count  # by page, who mapped it
    for _ in range(100):
        first = chance.randrange(count)
        size = chance.randint(1, min(200, count - first))
        mapper = chance.choice((one, other, nobody))
        chance.choice((mapper.map_over, mapper.reserve_over))(room + first * PAGE, size * PAGE)
        expected[first : first + size] = [mapper] * size
        assert [mapper.pages for mapper in (one, other)] == [expected.count(mapper) for mapper in (one, other)]
    other.unmap(room, count * PAGE)
    assert (one.pages, other.pages) == (0, 0)


def test_more_than_a_table_is_for_is_counted_to_the_page(one: Mapper):
    huge = (130 << 30) + 3 * PAGE
    block = one.map_reserved(huge)
    if block == FAILS:
        pytest.skip("so much cannot be reserved here")
    assert one.pages == huge / PAGE
    hole = (65 << 30) + PAGE
    one.unmap(block + (32 << 30) + PAGE, hole)
    assert one.pages == (huge - hole) / PAGE
    one.unmap(block, huge)
    assert one.pages == 0


def test_threads_that_map_and_unmap_at_once_leave_what_is_there(one: Mapper, other: Mapper):
    kept: list[int] = []

    def work(mapper: Mapper) -> None:
        for size in range(1, 200):
            block = mapper.map((size + 2) * PAGE)
            other.unmap(block + PAGE, size * PAGE)
            mapper.unmap(block, PAGE)
            kept.append(block + (size + 1) * PAGE)

    threads = [threading.Thread(target=work, args=(mapper,)) for mapper in (one, one, other, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (one.pages, other.pages) == (398, 398)
    for page in kept:
        one.unmap(page, PAGE)
    assert (one.pages, other.pages) == (0, 0)


@not_under_thread_sanitizer
def test_what_cannot_be_unmapped_is_still_there(build: Callable[..., Path]):
    """A process may only have so many mappings, and a hole makes two of one."""
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    if most > 100_000:
        pytest.skip(f"takes too long to have {most} mappings")
    path = build("slots.c", name="first-mapper.so")
    code = f"""
        import ctypes, thag_nb
        from thag_nb import _native
        library, system, pages = ctypes.CDLL({str(path)!r}), ctypes.CDLL(None), {most + 10}
        library.map.restype = library.map_reserved.restype = ctypes.c_void_p
        system.munmap.argtypes = library.unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        system.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        thag_nb.start(native=True)
        block = library.map(ctypes.c_size_t(3 * {PAGE}))
        thag_nb.start()
        room = library.map_reserved(ctypes.c_size_t(pages * {PAGE}))
        for page in range(1, pages, 2):
            if system.mprotect(room + page * {PAGE}, {PAGE}, 1):
                break
        fails = library.unmap(block + {PAGE}, {PAGE})
        unchanged = dict(_native.address_space())[{str(path)!r}]
        library.unmap(room, pages * {PAGE})
        print(fails, unchanged == (3 + pages) * {PAGE}, dict(_native.address_space())[{str(path)!r}] // {PAGE})
    """
    assert python(code).split() == ["-1", "True", "3"]


def test_a_child_has_what_its_parent_had_and_each_goes_on_alone(one: Mapper):
    block = one.map(4 * PAGE)
    pid = os.fork()
    if pid == 0:
        had = one.pages
        one.unmap(block, 3 * PAGE)
        os._exit(0 if (had, one.pages) == (4, 1) else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert one.pages == 4
    one.unmap(block, 4 * PAGE)


def test_nothing_is_told_after_a_stop_nor_of_before_it_after_the_next_start(one: Mapper):
    block = one.map(4 * PAGE)
    thag_nb.stop()
    assert _native.address_space() == []
    thag_nb.start(native=False)
    assert _native.address_space() == []
    thag_nb.start(native=True)
    assert one.pages == 0
    one.unmap(block, 4 * PAGE)
    block = one.map(PAGE)
    assert one.pages == 1
    one.unmap(block, PAGE)


def test_a_library_that_was_closed_is_told_of_no_more(one: Mapper, build: Callable[..., Path]):
    closed = Mapper(build("slots.c", name="closed-mapper.so"))
    thag_nb.start()
    block = closed.map(4 * PAGE)
    assert closed.pages == 4
    closed.close()
    assert str(closed.path) not in dict(_native.address_space())
    one.unmap(block, 4 * PAGE)


def test_what_openblas_works_in_is_none_of_it(nobody: Mapper):
    before = _native.workspaces()
    block = nobody.map(4 * PAGE)
    assert _native.workspaces() != before
    assert nobody.pages == 0
    nobody.unmap(block, 4 * PAGE)


def test_the_table_is_part_of_the_overhead(one: Mapper, other: Mapper):
    block, others = one.map(PAGE), other.map(PAGE)
    before = _native.overhead()["address_space"]
    huge = one.map_reserved(1 << 30)  # 32 KiB of bits
    after = _native.overhead()["address_space"]
    assert 0 < before < after
    assert (32 << 10) - PAGE <= after - before <= (32 << 10) + 3 * PAGE
    one.unmap(huge, 1 << 30)
    one.unmap(block, PAGE)
    other.unmap(others, PAGE)
