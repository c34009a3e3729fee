import contextvars
import ctypes
import gc
import itertools
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from blocks import ALL, DOMAINS, OBJ, RAW, RAW_WITHOUT_GIL, SIZE, Domain
from figures import assert_sums_hold, of
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import python

import thag_nb
from thag_nb import _native

SUPPORT = str(Path(__file__).parents[1] / "support")
SIZES = [0, 1, 15, 16, 17, 511, 512, 513, 4096, SIZE, 1 << 20]


@pytest.fixture
def slots() -> ctypes.Array[ctypes.c_void_p]:
    """Where addresses are kept without a Python int for each."""
    return (ctypes.c_void_p * 64)()


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", ALL, ids=DOMAINS)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_in_every_domain_is_charged_exactly_and_repaid(domain, size, slots):
    with thag_nb.task("sizes"):
        slots[0] = domain.malloc(size)
    assert of("sizes").self_live_bytes == size
    domain.free(slots[0])
    assert of("sizes").self_live_bytes == 0


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", ALL, ids=DOMAINS)
def test_calloc_is_charged_for_all_its_elements_and_zeroed(domain, slots):
    with thag_nb.task("calloc"):
        slots[0] = domain.calloc(3, 1000)
    assert of("calloc").self_live_bytes == 3000
    assert ctypes.string_at(slots[0], 3000) == bytes(3000)
    domain.free(slots[0])


@pytest.mark.usefixtures("dispatcher")
def test_an_object_over_512_bytes_is_counted_once(slots):
    stale_records = thag_nb.status().stale_records
    with thag_nb.task("nested"):
        slots[0] = OBJ.malloc(SIZE)
    assert _native.audit()[of("nested").context_id] == ((SIZE, 1), (SIZE, 1))
    assert thag_nb.status().stale_records == stale_records
    OBJ.free(slots[0])
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_free_of_null_and_of_an_unknown_block_do_nothing(slots):
    with thag_nb.untracked():
        slots[0] = RAW.malloc(SIZE)
    with thag_nb.task("freeing"):
        RAW.free(None)
        RAW.free(slots[0])
    assert of("freeing").frees - of("freeing").allocations <= 0
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", ALL, ids=DOMAINS)
def test_realloc_of_null_is_an_allocation(domain, slots):
    stale_records = thag_nb.status().stale_records
    with thag_nb.task("null"):
        slots[0] = domain.realloc(None, SIZE)
    assert of("null").self_live_bytes == SIZE
    assert thag_nb.status().stale_records == stale_records
    domain.free(slots[0])


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", ALL, ids=DOMAINS)
def test_realloc_to_zero_keeps_a_block_of_no_bytes(domain, slots):
    with thag_nb.task("zero"):
        slots[0] = domain.malloc(100)
        slots[0] = domain.realloc(slots[0], 0)
    assert slots[0]
    assert of("zero").self_live_bytes == 0
    domain.free(slots[0])
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", ALL, ids=DOMAINS)
@pytest.mark.parametrize(("small", "large"), [(100, 400), (400, 600), (600, SIZE)])
def test_a_block_that_grows_moves_to_the_current_context(domain, small, large, slots):
    with thag_nb.task("first"):
        slots[0] = domain.malloc(small)
    with thag_nb.task("second"):
        slots[0] = domain.realloc(slots[0], large)
    assert (of("first").self_live_bytes, of("first").foreign_frees) == (0, 1)
    assert of("second").self_live_bytes == large
    domain.free(slots[0])
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", ALL, ids=DOMAINS)
@pytest.mark.parametrize("sizes", [*itertools.permutations((10, 100, 600, SIZE), 2)])
def test_a_block_that_its_own_context_resizes_is_charged_for_what_it_is_now(domain, sizes, slots):
    with thag_nb.task("own"):
        slots[0] = domain.malloc(sizes[0])
        slots[0] = domain.realloc(slots[0], sizes[1])
    record = of("own")
    assert record.self_live_bytes == sizes[1]
    assert max(sizes) <= record.self_peak_bytes < max(sizes) + 1000
    assert _native.owner_of(slots[0]) == (record.context_id, sizes[1])
    domain.free(slots[0])
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", ALL, ids=DOMAINS)
@pytest.mark.parametrize(("large", "small"), [(400, 100), (600, 400), (SIZE, 600)])
def test_a_block_that_shrinks_stays_with_its_owner(domain, large, small, slots):
    with thag_nb.task("first"):
        slots[0] = domain.malloc(large)
    with thag_nb.task("second"):
        slots[0] = domain.realloc(slots[0], small)
    assert of("first").self_live_bytes == small
    assert (of("second").self_live_bytes, of("first").foreign_frees) == (0, 0)
    domain.free(slots[0])
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", ALL, ids=DOMAINS)
def test_a_realloc_that_fails_changes_nothing(domain, slots):
    with thag_nb.task("owner"):
        slots[0] = domain.malloc(SIZE)
    with thag_nb.task("failing"):
        assert domain.realloc(slots[0], sys.maxsize // 2) is None
    assert of("owner").self_live_bytes == SIZE
    assert of("failing").self_live_bytes == 0
    domain.free(slots[0])
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_an_allocation_that_fails_is_not_counted():
    with thag_nb.task("failing"):
        assert RAW.malloc(sys.maxsize // 2) is None
        assert RAW.calloc(sys.maxsize, sys.maxsize) is None
    assert of("failing").self_live_bytes == 0
    assert of("failing").peak_bytes < 4096


def test_blocks_from_before_the_start_are_never_negative(slots):
    for place, domain in enumerate(ALL):
        slots[place] = domain.malloc(SIZE)
        slots[place + 3] = domain.malloc(SIZE)
    with thag_nb.task("later"):
        for place, domain in enumerate(ALL):
            domain.free(slots[place])
            slots[place + 3] = domain.realloc(slots[place + 3], 2 * SIZE)
    gc.collect()  # an int of the task may lie on a free list of the interpreter
    record = of("later")
    assert record.self_live_bytes == 3 * 2 * SIZE  # a grown block is the task's
    for place, domain in enumerate(ALL):
        domain.free(slots[place + 3])
    assert of("later").self_live_bytes == 0
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_a_block_of_more_than_a_gibibyte_keeps_its_size(slots):
    size = (3 << 30) + 5
    with thag_nb.task("huge"):
        slots[0] = RAW.malloc(size)
    assert of("huge").self_live_bytes == size
    assert_sums_hold()
    RAW.free(slots[0])
    assert of("huge").self_live_bytes == 0
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_raw_allocations_without_the_gil_are_exact_from_many_threads():
    threads, rounds = 4, 2000

    def work() -> None:
        for _ in range(rounds):
            RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(SIZE))

    before = of("root")
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    after = of("root")
    assert after.self_total_bytes - before.self_total_bytes >= threads * rounds * SIZE
    assert after.self_live_bytes - before.self_live_bytes < SIZE
    assert after.peak_bytes >= before.live_bytes + SIZE
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_a_spike_without_the_gil_is_in_the_peak_and_on_the_timeline():
    with thag_nb.task("spike") as context:
        RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(200_000_000))
    recording = thag_nb.read()
    record = recording.find(context.id)
    assert 200_000_000 <= record.peak_bytes < 200_010_000
    assert max(bucket.high_bytes for bucket in recording.timeline(context.id)) == record.peak_bytes


