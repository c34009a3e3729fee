"""What libraries ask of the C library, through the slots they call it by."""

import _ctypes
import contextvars
import ctypes
import gc
import mmap
import os
import random
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from figures import assert_sums_hold, of
from processes import python

import thag_nb
from thag_nb import _native

SUPPORT = Path(__file__).parents[1] / "support"
SIZE = 5120
PAGE = mmap.PAGESIZE
DIVISOR = int(os.environ.get("THAG_TESTS_DIVISOR", "1"))
UNDER_SANITIZER = "san.so" in os.environ.get("LD_PRELOAD", "")  # it has a strdup of its own, for one

no_new_threads_under_tsan = pytest.mark.skipif(
    "tsan.so" in os.environ.get("LD_PRELOAD", ""),
    reason="a thread that begins asks for memory before ThreadSanitizer knows it",
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a compiler"
)

POINTERS = (
    "take", "take_zeros", "take_aligned", "take_aligned_c11", "take_memalign", "take_valloc", "take_pvalloc", "resize",
    "resize_array", "copy", "take_by_address", "map", "map_reserved", "map_over", "reserve_over", "remap", "remap_part",
    "remap_to", "take_by_worker",
)  # fmt: skip


class Library:
    """slots.c, called with the GIL or without."""

    def __init__(self, path: Path, *, gil: bool, mode: int = os.RTLD_NOW) -> None:
        self.path = path
        self.dll = (ctypes.PyDLL if gil else ctypes.CDLL)(str(path), mode=mode)
        for name in POINTERS:
            if hasattr(self.dll, name):
                getattr(self.dll, name).restype = ctypes.c_void_p

    def __getattr__(self, name: str) -> Callable[..., int]:
        function = getattr(self.dll, name)
        return lambda *numbers: function(*(n if isinstance(n, bytes) else ctypes.c_size_t(n) for n in numbers))

    def close(self) -> None:
        handle = self.dll._handle
        del self.dll
        _ctypes.dlclose(handle)


@pytest.fixture(params=["gil", "no gil"])
def library(request: pytest.FixtureRequest, build: Callable[..., Path]) -> Library:
    found = Library(build("slots.c", "-Wl,-z,now"), gil=request.param == "gil")
    request.getfixturevalue("native")  # once it is loaded
    return found


def owner(address: int) -> tuple[int, int] | None:
    return _native.owner_of(address)


WAYS = {
    "malloc": lambda library: library.take(SIZE),
    "calloc": lambda library: library.take_zeros(SIZE // 8, 8),
    "posix_memalign": lambda library: library.take_aligned(64, SIZE),
    "aligned_alloc": lambda library: library.take_aligned_c11(64, SIZE),
    "memalign": lambda library: library.take_memalign(64, SIZE),
    "valloc": lambda library: library.take_valloc(SIZE),
    "pvalloc": lambda library: library.take_pvalloc(SIZE),
    "realloc": lambda library: library.resize(0, SIZE),
    "reallocarray": lambda library: library.resize_array(0, SIZE // 8, 8),
    "strdup": lambda library: library.copy(b"x" * (SIZE - 1)),
}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "strdup" or not UNDER_SANITIZER])
def test_a_block_is_charged_to_the_byte_and_repaid(library: Library, way: str):
    with thag_nb.task("asker") as task:
        block = WAYS[way](library)
    assert owner(block) == (task.id, SIZE)
    before = of("asker")
    library.give_back(block)
    after = of("asker")
    assert owner(block) is None
    assert before.self_live_bytes - after.self_live_bytes == SIZE
    assert after.frees - before.frees == 1
    assert_sums_hold()


def test_blocks_are_charged_to_what_is_entered_though_the_thread_was_in_something_else_before(library: Library):
    blocks = []
    with thag_nb.task("around") as around:
        for name in ("one", "two"):
            with thag_nb.task(name) as inner:
                blocks += [(library.take(SIZE), inner.id) for _ in range(3)]
            blocks += [(library.take(SIZE), around.id) for _ in range(3)]
        with thag_nb.untracked():
            assert [owner(library.take(SIZE)) for _ in range(3)] == [None] * 3
        thag_nb.reset()
        blocks += [(library.take(SIZE), around.id)]
    for block, charged in blocks:
        assert owner(block) in ((charged, SIZE), (around.id, SIZE))  # a reset gives what has ended to what is around
    for _ in range(3):
        library.give_back(blocks.pop()[0])
    assert_sums_hold()
    for block, _ in blocks:
        library.give_back(block)
    assert_sums_hold()


