"""Memory runs out: for the program, for our tables, or for both. Each in an interpreter of its own."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest
from processes import python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces a limit on the address space")

LIMITED = pytest.mark.skipif(
    "san.so" in os.environ.get("LD_PRELOAD", ""),
    reason="a sanitizer itself needs the addresses that a limit takes away",
)

PRELUDE = f"""
import contextlib, ctypes, gc, random, resource, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
import thag_nb
from blocks import MEM, OBJ, RAW, RAW_WITHOUT_GIL
from figures import assert_sums_hold, of
from thag_nb import _native
from thag_nb.runtime.contexts import registry

KIB, MIB = 1 << 10, 1 << 20
SIZE = 123_457
slots = (ctypes.c_void_p * 64)()

@contextlib.contextmanager
def room(size):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def dropped():
    return thag_nb.status().dropped

def assert_peaks_are_exact():
    recording = thag_nb.read()
    for record in recording.contexts:
        assert record.peak_bytes >= record.live_bytes, record
        high = max(bucket.high_bytes for bucket in recording.timeline(record.context_id))
        assert high == record.peak_bytes, record

def assert_recording_goes_on():
    with thag_nb.task("afterwards"):
        slots[63] = RAW.malloc(SIZE)
    gc.collect()  # an object of the task may lie on a free list of the interpreter
    assert of("afterwards").self_live_bytes == SIZE
    assert _native.owner_of(slots[63]) == (of("afterwards").context_id, SIZE)
    RAW.free(slots[63])
    assert of("afterwards").self_live_bytes == 0
    assert_sums_hold()
    assert_peaks_are_exact()

class Hoard:
    '''Everything that can still be allocated, in every size that a small object may have.'''

    def __init__(self):
        self.addresses = (ctypes.c_void_p * 1_000_000)()
        self.count = 0
        self.index = iter(range(1_000_000))
        self.sizes = [MIB, 64 * KIB, 4 * KIB, 1 * KIB]
        self.sizes += [size for size in range(512, 0, -16) if size != 32] + [32]

    def take(self):
        try:
            for size in self.sizes:
                while True:
                    place = self.count
                    self.addresses[place] = OBJ.malloc(size)
                    if self.addresses[place] is None:
                        break
                    self.count = place + 1
        except MemoryError:
            pass

    def give_back(self):
        for place in range(self.count):
            OBJ.free(self.addresses[place])
        self.count = 0