@pytest.mark.usefixtures("dispatcher")
def test_a_growing_block_draws_no_fall_that_did_not_happen(slots):
    with thag_nb.task("growing") as context:
        slots[0] = RAW.malloc(1 << 20)
        bytearray(1 << 22)  # reads the clock, and opens a bucket
        slots[0] = RAW.realloc(slots[0], 2 << 20)
    buckets = thag_nb.read().timeline(context.id)
    lows = [after.low_bytes for before, after in itertools.pairwise(buckets) if before.live_bytes >= 1 << 20]
    assert all(low >= 1 << 20 for low in lows)
    assert of("root").peak_bytes < of("root").live_bytes + (5 << 20)
    RAW.free(slots[0])
    assert_sums_hold()


operation = st.tuples(
    st.sampled_from(["malloc", "calloc", "realloc", "free", "enter", "leave", "leave outermost"]),
    st.integers(0, 2),
    st.integers(0, 7),
    st.sampled_from(SIZES) | st.integers(0, 2000),
)


class Model:
    """What the contexts should hold, worked out by hand."""

    def __init__(self) -> None:
        self.slots = (ctypes.c_void_p * 8)()
        self.blocks: dict[int, tuple[Domain, int, int]] = {}  # slot -> domain, size, owner
        self.guards: list[thag_nb.ContextGuard] = []
        self.ids: list[int] = [1]

    def run(self, kind: str, domain: Domain, slot: int, size: int) -> None:
        if kind == "enter":
            guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "model")
            self.guards.append(guard)
            self.ids.append(guard.context.id)
        elif kind.startswith("leave") and self.guards:
            place = 0 if kind == "leave outermost" else -1
            self.guards.pop(place).close()
            # The innermost guard that is still open is current, in whatever order the others were closed.
            self.ids.pop(1 if place == 0 else -1)
        elif kind == "free" or (kind in ("malloc", "calloc") and slot in self.blocks):
            self._free(slot)
        elif kind in ("malloc", "calloc"):
            self.slots[slot] = domain.malloc(size) if kind == "malloc" else domain.calloc(1, size)
            self.blocks[slot] = (domain, size, self.ids[-1])
        elif kind == "realloc" and slot in self.blocks:
            domain, old, owner = self.blocks[slot]
            self.slots[slot] = domain.realloc(self.slots[slot], size)
            self.blocks[slot] = (domain, size, self.ids[-1] if size > old else owner)

    def _free(self, slot: int) -> None:
        block = self.blocks.pop(slot, None)
        if block is not None:
            block[0].free(self.slots[slot])

    def assert_owners_are_right(self) -> None:
        for slot, (_, size, owner) in self.blocks.items():
            assert _native.owner_of(self.slots[slot]) == (owner, size)

    def close(self) -> None:
        for slot in list(self.blocks):
            self._free(slot)
        while self.guards:
            self.guards.pop().close()