def test_blocks_that_others_give_back_are_told_apart(library: Library):
    with thag_nb.task("owner"):
        blocks = [library.take(SIZE) for _ in range(100)]
        before = of("owner")
        for block in blocks[:50]:
            library.give_back(block)
        own = of("owner")
        with thag_nb.task("other"):
            for block in blocks[50:]:
                library.give_back(block)
        after = of("owner")
    assert own.frees - before.frees >= 50 > own.foreign_frees - before.foreign_frees
    assert after.foreign_frees - own.foreign_frees >= 50
    assert_sums_hold()


def in_foreground(name: str) -> thag_nb.AllocatorContext:
    """A context that only native threads are charged to."""
    flow = contextvars.copy_context()
    guard = flow.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, name)
    flow.run(_native.set_foreground, guard.context.id)
    return guard


@no_new_threads_under_tsan
def test_a_librarys_own_thread_is_charged_to_what_is_in_the_foreground_now(build: Callable[..., Path]):
    library = Library(build("slots.c", "-Wl,-z,now"), gil=True)
    thag_nb.start(native=True)
    assert library.worker_begin() == 0
    blocks = [library.take_by_worker(SIZE) for _ in range(3)]
    assert [owner(block) for block in blocks] == [(1, SIZE)] * 3
    for name in ("one", "two"):
        guard = in_foreground(name)
        blocks += [library.take_by_worker(SIZE) for _ in range(3)]
        assert [owner(block) for block in blocks[-3:]] == [(guard.context.id, SIZE)] * 3
        guard.close()
        blocks += [library.take_by_worker(SIZE) for _ in range(3)]
        assert [owner(block) for block in blocks[-3:]] == [(1, SIZE)] * 3
        thag_nb.reset()
    library.worker_end()
    for block in blocks:
        assert owner(block) == (1, SIZE)
        library.give_back(block)
    assert_sums_hold()
    thag_nb.stop()
    thag_nb.start(native=False)
    thag_nb.stop()


@no_new_threads_under_tsan
def test_a_librarys_own_thread_is_in_what_it_enters_when_it_calls_back(build: Callable[..., Path]):
    attached = Library(build("slots.c", "-Wl,-z,now"), gil=True)
    rounds = 2_000 // DIVISOR
    strangers = []

    @ctypes.CFUNCTYPE(None)
    def called() -> None:
        with thag_nb.task("callback") as task:
            block = attached.take(SIZE)
            if owner(block) != (task.id, SIZE):
                strangers.append(owner(block))
            attached.give_back(block)

    thag_nb.start(native=True)
    Library(attached.path, gil=False).dll.call_back(ctypes.c_size_t(rounds), called)
    assert strangers == []
    assert_sums_hold()
    thag_nb.stop()
    thag_nb.start(native=False)
    thag_nb.stop()


def test_a_block_that_grows_is_whoever_makes_it_grow(library: Library):
    with thag_nb.task("first") as first:
        block = library.take(SIZE)
    with thag_nb.task("second") as second:
        block = library.resize(block, 100 * SIZE)
        assert owner(block) == (second.id, 100 * SIZE)
        block = library.resize(block, SIZE)
    assert owner(block) == (second.id, SIZE)
    assert first.id != second.id
    assert of("second").self_peak_bytes >= 100 * SIZE
    assert library.resize(block, 0) is None
    assert owner(block) is None
    assert_sums_hold()


def test_a_realloc_that_fails_leaves_the_block_its_owners(library: Library):
    with thag_nb.task("holder") as task:
        block = library.take(SIZE)
        assert library.resize(block, sys.maxsize) is None
        assert library.resize_array(block, sys.maxsize, 16) is None
    assert owner(block) == (task.id, SIZE)
    library.give_back(block)
    assert_sums_hold()


