"""Which context is current: the cache and what makes it stale, frames that outlive guards, threads without the GIL."""

import contextvars
import ctypes
import itertools
import queue
import sys
import threading
from collections.abc import Callable

import pytest
from blocks import OBJ, RAW, RAW_WITHOUT_GIL, SIZE
from figures import assert_sums_hold, of

import thag_nb
from thag_nb import ContextGuard, _native
from thag_nb.runtime.contexts import registry

pytestmark = pytest.mark.usefixtures("dispatcher")


@pytest.mark.parametrize("domain", [OBJ, RAW, RAW_WITHOUT_GIL], ids=["obj", "raw", "without the GIL"])
def test_a_contextvars_context_at_the_address_of_one_that_is_gone_is_not_taken_for_it(domain):
    """Nothing is allocated in between: only their versions tell the two apart."""
    with thag_nb.task("a") as a:
        in_a = contextvars.copy_context()
    with thag_nb.task("b") as b:
        in_b = contextvars.copy_context()
    blocks, rounds = (ctypes.c_void_p * 200)(), range(0, 200, 2)

    def fill(place: int) -> None:
        OBJ.free(OBJ.malloc(1))  # with the GIL, the context is looked up
        blocks[place] = domain.malloc(SIZE)

    for place in rounds:
        flow = in_a.copy()
        flow.run(fill, place)
        flow = None
        flow = in_b.copy()
        flow.run(fill, place + 1)
        flow = None
    owners = [(_native.owner_of(blocks[place]), _native.owner_of(blocks[place + 1])) for place in rounds]
    assert owners == [((a.id, SIZE), (b.id, SIZE))] * 100
    for block in blocks:
        domain.free(block)


def test_a_guard_closed_elsewhere_is_passed_over_at_once_by_who_had_looked_it_up():
    with thag_nb.task("outer") as outer:
        guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "inner")
        blocks = [OBJ.malloc(SIZE)]
        thread = threading.Thread(target=guard.close)
        thread.start()
        thread.join()
        blocks.append(OBJ.malloc(SIZE))
        assert [_native.owner_of(block) for block in blocks] == [(guard.context.id, SIZE), (outer.id, SIZE)]
    for block in blocks:
        OBJ.free(block)


def test_a_guard_that_was_not_innermost_where_it_was_closed_is_over_also_for_who_inherited_it():
    with thag_nb.task("outer"):
        guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "inner")
        inherited = contextvars.copy_context()
        contextvars.Context().run(guard.close)
        assert inherited.run(thag_nb.current_context).name == "outer"


def in_a_copy(close: Callable[[], object]) -> None:
    contextvars.copy_context().run(close)


def in_a_copy_on_another_thread(close: Callable[[], object]) -> None:
    thread = threading.Thread(target=contextvars.copy_context().run, args=(close,))
    thread.start()
    thread.join()


COPIES = pytest.mark.parametrize("elsewhere", [in_a_copy, in_a_copy_on_another_thread])


@COPIES
def test_a_guard_closed_in_a_copy_of_its_context_is_over_where_it_was_entered(elsewhere):
    """Both for what is charged at once, and for what is copied from there afterwards."""
    with thag_nb.task("outer") as outer:
        guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "inner")
        blocks = [OBJ.malloc(SIZE)]
        elsewhere(guard.close)
        blocks += [OBJ.malloc(SIZE), contextvars.copy_context().run(OBJ.malloc, SIZE)]
        owners = [_native.owner_of(block) for block in blocks]
        assert owners == [(guard.context.id, SIZE), (outer.id, SIZE), (outer.id, SIZE)]
    assert of("inner").state == "ended"
    assert thag_nb.current_context().name == "root"
    for block in blocks:
        OBJ.free(block)


@COPIES
def test_who_inherited_a_guard_goes_on_in_it_when_it_is_closed_in_a_copy(elsewhere):
    with thag_nb.task("outer"):
        guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "inner")
        inherited = contextvars.copy_context()
        elsewhere(guard.close)
        assert inherited.run(thag_nb.current_context) == guard.context
        assert inherited.copy().run(thag_nb.current_context) == guard.context


@COPIES
def test_a_guard_closed_in_a_copy_while_another_is_open_above_it_is_not_returned_to(elsewhere):
    with thag_nb.task("outer"):
        below = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "below")
        closing, inherited = contextvars.copy_context(), contextvars.copy_context()
        above = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "above")
        closing.run(elsewhere, below.close)
        assert thag_nb.current_context().name == "above"
        inherited.run(lambda: thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "under below").close())
        above.close()
        assert thag_nb.current_context().name == "outer"