@settings(max_examples=60, deadline=None)
@given(st.lists(operation, max_size=40))
def test_after_random_operations_every_block_has_its_owner_and_the_sums_hold(operations):
    thag_nb.start()
    model = Model()
    for kind, domain, slot, size in operations:
        model.run(kind, ALL[domain], slot, size)
        model.assert_owners_are_right()
    assert_sums_hold()
    model.close()
    assert_sums_hold()


LANES = pytest.mark.parametrize("domain", [RAW, RAW_WITHOUT_GIL], ids=["attached", "detached"])


@LANES
def test_a_record_is_gone_when_the_wrapped_allocator_frees_or_moves_its_block(domain, watched, slots):
    """Another thread may be handed the address at that moment."""
    seen = []

    def look(address: int | None) -> bool:
        if address == slots[0]:
            seen.append(_native.owner_of(address))
        return True

    with thag_nb.task("owner"):
        slots[0] = domain.malloc(SIZE)
    watched.on_realloc = watched.on_free = look
    slots[1] = domain.realloc(slots[0], 2 * SIZE)
    slots[0] = slots[1]
    domain.free(slots[1])
    watched.on_realloc = watched.on_free = None
    assert seen == [None, None]


@LANES
def test_a_realloc_that_the_wrapped_allocator_refuses_puts_the_record_back(domain, watched, slots):
    with thag_nb.task("owner") as owner:
        slots[0] = domain.malloc(SIZE)
    with thag_nb.task("failing"):
        watched.on_realloc = lambda address: address != slots[0]
        refused = domain.realloc(slots[0], 2 * SIZE)
        watched.on_realloc = None
    assert refused is None
    assert _native.owner_of(slots[0]) == (owner.id, SIZE)
    assert of("owner").foreign_frees == 0
    assert_sums_hold()
    domain.free(slots[0])


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("domain", [*ALL, RAW_WITHOUT_GIL], ids=[*DOMAINS, "without the GIL"])
def test_a_block_resized_to_its_own_size_stays_its_owners(domain, slots):
    with thag_nb.task("first") as first:
        slots[0] = domain.malloc(SIZE)
    with thag_nb.task("second"):
        slots[0] = domain.realloc(slots[0], SIZE)
    assert _native.owner_of(slots[0]) == (first.id, SIZE)
    assert of("first").foreign_frees == 0
    domain.free(slots[0])
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
@LANES
def test_who_frees_what_a_dropped_context_left_to_the_current_one_is_no_stranger(domain, slots):
    with thag_nb.task("heir"):
        with thag_nb.task("dropped"):
            slots[0] = domain.malloc(SIZE)
            flow = contextvars.copy_context()
        thag_nb.reset()
        before = of("heir").foreign_frees
        flow.run(domain.free, slots[0])
        assert of("heir").foreign_frees == before
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
@LANES
def test_who_frees_somebody_elses_block_is_counted_as_a_stranger(domain, slots):
    with thag_nb.task("owner"):
        slots[0] = domain.malloc(SIZE)
        slots[1] = domain.malloc(SIZE)
        before = of("owner").foreign_frees
        domain.free(slots[0])
    assert of("owner").foreign_frees == before
    with thag_nb.task("stranger"):
        domain.free(slots[1])
    assert of("owner").foreign_frees == before + 1


