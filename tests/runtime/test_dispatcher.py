import gc
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from blocks import RAW, RAW_WITHOUT_GIL, SIZE
from figures import assert_sums_hold, of
from processes import python
from sizes import fewer

import thag_nb
from thag_nb import _native


def test_stop_puts_the_allocators_back_as_they_were():
    before = _native.allocators()
    thag_nb.start()
    assert all(now != found for now, found in zip(_native.allocators(), before, strict=True))
    thag_nb.stop()
    assert _native.allocators() == before


def test_starting_and_stopping_twice_is_once_each():
    before = _native.allocators()
    thag_nb.start()
    once = _native.allocators()
    thag_nb.start()
    assert _native.allocators() == once
    thag_nb.stop()
    thag_nb.stop()
    assert _native.allocators() == before


def test_fifty_restarts_leave_one_layer_of_hooks():
    before = _native.allocators()
    for _ in range(50):
        thag_nb.start()
        thag_nb.stop()
    assert _native.allocators() == before


def test_status_says_first_whether_everything_is_seen():
    code = """
        import tracemalloc, thag_nb
        print(thag_nb.status().seen)
        thag_nb.start()
        print(thag_nb.status())
        thag_nb.stop()
        tracemalloc.start()
        thag_nb.start()
        tracemalloc.stop()
        thag_nb.start()
        print(thag_nb.status().seen)
    """
    off, whole, details, gap = python(code).splitlines()
    assert off == "Not recording. Nothing is seen until thag_nb.start() or the next task."
    assert whole == "Recording. Everything of Python and NumPy is seen; Arrow, Polars and other native code are not."
    assert details.startswith("state: recording; hooks: raw on top, mem on top, obj on top, ")
    assert gap.startswith("Recording. Nearly everything of Python and NumPy is seen; ")


def test_what_was_recorded_can_be_read_after_stop():
    with thag_nb.task("before stop"):
        block = bytearray(SIZE)
    thag_nb.stop()
    assert of("before stop").self_live_bytes > SIZE
    assert thag_nb.status().state == "off"
    del block


def test_blocks_from_before_a_restart_are_forgotten_and_never_negative():
    with thag_nb.task("first run"):
        block = [bytearray(SIZE)]
    forgotten = thag_nb.status().forgotten_bytes
    thag_nb.stop()
    thag_nb.start()
    assert of("first run").live_bytes == 0
    assert of("first run").peak_bytes > SIZE
    assert thag_nb.status().forgotten_bytes - forgotten >= SIZE
    assert "no longer followed" in str(thag_nb.status())
    block.clear()
    assert of("first run").live_bytes == 0
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_no_context_charges_the_root():
    before = of("root").self_live_bytes
    block = bytearray(SIZE)
    assert of("root").self_live_bytes - before >= len(block)


@pytest.mark.usefixtures("dispatcher")
def test_reading_is_charged_to_nobody():
    with thag_nb.task("reading"):
        recordings = [thag_nb.read() for _ in range(20)]
        statuses = [thag_nb.status() for _ in range(20)]
    # The two lists, and for each status a tuple of notes, if there are any, from a free list of the interpreter's.
    assert of("reading").self_live_bytes < 3000 < sum(map(sys.getsizeof, [*statuses, *(s.hooks for s in statuses)]))
    assert len(recordings) == len(statuses) == 20


@pytest.mark.usefixtures("dispatcher")
def test_inclusive_figures_are_the_sums_of_those_below():
    with thag_nb.task("parent"):
        one = bytearray(SIZE)
        with thag_nb.task("child"):
            two = bytearray(2 * SIZE)
    recording = thag_nb.read()
    parent, child = recording.find("parent"), recording.find("child")
    assert parent.live_bytes == parent.self_live_bytes + child.live_bytes
    assert parent.total_bytes == parent.self_total_bytes + child.total_bytes
    assert parent.peak_bytes >= 3 * SIZE > parent.self_peak_bytes
    root = recording.contexts[0]
    assert root.live_bytes == sum(record.self_live_bytes for record in recording.contexts)
    assert root.total_bytes == sum(record.self_total_bytes for record in recording.contexts)
    del one, two


@pytest.mark.usefixtures("dispatcher")
def test_the_highest_point_of_every_timeline_is_the_peak():
    with thag_nb.task("outer"):
        for size in (SIZE, 3 * SIZE, 2 * SIZE):
            with thag_nb.task("inner"):
                bytearray(size)
    recording = thag_nb.read()
    for record in recording.contexts:
        assert max(bucket.high_bytes for bucket in recording.timeline(record.context_id)) == record.peak_bytes


