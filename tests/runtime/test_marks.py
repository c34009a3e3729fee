"""Marks: moments with names and runs of the collector, on the timeline and charged to nobody."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from figures import assert_sums_hold, of
from processes import python

import thag_nb
from thag_nb import Mark, _native
from thag_nb.errors import MarkNameError, ThagError
from thag_nb.recordings.model import ContextRecord
from thag_nb.runtime import marks

LONG = "x" * 190


@pytest.fixture(autouse=True)
def no_marks_and_no_callback_left() -> Iterator[None]:
    found = list(gc.callbacks)
    marks.forget()
    yield
    marks.show_collections(False)
    marks.forget()
    assert gc.callbacks == found


@pytest.fixture
def quick_collections() -> None:
    """The collector goes through nothing but what is made from here on; nor need it in the tests after this one."""
    gc.collect()
    gc.freeze()


def names() -> list[str]:
    return [mark.name for mark in thag_nb.read().marks]


def collections() -> list[Mark]:
    return [mark for mark in thag_nb.read().marks if mark.kind == "collection"]


# The clock


def test_it_is_0_before_the_first_start_and_never_goes_back_after():
    code = """
        from thag_nb import _native
        before = _native.now()
        _native.start()
        times = [_native.now() for _ in range(1000)]
        print(before, times == sorted(times), 0 < times[-1])
        _native.stop()
    """
    assert python(code) == "0 True True\n"


@pytest.mark.usefixtures("dispatcher")
def test_marks_contexts_and_recordings_have_one_clock():
    before = _native.now()
    with thag_nb.task("work"):
        thag_nb.mark("inside")
    taken = thag_nb.read()
    times = [before, taken.find("work").started_ns, taken.marks[0].time_ns, taken.taken_ns, _native.now()]
    assert times == sorted(times)


# Marks


@pytest.mark.usefixtures("dispatcher")
def test_a_mark_has_its_name_its_moment_and_the_context_it_was_made_in():
    with thag_nb.task("work") as work:
        thag_nb.mark("joined")
    thag_nb.mark("after")
    with thag_nb.untracked():
        thag_nb.mark("unseen")
    joined, after, unseen = thag_nb.read().marks
    assert (joined.name, joined.kind, joined.context_id, joined.duration_ns) == ("joined", "mark", work.id, 0)
    assert (after.context_id, unseen.context_id) == (_native.ROOT_ID, _native.SYSTEM_ID)


@pytest.mark.usefixtures("dispatcher")
def test_a_mark_costs_its_context_nothing():
    thag_nb.mark("first")
    times = [None] * 1000
    with thag_nb.task("work"):
        for _ in times:
            thag_nb.mark("epoch")
    work = of("work")
    assert work.allocations < 10  # those of the loop
    assert work.live_bytes == 0
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_a_mark_does_not_hold_the_name_that_its_context_made():
    with thag_nb.task("work"):
        for number in range(1000):
            thag_nb.mark(f"{LONG}{number}")
    assert of("work").total_bytes > 1000 * len(LONG)
    # The mark's numbers may lie where those of the loop have: 3.14 keeps freed ones on a free list.
    assert of("work").live_bytes < 1000 * len(LONG) / 4
    assert names()[-1] == f"{LONG}999"


@pytest.mark.usefixtures("dispatcher")
def test_a_mark_names_a_kind_of_str_by_its_text():
    class Name(str):
        def encode(self, *_: Any) -> bytes:
            raise AssertionError

    thag_nb.mark(Name("joined · 🧵"))
    assert names() == ["joined · 🧵"]
    assert type(thag_nb.read().marks[0].name) is str


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("name", [3, None, b"joined", len], ids=repr)
def test_a_name_that_is_no_text_is_told_in_one_sentence_and_nothing_is_kept(name: Any):
    with pytest.raises(MarkNameError, match=r"^mark name must be a str, not ") as error:
        thag_nb.mark(name)
    assert isinstance(error.value, ThagError)
    assert isinstance(error.value, ValueError)
    assert str(error.value).endswith(repr(name))
    assert names() == []
    assert thag_nb.current_context().name == "root"


def test_nothing_is_kept_while_nothing_is_recorded_and_nothing_starts():
    code = """
        import thag_nb
        from thag_nb import _native
        thag_nb.mark("before")
        assert not _native.is_recording()
        thag_nb.start(); thag_nb.mark("recorded"); thag_nb.stop()
        thag_nb.mark("after")
        print([mark.name for mark in thag_nb.read().marks])
    """
    assert python(code) == "['recorded']\n"


@pytest.mark.usefixtures("dispatcher")
def test_only_the_newest_ten_thousand_are_kept():
    for number in range(10_005):
        thag_nb.mark(str(number))
    assert names() == [str(number) for number in range(5, 10_005)]


@pytest.mark.usefixtures("dispatcher")
def test_marks_of_many_threads_are_all_kept_in_order_of_time_each_with_its_context():
    ids: list[int] = []

    def work(thread: int) -> None:
        with thag_nb.task(f"thread {thread}") as context:
            ids.append(context.id)
            for number in range(500):
                thag_nb.mark(f"{thread}.{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = thag_nb.read()
        assert [mark.time_ns for mark in found.marks] == sorted(mark.time_ns for mark in found.marks)
    for thread in threads:
        thread.join()
    found = thag_nb.read()
    assert len(found.marks) == 2000
    assert all(found.find(mark.context_id).name == f"thread {mark.name[0]}" for mark in found.marks)
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher")
def test_a_reset_forgets_marks_and_collections():
    marks.show_collections(True)
    thag_nb.mark("before")
    gc.collect()
    thag_nb.reset()
    thag_nb.mark("after")
    assert names() == ["after"]


@pytest.mark.usefixtures("dispatcher")
def test_a_recording_keeps_its_marks_whatever_comes_after():
    thag_nb.mark("before")
    taken = thag_nb.read()
    thag_nb.mark("after")
    thag_nb.reset()
    assert [mark.name for mark in taken.marks] == ["before"]


def test_a_forked_child_begins_with_none_and_leaves_its_parents_alone():
    code = """
        import gc, os, thag_nb
        from thag_nb.runtime import marks
        thag_nb.start()
        marks.show_collections(True)
        thag_nb.mark("parent")
        gc.collect()
        child = os.fork()
        if child == 0:
            found = thag_nb.read().marks
            thag_nb.mark("child")
            gc.collect()
            os._exit(0 if not found and [m.name for m in thag_nb.read().marks] == ["child", "gc 2"] else 1)
        print(os.waitpid(child, 0)[1], [mark.name for mark in thag_nb.read().marks])
    """
    assert python(code, "-W", "ignore") == "0 ['parent', 'gc 2']\n"


@pytest.mark.usefixtures("dispatcher")
def test_what_a_reading_takes_for_marks_is_charged_to_nobody():
    for number in range(2000):
        thag_nb.mark(str(number))
    with thag_nb.task("reader"):
        recordings = [thag_nb.read() for _ in range(10)]
    assert of("reader").peak_bytes < 1000
    assert len(recordings[-1].marks) == 2000


# Collections


@pytest.mark.usefixtures("dispatcher")
def test_collections_are_kept_only_when_asked():
    gc.collect()
    marks.show_collections(True)
    with thag_nb.task("work") as work:
        gc.collect()
    marks.show_collections(False)
    gc.collect()
    taken = thag_nb.read()
    (found,) = collections()
    assert (found.name, found.kind, found.context_id) == ("gc 2", "collection", work.id)
    assert 0 < found.duration_ns <= taken.find("work").duration_ns
    assert taken.find("work").started_ns <= found.time_ns <= taken.taken_ns


@pytest.mark.usefixtures("dispatcher")
def test_a_young_collection_is_kept_only_if_it_took_more_than_a_millisecond():
    marks.show_collections(True)
    for _ in range(100):
        gc.collect(0)
        gc.collect(1)
    assert all(mark.duration_ns > 1_000_000 for mark in collections())
    assert len(collections()) < 100


@pytest.mark.usefixtures("dispatcher")
def test_a_collection_in_which_collections_are_asked_for_is_left_out():
    asked = False

    class Asks:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            nonlocal asked
            asked = True
            marks.show_collections(True)

    Asks()
    gc.collect()
    assert asked
    gc.collect()
    assert len(collections()) == 1


@pytest.mark.usefixtures("dispatcher")
def test_turning_on_twice_is_once_and_off_leaves_the_callbacks_as_found():
    found = list(gc.callbacks)
    marks.show_collections(True)
    marks.show_collections(True)
    assert len(gc.callbacks) == len(found) + 1
    marks.show_collections(False)
    marks.show_collections(False)
    assert gc.callbacks == found


@pytest.mark.usefixtures("dispatcher")
def test_turning_off_is_quiet_where_somebody_has_cleared_the_callbacks():
    found = list(gc.callbacks)
    marks.show_collections(True)
    gc.callbacks.clear()
    marks.show_collections(False)
    gc.callbacks[:] = found


def _nothing(_phase: str, _info: dict[str, int]) -> None:
    """What any callback costs."""


def collecting(name: str, callback: Callable[[str, dict[str, int]], None] | None) -> ContextRecord:
    """What a task costs that collects a hundred times with a callback."""
    gc.callbacks[:] = [] if callback is None else [callback]
    gc.collect()
    with thag_nb.task(name):
        for _ in range(100):
            gc.collect()
    gc.callbacks.clear()
    return of(name)


@pytest.mark.usefixtures("dispatcher", "quick_collections")
def test_a_collection_costs_its_context_only_what_cpython_makes_for_any_callback():
    found = list(gc.callbacks)
    collecting("warm", marks._watcher)
    quiet = collecting("quiet", None)
    others = collecting("others", _nothing)
    ours = collecting("ours", marks._watcher)
    gc.callbacks[:] = found
    assert len(collections()) >= 200
    assert abs(ours.total_bytes - others.total_bytes) <= 200
    assert ours.live_bytes == others.live_bytes
    assert 0 <= ours.live_bytes - quiet.live_bytes <= 300  # one dict on a free list of CPython's
    assert ours.peak_bytes - quiet.peak_bytes < 1000
    assert_sums_hold()


@pytest.mark.usefixtures("dispatcher", "quick_collections")
def test_collections_push_out_no_mark_and_only_the_newest_ten_thousand_are_kept():
    thag_nb.mark("first")
    marks.show_collections(True)
    for _ in range(10_005):
        gc.collect()
    found = thag_nb.read().marks
    assert (found[0].name, len(found)) == ("first", 10_001)


def test_collections_in_the_middle_of_changing_context_variables_do_no_harm():
    code = """
        import contextvars, gc, thag_nb
        from thag_nb.runtime import marks
        thag_nb.start()
        marks.show_collections(True)
        gc.set_threshold(1, 1, 1)
        variables = [contextvars.ContextVar(str(number)) for number in range(50)]
        with thag_nb.task("work"):
            for number in range(20_000):
                variables[number % 50].set([number])
                if number % 100 == 0:
                    gc.set_threshold(1 + number % 7, 1, 1)
        assert [variable.get()[0] % 50 for variable in variables] == list(range(50))
        assert thag_nb.current_context().name == "root"
        thag_nb.stop()
    """
    python(code)


def test_an_interpreter_that_ends_while_collections_are_shown_ends_well():
    code = """
        import gc, thag_nb
        from thag_nb.runtime import marks
        thag_nb.start()
        marks.show_collections(True)
        class Cycle:
            def __init__(self): self.cycle = self
            def __del__(self): thag_nb.mark("late")
        kept = Cycle()
        print("end")
    """
    assert python(code) == "end\n"
