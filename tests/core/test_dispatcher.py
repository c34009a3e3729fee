import ctypes
import gc
import itertools
import sys
import threading

import pytest
from blocks import ALL, DOMAINS, OBJ, RAW, RAW_WITHOUT_GIL, SIZE, Domain
from figures import assert_sums_hold, of
from hypothesis import given, settings
from hypothesis import strategies as st

import thag_nb
from thag_nb import _native

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
    with thag_nb.task("nested"):
        slots[0] = OBJ.malloc(SIZE)
    assert _native.audit()[of("nested").context_id] == (SIZE, SIZE)
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
    with thag_nb.task("null"):
        slots[0] = domain.realloc(None, SIZE)
    assert of("null").self_live_bytes == SIZE
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