@pytest.mark.usefixtures("dispatcher")
def test_a_timeline_is_bounded_and_keeps_its_peak_however_many_events():
    with thag_nb.task("long") as context:
        bytearray(10 * SIZE)
        for _ in range(300_000):
            bytearray(5000)  # each reads the clock
    recording = thag_nb.read()
    assert len(recording.timelines[context.id]) <= 64 * 1024
    tops = [bucket.high_bytes for bucket in recording.timeline(context.id)]
    assert max(tops) == recording.find(context.id).peak_bytes >= 10 * SIZE


@pytest.mark.usefixtures("dispatcher")
def test_a_timeline_moves_forward_and_stays_within_its_buckets():
    with thag_nb.task("steps") as context:
        keep = [bytearray(SIZE) for _ in range(2000)]
    recording = thag_nb.read()
    buckets = recording.timeline(context.id)
    starts = [bucket.start_ns for bucket in buckets]
    assert starts == sorted(set(starts))
    assert all(bucket.low_bytes <= bucket.live_bytes <= bucket.high_bytes for bucket in buckets)
    assert buckets[-1].live_bytes == recording.find(context.id).live_bytes
    assert len(keep) == 2000


@pytest.mark.usefixtures("dispatcher")
def test_reset_forgets_what_ended_and_passes_its_blocks_on():
    with thag_nb.task("ended"):
        block = [bytearray(SIZE)]
    with thag_nb.task("open"):
        thag_nb.reset()
        assert {record.name for record in thag_nb.read().contexts} == {"root", "system", "open"}
        assert of("root").self_live_bytes >= SIZE
        assert_sums_hold()
    block.clear()
    assert of("root").self_live_bytes >= 0
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_what_is_open_at_a_reset_starts_anew_with_its_timeline():
    with thag_nb.task("open"):
        before_ns = thag_nb.read().taken_ns
        thag_nb.reset()
        recording = thag_nb.read()
    for record in (recording.find("root"), recording.find("open")):
        assert record.started_ns >= before_ns
        assert record.started_ns == recording.timeline(record.context_id)[0].start_ns
        assert record.started_ns + record.duration_ns == recording.taken_ns


@pytest.mark.usefixtures("dispatcher")
def test_reset_leaves_the_bytes_of_an_ended_child_under_its_open_parent():
    with thag_nb.task("parent"):
        with thag_nb.task("child"):
            block = [bytearray(SIZE)]
        thag_nb.reset()
        assert of("parent").self_live_bytes >= SIZE
        block.clear()
        assert of("parent").live_bytes < SIZE
    assert_sums_hold()


def test_tracemalloc_started_after_us_keeps_working_and_stop_says_so():
    thag_nb.start()
    tracemalloc.start()
    try:
        with thag_nb.task("traced"):
            block = bytearray(SIZE)
        assert of("traced").self_live_bytes >= SIZE
        assert tracemalloc.get_traced_memory()[0] >= SIZE
        assert "tracemalloc wrapped the hooks of raw, mem, obj" in str(thag_nb.status())
        thag_nb.stop()
        status = thag_nb.status()
        assert status.state == "pass-through"
        assert "only passes calls through" in str(status)
        more = bytearray(SIZE)
        assert tracemalloc.get_traced_memory()[0] >= 2 * SIZE
    finally:
        tracemalloc.stop()
    # tracemalloc has put back what it found, which was us; now we are on top and can leave.
    thag_nb.start()
    thag_nb.stop()
    assert thag_nb.status().state == "off"
    del block, more


def test_frees_are_repaid_while_the_hooks_only_pass_through():
    with thag_nb.task("repaid"):
        block = [bytearray(SIZE)]
    tracemalloc.start()
    try:
        thag_nb.stop()
        block.clear()
        assert of("repaid").live_bytes < SIZE
        assert_sums_hold()
    finally:
        tracemalloc.stop()
    thag_nb.start()


def test_tracemalloc_stopped_under_us_removes_us_and_a_start_hooks_again():
    tracemalloc.start()
    thag_nb.start()
    tracemalloc.stop()
    status = thag_nb.status()
    assert (status.state, status.hooks["obj"]) == ("recording", "absent")
    assert status.seen.startswith("Recording. Not everything of Python and NumPy is seen; ")
    assert "removed the hooks of raw, mem, obj" in str(status)
    before = status.reattached
    with thag_nb.task("again"):
        block = bytearray(SIZE)
    assert of("again").self_live_bytes >= len(block)
    assert thag_nb.status().reattached == before + 3
    assert_sums_hold()