@pytest.mark.usefixtures("dispatcher")
def test_a_hook_that_is_called_with_somebody_elses_word_still_finds_what_it_wraps():
    """CPython reads function and word one after the other, and somebody may put a hook in between."""
    hooks = _native.allocators()[0]
    word, malloc, _, _, free = hooks
    strange = (ctypes.c_char * 64)()
    raw_malloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(malloc)
    raw_free = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(free)
    assert word != ctypes.addressof(strange)
    with thag_nb.task("strange") as strange_task:
        block = raw_malloc(ctypes.addressof(strange), SIZE)
    assert _native.owner_of(block) == (strange_task.id, SIZE)
    raw_free(ctypes.addressof(strange), block)
    assert _native.owner_of(block) is None


def test_a_domain_may_be_hooked_again_and_again_above_the_same_allocator():
    before = _native.allocators()
    for _ in range(1000):  # there are 256 places for hooks
        _native.start()
        _native.stop()
    assert _native.allocators() == before


def test_the_very_next_event_after_the_stop_is_not_recorded():
    code = f"""
        import sys, tracemalloc
        sys.path.insert(0, {SUPPORT!r})
        import thag_nb
        from blocks import OBJ
        from thag_nb import _native
        thag_nb.start()
        tracemalloc.start()  # so that the hooks are still called
        OBJ.free(OBJ.malloc(100))
        _native.stop()
        print(_native.owner_of(OBJ.malloc(100)))
    """
    assert python(code) == "None\n"


def test_nothing_is_recorded_after_the_stop_though_the_hooks_are_still_called_and_guards_move(slots):
    with thag_nb.task("recorded") as recorded:
        pass
    tracemalloc.start()
    try:
        thag_nb.stop()
        assert thag_nb.status().state == "pass-through"
        for domain in (RAW, OBJ, RAW_WITHOUT_GIL):
            with thag_nb.ContextGuard(recorded) as context:
                guard = thag_nb.ContextGuard(context)
                guard.enter()
                slots[0] = domain.malloc(SIZE)
                guard.close()
            slots[1] = domain.malloc(SIZE)
            assert _native.owner_of(slots[0]) is _native.owner_of(slots[1]) is None
            domain.free(slots[0])
            domain.free(slots[1])
    finally:
        tracemalloc.stop()
    thag_nb.start()


@pytest.mark.parametrize("domain", [RAW, RAW_WITHOUT_GIL], ids=["attached", "detached"])
@pytest.mark.usefixtures("dispatcher")
def test_a_block_that_grows_where_it_is_owned_never_seems_to_be_gone(domain, slots):
    with thag_nb.task("growing") as context:
        slots[0] = domain.malloc(SIZE)
        for times in range(2, 5):
            time.sleep(0.005)  # into another bucket
            slots[0] = domain.realloc(slots[0], times * SIZE)
    recording = thag_nb.read()
    record, buckets = recording.find(context.id), recording.timeline(context.id)
    reached = [bucket for bucket in buckets if bucket.high_bytes >= SIZE][1:]
    assert reached
    assert min(bucket.low_bytes for bucket in reached) >= SIZE
    assert 4 * SIZE <= record.peak_bytes < 5 * SIZE
    assert (2 + 3 + 4 + 1) * SIZE <= record.total_bytes < 11 * SIZE
    domain.free(slots[0])
    assert_sums_hold()


def test_a_realloc_that_fails_after_stop_where_nothing_was_ever_charged_changes_nothing():
    """Somebody on top of the hooks still calls them; a reset has closed what was open."""
    code = """
        import ctypes, threading, tracemalloc
        import thag_nb
        from thag_nb import _native
        thag_nb.start()
        malloc, realloc = ctypes.pythonapi.PyMem_Malloc, ctypes.pythonapi.PyMem_Realloc
        malloc.restype = realloc.restype = ctypes.c_void_p
        malloc.argtypes, realloc.argtypes = [ctypes.c_size_t], [ctypes.c_void_p, ctypes.c_size_t]
        block = malloc(100_000)
        tracemalloc.start()
        _native.stop()
        def fail():
            _native.reset()
            print(realloc(block, 1 << 60))
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        print(_native.owner_of(block)[1])
    """
    assert python(code).split() == ["None", "100000"]
