"""The arithmetic: what is highest and lowest on the way, in either lane, and who learns of it when."""

import contextlib
import ctypes
import random
import time

import pytest
from blocks import RAW, RAW_WITHOUT_GIL
from figures import assert_sums_hold, of

import thag_nb
from thag_nb.recordings.model import ContextRecord, TimelineBucket

pytestmark = pytest.mark.usefixtures("dispatcher")

NOISE = 2_000  # what Python itself takes meanwhile
SMALL, LARGE = 8_000, 300_000  # within one batch of events, and beyond

LANES = pytest.mark.parametrize("domain", [RAW, RAW_WITHOUT_GIL], ids=["attached", "detached"])


@pytest.fixture
def slots() -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * 8)()


def seen(name: str) -> tuple[ContextRecord, list[TimelineBucket]]:
    recording = thag_nb.read()
    record = recording.find(name)
    return record, recording.timeline(record.context_id)


@LANES
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_spike_is_in_every_peak_and_on_every_timeline_up_to_the_root(size, domain):
    before = of("root").live_bytes
    with thag_nb.task("around"), thag_nb.task("inner"):
        domain.free(domain.malloc(size))
    recording = thag_nb.read()  # once: looking at it is root's work
    for name, base in (("inner", 0), ("around", 0), ("root", before)):
        record = recording.find(name)
        buckets = recording.timeline(record.context_id)
        assert size <= record.peak_bytes - base
        assert record.peak_bytes - base < size + NOISE or name == "root"  # which pays for other threads as well
        assert max(bucket.high_bytes for bucket in buckets) == record.peak_bytes
    assert size <= of("inner").self_peak_bytes < size + NOISE
    assert of("around").self_peak_bytes < NOISE
    assert_sums_hold()


@LANES
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_dip_is_on_every_timeline_up_to_the_root(size, domain, slots):
    with thag_nb.task("around"):
        slots[0] = RAW.malloc(1_000_000)
        with thag_nb.task("inner"):
            slots[1] = RAW.malloc(size)
            thag_nb.reset()  # what was below is forgotten
            domain.free(slots[1])
            slots[1] = domain.malloc(size)
            inner, around = seen("inner")[1], seen("around")[1]
    assert min(bucket.low_bytes for bucket in inner) < NOISE
    assert 1_000_000 <= min(bucket.low_bytes for bucket in around) < 1_000_000 + NOISE
    for slot in slots[:2]:
        RAW.free(slot)
    assert_sums_hold()


@pytest.mark.parametrize("opened", [False, True], ids=["in the open batch", "in a batch of its own"])
def test_spikes_one_after_the_other_in_both_lanes_are_not_taken_for_one(opened, slots):
    with thag_nb.task("both"):
        RAW.free(RAW.malloc(1))  # opens the batch
        slots[0] = RAW_WITHOUT_GIL.malloc(LARGE)
        RAW_WITHOUT_GIL.free(slots[0])
        if opened:
            with thag_nb.task("other"):
                RAW.free(RAW.malloc(1))
        slots[1] = RAW.malloc(SMALL)
        RAW.free(slots[1])
        slots[1] = RAW.malloc(LARGE)
        assert LARGE <= of("both").peak_bytes < LARGE + NOISE
        RAW.free(slots[1])
    assert LARGE <= of("both").peak_bytes < LARGE + NOISE
    assert LARGE <= of("both").self_peak_bytes < LARGE + NOISE


def test_what_a_block_moves_between_siblings_is_no_fall_and_no_rise_of_what_they_stand_under(slots):
    with thag_nb.task("around"):
        slots[0] = RAW.malloc(1_000_000)
        with thag_nb.task("one"):
            slots[1] = RAW.malloc(LARGE)
        thag_nb.reset()
        with thag_nb.task("one again"):
            slots[2] = RAW.malloc(LARGE)
        with thag_nb.task("other"):
            slots[2] = RAW.realloc(slots[2], LARGE + 100)
        record, buckets = seen("around")
    rising = [bucket for bucket in buckets if bucket.live_bytes > 1_000_000 + 2 * LARGE]
    assert record.peak_bytes < 1_000_000 + 2 * LARGE + NOISE
    assert all(bucket.high_bytes < 1_000_000 + 2 * LARGE + NOISE for bucket in rising)
    assert of("one again").self_live_bytes < NOISE
    assert LARGE + 100 <= of("other").self_live_bytes < LARGE + 100 + NOISE
    for slot in slots[:3]:
        RAW.free(slot)
    assert_sums_hold()


