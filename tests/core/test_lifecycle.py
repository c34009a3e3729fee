"""What becomes of contexts: ending, a reset, what an heir takes over, and records given back."""

import ctypes
import time

import pytest
from blocks import RAW, RAW_WITHOUT_GIL, SIZE
from figures import assert_sums_hold, of

import thag_nb
from thag_nb import _native

NOISE = 2_000


def burn(contexts: int) -> None:
    for _ in range(contexts):
        thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "burnt").close()


@pytest.fixture
def slots() -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * 8)()


@pytest.mark.usefixtures("dispatcher")
def test_what_is_retained_is_what_was_live_at_the_end_with_all_below(slots):
    with thag_nb.task("around"):
        slots[0] = RAW.malloc(SIZE)
        with thag_nb.task("inner"):
            slots[1] = RAW.malloc(2 * SIZE)
    for slot in slots[:2]:
        RAW.free(slot)
    assert 2 * SIZE <= of("inner").retained_bytes < 2 * SIZE + NOISE
    assert 3 * SIZE <= of("around").retained_bytes < 3 * SIZE + NOISE
    assert of("around").live_bytes < NOISE


@pytest.mark.usefixtures("dispatcher")
def test_a_reset_starts_counts_totals_and_peaks_of_what_is_open_from_what_is_live(slots):
    with thag_nb.task("open"):
        slots[0] = RAW.malloc(SIZE)
        RAW.free(RAW.malloc(10 * SIZE))
        RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(20 * SIZE))
        thag_nb.reset()
        recording = thag_nb.read()
    record = recording.find("open")
    assert SIZE <= record.live_bytes <= record.peak_bytes < SIZE + NOISE
    assert SIZE <= record.self_live_bytes <= record.self_peak_bytes < SIZE + NOISE
    assert record.total_bytes < NOISE
    assert max(record.allocations, record.frees, record.foreign_frees) < 50
    assert max(bucket.high_bytes for bucket in recording.timeline(record.context_id)) == record.peak_bytes
    RAW.free(slots[0])
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_an_heir_takes_over_what_is_live_and_a_stranger_is_repaid_there(slots):
    with thag_nb.task("heir"):
        with thag_nb.task("dropped"):
            slots[0] = RAW.malloc(SIZE)
            slots[1] = RAW_WITHOUT_GIL.malloc(SIZE)
        thag_nb.reset()
        heir = of("heir")
    assert 2 * SIZE <= heir.self_live_bytes < 2 * SIZE + NOISE
    assert heir.live_bytes == heir.self_live_bytes
    assert_sums_hold()
    RAW.free(slots[0])
    RAW_WITHOUT_GIL.free(slots[1])
    assert of("heir").live_bytes < NOISE
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_a_record_beside_one_that_is_still_open_is_not_given_back(slots):
    burn(4096)  # the chunk of the root is never given back
    with thag_nb.task("open") as context:
        slots[0] = RAW.malloc(SIZE)
        burn(2 * 4096)
        thag_nb.reset()
        assert _native.context(context.id) is not None
        assert _native.owner_of(slots[0]) == (context.id, SIZE)
        assert SIZE <= of("open").self_live_bytes < SIZE + NOISE
    RAW.free(slots[0])
    assert_sums_hold()


def test_what_is_forgotten_falls_to_nothing_on_the_timeline(slots):
    with thag_nb.task("forgotten") as context:
        slots[0] = RAW.malloc(SIZE)
    time.sleep(0.01)  # into another bucket, which does not begin from nothing
    thag_nb.stop()
    thag_nb.start()
    last = thag_nb.read().timeline(context.id)[-1]
    assert (last.low_bytes, last.live_bytes, last.self_live_bytes) == (0, 0, 0)
    RAW.free(slots[0])
    assert of("forgotten").live_bytes == 0


def test_an_event_without_the_gil_while_the_table_is_renamed_keeps_all_records(interposed):
    """Quiet before is not enough: a thread may have looked a context up in between, and is about to charge it."""
    code = """
        def burn():
            for _ in range(2 * 4096):
                thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "burnt").close()

        thag_nb.start()
        burn()
        before = _native.overhead()["contexts"]
        library.allocate_meanwhile()
        thag_nb.reset()
        assert library.allocated_meanwhile()
        assert _native.owner_of(library.allocated_meanwhile()) == (_native.ROOT_ID, 1000)
        assert _native.overhead()["contexts"] >= before
        assert_sums_hold()
        thag_nb.reset()
        assert _native.overhead()["contexts"] < before
        assert_sums_hold()
    """
    assert interposed(code) == ""


def test_what_a_thread_without_the_gil_charges_a_context_for_that_was_just_dropped_passes_to_the_heir(interposed):
    """It has looked its context up, and goes on when the reset has dropped that, but not yet given its record back."""
    code = """
        def burn():
            for _ in range(2 * 4096):
                thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "burnt").close()

        thag_nb.start()
        burn()
        guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "dropped")
        _native.set_foreground(guard.context.id)
        library.late_begin(200 << 20)
        guard.close()
        burn()
        before = _native.overhead()["contexts"]
        library.late_finish_within(_native.reset)
        assert _native.overhead()["contexts"] < before
        assert _native.context(guard.context.id) is None
        assert _native.owner_of(library.late_block()) == (_native.ROOT_ID, 200 << 20)
        assert_sums_hold()
        RAW.free(library.late_block())
        assert_sums_hold()
    """
    assert interposed(code) == ""


@pytest.mark.usefixtures("dispatcher")
def test_contexts_come_and_go_without_end_in_the_same_places():
    """Their records take no more room after the hundredth thousand than after the tenth; ids are never used again."""
    thag_nb.reset()
    burn(10_000)
    with thag_nb.untracked():
        most = _native.overhead()["contexts"]
    ids = set()
    for _ in range(10):
        thag_nb.reset()
        burn(9_999)
        with thag_nb.task("one") as one:
            ids.add(one.id)
        with thag_nb.untracked():
            assert _native.overhead()["contexts"] <= most
    assert len(ids) == 10
    assert_sums_hold()


def test_ids_go_on_where_32_bits_end(interposed):
    """A thousand tasks a second reach that in fifty days."""
    code = """
        thag_nb.start()
        for start in (1 << 32) - 3, 10**9 * 1000, (1 << 62) - 2:
            _native.skip_ids(start)
            guards = [thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, f"n{n}") for n in range(6)]
            ids = [guard.context.id for guard in guards]
            assert ids == list(range(start, start + 6)), ids
            block = RAW.malloc(1000)
            assert _native.owner_of(block) == (ids[-1], 1000)
            assert [registry[id].name for id in ids] == [f"n{n}" for n in range(6)]
            assert registry[ids[-1]].parent_id == ids[-2] == thag_nb.current_context().parent_id
            assert list(thag_nb.contexts().index[-6:]) == ids
            counted, found = _native.audit()[ids[-1]]
            assert counted == found >= (1000, 1)
            for guard in reversed(guards):
                guard.close()
            thag_nb.reset()
            assert _native.owner_of(block) == (_native.ROOT_ID, 1000)
            assert ids[0] not in registry
            RAW.free(block)
            assert_sums_hold()
    """
    assert interposed(code) == ""