def test_a_mapping_is_a_block_if_it_can_be_written_to(library: Library):
    with thag_nb.task("mapper") as task:
        block, reserved = library.map(8 * PAGE), library.map_reserved(8 * PAGE)
    assert owner(block) == (task.id, 8 * PAGE)
    assert owner(reserved) is None
    library.unmap(block, 8 * PAGE)
    library.unmap(reserved, 8 * PAGE)
    assert owner(block) is None
    assert_sums_hold()


def live(name: str) -> int:
    return of(name).self_live_bytes


def test_what_remains_of_a_mapping_stays_its_owners(library: Library):
    with thag_nb.task("mapper") as task:
        block = library.map(8 * PAGE)
    whole = live("mapper")
    with thag_nb.task("another"):
        library.unmap(block, PAGE)
        assert (owner(block), owner(block + PAGE)) == (None, (task.id, 7 * PAGE))
        library.unmap(block + 7 * PAGE, PAGE)
        assert owner(block + PAGE) == (task.id, 6 * PAGE)
        library.unmap(block + 3 * PAGE, 2 * PAGE)
    assert owner(block + PAGE) == (task.id, 2 * PAGE)
    assert owner(block + 5 * PAGE) == (task.id, 2 * PAGE)
    assert whole - live("mapper") == 4 * PAGE
    library.unmap(block, 8 * PAGE)
    assert (owner(block + PAGE), owner(block + 5 * PAGE)) == (None, None)
    assert whole - live("mapper") == 8 * PAGE
    assert_sums_hold()


def test_one_call_may_unmap_the_end_of_one_mapping_and_all_of_the_next(library: Library):
    with thag_nb.task("mapper") as task:
        room = library.map_reserved(16 * PAGE)
        first, second = library.map_over(room, 4 * PAGE), library.map_over(room + 4 * PAGE, 4 * PAGE)
    whole = live("mapper")
    library.unmap(room + 3 * PAGE, 5 * PAGE)
    assert (owner(first), owner(second)) == ((task.id, 3 * PAGE), None)
    assert whole - live("mapper") == 5 * PAGE
    library.unmap(room, 16 * PAGE)
    assert_sums_hold()


def test_one_call_may_unmap_the_end_of_one_mapping_and_the_beginning_of_another(library: Library):
    with thag_nb.task("mapper") as task:
        room = library.map_reserved(16 * PAGE)
        blocks = [library.map_over(room + first * PAGE, 4 * PAGE) for first in (0, 4, 8)]
    whole = live("mapper")
    library.unmap(room + 3 * PAGE, 6 * PAGE)
    assert [owner(block) for block in blocks] == [(task.id, 3 * PAGE), None, None]
    assert owner(room + 9 * PAGE) == (task.id, 3 * PAGE)
    assert whole - live("mapper") == 6 * PAGE
    library.unmap(room, 16 * PAGE)
    assert_sums_hold()