def test_a_guard_that_is_left_alone_by_another_flow_is_over_where_it_was_entered_and_changes_nothing_there():
    opener, other = contextvars.copy_context(), contextvars.copy_context()
    guard = opener.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, "left alone")
    inherited = opener.copy()

    def leave() -> str:
        with thag_nb.task("other"):
            guard.close(orphan=False)
            return thag_nb.current_context().name

    assert other.run(leave) == "other"
    assert [flow.run(thag_nb.current_context).name for flow in (opener, opener.copy(), inherited)] == [
        "root",
        "root",
        "left alone",
    ]


def test_a_thread_that_runs_meanwhile_is_charged_anew_at_once_when_its_guard_is_closed_in_a_copy():
    closed, copies, owners = threading.Event(), queue.SimpleQueue(), []

    def work() -> None:
        with thag_nb.task("around"):
            guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "closed elsewhere")
            blocks[0] = OBJ.malloc(SIZE)
            copies.put((contextvars.copy_context(), guard))
            closed.wait()
            blocks[1] = OBJ.malloc(SIZE)
            owners.extend(_native.owner_of(block) for block in blocks)

    blocks = (ctypes.c_void_p * 2)()
    thread = threading.Thread(target=work)
    thread.start()
    copy, guard = copies.get()
    copy.run(guard.close)
    closed.set()
    thread.join()
    around = of("around").context_id
    assert owners == [(guard.context.id, SIZE), (around, SIZE)]
    for block in blocks:
        OBJ.free(block)


def test_a_contextvars_context_at_the_address_of_the_one_that_entered_a_guard_has_inherited_it():
    """CPython keeps Contexts on a free list: the next one is made where the last one was."""
    opener = contextvars.copy_context()
    guard = opener.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, "inherited")
    heir, address = opener.copy(), id(opener)
    opener.copy().run(guard.close)
    del opener
    kept = []
    while id(kept[-1] if kept else None) != address:
        kept.append(heir.copy())
        assert len(kept) < 1000
    assert kept[-1].run(thag_nb.current_context) == guard.context


def test_leaving_restores_the_nearest_context_that_was_not_left_before():
    guards = [thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, f"{number}") for number in range(4)]
    guards[1].close()
    guards[2].close()
    guards[3].close()
    block = OBJ.malloc(SIZE)
    assert _native.owner_of(block) == (guards[0].context.id, SIZE)
    guards[0].close()
    OBJ.free(block)


def test_what_is_entered_detached_is_left_for_what_was_current_before_anything_was():
    with thag_nb.task("around") as around:
        first, left_open, second = (ContextGuard(registry.open(name, "task")) for name in ("first", "left", "second"))
        first.enter(detach=True)
        left_open.enter()
        assert _native.base_id() == around.id
        second.enter(detach=True)
        assert thag_nb.current_context().name == "second"
        second.close()
        assert thag_nb.current_context() == around
        left_open.close()
        first.close()
    assert thag_nb.current_context().name == "root"


def test_work_handed_over_runs_in_its_context_and_does_not_keep_it_open():
    with thag_nb.task("handed over") as context:
        flow = _native.flow()
    adopted = _native.adopt(flow)
    assert thag_nb.current_context() == context
    assert of("handed over").state == "ended"
    assert adopted.leave(True)
    assert of("handed over").state == "ended"
    assert thag_nb.current_context().name == "root"


def test_a_context_is_open_while_anybody_holds_it_and_again_when_it_is_entered_again():
    context = registry.open("held", "task")
    first, second = ContextGuard(context), ContextGuard(context)
    first.enter()
    second.enter()
    second.close()
    assert of("held").state == "open"
    first.close()
    assert of("held").state == "ended"
    again = ContextGuard(context)
    again.enter()
    assert of("held").state == "open"
    again.close()
    assert of("held").state == "ended"


def test_a_chain_of_flows_each_started_by_the_one_before_keeps_no_record_of_those_that_are_through():
    """As callbacks do that schedule themselves: each inherits the frame of a task that has ended."""

    def link() -> contextvars.Context:
        with thag_nb.task("link"):
            return contextvars.copy_context()

    before = _native.overhead()["contexts"]
    flow = contextvars.copy_context()
    for _ in range(4 * 4096):
        flow = flow.run(link)
    thag_nb.reset()
    assert _native.overhead()["contexts"] - before < 2 * 4096 * 256
    assert flow.run(thag_nb.current_context).name == "root"


