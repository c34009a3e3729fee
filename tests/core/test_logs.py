"""What threads without the GIL do is in the order in which it was over, whatever log it is in, and nothing is lost."""

import os
import random
import textwrap

import pytest
from sizes import fewer

# By the clock or by the processor's counter, and in the native domain, where an event without the GIL takes a shortcut.
ENVIRONMENTS = pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="by the clock"),
        pytest.param({"INTERPOSED_COUNTER": "1"}, id="by the counter"),
        pytest.param(
            {"INTERPOSED_COUNTER": "1", "INTERPOSED_NATIVE": "1", "THAG_NB_NATIVE": "1"},
            id="native",
            marks=pytest.mark.skipif(
                "san.so" in os.environ.get("LD_PRELOAD", ""),
                reason="a sanitizer asks for memory on each new thread, which is then taken for a library's",
            ),
        ),
    ],
)

TURNS = """
import random, time

SIZE, SLOTS, NOISE = 300_000, 6, 20_000  # what Python takes for its threads meanwhile

class Turn(ctypes.Structure):
    _fields_ = [("thread", ctypes.c_uint64), ("slot", ctypes.c_uint64), ("size", ctypes.c_uint64)]

class Levels:
    '''What a context's level is, and the highest that it was.'''

    def __init__(self):
        self.live = self.peak = 0

    def move(self, size):
        self.live += size
        self.peak = max(self.peak, self.live)

def expected(turns, threads):
    '''The levels of each thread's context, and of what all stand under.'''
    own, around, held = [Levels() for _ in range(threads)], Levels(), {}
    for thread, slot, size in turns:
        owner, old = held.get(slot, (thread, 0))
        for levels in (own[owner], around):
            levels.move(-old)
        for levels in (own[thread], around):
            levels.move(size)
        held[slot] = thread, size
    return own, around

def taken(turns, threads, attached):
    '''Each thread takes its turns in a task of its own; the first ones have the GIL. What is left in the slots.'''
    steps, count, now = (Turn * len(turns))(*turns), ctypes.c_size_t(len(turns)), ctypes.c_uint64(0)
    slots = (ctypes.c_void_p * SLOTS)()

    def work(number):
        with thag_nb.task(f"n{number}"):
            bytearray(100)  # the thread knows what it is in
            arguments = ctypes.c_uint64(number), steps, count, ctypes.byref(now), slots
            if number < attached:
                while library.arrived() < threads - attached:
                    time.sleep(0.001)  # a thread that waits for the GIL would never take its turn
                library.take_turns(*arguments)
            else:
                library_without_gil.take_turns_of_own_log(*arguments)

    library.meeting_prepare(threads - attached)
    runs = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    with thag_nb.task("around"):
        for run in runs:
            run.start()
        for run in runs:
            run.join()
    return slots

def check(turns, threads, attached):
    slots = taken(turns, threads, attached)
    recording = thag_nb.read()
    own, around = expected(turns, threads)
    for name, levels in [(f"n{number}", own[number]) for number in range(threads)] + [("around", around)]:
        record = recording.find(name)
        assert levels.live <= record.live_bytes < levels.live + NOISE, (name, levels.live, record)
        assert levels.peak <= record.peak_bytes < levels.peak + NOISE, (name, levels.peak, record)
        if name != "around":
            assert levels.peak <= record.self_peak_bytes < levels.peak + NOISE, (name, levels.peak, record)
    assert_sums_hold()
    for slot in slots:
        if slot is not None:
            RAW.free(slot)
    assert_sums_hold()

thag_nb.start()
"""


def test_what_one_thread_allocates_and_another_frees_is_merged_in_turns_and_not_thread_by_thread(interposed):
    code = TURNS + textwrap.dedent("""
        check([turn for _ in range(100) for turn in ((0, 0, SIZE), (1, 0, 0))], 2, 0)
    """)
    assert interposed(code) == ""


@ENVIRONMENTS
@pytest.mark.parametrize("attached", [0, 1], ids=["all without the GIL", "one of them with it"])
@pytest.mark.parametrize("seed", range(3))
def test_peaks_of_threads_that_take_turns_are_exact_in_every_order(seed, attached, environment, interposed):
    """More turns than a log has entries: threads without the GIL merge, too."""
    chosen = random.Random(seed)
    turns = [
        (chosen.randrange(3), chosen.randrange(6), chosen.choice([0, 1, 2]) * 300_000) for _ in range(fewer(4_000))
    ]
    code = TURNS + textwrap.dedent(f"""
        check({turns}, 3, {attached})
    """)
    assert interposed(code, **environment) == ""