@pytest.mark.parametrize("seed", range(20))
def test_mappings_over_each_other_are_as_a_model_of_their_pages(library: Library, seed: int):
    chance, pages = random.Random(seed), 40
    room = library.map_reserved(pages * PAGE)
    expected = [0] * pages  # by page, the task that mapped it
    for turn in range(60):
        first = chance.randrange(pages)
        size = chance.randint(1, min(12, pages - first))
        with thag_nb.task(f"turn {turn}") as task:
            is_block = chance.random() < 0.6
            (library.map_over if is_block else library.reserve_over)(room + first * PAGE, size * PAGE)
        expected[first : first + size] = [task.id if is_block else 0] * size
        found = [0] * pages
        for page in range(pages):
            if (record := owner(room + page * PAGE)) is not None:
                found[page : page + record[1] // PAGE] = [record[0]] * (record[1] // PAGE)
        assert found == expected
    library.reserve_over(room, pages * PAGE)
    assert all(owner(room + page * PAGE) is None for page in range(pages))
    library.unmap(room, pages * PAGE)
    assert_sums_hold()


def test_a_mapping_over_another_one_takes_its_place(library: Library):
    with thag_nb.task("below") as below:
        block = library.map(4 * PAGE)
    whole = live("below")
    with thag_nb.task("above") as above:
        library.map_over(block + PAGE, PAGE)
    assert [owner(block + page * PAGE) for page in range(3)] == [
        (below.id, PAGE),
        (above.id, PAGE),
        (below.id, 2 * PAGE),
    ]
    assert whole - live("below") == PAGE
    library.unmap(block, 4 * PAGE)
    assert whole - live("below") == 4 * PAGE
    assert_sums_hold()


def test_a_mapping_that_is_remapped_is_resized(library: Library):
    with thag_nb.task("mapper") as task:
        block = library.remap(library.map(4 * PAGE), 4 * PAGE, 4096 * PAGE)
        assert owner(block) == (task.id, 4096 * PAGE)
        block = library.remap(block, 4096 * PAGE, PAGE)
    assert owner(block) == (task.id, PAGE)
    library.unmap(block, PAGE)
    assert_sums_hold()


def test_a_mapping_that_is_moved_over_others_takes_their_place(library: Library):
    with thag_nb.task("below") as below:
        room = library.map(16 * PAGE)
    with thag_nb.task("mover") as mover:
        block = library.map(4 * PAGE)
    whole = live("below")
    assert library.remap_to(block, 4 * PAGE, 4 * PAGE, room + 2 * PAGE) == room + 2 * PAGE
    assert owner(block) is None
    assert owner(room) == (below.id, 2 * PAGE)
    assert owner(room + 2 * PAGE) == (mover.id, 4 * PAGE)
    assert owner(room + 6 * PAGE) == (below.id, 10 * PAGE)
    assert whole - live("below") == 4 * PAGE
    library.unmap(room, 16 * PAGE)
    assert_sums_hold()


MAY_MOVE, DONT_UNMAP = 1, 4


@pytest.mark.parametrize("first", [0, 2, 4])
def test_a_part_of_a_mapping_that_grows_is_a_block_of_its_own(library: Library, first: int):
    with thag_nb.task("mapper") as mapper:
        block = library.map(8 * PAGE)
    part = block + first * PAGE
    with thag_nb.task("grower") as grower:
        moved = library.remap_part(part, 4 * PAGE, 4096 * PAGE, MAY_MOVE)
    assert owner(moved) == (grower.id, 4096 * PAGE)
    remaining = {block: first, part + 4 * PAGE: 4 - first}
    assert [owner(start) for start, pages in remaining.items() if pages] == [
        (mapper.id, pages * PAGE) for pages in remaining.values() if pages
    ]
    library.unmap(moved, 4096 * PAGE)
    library.unmap(block, 8 * PAGE)
    assert live("mapper") < PAGE
    assert_sums_hold()


def test_a_part_of_a_mapping_that_shrinks_leaves_the_rest_its_owners(library: Library):
    with thag_nb.task("mapper") as mapper:
        block = library.map(8 * PAGE)
    assert library.remap_part(block + 2 * PAGE, 4 * PAGE, PAGE, 0) == block + 2 * PAGE
    assert [owner(block), owner(block + 6 * PAGE)] == [(mapper.id, 3 * PAGE), (mapper.id, 2 * PAGE)]
    library.unmap(block, 8 * PAGE)
    assert_sums_hold()


def test_a_remapping_that_fails_changes_nothing(library: Library):
    with thag_nb.task("mapper") as mapper:
        block = library.map(8 * PAGE)
    fails = ctypes.c_void_p(-1).value
    for start, size in ((block, 8 * PAGE), (block, 4 * PAGE), (block + 4 * PAGE, 4 * PAGE)):
        for new_size in (1 << 46, 1 << 62, sys.maxsize * 2):
            assert library.remap_part(start, size, new_size, MAY_MOVE) == fails
        assert owner(block) == (mapper.id, 8 * PAGE)
    library.unmap(block, 8 * PAGE)
    assert_sums_hold()


def test_mappings_that_cannot_grow_where_they_are_stay_their_owners(library: Library):
    room = library.map_reserved(8 * PAGE)
    with thag_nb.task("mapper") as mapper:
        blocks = [library.map_over(room + first * PAGE, 2 * PAGE) for first in (0, 2, 4)]
    assert library.remap_part(room + PAGE, 5 * PAGE, 6 * PAGE, 0) == ctypes.c_void_p(-1).value
    assert [owner(block) for block in blocks] == [(mapper.id, 2 * PAGE)] * 3
    library.unmap(room, 8 * PAGE)
    assert_sums_hold()


def test_a_mapping_whose_pages_are_moved_out_of_it_remains(library: Library):
    with thag_nb.task("mapper") as mapper:
        block = library.map(4 * PAGE)
    with thag_nb.task("mover") as mover:
        moved = library.remap_part(block, 4 * PAGE, 4 * PAGE, MAY_MOVE | DONT_UNMAP)
    assert moved != block
    assert [owner(block), owner(moved)] == [(mapper.id, 4 * PAGE), (mover.id, 4 * PAGE)]
    library.unmap(block, 4 * PAGE)
    library.unmap(moved, 4 * PAGE)
    assert_sums_hold()


def test_an_odd_size_is_unmapped_by_its_pages(library: Library):
    with thag_nb.task("mapper") as task:
        block = library.map(2 * PAGE + 100)
    assert owner(block) == (task.id, 2 * PAGE + 100)
    block = library.remap(block, 3 * PAGE, 3 * PAGE + 100)
    root = thag_nb.current_context()
    assert owner(block) == (root.id, 3 * PAGE + 100)
    library.unmap(block + 3 * PAGE, 48)
    assert (owner(block), owner(block + 3 * PAGE + 48)) == ((root.id, 3 * PAGE), None)
    library.unmap(block, 3 * PAGE)
    assert owner(block) is None
    assert_sums_hold()


def test_functions_that_ctypes_finds_by_name_are_seen(library: Library):
    del library
    c = ctypes.CDLL(None)
    c.malloc.restype = ctypes.c_void_p
    with thag_nb.task("by name") as task:
        block = c.malloc(ctypes.c_size_t(SIZE))
    assert owner(block) == (task.id, SIZE)
    c.free(ctypes.c_void_p(block))
    assert owner(block) is None


def test_functions_that_are_called_by_their_addresses_are_seen(library: Library):
    with thag_nb.task("by address") as task:
        block = library.take_by_address(SIZE)
    assert owner(block) == (task.id, SIZE)
    library.give_back(block)
    assert owner(block) is None


def test_the_interpreters_own_slots_are_left_alone():
    """Its allocators are hooked where they are: only `dlopen` is redirected there."""
    output = python("""
        import ctypes, re, sys, sysconfig
        from pathlib import Path
        from thag_nb import _native
        def words():
            found = {}
            for line in Path("/proc/self/maps").read_text().splitlines():
                if re.search(r"libpython[^/]*$|/python[0-9.]*$", line) and line.split()[1] == "r--p":
                    start, end = (int(edge, 16) for edge in line.split()[0].split("-"))
                    found[start] = ctypes.string_at(start, end - start)
            return found
        before = words()
        assert _native.attach_native()
        after = words()
        changed = [
            (start, i) for start in before for i in range(0, len(before[start]), 8)
            if before[start][i : i + 8] != after[start][i : i + 8]
        ]
        print(len(before) > 0, len(changed) <= 1)
    """)
    assert output.split() == ["True", "True"]


def words_of(path: Path) -> dict[str, tuple[str, bytes]]:
    """What is in the library's mapped pages that are its data, with their protections, by where they are."""
    found = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)) and "x" not in line.split()[1]:
            span, protection = line.split()[:2]
            start, end = (int(edge, 16) for edge in span.split("-"))
            found[span] = (protection, ctypes.string_at(start, end - start))
    return found