def test_twenty_rounds_of_tracemalloc_in_every_order_do_not_crash():
    code = """
        import itertools, sys, tracemalloc, thag_nb
        steps = [tracemalloc.start, thag_nb.start, tracemalloc.stop, thag_nb.stop]
        keep = []
        for order in itertools.permutations(steps):
            for step in order:
                step()
                with thag_nb.untracked():
                    keep.append(bytearray(1000))
                del keep[:-5]
        tracemalloc.stop(); thag_nb.stop(); thag_nb.start()
        with thag_nb.task("end"):
            block = bytearray(100_000)
        assert thag_nb.read().find("end").self_live_bytes == sys.getsizeof(block), thag_nb.read().find("end")
        print("alive")
    """
    assert python(code) == "alive\n"


@pytest.mark.parametrize("allocator", ["malloc", "pymalloc", "debug", "malloc_debug", "pymalloc_debug"])
def test_every_pythonmalloc_gives_the_same_sums_of_requested_bytes(allocator):
    header = sys.getsizeof(bytearray(SIZE)) - SIZE
    code = f"""
        import thag_nb
        from thag_nb import _native
        with thag_nb.task("t"):
            blocks = [bytearray(n) for n in (1, 100, 600, 100_000)]
        print(thag_nb.read().find("t").self_live_bytes - 4 * {header} - 100_701)
        assert all(counted == found for counted, found in _native.audit().values())
        del blocks
        thag_nb.stop()
    """
    assert 0 <= int(python(code, PYTHONMALLOC=allocator)) < 200  # the list


@pytest.mark.skipif(sys.version_info < (3, 13), reason="mimalloc came with 3.13")
def test_blocks_of_up_to_eight_bytes_share_granules_under_mimalloc_and_none_is_dropped():
    code = f"""
        import ctypes, sys
        sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
        import thag_nb
        from blocks import OBJ
        from figures import assert_sums_hold, of
        thag_nb.start()
        blocks = (ctypes.c_void_p * 10_000)()
        with thag_nb.task("tiny"):
            for number in range(10_000):
                blocks[number] = OBJ.malloc(number % 9)
        assert any(block % 16 == 8 for block in blocks)
        held = of("tiny").self_live_bytes
        assert_sums_hold()
        for block in blocks:
            OBJ.free(block)
        print(held - of("tiny").self_live_bytes - sum(number % 9 for number in range(10_000)))
        print(thag_nb.status().dropped)
        assert_sums_hold()
    """
    assert python(code, PYTHONMALLOC="mimalloc").split() == ["0", "0"]


def test_dev_mode_is_clean():
    assert python("import thag_nb\nwith thag_nb.task('t'): x = bytearray(9999)\nprint('ok')", "-X", "dev") == "ok\n"


def test_an_interpreter_that_ends_while_recording_ends_well():
    code = """
        import atexit, threading, time, thag_nb
        def allocate():
            while True:
                [bytearray(1000) for _ in range(100)]
        atexit.register(lambda: [bytearray(1000) for _ in range(1000)])
        thag_nb.start()
        threading.Thread(target=allocate, daemon=True).start()
        guard = thag_nb.TaskMemoryContext("open at exit").enter()
        time.sleep(0.05)
        print("end")
    """
    for _ in range(5):
        assert python(code) == "end\n"


def test_a_forked_child_keeps_its_owners_and_starts_its_own_timelines():
    code = """
        import os, sys, thag_nb
        from thag_nb import _native
        with thag_nb.task("parent's"):
            block = [bytearray(100_000)]
            bytearray(1_000_000)
        child = os.fork()
        if child == 0:
            recording = thag_nb.read()
            record = recording.find("parent's")
            assert 100_000 < record.live_bytes == record.peak_bytes < 101_000, record
            assert [bucket.high_bytes for bucket in recording.timeline(record.context_id)] == [record.peak_bytes]
            block.clear()
            assert thag_nb.read().find("parent's").live_bytes < 1000
            with thag_nb.task("child's"):
                mine = bytearray(100_000)
            assert thag_nb.read().find("child's").self_live_bytes == sys.getsizeof(mine)
            assert all(counted == found for counted, found in _native.audit().values())
            os._exit(0)
        print(os.waitpid(child, 0)[1], thag_nb.read().find("parent's").peak_bytes > 1_000_000)
    """
    assert python(code) == "0 True\n"