GROUP, OF_EACH = 25, 400  # as many blocks of so many bytes, all within a batch or two
GROUP_BYTES = GROUP * OF_EACH  # twice what Python itself may take meanwhile


class Levels:
    """What a context's level is, and the highest that it was."""

    def __init__(self) -> None:
        self.live_bytes = self.peak_bytes = 0

    def move(self, size: int) -> None:
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)


@pytest.mark.parametrize("below", [False, True], ids=["of a sibling", "of the context below"])
@pytest.mark.parametrize("seed", range(8))
def test_frees_of_another_contexts_blocks_between_own_events_leave_all_peaks_exact(seed, below):
    steps = random.Random(seed).choices(["own", "own", "own", "other", "free"], k=60)
    others, own = (ctypes.c_void_p * (8 * GROUP))(), (ctypes.c_void_p * (64 * GROUP))()
    one, other, around = Levels(), Levels(), Levels()
    with thag_nb.task("around"), contextlib.ExitStack() as stack:
        if below:
            stack.enter_context(thag_nb.task("one"))
        with thag_nb.task("other"):
            for number in range(len(others)):
                others[number] = RAW.malloc(OF_EACH)
        if not below:
            stack.enter_context(thag_nb.task("one"))
        for level in (other, around) + (one,) * below:
            level.move(len(others) * OF_EACH)
        taken = held = 0
        for step in steps:
            if step == "other" and taken < 8:
                for number in range(taken * GROUP, (taken + 1) * GROUP):
                    RAW.free(others[number])
                taken += 1
                moved, by = [other, around] + [one] * below, -GROUP_BYTES
            elif step == "free" and held > 0:
                held -= 1
                for number in range(held * GROUP, (held + 1) * GROUP):
                    RAW.free(own[number])
                moved, by = [one, around], -GROUP_BYTES
            else:
                for number in range(held * GROUP, (held + 1) * GROUP):
                    own[number] = RAW.malloc(OF_EACH)
                held += 1
                moved, by = [one, around], GROUP_BYTES
            for level in moved:
                level.move(by)
        found = {name: of(name) for name in ("one", "other", "around")}
    for name, level in {"one": one, "other": other, "around": around}.items():
        assert level.live_bytes <= found[name].live_bytes < level.live_bytes + GROUP_BYTES // 2
        assert level.peak_bytes <= found[name].peak_bytes < level.peak_bytes + GROUP_BYTES // 2
    assert found["other"].foreign_frees >= taken * GROUP
    assert_sums_hold()
    for number in range(taken * GROUP, len(others)):
        RAW.free(others[number])
    for number in range(held * GROUP):
        RAW.free(own[number])


def test_a_peak_before_frees_of_another_contexts_blocks_is_kept(slots):
    with thag_nb.task("other"):
        for number in range(len(slots)):
            slots[number] = RAW.malloc(OF_EACH)
    with thag_nb.task("own"):
        RAW.free(slots[0])
        block = RAW.malloc(SMALL)
        RAW.free(block)
        for number in range(1, len(slots)):
            RAW.free(slots[number])
        assert SMALL <= of("own").peak_bytes < SMALL + NOISE
        assert SMALL <= of("own").self_peak_bytes < SMALL + NOISE


def test_a_peak_after_frees_of_another_contexts_blocks_is_no_higher_than_it_was(slots):
    with thag_nb.task("around"):
        with thag_nb.task("other"):
            for number in range(len(slots)):
                slots[number] = RAW.malloc(OF_EACH)
        with thag_nb.task("own"):
            for number in range(len(slots)):
                RAW.free(slots[number])
            RAW.free(RAW.malloc(SMALL))
    assert SMALL <= of("around").peak_bytes < SMALL + NOISE < SMALL + len(slots) * OF_EACH


def test_a_block_that_moves_between_siblings_draws_no_dip_on_the_timeline_above(slots):
    with thag_nb.task("around"), thag_nb.task("one"):
        slots[0] = RAW.malloc(1_000_000)
        thag_nb.reset()  # the timelines begin here, on this level
        with thag_nb.task("other"):
            slots[0] = RAW.realloc(slots[0], 1_000_100)
        around, one = seen("around")[1], seen("one")[1]
    assert min(bucket.low_bytes for bucket in around) >= 1_000_000
    assert min(bucket.low_bytes for bucket in one) >= 1_000_000  # "other" is below it
    RAW.free(slots[0])