@pytest.mark.parametrize("name", ["", "libopenblas"], ids=["any", "OpenBLAS"])
@pytest.mark.parametrize("binding", ["now", "lazy"])
def test_after_stop_every_slot_and_every_page_is_what_it_was(build: Callable[..., Path], binding: str, name: str):
    built = build("slots.c", f"-Wl,-z,{binding}", "-Wl,-z,relro", name=name and f"{name}-{binding}.so")
    library = Library(built, gil=True, mode=os.RTLD_LAZY)
    for way in WAYS.values():
        library.give_back(way(library))  # so that the linker has bound all that it binds when it is called
    library.unmap(library.remap(library.map(PAGE), PAGE, PAGE), PAGE)
    before = words_of(library.path)
    thag_nb.start(native=True)
    try:
        during = words_of(library.path)
        assert [protection for protection, _ in during.values()] == [protection for protection, _ in before.values()]
        assert during != before
    finally:
        thag_nb.stop()
        thag_nb.start(native=False)
        thag_nb.stop()
    assert words_of(library.path) == before


@pytest.mark.usefixtures("native")
def test_what_openblas_maps_is_known(build: Callable[..., Path]):
    library = Library(build("slots.c", "-Wl,-z,now", name="libopenblas.so"), gil=True)
    thag_nb.start()
    before = _native.workspaces()
    with thag_nb.task("first") as first:
        block, reserved = library.map(SIZE), library.map_reserved(SIZE)
        assert _native.workspaces() == [*before, (first.id, SIZE)]
    library.unmap(reserved, SIZE)
    library.unmap(block, SIZE)
    assert _native.workspaces() == before
    assert_sums_hold()