def test_two_hundred_forks_from_a_busy_process_leave_no_child_hanging_and_all_sums_right():
    code = f"""
        import os, signal, sys, threading, thag_nb
        sys.path.insert(0, "tests/support")
        from blocks import RAW_WITHOUT_GIL
        from thag_nb import _native
        stop = threading.Event()
        def with_gil():
            while not stop.is_set():
                [bytearray(1000) for _ in range(50)]
        def without_gil():
            while not stop.is_set():
                RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(1000))
        thag_nb.start()
        threads = [threading.Thread(target=work) for work in (with_gil, without_gil, without_gil)]
        for thread in threads: thread.start()
        failed = 0
        for _ in range({fewer(200)}):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                with thag_nb.task("child"):
                    block = bytearray(100_000)
                right = all(counted == found for counted, found in _native.audit().values())
                os._exit(0 if right and thag_nb.read().find("child").self_live_bytes >= 100_000 else 1)
            failed += os.waitpid(child, 0)[1] != 0
        stop.set()
        for thread in threads: thread.join()
        print(failed)
    """
    assert python(code, "-W", "ignore::DeprecationWarning") == "0\n"


@pytest.mark.usefixtures("dispatcher")
def test_garbage_of_one_context_collected_in_another_repays_its_owner():
    with thag_nb.task("cycle"):
        cycle = [bytearray(SIZE)]
        cycle.append(cycle)
        del cycle
    with thag_nb.task("collecting"):
        gc.collect()
    assert of("cycle").live_bytes < SIZE
    assert of("collecting").live_bytes < SIZE
    assert_sums_hold()


def test_a_hook_that_comes_back_after_stop_can_be_taken_out():
    before = _native.allocators()
    thag_nb.start()
    tracemalloc.start()
    thag_nb.stop()
    tracemalloc.stop()  # puts back what it found: us
    assert thag_nb.status().state == "pass-through"
    thag_nb.stop()
    assert _native.allocators() == before
    assert thag_nb.status().state == "off"


def test_figures_without_the_gil_add_up_in_every_recording_and_across_resets():
    code = """
        import sys, threading, thag_nb
        sys.path.insert(0, "tests/support")
        from blocks import RAW_WITHOUT_GIL
        from thag_nb import _native
        stop = threading.Event()
        def churn():
            while not stop.is_set():
                RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(1000))
        thag_nb.start(threads=True)
        wrong = 0
        for _ in range(30):
            stop.clear()
            with thag_nb.task("churning"):
                threads = [threading.Thread(target=churn) for _ in range(2)]
                for thread in threads: thread.start()
            for _ in range(5):
                contexts = thag_nb.read().contexts
                wrong += contexts[0].live_bytes != sum(record.self_live_bytes for record in contexts)
                thag_nb.reset()
            stop.set()
            for thread in threads: thread.join()
            wrong += any(counted != found for counted, found in _native.audit().values())
        print(wrong)
    """
    assert python(code) == "0\n"


def test_starting_after_the_exit_handlers_records_nothing():
    code = """
        import atexit, thag_nb
        def late():
            with thag_nb.task("late"):
                bytearray(1000)
            print(thag_nb.status().state)
        atexit.register(late)
        thag_nb.start()
    """
    assert python(code) == "off\n"


def test_reading_and_others_events_add_no_bucket_where_nothing_happened():
    with thag_nb.task("quiet") as context:
        block = RAW_WITHOUT_GIL.malloc(SIZE)
    count = len(thag_nb.read().timeline(context.id))
    for _ in range(20):
        RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(SIZE))
        time.sleep(0.002)
        thag_nb.read()
    assert len(thag_nb.read().timeline(context.id)) == count
    RAW.free(block)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="threads inherit contextvars since 3.14, and only if asked to")
@pytest.mark.parametrize("inherit", [0, 1])
def test_status_tells_that_python_lets_threads_follow_though_nobody_asked_for_it(inherit):
    code = """
        import threading, thag_nb
        thag_nb.start(threads=False)
        names = []
        with thag_nb.task("starter"):
            thread = threading.Thread(target=lambda: names.append(thag_nb.current_context().name))
            thread.start()
            thread.join()
        status = thag_nb.status()
        print(names[0], status.threads, "thread_inherit_context" in str(status))
    """
    found = python(code, "-X", f"thread_inherit_context={inherit}")
    assert found == ("starter True True\n" if inherit else "root False False\n")