def test_a_chain_of_flows_that_are_all_kept_keeps_no_record_of_tasks_that_are_through():
    """Each started the next one inside a task, and then went on without it."""
    before, flows = _native.overhead()["contexts"], [contextvars.copy_context()]

    def link() -> contextvars.Context:
        with thag_nb.task("link"):
            return contextvars.copy_context()

    for _ in range(4 * 4096):
        flows.append(flows[-1].run(link))
    last = flows[-1]
    flows.clear()
    thag_nb.reset()
    assert _native.overhead()["contexts"] - before < 2 * 4096 * 256
    assert last.run(thag_nb.current_context).name == "root"


def on_a_thread_that_python_never_saw() -> int:
    """The owner's id of a block that such a thread takes; 0 for nobody."""
    thread, block = ctypes.c_void_p(), ctypes.c_void_p()
    library = ctypes.CDLL(None)
    raw_malloc = ctypes.cast(library.PyMem_RawMalloc, ctypes.c_void_p)
    assert library.pthread_create(ctypes.byref(thread), None, raw_malloc, ctypes.c_void_p(SIZE)) == 0
    assert library.pthread_join(thread, ctypes.byref(block)) == 0
    owner, size = _native.owner_of(block.value) or (0, SIZE)
    assert size == SIZE
    RAW.free(block)
    return owner


def test_threads_that_take_turns_are_each_charged_to_their_own_context():
    """They have gone through as many changes of flow, and each goes on where it was interrupted by the other."""
    size, times, numbers = 300, 20_000, range(2)
    begin = threading.Barrier(len(numbers))

    def work(number: int) -> None:
        with thag_nb.task(f"turns {number}"):
            begin.wait()
            for _ in range(times):
                bytes(size)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    one, other = (of(f"turns {number}") for number in numbers)
    assert abs(one.self_total_bytes - other.self_total_bytes) < 10 * size, (one, other)
    assert min(one.self_total_bytes, other.self_total_bytes) >= times * sys.getsizeof(bytes(size))
    assert_sums_hold()


def test_a_thread_that_python_never_saw_is_charged_to_the_foreground():
    with thag_nb.task("around") as around:
        assert on_a_thread_that_python_never_saw() == _native.ROOT_ID
        _native.set_foreground(around.id)
        with thag_nb.task("inner"):
            assert on_a_thread_that_python_never_saw() == around.id
        with thag_nb.untracked():
            _native.set_foreground(_native.SYSTEM_ID)
            assert on_a_thread_that_python_never_saw() == 0
        assert on_a_thread_that_python_never_saw() == around.id
        _native.set_foreground(_native.ROOT_ID)
        assert on_a_thread_that_python_never_saw() == _native.ROOT_ID
    assert_sums_hold()


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))], ids=str)
def test_the_foreground_is_the_newest_that_is_still_open_in_whatever_order_and_flow_they_are_left(order):
    flows = [contextvars.copy_context() for _ in range(3)]
    guards = [flow.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, "cell") for flow in flows]
    still_open = [_native.ROOT_ID]
    for flow, guard in zip(flows, guards, strict=True):
        flow.run(_native.set_foreground, guard.context.id)
        still_open.append(guard.context.id)
    for number in order:
        assert on_a_thread_that_python_never_saw() == still_open[-1]
        flows[(number + 1) % 3].run(guards[number].close)
        still_open.remove(guards[number].context.id)
    assert on_a_thread_that_python_never_saw() == _native.ROOT_ID


def test_only_what_the_flow_itself_keeps_open_comes_to_the_foreground():
    with thag_nb.task("around") as around:
        flow, inherited = _native.flow(), contextvars.copy_context()
        with pytest.raises(ValueError, match="was not entered here"):
            contextvars.Context().run(_native.set_foreground, around.id)
    with pytest.raises(ValueError, match="was left"):
        inherited.run(_native.set_foreground, around.id)
    adopted = _native.adopt(flow)
    with pytest.raises(ValueError, match="was not entered here"):
        _native.set_foreground(around.id)
    adopted.leave(True)
    assert on_a_thread_that_python_never_saw() == _native.ROOT_ID


def test_what_was_the_foreground_comes_there_again_and_is_left_once():
    first, second = (thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, name) for name in "ab")
    for guard in (second, first, second):
        _native.set_foreground(guard.context.id)
    assert on_a_thread_that_python_never_saw() == second.context.id
    for guard in [first] * 100:
        _native.set_foreground(guard.context.id)
    assert on_a_thread_that_python_never_saw() == first.context.id
    first.close()
    assert on_a_thread_that_python_never_saw() == second.context.id
    second.close()
    assert on_a_thread_that_python_never_saw() == _native.ROOT_ID


