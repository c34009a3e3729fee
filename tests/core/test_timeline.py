"""Timelines, by a clock that moves when the test says: each bucket as it was worked out by hand."""

import textwrap

MODEL = """
import random
from typing import NamedTuple

MILLISECOND = 1 << 20  # the width of a bucket, at first
BUCKETS = 1024
START = 1 << 50  # of the clock

class Step(ctypes.Structure):
    _fields_ = [("wait_ns", ctypes.c_int64), ("slot", ctypes.c_uint64), ("size", ctypes.c_uint64)]

class Expected(NamedTuple):
    start_ns: int
    low_bytes: int
    high_bytes: int
    live_bytes: int
    self_live_bytes: int

def merged(buckets, shift):
    '''Neighbours that share a bucket of this width, as one.'''
    result = []
    for bucket in buckets:
        if result and result[-1].start_ns >> shift == bucket.start_ns >> shift:
            last = result.pop()
            bucket = Expected(last.start_ns, min(last.low_bytes, bucket.low_bytes),
                              max(last.high_bytes, bucket.high_bytes), *bucket[3:])
        result.append(bucket)
    return result

def played(steps):
    '''The buckets that these steps draw while no two of them have to be merged.'''
    now, level, held, buckets = START, 0, {}, [[START, 0, 0, 0, 0]]
    for wait, slot, size in steps:
        now += wait
        if now >> 20 != buckets[-1][0] >> 20:
            buckets.append([now, level, level, level, level])
        for change in (-held.get(slot, 0), size):
            level += change
            bucket = buckets[-1]
            bucket[1:] = min(bucket[1], level), max(bucket[2], level), level, level
        held[slot] = size
    return [Expected(*bucket) for bucket in buckets]

def prepared(steps):
    '''What `library.play` takes, made before anything is recorded: a ctypes array brings a class along.'''
    return (Step * len(steps))(*steps), ctypes.c_size_t(len(steps)), (ctypes.c_void_p * 16)()

def drawn(context):
    return [Expected(*bucket) for bucket in thag_nb.read().timeline(context.id)]

library.clock_set(START)
thag_nb.start()
origin_ns = START  # of all times in a recording

def as_recorded(buckets):
    return [bucket._replace(start_ns=bucket.start_ns - origin_ns) for bucket in buckets]

def random_steps(number, chosen):
    # Large, so that each event reads the clock.
    return [(chosen.randrange(1, 3 * MILLISECOND), chosen.randrange(16), chosen.choice([0, 1, 2, 3]) * 70_000 + 70_000)
            for _ in range(number)]
"""


def test_buckets_are_as_worked_out_by_hand_before_and_after_they_widen(interposed):
    code = MODEL + textwrap.dedent("""
        for number in (3, 500, 1_000, 3_000, 9_000):
            library.clock_set(START)
            steps = random_steps(number, random.Random(number))
            arguments = prepared(steps)
            context = thag_nb.TaskMemoryContext("played")
            guard = context.enter()
            library.play(*arguments)
            guard.close()
            recorded, expected = drawn(guard.context), played(steps)
            shift = 20
            while len(merged(expected, shift)) > BUCKETS + 1:
                shift += 1
            # What Python itself takes is a few hundred bytes; blocks are multiples of 70,000.
            rounded = [
                Expected(start, *(round(figure / 70_000) * 70_000 for figure in figures))
                for start, *figures in recorded
            ]
            expected = as_recorded(merged(expected, shift))
            assert rounded == expected, [pair for pair in zip(rounded, expected) if pair[0] != pair[1]][:3]
            assert (shift > 20) == (number >= 3_000)
    """)
    assert interposed(code) == ""


def test_a_dip_and_a_spike_within_one_reading_of_the_clock_are_drawn(interposed):
    code = MODEL + textwrap.dedent("""
        size = 21_000
        before, after = prepared([(0, 0, size)]), prepared([(0, 0, 0), (0, 0, size), (0, 1, size), (0, 1, 0)])
        with thag_nb.task("played") as context:
            library.play(*before)
            library.clock_set(START + 5 * MILLISECOND)
            with thag_nb.untracked():
                pass  # from here on the clock is read once
            library.play(after[0], after[1], before[2])
        first, second = drawn(context)[:2]
        figures = [round(figure / size) for figure in (*first[1:], *second[1:])]
        assert figures == [0, 1, 1, 1, 0, 2, 1, 1], (first, second)
    """)
    assert interposed(code) == ""


def test_the_timelines_of_all_above_are_drawn_while_one_context_works(interposed):
    code = MODEL + textwrap.dedent("""
        steps = random_steps(400, random.Random(1))
        arguments = prepared(steps)
        expected = [bucket[:4] for bucket in as_recorded(played(steps))]
        guards = [thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, f"n{n}") for n in range(20)]
        library.clock_set(START)
        library.play(*arguments)
        for guard in reversed(guards):
            guard.close()
        recording = thag_nb.read()
        for guard in guards:
            found = [(start, *(round(figure / 70_000) * 70_000 for figure in figures[:3]))
                     for start, *figures in recording.timeline(guard.context.id)]
            assert found == expected, [pair for pair in zip(found, expected) if pair[0] != pair[1]][:3]
    """)
    assert interposed(code) == ""


def test_what_comes_after_a_context_was_entered_or_left_is_not_drawn_with_what_was_before(interposed):
    """Though one reading of the clock would do for more events."""
    code = MODEL + textwrap.dedent("""
        steps = prepared([(0, 0, 100), (0, 0, 0)])
        with thag_nb.task("outer") as outer:
            inner = registry.open("inner", "task").id
            library.play(*steps)
            library.clock_set(START + 5 * MILLISECOND)
            entering = _native.enter(inner, False)
            library.play(*steps)
            library.clock_set(START + 10 * MILLISECOND)
            entering.leave(True)
            library.play(*steps)
        starts = [bucket.start_ns for bucket in drawn(outer)]
        assert starts == [0, 5 * MILLISECOND, 10 * MILLISECOND], starts
    """)
    assert interposed(code) == ""


def test_the_clock_is_read_again_after_so_many_bytes_or_events(interposed):
    code = MODEL + textwrap.dedent("""
        def last_start(steps):
            arguments = prepared(steps)
            with thag_nb.task("played") as context:
                library.play(*arguments)
            return drawn(context)[-1].start_ns

        small, large = (5 * MILLISECOND, 0, 1), (5 * MILLISECOND, 0, 140_000)
        assert last_start([small, large]) == _native.now()
        assert last_start([small] * 600) >= _native.now() - 300 * 5 * MILLISECOND
    """)
    assert interposed(code) == ""


def test_time_is_that_of_the_monotonic_clock(interposed):
    code = MODEL + textwrap.dedent("""
        assert _native.now() == 0
        library.clock_set(START + 3_141_592_653_589)
        assert _native.now() == 3_141_592_653_589
        with thag_nb.task("later"):
            library.clock_set(START + 4_000_000_000_000)
        record = of("later")
        assert (record.started_ns, record.duration_ns) == (3_141_592_653_589, 858_407_346_411)
    """)
    assert interposed(code) == ""