def test_slots_that_were_never_used_are_redirected_and_usable_afterwards(build: Callable[..., Path]):
    library = Library(build("slots.c", "-Wl,-z,lazy", "-DFRESH"), gil=True, mode=os.RTLD_LAZY)
    thag_nb.start(native=True)
    try:
        with thag_nb.task("asker") as task:
            block = library.take(SIZE)
        assert owner(block) == (task.id, SIZE)
    finally:
        thag_nb.stop()
        thag_nb.start(native=False)
        thag_nb.stop()
    library.give_back(library.take(SIZE))
    library.give_back(block)


def test_what_is_loaded_while_recording_is_seen_from_the_next_task_on(library: Library, build: Callable[..., Path]):
    del library
    loaded = Library(build("slots.c", "-Wl,-z,now", "-DLATE"), gil=True)
    with thag_nb.task("asker") as task:
        block = loaded.take(SIZE)
    assert owner(block) == (task.id, SIZE)
    loaded.give_back(block)
    loaded.close()
    gc.collect()
    again = Library(build("slots.c", "-Wl,-z,now", "-DLATE"), gil=True)
    with thag_nb.task("asker again") as task:
        block = again.take(SIZE)
    assert owner(block) == (task.id, SIZE)
    again.give_back(block)


def test_a_library_that_comes_where_another_one_was_is_seen(library: Library, build: Callable[..., Path]):
    path = build("slots.c", "-Wl,-z,now", "-DAGAIN")
    for turn in range(5):
        again = Library(path, gil=True)
        with thag_nb.task(f"turn {turn}") as task:
            block = again.take(SIZE)
            assert owner(block) == (task.id, SIZE)
        again.give_back(block)
        again.close()
    block = library.take(SIZE)
    assert owner(block) is not None
    library.give_back(block)