def test_more_in_the_foreground_than_it_has_room_for_push_out_the_oldest():
    guards = [thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "cell") for _ in range(100)]
    for guard in guards:
        _native.set_foreground(guard.context.id)
    for guard in reversed(guards[50:]):
        assert on_a_thread_that_python_never_saw() == guard.context.id
        guard.close()
    guards[49].close()
    for guard in reversed(guards[:49]):
        guard.close()
    assert on_a_thread_that_python_never_saw() == _native.ROOT_ID


def test_without_the_gil_a_thread_is_charged_to_its_own_context_while_another_one_has_it(interposed):
    """On 3.11 the thread state that has the GIL is all that CPython tells."""
    code = """
        rounds, stop = ctypes.c_uint64(), ctypes.c_uint64()

        def without_gil():
            with thag_nb.task("without the GIL"):
                library_without_gil.churn(ctypes.c_size_t(100_000), ctypes.byref(rounds), ctypes.byref(stop))

        thag_nb.start(threads=False)
        thread = threading.Thread(target=without_gil)
        with thag_nb.task("busy"):
            thread.start()
            while rounds.value == 0:
                pass
            begun = rounds.value
            while rounds.value < begun + 1_000:
                pass  # nobody else wants the GIL, so this thread has it all the while
            stop.value = 1
            thread.join()
        own, busy = of("without the GIL"), of("busy")
        assert rounds.value * 100_000 <= own.self_total_bytes < rounds.value * 100_000 + 50_000, own
        assert busy.peak_bytes < 100_000, busy
        assert_sums_hold()
    """
    assert interposed(code) == ""


def test_a_thread_state_at_the_address_of_one_that_is_gone_is_not_taken_for_it(interposed):
    """A native thread has a new one for each callback. The contextvars Context may be at the same address as well.

    The last but one is from before the start: what it is in is remembered, as on a thread of Python's.
    """
    code = """
        other = contextvars.ContextVar("other")
        kept, owners = [], []

        @ctypes.CFUNCTYPE(None, ctypes.c_int)
        def work(round):
            if round == 18:
                thag_nb.start()
                kept.append(thag_nb.task("left open"))
                kept[-1].__enter__()
                bytearray(100)
            elif round == 19:
                other.set(round)
                block = RAW.malloc(1000)
                owners.append(_native.owner_of(block))
                RAW.free(block)

        for _ in range(20):
            thag_nb.stop()
            library_without_gil.on_native_thread(work, 20)  # the first few states lie apart
        assert owners == [(_native.ROOT_ID, 1000)] * 20, set(owners)
    """
    assert interposed(code) == ""


def test_a_callback_on_a_native_thread_is_charged_to_what_the_main_thread_is_in_then(interposed):
    """Also on one that lives on from one task to the next."""
    code = """
        names, kept = [], []

        @ctypes.CFUNCTYPE(None, ctypes.c_int)
        def work(round):
            names.append(thag_nb.current_context().name)
            kept.append(bytearray(100_000))
            with thag_nb.task("opened by it"):
                kept.append(bytearray(100_000))
            kept.append(bytearray(100_000))

        thag_nb.start()
        with thag_nb.task("first"):
            library_without_gil.on_native_thread(work, 3)
            with thag_nb.untracked():
                library_without_gil.on_native_thread(work, 1)
        library_without_gil.on_native_thread(work, 1)
        assert names == ["first"] * 3 + ["system", "root"], names
        first, opened = of("first"), thag_nb.read().find_all("opened by it")
        assert 600_000 <= first.self_live_bytes < 610_000, first
        assert [record.parent_id for record in opened] == [first.context_id] * 3 + [_native.ROOT_ID] * 2, opened
        assert_sums_hold()
    """
    assert interposed(code) == ""


def test_a_callback_on_a_native_thread_while_the_main_thread_is_in_nothing_is_the_foregrounds(interposed):
    code = """
        names = []

        @ctypes.CFUNCTYPE(None, ctypes.c_int)
        def work(round):
            names.append(thag_nb.current_context().name)

        thag_nb.start()
        cell = contextvars.copy_context()
        guard = cell.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, "cell")
        for foreground in (guard.context.id, _native.ROOT_ID):
            cell.run(_native.set_foreground, foreground)
            library_without_gil.on_native_thread(work, 1)
        assert names == ["cell", "root"], names
    """
    assert interposed(code) == ""


def test_a_thread_that_python_started_is_no_native_thread(interposed):
    code = """
        import _thread
        names, done = [], threading.Event()

        def work():
            names.append(thag_nb.current_context().name)
            done.set()

        thag_nb.start(threads=False)
        with thag_nb.task("starter"):
            _thread.start_new_thread(work, ())
            done.wait()
        assert names == ["root"], names
    """
    assert interposed(code) == ""
