"""The right to merge: who does not get it goes on, who reads waits for it, and no child is left with half a merge."""

import textwrap

MERGER = """
from array import array

FULL, TWICE_FULL = 481, 962  # events of one thread that fill its log, if all was merged before
SIZE, NOISE = 300_000, 4_000  # what Python takes meanwhile, on some versions more than on others

library_without_gil.merger_end.restype = ctypes.c_void_p

def merger_begin(events):
    _native.audit()
    library_without_gil.merger_begin(events, ctypes.c_size_t(1000))

def merger_end():
    block = library_without_gil.merger_end()
    assert block, "it was not in a merge"
    return block

thag_nb.start()
RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(1))
"""


def test_an_event_with_the_gil_is_in_the_right_order_also_while_another_thread_merges(interposed):
    code = MERGER + textwrap.dedent("""
        with thag_nb.task("both"):
            RAW.free(RAW.malloc(1))
            merger_begin(FULL)
            RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(SIZE))
            block = RAW.malloc(SIZE)
            block = RAW.realloc(block, SIZE + 100)
            block = RAW.realloc(block, SIZE)
            RAW.free(block)
            RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(SIZE))
            block = RAW.malloc(SIZE)
            RAW.free(merger_end())
            record = of("both")
        assert SIZE + 100 <= record.peak_bytes < SIZE + NOISE, record
        assert SIZE + 100 <= record.self_peak_bytes < SIZE + NOISE, record
        assert SIZE <= record.live_bytes < SIZE + NOISE, record
        assert_sums_hold()
        RAW.free(block)
        assert_sums_hold()
    """)
    assert interposed(code) == ""


def test_threads_go_on_in_other_logs_while_one_merges_and_do_not_write_over_what_is_not_merged(interposed):
    code = MERGER + textwrap.dedent("""
        # Wait, slot, size: each frees the block of the one before it.
        steps = array("Q", [0, 0, SIZE] * 2_500 + [0, 0, SIZE // 2] * 2_500 + [0, 0, 0])
        slots = (ctypes.c_void_p * 1)()
        with thag_nb.task("worked"):
            RAW.free(RAW.malloc(1))
            merger_begin(FULL)
            library_without_gil.play(ctypes.c_void_p(steps.buffer_info()[0]), ctypes.c_size_t(5_001), slots)
            RAW.free(merger_end())
            record = of("worked")
        assert 5_000 <= min(record.allocations, record.frees), record
        assert max(record.allocations, record.frees) < 5_100, record
        total = 2_500 * SIZE + 2_500 * (SIZE // 2)
        assert total <= record.total_bytes < total + 10 * NOISE, record
        assert SIZE <= record.peak_bytes < SIZE + NOISE, record
        assert _native.health()["dropped"] == 0
        assert _native.overhead()["logs"] < 1 << 20
        assert_sums_hold()
    """)
    assert interposed(code) == ""


def test_a_log_that_is_full_is_merged_and_used_again_though_nobody_with_the_gil_looks(interposed):
    code = MERGER + textwrap.dedent("""
        logs = _native.overhead()["logs"]
        with thag_nb.task("around"), thag_nb.task("worked"):
            RAW.free(RAW.malloc(1))
            library_without_gil.repeat(ctypes.c_size_t(SIZE), 50_000)
            record, around = of("worked"), of("around")
        assert 50_000 <= min(record.allocations, record.frees), record
        assert max(record.allocations, record.frees) < 50_100, record
        assert record.foreign_frees == 0, record
        for figures in record, around:
            assert SIZE <= figures.peak_bytes < SIZE + NOISE, figures
            assert 50_000 * SIZE <= figures.total_bytes < 50_000 * SIZE + 10 * NOISE, figures
        assert _native.overhead()["logs"] == logs
    """)
    assert interposed(code) == ""


def test_where_nobody_merges_any_more_logs_do_not_grow_without_end_and_what_is_dropped_is_counted(interposed):
    code = MERGER + textwrap.dedent("""
        with thag_nb.task("worked"):
            RAW.free(RAW.malloc(1))
            merger_begin(FULL)
            library_without_gil.repeat(ctypes.c_size_t(1000), 260_000)
            logs = _native.overhead()["logs"]
            assert logs < 20 << 20, logs
            RAW.free(merger_end())
            record, dropped = of("worked"), _native.health()["dropped"]
        assert dropped > 0
        assert 240_000 < record.allocations, record
        assert_sums_hold()
        with thag_nb.task("afterwards"):
            library_without_gil.repeat(ctypes.c_size_t(1000), 1_000)
        assert _native.health()["dropped"] == dropped
        assert _native.overhead()["logs"] == logs
        assert_sums_hold()
    """)
    assert interposed(code) == ""


def test_who_reads_beside_a_thread_that_is_stopped_in_a_merge_is_not_stopped_as_well(interposed):
    code = MERGER + textwrap.dedent("""
        merger_begin(FULL)
        block = RAW_WITHOUT_GIL.malloc(SIZE)
        recording = thag_nb.read()
        before = recording.contexts[0].live_bytes
        assert before == sum(record.self_live_bytes for record in recording.contexts)
        RAW.free(merger_end())
        assert of("root").live_bytes >= SIZE
        assert_sums_hold()
        RAW.free(block)
    """)
    assert interposed(code) == ""


def test_a_child_forked_in_the_middle_of_a_merge_has_what_is_live_and_goes_on(interposed):
    """Before, the thread merged another time, which nobody has taken over."""
    code = MERGER + textwrap.dedent("""
        def burn():
            for _ in range(2 * 4096):
                thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "burnt").close()

        burn()
        merger_begin(TWICE_FULL)
        kept = RAW_WITHOUT_GIL.malloc(SIZE)
        child = os.fork()
        if child == 0:
            assert_sums_hold()
            assert of("root").live_bytes >= SIZE
            RAW.free(kept)
            kept = RAW_WITHOUT_GIL.malloc(2 * SIZE)
            assert of("root").live_bytes >= 2 * SIZE
            assert_sums_hold()
            with thag_nb.task("child's") as task:
                RAW.free(RAW.malloc(1))
                library_without_gil.repeat(ctypes.c_size_t(SIZE), 1_000)
                record = of("child's")
            assert 1_000 <= record.allocations < 1_100 and SIZE <= record.peak_bytes < SIZE + NOISE, record
            before = _native.overhead()["contexts"]
            thag_nb.reset()
            assert _native.overhead()["contexts"] < before
            RAW.free(kept)
            assert_sums_hold()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        RAW.free(merger_end())
        assert_sums_hold()
        RAW.free(kept)
    """)
    assert interposed(code) == ""