@pytest.mark.skipif(UNDER_SANITIZER, reason="sanitizers forbid RTLD_DEEPBIND")
def test_a_malloc_of_a_librarys_own_is_left_alone(library: Library, build: Callable[..., Path]):
    del library
    own = Library(build("own_malloc.c", "-Wl,-z,now"), gil=True, mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
    with thag_nb.task("own"):
        block = own.take(SIZE)
    assert owner(block) is None
    own.give_back(block)
    assert _native.slots()["foreign"] >= 2


def test_nothing_is_counted_twice(library: Library):
    del library
    numpy = pytest.importorskip("numpy")
    with thag_nb.task("array"):
        array = numpy.ones(1_000_000)
    assert 8_000_000 <= live("array") < 8_100_000
    del array
    assert_sums_hold()


def test_a_record_is_gone_when_another_thread_is_handed_the_block(build: Callable[..., Path]):
    path = build("slots.c", "-Wl,-z,now", "-pthread")
    code = f"""
        import ctypes, thag_nb
        from thag_nb import _native
        library = ctypes.CDLL({str(path)!r})
        library.churn.argtypes = [ctypes.c_size_t]
        thag_nb.start(native=True)
        with thag_nb.task("churn"):
            assert library.churn({200_000 // DIVISOR}) == 0
        status, contexts = thag_nb.status(), thag_nb.read().contexts
        frees = sum(context.frees for context in contexts)
        print(status.stale_records, status.dropped, frees >= 3 * {200_000 // DIVISOR})
        print({{key for key, (counted, there) in _native.audit().items() if counted != there}})
    """
    settings = {"MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    assert python(code, **settings).splitlines() == ["0 0 True", "set()"]


@pytest.mark.skipif(UNDER_SANITIZER, reason="it is told by the C library's own slots, which are left alone there")
def test_memray_takes_the_slots_and_gives_them_back(build: Callable[..., Path]):
    pytest.importorskip("memray")
    path = build("slots.c", "-Wl,-z,now", "-pthread")
    code = f"""
        import ctypes, memray, os, tempfile, thag_nb
        from thag_nb import _native
        library = ctypes.CDLL({str(path)!r})
        library.take.restype = ctypes.c_void_p
        def seen():
            with thag_nb.task("taker"):
                block = library.take(ctypes.c_size_t({SIZE}))
            owner = _native.owner_of(block)
            library.give_back(ctypes.c_void_p(block))
            return owner is not None
        def tracker():
            return memray.Tracker(os.path.join(tempfile.mkdtemp(), "results"))
        thag_nb.start(native=True)
        print("before", seen())
        with tracker():
            print("around", seen(), [note for note in thag_nb.status().notes if "memray" in note] != [])
        print("after", seen(), thag_nb.status().reattached)
        thag_nb.stop()
        with tracker():
            thag_nb.start(native=True)
            print("started in it", seen())
        print("after", seen())
        thag_nb.stop()
    """
    assert python(code).splitlines() == [
        "before True",
        "around False True",
        "after True 1",
        "started in it False",
        "after True",
    ]


def test_hooks_may_come_and_go_while_threads_allocate(library: Library):
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for block in [library.take(size) for size in range(1, 2000, 7)]:
                library.give_back(block)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            _native.detach_native()
            assert _native.hooks()["native"] == "absent"
            assert _native.attach_native()
            assert _native.hooks()["native"] == "on top"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert_sums_hold()


def test_a_child_that_is_forked_while_threads_allocate_goes_on(library: Library):
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for block in [library.take(size) for size in range(1, 2000, 7)]:
                library.give_back(block)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                block = library.take(SIZE)
                seen = owner(block)
                library.give_back(block)
                os._exit(0 if seen is not None and seen[1] == SIZE else 3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_it_is_only_done_when_it_is_asked_for():
    asked = """
        import thag_nb
        thag_nb.start({arguments})
        status = thag_nb.status()
        print(status.hooks["native"], "ask the C library" in str(status), status.notes)
        thag_nb.stop()
        print(thag_nb.status().hooks["native"])
    """

    def hooks(arguments: str, switch: str) -> list[str]:
        return python(asked.format(arguments=arguments), THAG_NB_NATIVE=switch).splitlines()

    seen, unseen = ["on top True ()", "absent"], ["absent False ()", "absent"]
    assert hooks("", "") == unseen
    assert hooks("", "1") == seen
    assert hooks("native=True", "") == seen
    assert hooks("native=False", "1") == unseen
    assert hooks("native=True", "0") == [
        "absent False ('native memory is not seen: THAG_NB_NATIVE=0 forbids it',)",
        "absent",
    ]
    odd = "THAG_NB_NATIVE=yes does nothing: set it to 1 to see native memory, or to 0 to forbid it"
    assert hooks("", "yes") == [f"absent False ({odd!r},)", "absent"]


@pytest.mark.usefixtures("native")
def test_turning_it_off_while_recording_is_told_until_a_stop(library: Library):
    with thag_nb.task("before"):
        block = library.take(SIZE)
    assert "turned off" not in "".join(thag_nb.status().notes)
    thag_nb.start(native=False)
    library.give_back(block)
    thag_nb.start(native=True)
    assert of("before").self_live_bytes >= SIZE
    assert "native memory was turned off while recording: what was freed meanwhile" in "".join(thag_nb.status().notes)
    thag_nb.stop()
    thag_nb.start()
    assert "turned off" not in "".join(thag_nb.status().notes)
    assert of("before").self_live_bytes == 0