@LANES
def test_a_block_that_grows_is_counted_as_one_free_and_one_allocation(domain, slots):
    times = 200
    with thag_nb.task("growing"):
        slots[0] = domain.malloc(SMALL)
        before = of("growing")
        for growth in range(1, times + 1):
            slots[0] = domain.realloc(slots[0], SMALL + growth)
        after = of("growing")
    assert after.allocations - before.allocations >= times
    assert after.total_bytes - before.total_bytes >= times * SMALL
    blocks = (after.allocations - after.frees) - (before.allocations - before.frees)
    assert abs(blocks) < times // 2  # it is still one; what Python takes meanwhile is not a block for each time
    assert after.foreign_frees == before.foreign_frees == 0
    domain.free(slots[0])


def test_a_block_that_grows_in_somebody_elses_hands_is_a_foreign_free_of_its_owner(slots):
    with thag_nb.task("owner"):
        slots[0] = RAW.malloc(SMALL)
    before = of("owner")
    with thag_nb.task("other"):
        slots[0] = RAW.realloc(slots[0], LARGE)
    after = of("owner")
    assert after.frees - before.frees == after.foreign_frees - before.foreign_frees >= 1
    RAW.free(slots[0])


def test_what_follows_a_task_is_drawn_after_it(slots):
    """Small events share a reading of the clock, but not with what came before a task was left."""
    with thag_nb.task("around"):
        with thag_nb.task("inner"):
            RAW.free(RAW.malloc(100))
            time.sleep(0.05)
        slots[0] = RAW.malloc(30_000)
        recording = thag_nb.read()
    end_ns = recording.find("inner").started_ns + 50_000_000
    around = recording.timeline("around")
    assert max(bucket.high_bytes for bucket in around if bucket.start_ns < end_ns) < 30_000
    assert max(bucket.high_bytes for bucket in around) >= 30_000
    RAW.free(slots[0])


def test_what_is_allocated_after_a_spike_without_the_gil_is_not_put_on_top_of_it(slots):
    """Though its context has a batch open, that could take more events before anybody looks."""
    with thag_nb.task("both"):
        RAW.free(RAW.malloc(1))  # opens the batch
        RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(LARGE))
        slots[0] = RAW.malloc(SMALL)
        record = of("both")
    assert LARGE <= record.peak_bytes < LARGE + NOISE
    assert LARGE <= record.self_peak_bytes < LARGE + NOISE
    RAW.free(slots[0])


def test_a_spike_without_the_gil_is_put_on_top_of_what_was_allocated_before_it(slots):
    """Though that is in a batch that is still open, and nobody looks in between."""
    with thag_nb.task("around"), thag_nb.task("both"):
        RAW.free(RAW.malloc(1))  # opens the batch
        slots[0] = RAW.malloc(SMALL)
        RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(LARGE))
        recording = thag_nb.read()
    both, around = recording.find("both"), recording.find("around")
    for peak_bytes in (both.peak_bytes, both.self_peak_bytes, around.peak_bytes):
        assert SMALL + LARGE <= peak_bytes < SMALL + LARGE + NOISE
    RAW.free(slots[0])


def test_how_far_events_without_the_gil_went_up_and_down_is_known_to_who_looks_afterwards(interposed):
    """No event with the GIL comes in between, so that only the ends of the way could be seen."""
    code = """
        from array import array

        SIZE = 300_000
        steps = array("Q", [0, 0, 0, 0, 0, SIZE, 0, 1, 3 * SIZE, 0, 1, 0])  # wait, slot, size: a dip, and a spike
        slots = (ctypes.c_void_p * 2)()
        arguments = ctypes.c_void_p(steps.buffer_info()[0]), ctypes.c_size_t(4), slots
        play = library_without_gil.play
        thag_nb.start()
        with thag_nb.task("played") as context:
            slots[0] = RAW.malloc(SIZE)
            thag_nb.reset()
            play(*arguments)
            recording = thag_nb.read()
        record, buckets = recording.find("played"), recording.timeline(context.id)
        assert 4 * SIZE <= record.peak_bytes < 4 * SIZE + 2_000, record
        assert 4 * SIZE <= record.self_peak_bytes < 4 * SIZE + 2_000, record
        assert max(bucket.high_bytes for bucket in buckets) == record.peak_bytes
        assert min(bucket.low_bytes for bucket in buckets) < 2_000, buckets
    """
    assert interposed(code) == ""
