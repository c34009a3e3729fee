"""The process's RSS: sampled while it is asked for, bounded, and charged to nobody."""

from __future__ import annotations

import builtins
import json
import mmap
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from figures import assert_sums_hold, of
from processes import python
from shells import in_shell, last_line

import thag_nb
from thag_nb import ResidentSize
from thag_nb.runtime import rss
from thag_nb.runtime.rss import Sampler

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_samples_and_no_thread_left() -> Iterator[None]:
    rss.forget()
    yield
    assert rss._State.samplers == ()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("thag_nb")]
    rss.forget()


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    thag_nb.start()
    thag_nb.reset()
    sampler = Sampler()
    sampler.start()
    yield sampler
    sampler.stop()


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to do something; it is told by the time limit of the whole run if it does not."""
    while not condition():
        time.sleep(0.01)


def until_the_next_sample() -> None:
    last = rss._State.series.samples[-1]
    until(lambda: rss._State.series.samples[-1] != last)


def series(*readings: int) -> rss._Series:
    made = rss._Series()
    for time_ns, resident_bytes in enumerate(readings, 1):
        made.add(ResidentSize(time_ns, resident_bytes))
    return made


def fresh_pages(size: int) -> mmap.mmap:
    """Memory that the process did not have: what an allocator hands out may have been its own all along."""
    pages = mmap.mmap(-1, size)
    pages.write(b"x" * size)
    return pages


# Reading


def test_it_is_what_the_system_says():
    found = rss.read()
    assert found is not None
    assert MIB < found < 1 << 40
    with fresh_pages(50 * MIB):
        assert (rss.read() or 0) - found > 40 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells it")
def test_of_what_is_resident_files_and_shared_memory_are_told_apart(tmp_path: Path):
    before = rss.read_anonymous()
    assert before is not None
    with mmap.mmap(-1, 50 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages.write(b"x" * 50 * MIB)
        assert (rss.read_anonymous() or 0) - before > 40 * MIB
    path = tmp_path / "pages"
    path.write_bytes(b"x" * 50 * MIB)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        assert sum(pages[:: mmap.PAGESIZE]) > 0
        assert abs((rss.read_anonymous() or 0) - before) < 10 * MIB


@pytest.fixture
def no_statm(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.open

    def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
        if file == "/proc/self/statm":
            raise FileNotFoundError(file)
        return found(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refuse)


@pytest.mark.usefixtures("no_statm")
def test_without_proc_psutil_is_asked(monkeypatch: pytest.MonkeyPatch):
    psutil: Any = types.ModuleType("psutil")
    psutil.Process = lambda: types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(rss=123_457))
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    assert rss.read() == 123_457


@pytest.mark.usefixtures("no_statm", "dispatcher")
def test_where_nobody_tells_there_are_no_samples_and_no_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert rss.read() is None
    assert rss.read_anonymous() is None
    before = threading.active_count()
    sampler = Sampler()
    sampler.start()
    assert threading.active_count() == before
    sampler.wake()
    sampler.rest()
    assert thag_nb.read().resident == ()
    sampler.stop()


@pytest.mark.usefixtures("dispatcher")
def test_where_no_thread_can_be_had_there_are_no_samples(monkeypatch: pytest.MonkeyPatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    sampler = Sampler()
    sampler.start()
    sampler.wake()
    sampler.rest()
    sampler.stop()
    assert thag_nb.read().resident == ()


# The series


def test_samples_are_kept_in_order_and_one_that_comes_late_is_left_out():
    found = series(10, 20)
    found.add(ResidentSize(1, 30))
    assert found.samples == (ResidentSize(1, 10), ResidentSize(2, 20))


def test_of_equal_readings_in_a_row_the_first_and_the_last_are_kept():
    found = series(10, 20, 20, 20, 20, 30, 20, 20)
    assert [(sample.time_ns, sample.resident_bytes) for sample in found.samples] == [
        (1, 10),
        (2, 20),
        (5, 20),
        (6, 30),
        (7, 20),
        (8, 20),
    ]
    assert len(series(*[10] * 1000).samples) == 2


def test_too_many_are_thinned_out_and_from_then_on_there_is_twice_the_time_between_them():
    found = series(*range(4096))
    before = found.interval_s
    assert len(found.samples) == 4096
    found.add(ResidentSize(4097, 4096))
    assert [sample.resident_bytes for sample in found.samples] == list(range(0, 4097, 2))
    assert found.interval_s == 2 * before
    for number in range(4097, 50_000):
        found.add(ResidentSize(number + 1, number))
    assert 2048 <= len(found.samples) <= 4096
    assert (found.samples[0].resident_bytes, found.samples[-1].resident_bytes) == (0, 49_999)


# The sampler


def test_importing_and_recording_start_no_thread_and_importing_does_not_load_threading():
    code = """
        import sys
        loaded = "threading" in sys.modules
        import thag_nb
        quiet = loaded or "threading" not in sys.modules
        with thag_nb.task("work"): pass
        assert thag_nb.read().resident == ()
        print(quiet, len(sys._current_frames()))
    """
    assert python(code, "-S") == "True 1\n"


def test_a_sampler_at_rest_takes_none_and_a_reading_has_one_of_its_own(sampler: Sampler):
    del sampler
    (first,), (second,) = thag_nb.read().resident, thag_nb.read().resident
    assert first.time_ns < second.time_ns
    assert rss._State.series.samples == ()


def test_a_sampler_takes_one_when_it_wakes_more_while_it_is_awake_and_one_when_it_rests(sampler: Sampler):
    sampler.wake()
    woken = rss._State.series.samples[-1]
    until_the_next_sample()
    awake = rss._State.series.samples[-1]
    sampler.rest()
    assert woken.time_ns < awake.time_ns < rss._State.series.samples[-1].time_ns
    found = thag_nb.read()
    assert [sample.time_ns for sample in found.resident] == sorted(sample.time_ns for sample in found.resident)
    assert found.resident[-1].time_ns <= found.taken_ns


def test_what_grows_is_seen(sampler: Sampler):
    sampler.wake()
    with fresh_pages(50 * MIB):
        sampler.rest()
        first, *_, last = thag_nb.read().resident
    assert last.resident_bytes - first.resident_bytes > 40 * MIB


def test_sampling_is_charged_to_nobody(sampler: Sampler):
    with thag_nb.task("warm"), thag_nb.untracked():
        sampler.wake()
    before = thag_nb.read()
    with thag_nb.task("work"):
        for _ in range(3):
            until_the_next_sample()
        for _ in range(100):
            thag_nb.read()
    after = thag_nb.read()
    assert of("work").live_bytes < 1000
    assert after.find("root").self_total_bytes - before.find("root").self_total_bytes < 10_000
    assert_sums_hold()


def test_a_thread_started_in_a_task_is_not_the_tasks():
    thag_nb.start(threads=True)
    sampler = Sampler()
    with thag_nb.task("work"):
        sampler.start()
    sampler.wake()
    before = of("work")
    until_the_next_sample()
    sampler.stop()
    assert of("work").allocations == before.allocations
    assert before.live_bytes < 1000
    thag_nb.start(threads=False)


def test_nothing_is_sampled_while_nothing_is_recorded(sampler: Sampler):
    thag_nb.stop()
    sampler.wake()
    sampler.rest()
    assert thag_nb.read().resident == ()


def test_starting_and_stopping_twice_is_once_and_it_can_be_started_again(sampler: Sampler):
    before = threading.active_count()
    sampler.start()
    assert threading.active_count() == before
    sampler.stop()
    sampler.stop()
    sampler.wake()
    sampler.rest()
    assert threading.active_count() == before - 1
    assert thag_nb.read().resident == ()
    sampler.start()
    assert threading.active_count() == before


def test_samples_can_still_be_read_after_the_end(sampler: Sampler):
    sampler.wake()
    sampler.stop()
    taken = thag_nb.read().resident
    assert taken
    assert thag_nb.read().resident == taken


def test_a_reset_forgets_the_samples_and_starts_with_short_steps_again(sampler: Sampler):
    sampler.wake()
    sampler.rest()
    rss._State.series.interval_s = 100
    before = thag_nb.read().taken_ns
    thag_nb.reset()
    (sample,) = thag_nb.read().resident
    assert sample.time_ns > before
    assert rss._State.series.interval_s < 1


def test_many_threads_that_sample_at_once_leave_an_ordered_series(sampler: Sampler):
    def work() -> None:
        for _ in range(200):
            sampler.wake()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [sample.time_ns for sample in thag_nb.read().resident]
    assert times == sorted(set(times))


@pytest.mark.parametrize("state", ["awake", "at rest"])
def test_a_forked_child_has_no_thread_no_samples_and_no_trouble(state: str):
    code = f"""
        import os, threading, thag_nb
        from thag_nb.runtime.rss import Sampler
        thag_nb.start()
        sampler = Sampler()
        sampler.start()
        sampler.wake()
        if {state!r} == "at rest":
            sampler.rest()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                alone = threading.active_count() == 1
                found = thag_nb.read().resident
                sampler.wake(); sampler.rest(); sampler.stop(); sampler.stop()
                again = Sampler(); again.start(); again.wake(); again.stop()
                os._exit(0 if alone and found == () and thag_nb.read().resident else 1)
            assert os.waitpid(child, 0)[1] == 0
        assert thag_nb.read().resident
        sampler.stop()
        print("well")
    """
    assert python(code, "-W", "ignore") == "well\n"


def test_an_interpreter_that_ends_while_it_samples_ends_well():
    code = """
        import thag_nb
        from thag_nb.runtime.rss import Sampler
        thag_nb.start()
        sampler = Sampler()
        sampler.start()
        sampler.wake()
        print("end")
    """
    assert python(code) == "end\n"


# Cells


THREADS = '[t.name for t in __import__("threading").enumerate() if t.name.startswith("thag_nb")]'


def test_samples_are_taken_at_both_ends_of_a_cell_and_while_it_runs():
    code = """
        taken = lambda: len(thag_nb.runtime.rss._State.series.samples)
        run("before = 1")
        first = taken()
        run("kept = [b'x' * (20 << 20)]")
        second = taken()
        run("import time; from thag_nb.runtime import rss; last = rss._State.series.samples[-1]\\n"
            "while rss._State.series.samples[-1] == last: time.sleep(0.01)")
        recording = thag_nb.read()
        cells = [record for record in recording.contexts if record.kind == "cell"]
        inside = [sum(c.started_ns < sample.time_ns < c.started_ns + c.duration_ns for sample in recording.resident)
                  for c in cells]
        print(json.dumps([first, second, inside]))
    """
    first, second, inside = last_line(in_shell(code))
    assert second > first >= 2  # though one of three equal readings is left out
    assert inside[2] >= 1


def test_the_sampler_rests_only_when_no_cell_runs_any_more():
    code = """
        awake = lambda: extension._loaded[id(shell)].magics.cells._sampler._awake.is_set()
        from thag_nb.notebook import extension
        shell.user_ns["awake"], found = awake, [awake()]
        shell.user_ns["found"] = found
        run("found.append(awake()); get_ipython().run_cell('found.append(awake())'); found.append(awake())")
        found.append(awake())
        run("found.append(awake()); 1/0")
        found.append(awake())
        run("")
        found.append(awake())
        print()
        print(json.dumps(found))
    """
    assert last_line(in_shell(code)) == [False, True, True, True, False, True, False, False]


def test_unloading_ends_the_thread_and_leaves_none():
    code = f"""
        threads = lambda: {THREADS}
        loaded = threads()
        run("%reload_ext thag_nb")
        reloaded = threads()
        run("%unload_ext thag_nb")
        print(json.dumps([loaded, reloaded, threads()]))
    """
    loaded, reloaded, unloaded = last_line(in_shell(code))
    assert len(loaded) == len(reloaded) == 1
    assert unloaded == []


def test_a_recording_of_a_notebook_keeps_its_samples_in_a_file(tmp_path: Any):
    code = f"""
        run("x = 1")
        taken = thag_nb.read()
        taken.save({str(tmp_path / "run.json")!r})
        print(json.dumps([len(taken.resident) > 2, thag_nb.Recording.load({str(tmp_path / "run.json")!r}) == taken]))
    """
    assert last_line(in_shell(code)) == [True, True]
    assert json.loads((tmp_path / "run.json").read_text())["version"] == 3