def test_what_was_logged_before_the_computer_slept_is_taken_over_though_its_time_is_still_to_come(interposed):
    code = """
        from array import array

        # Wait, slot, size: the clock goes back by nearly all that it showed.
        steps = array("q", [0, 0, 100_000, 10 - 10**15, 1, 200_000])
        thag_nb.start()
        library.clock_set(10**15)
        slots = (ctypes.c_void_p * 2)()
        with thag_nb.task("slept"):
            RAW.free(RAW.malloc(1))
            library_without_gil.play(ctypes.c_void_p(steps.buffer_info()[0]), ctypes.c_size_t(2), slots)
            record = of("slept")
        assert 300_000 <= record.live_bytes < 310_000, record
        assert_sums_hold()
        for block in slots:
            RAW_WITHOUT_GIL.free(block)
        assert_sums_hold()
    """
    assert interposed(code) == ""


@ENVIRONMENTS
def test_a_hundred_thousand_threads_leave_no_log_behind(environment, interposed):
    code = f"""
        times = {fewer(100_000)}
        thag_nb.start()
        library_without_gil.come_and_go(1000, ctypes.c_size_t(1000))  # more than one log has room for
        _native.audit()  # shares of contexts are mapped when they are first merged into
        before = _native.overhead()
        library_without_gil.come_and_go(times, ctypes.c_size_t(1000))
        assert _native.overhead()["logs"] == before["logs"], (before, _native.overhead())
        assert _native.overhead()["contexts"] == before["contexts"], (before, _native.overhead())
        root = of("root")
        assert root.allocations >= times and root.frees >= times, root
        assert_sums_hold()
        assert _native.health()["dropped"] == 0
    """
    assert interposed(code, **environment) == ""


WORKED = """
def foreground(name):
    '''A context that only native threads are charged to.'''
    flow = contextvars.copy_context()
    guard = flow.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, name)
    flow.run(_native.set_foreground, guard.context.id)
    return guard

def churning(threads, size):
    '''Native threads that take a block and give it back; calling it ends them, and tells how often they did.'''
    rounds, stop = [ctypes.c_uint64(0) for _ in range(threads)], ctypes.c_uint64(0)
    runs = [threading.Thread(target=library_without_gil.churn_natively,
                             args=(ctypes.c_size_t(size), ctypes.byref(count), ctypes.byref(stop)))
            for count in rounds]
    for run in runs:
        run.start()
    def end():
        stop.value = 1
        for run in runs:
            run.join()
        return sum(count.value for count in rounds)
    return end
"""


@ENVIRONMENTS
def test_figures_of_threads_without_the_gil_are_exact_while_others_have_it(environment, interposed):
    code = WORKED + textwrap.dedent("""
        thag_nb.start()
        guard = foreground("worked")
        threads, size, live = 4, 1000, set()
        end = churning(threads, size)
        for _ in range(300):
            RAW.free(RAW.malloc(100))
            record = of("worked")
            assert 0 <= record.live_bytes == record.self_live_bytes <= threads * size, record
            assert record.allocations - record.frees == record.live_bytes // size, record
        rounds = end()
        record = of("worked")
        assert (record.allocations, record.frees) == (rounds, rounds), (rounds, record)
        assert record.total_bytes == rounds * size
        assert record.foreign_frees == 0 == record.live_bytes
        assert size <= record.peak_bytes == record.self_peak_bytes <= threads * size, record
        assert_sums_hold()
        guard.close()
    """)
    assert interposed(code, **environment) == ""


@ENVIRONMENTS
def test_contexts_end_and_are_forgotten_beside_threads_without_the_gil(environment, interposed):
    code = WORKED + textwrap.dedent("""
        thag_nb.start()
        end = churning(3, 1000)
        for number in range(100):
            guard = foreground(f"n{number}")
            for _ in range(20):
                RAW.free(RAW.malloc(100))
                bytearray(5000)
            guard.close()
            if number % 3 == 0:
                thag_nb.reset()
            contexts = thag_nb.read().contexts
            assert contexts[0].live_bytes == sum(record.self_live_bytes for record in contexts)
            assert all(-1 < record.self_live_bytes for record in contexts), contexts
        rounds = end()
        assert_sums_hold()
        thag_nb.reset()
        assert len(thag_nb.read().contexts) == 2
        assert_sums_hold()
    """)
    assert interposed(code, **environment) == ""