thag_nb.start()
thag_nb.status()
"""


def out_of_memory(code: str) -> str:
    return python(PRELUDE + textwrap.dedent(code))


@LIMITED
def test_a_memory_error_reaches_the_program_and_nothing_is_charged():
    out_of_memory("""
        with thag_nb.task("failing"), room(32 * MIB):  # enough for a leaf of the owner table
            for make in (bytearray, lambda size: [None] * size, lambda size: "x" * size, bytes):
                try:
                    make(256 * MIB)
                except MemoryError:
                    pass
                else:
                    raise AssertionError("no MemoryError")
            for domain in (RAW, MEM, OBJ, RAW_WITHOUT_GIL):
                assert domain.malloc(256 * MIB) is None
                assert domain.calloc(256, MIB) is None
        assert of("failing").peak_bytes < MIB
        assert dropped() == 0
        assert_recording_goes_on()
    """)


@LIMITED
def test_a_block_that_the_owner_table_has_no_room_for_is_dropped_and_counted():
    out_of_memory("""
        with thag_nb.task("dropped"):
            with room(88 * MIB):
                slots[0] = RAW.malloc(80 * MIB)  # nothing of ours covers these addresses yet, and nothing fits any more
            assert slots[0]
        assert dropped() == 1
        assert of("dropped").peak_bytes < MIB
        assert _native.owner_of(slots[0]) is None
        assert_sums_hold()
        RAW.free(slots[0])
        assert 0 <= of("dropped").self_live_bytes < MIB
        assert "1 events could not be recorded" in str(thag_nb.status())
        assert "Nearly everything of " in thag_nb.status().seen
        assert_recording_goes_on()
        assert dropped() == 1
    """)


@LIMITED
def test_a_realloc_that_fails_at_the_limit_keeps_owner_and_size():
    out_of_memory("""
        domains = (RAW, MEM, OBJ, RAW_WITHOUT_GIL)
        with thag_nb.task("owner") as owner:
            for place, domain in enumerate(domains):
                slots[place] = domain.malloc(SIZE)
        with thag_nb.task("other"), room(4 * MIB):
            for place, domain in enumerate(domains):
                assert domain.realloc(slots[place], 64 * MIB) is None
                assert _native.owner_of(slots[place]) == (owner.id, SIZE)
        assert of("owner").self_live_bytes == len(domains) * SIZE
        assert of("owner").foreign_frees == 0
        assert dropped() == 0
        for place, domain in enumerate(domains):
            domain.free(slots[place])
        assert of("owner").self_live_bytes == 0
        assert_recording_goes_on()
    """)


@LIMITED
@pytest.mark.parametrize("domain", ["RAW", "RAW_WITHOUT_GIL"])
def test_a_realloc_to_where_the_owner_table_has_no_room_repays_the_owner_and_is_counted(domain):
    out_of_memory(f"""
        with thag_nb.task("owner"):
            slots[0] = RAW.malloc(SIZE)
            RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(1))
        with thag_nb.task("other"), room(88 * MIB):
            slots[0] = {domain}.realloc(slots[0], 80 * MIB)
        assert slots[0]
        assert dropped() == 1
        assert _native.owner_of(slots[0]) is None
        assert of("owner").self_live_bytes < 200
        assert of("other").self_live_bytes < 200
        assert_sums_hold()
        RAW.free(slots[0])
        assert_recording_goes_on()
    """)


@LIMITED
def test_events_without_the_gil_need_no_memory_for_their_counters():
    out_of_memory("""
        with thag_nb.task("owner"):
            slots[0] = RAW.malloc(SIZE)
            slots[1] = RAW.malloc(SIZE)
        with thag_nb.task("other") as other, room(16 * KIB):
            slots[2] = RAW_WITHOUT_GIL.malloc(1000)
            assert _native.owner_of(slots[2]) == (other.id, 1000)
            slots[1] = RAW_WITHOUT_GIL.realloc(slots[1], 100)
            RAW_WITHOUT_GIL.free(slots[0])
        assert dropped() == 0
        assert_sums_hold()
        assert_peaks_are_exact()
        RAW.free(slots[1])
        RAW.free(slots[2])
        assert_recording_goes_on()
    """)


@LIMITED
def test_entering_without_memory_raises_memory_error_and_keeps_the_current_context():
    out_of_memory("""
        before = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "before")
        wanted = thag_nb.TaskMemoryContext("wanted").context.id
        hoard = Hoard()
        failed, entered, current = False, None, None

        def attempt():
            global failed, entered, current
            hoard.take()
            try:
                entered = _native.enter(wanted, False)
            except MemoryError:
                failed = True
            current = _native.current_id()

        gc.collect()
        gc.disable()
        with room(2 * MIB):
            attempt()
        hoard.give_back()
        assert hoard.count == 0
        assert (failed, entered) == (True, None)
        assert current == before.context.id == thag_nb.current_context().id
        assert_sums_hold()
        _native.enter(wanted, False).leave(True)
        before.close()
        assert thag_nb.current_context().name == "root"
        assert_recording_goes_on()
    """)


@LIMITED
def test_a_record_of_a_context_that_finds_no_memory_is_a_memory_error_and_the_next_one_works():
    out_of_memory("""
        while True:
            last = registry.open('filler', 'task', parent_id=_native.ROOT_ID).id
            if last % 4096 == 4095:
                break  # the next one needs a new chunk of records
        with room(256 * KIB):
            for _ in range(3):
                try:
                    thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "failing")
                except MemoryError:
                    pass
                else:
                    raise AssertionError("no MemoryError")
        assert thag_nb.current_context().name == "root"
        assert set(_native.audit()) == {1}
        thag_nb.reset()
        assert_sums_hold()
        assert_recording_goes_on()
    """)


@LIMITED
def test_timelines_without_memory_widen_their_open_bucket_and_miss_no_peak():
    out_of_memory("""
        with contextlib.ExitStack() as stack:
            for number in range(200):
                stack.enter_context(thag_nb.task(f"nested {number}"))
            with room(512 * KIB):
                end = time.monotonic() + 0.4
                while time.monotonic() < end:
                    RAW.free(RAW.malloc(50_000))
            assert thag_nb.status().coarse_buckets > 0
            assert_peaks_are_exact()
            assert all(of(f"nested {number}").peak_bytes >= 50_000 for number in (0, 100, 199))
            count = len(thag_nb.read().timeline(of("nested 199").context_id))
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                RAW.free(RAW.malloc(60_000))
            assert len(thag_nb.read().timeline(of("nested 199").context_id)) > count
            assert_peaks_are_exact()
            assert of("nested 199").peak_bytes >= 60_000
        assert_recording_goes_on()
    """)


@LIMITED
def test_a_program_that_runs_against_the_limit_again_and_again_keeps_its_sums():
    out_of_memory("""
        chosen = random.Random(11)
        keep, errors = [], 0

        def work(round):
            kind = round % 5
            if kind == 0:
                keep.append(bytearray(chosen.randrange(4 * MIB)))
            elif kind == 1:
                keep.append([object() for _ in range(chosen.randrange(20_000))])
            elif kind == 2:
                keep.append({number: str(number) for number in range(chosen.randrange(10_000))})
            elif kind == 3:
                keep.append(keep.pop() if keep else None)
                for _ in range(chosen.randrange(8)):
                    del keep[chosen.randrange(len(keep) + 1):][:1]
            else:
                slots[1] = RAW.realloc(slots[1], chosen.randrange(MIB)) or slots[1]

        for limit in (1, 4, 16, 40):
            with room(limit * MIB):
                for round in range(400):
                    try:
                        with thag_nb.task("against the limit"):
                            work(round)
                    except MemoryError:
                        errors += 1
                        del keep[len(keep) // 2:]
                    if thag_nb.current_context().name != "root":
                        raise AssertionError(thag_nb.current_context())
            assert_sums_hold()
            assert_peaks_are_exact()
            keep.clear()
        assert errors > 10
        assert_recording_goes_on()
    """)


# One allocation at a time: CPython itself crashes when ContextVar.set finds no memory twice in a row.
INJECTION = """
import _testcapi

failed_restores = 0

def assert_in_root():
    '''Unless a guard had no memory to restore with: that is counted, and the next guard that is left makes it good.'''
    global failed_restores
    current, counted = thag_nb.current_context(), _native.health()["failed_restores"]
    assert current.name == "root" or counted > failed_restores, current
    failed_restores = counted
    with thag_nb.untracked():
        pass
    assert thag_nb.current_context().name == "root", thag_nb.current_context()

def at_each_allocation(attempt, check, most=200):
    '''Let the first, the second, ... allocation of `attempt` fail, and no other.'''
    failures = successes = 0
    for start in range(most):
        error = None
        gc.disable()
        try:
            _testcapi.set_nomemory(start, start + 1)
            attempt()
        except MemoryError:
            failures += 1
            error = True
        finally:
            _testcapi.remove_mem_hooks()
            gc.enable()
        check(error is not None)
        successes = successes + 1 if error is None else 0
        if successes == 20:
            return failures
    raise AssertionError("an error to the last")
"""


def injected(code: str) -> str:
    pytest.importorskip("_testcapi")
    return out_of_memory(INJECTION + textwrap.dedent(code))


@pytest.mark.parametrize(
    "make",
    [
        "thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, 'failing')",
        "thag_nb.push_allocator_context(thag_nb.Allocator.SYSTEM, 'failing')",
        "thag_nb.push_allocator_context(thag_nb.Allocator.SYSTEM)",
        "thag_nb.TaskMemoryContext('failing').enter()",
    ],
)
def test_whichever_allocation_of_entering_fails_the_current_context_stays_and_all_can_be_read(make):
    injected(f"""
        guard = None

        def attempt():
            global guard
            guard = {make}

        def check(failed):
            global guard
            assert (guard is None) == failed
            if guard is not None:
                guard.close()
            guard = None
            assert_in_root()
            assert_sums_hold()

        assert at_each_allocation(attempt, check) >= 1
        states = [record.state for record in thag_nb.read().contexts if record.name == "failing"]
        may_be_entered_yet = {make!r}.startswith("thag_nb.TaskMemoryContext")
        assert states.count("open") <= may_be_entered_yet, states
        assert_recording_goes_on()
    """)


def test_whichever_allocation_of_leaving_fails_no_guard_raises_and_what_stays_is_counted():
    injected("""
        for start in range(20):
            guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "left")
            close = guard.close
            _testcapi.set_nomemory(start, start + 1)
            try:
                close()
            finally:
                _testcapi.remove_mem_hooks()
            assert_in_root()
            assert of("left").state == "ended"
        assert_recording_goes_on()
    """)


_GENERATORS_CRASH = pytest.mark.skipif(
    sys.version_info[:2] in ((3, 12), (3, 13)),
    reason="CPython 3.12 and 3.13 crash by themselves where there is no memory for a generator",
)


@pytest.mark.parametrize("call", ["read", pytest.param("status", marks=_GENERATORS_CRASH), "reset"])
def test_whichever_allocation_of_looking_fails_the_next_look_is_right(call):
    injected(f"""
        keep = []
        for number in range(5):
            with thag_nb.task("looked at"):
                keep.append(bytearray(SIZE))

        def check(failed):
            assert_in_root()
            assert_sums_hold()

        failures = at_each_allocation(thag_nb.{call}, check, 5000)
        assert failures >= {int(call != "reset")}  # a reset need not allocate
        assert_recording_goes_on()
    """)


@pytest.mark.parametrize("sampled", [False, True])
def test_whichever_allocation_of_reading_marks_fails_the_next_reading_has_them(sampled):
    injected(f"""
        from thag_nb.runtime.rss import Sampler
        sampler = Sampler()
        thag_nb.mark("kept")
        if {sampled}:
            sampler.start()
            sampler.wake()
            sampler.rest()

        def check(failed):
            assert_in_root()
            recording = thag_nb.read()
            assert [mark.name for mark in recording.marks] == ["kept"]
            assert bool(recording.resident) == {sampled}

        assert at_each_allocation(thag_nb.read, check, 5000) >= 1
        sampler.stop()
        assert_recording_goes_on()
    """)


def test_whichever_allocation_of_marking_fails_the_mark_is_kept_or_told_and_the_current_context_stays():
    injected("""
        names = lambda: [mark.name for mark in thag_nb.read().marks]

        def check(failed):
            assert_in_root()
            assert names() == ([] if failed else ["marked"])
            thag_nb.reset()

        assert at_each_allocation(lambda: thag_nb.mark("marked"), check) >= 1
        assert_recording_goes_on()
    """)


def test_whichever_allocation_of_noting_a_collection_fails_it_is_noted_or_counted_and_nothing_is_raised():
    injected("""
        from thag_nb.runtime import marks
        marks.show_collections(True)
        watch = gc.callbacks[-1]
        for start in range(20):
            thag_nb.reset()
            before = dropped()
            watch("start", {"generation": 2})
            _testcapi.set_nomemory(start, start + 1)
            try:
                watch("stop", {"generation": 2})
            except MemoryError:
                assert start < 2  # the arguments of the call itself
                continue
            finally:
                _testcapi.remove_mem_hooks()
            assert len(thag_nb.read().marks) + dropped() - before >= 1
            assert_in_root()
        assert len(thag_nb.read().marks) == 1
        marks.show_collections(False)
        assert_recording_goes_on()
    """)
