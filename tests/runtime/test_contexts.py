import asyncio
import contextvars
import copy
import gc
import os
import pickle
import platform
import random
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from blocks import RAW, SIZE
from figures import assert_sums_hold, of
from processes import python
from sizes import fewer

import thag_nb
from thag_nb import Allocator, AllocatorContext, _native
from thag_nb.errors import AllocatorError, ContextNameError, UnknownContextError
from thag_nb.runtime.contexts import ContextGuard, prepare_guard, registry

pytestmark = pytest.mark.usefixtures("dispatcher")


def push(name: str) -> ContextGuard:
    return thag_nb.push_allocator_context(Allocator.TASK_AWARE, name)


def test_work_is_charged_to_the_innermost_context_and_then_to_the_one_before():
    block = [None, None, None]
    with push("outer"):
        with push("inner"):
            block[0] = bytearray(SIZE)
        block[1] = bytearray(2 * SIZE)
    block[2] = bytearray(3 * SIZE)
    assert of("inner").self_live_bytes == sys.getsizeof(block[0])
    assert of("outer").self_live_bytes == sys.getsizeof(block[1])
    assert of("outer").live_bytes == of("outer").self_live_bytes + of("inner").self_live_bytes
    assert thag_nb.current_context().name == "root"


def test_the_current_context_has_id_name_kind_allocator_and_parent():
    with push("outer") as outer, push("inner") as inner:
        assert thag_nb.current_context() == inner
        assert inner == AllocatorContext(inner.id, Allocator.TASK_AWARE, "inner", "task", outer.id)
    assert outer.parent_id == _native.ROOT_ID


def test_ids_grow_and_are_never_reused():
    ids = []
    for _ in range(3):
        with push("same") as context:
            ids.append(context.id)
        thag_nb.reset()
    assert ids == sorted(set(ids))


def test_leaving_restores_the_context_before_and_not_the_highest_id():
    contexts = [registry.open(f"c{number}", "task") for number in range(5)]
    fifth, second = ContextGuard(contexts[4]), ContextGuard(contexts[1])
    fifth.enter()
    second.enter()
    second.close()
    assert thag_nb.current_context() == contexts[4]
    fifth.close()
    for context in contexts:
        guard = ContextGuard(context)
        guard.enter()
        guard.close()


def test_the_same_context_twice_is_counted_once_and_leaving_the_inner_stays_inside():
    context = registry.open("twice", "task")
    outer, inner = ContextGuard(context), ContextGuard(context)
    outer.enter()
    inner.enter()
    block = RAW.malloc(SIZE)
    inner.close()
    assert thag_nb.current_context() == context
    assert of("twice").state == "open"
    outer.close()
    assert of("twice").state == "ended"
    assert SIZE <= of("twice").live_bytes < SIZE + 200
    RAW.free(block)


def test_guards_left_in_swapped_order_leave_nothing_behind():
    before = thag_nb.status().orphaned_guards
    first, second = push("first"), push("second")
    first.close()
    assert thag_nb.current_context().name == "second"
    second.close()
    assert thag_nb.current_context().name == "root"
    assert thag_nb.status().orphaned_guards == before + 1


def test_guards_left_in_any_order_leave_nothing_behind():
    shuffled = random.Random(7)
    for _ in range(50):
        guards = [push(f"g{number}") for number in range(8)]
        shuffled.shuffle(guards)
        for guard in guards:
            guard.close()
        assert thag_nb.current_context().name == "root"


def test_a_guard_left_twice_or_dropped_changes_nothing_more():
    outer, dropped = push("outer"), push("dropped")
    inner = push("inner")
    del dropped
    gc.collect()
    assert thag_nb.current_context().name == "inner"
    inner.close()
    inner.close()
    assert thag_nb.current_context().name == "outer"
    outer.close()


def test_ten_thousand_nested_contexts_unwind_without_recursion():
    guards = [push("deep") for _ in range(fewer(10_000))]
    while guards:
        guards.pop().close()
    assert thag_nb.current_context().name == "root"


def test_the_system_allocator_records_nothing_but_repays_owners():
    with push("owner"):
        block = RAW.malloc(SIZE)
    with thag_nb.push_allocator_context(Allocator.SYSTEM):
        unrecorded = bytearray(SIZE)
        RAW.free(block)
    assert of("system").total_bytes == 0
    assert of("owner").self_live_bytes < 200  # the int that holds the address
    assert of("owner").foreign_frees >= 1
    assert _native.owner_of(id(unrecorded)) is None


def test_a_named_system_context_has_a_row_of_its_own():
    with thag_nb.push_allocator_context(Allocator.SYSTEM, "reports") as context:
        bytearray(SIZE)
    assert (context.kind, of("reports").allocator, of("reports").total_bytes) == ("system", "system", 0)


def test_a_task_under_the_system_allocator_is_recorded_under_the_context_around_it():
    with push("outer") as outer, thag_nb.untracked(), push("inner") as inner:
        block = bytearray(SIZE)
    assert inner.parent_id == outer.id
    assert of("inner").self_live_bytes == sys.getsizeof(block)


@pytest.mark.parametrize("name", [3, None, b"bytes"])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(ContextNameError) as error:
        thag_nb.task(name)
    assert str(error.value) == f"context name must be a str, not {name!r}"


@pytest.mark.parametrize(
    "wanted", [0, -1, 99_999, 2**40, 2**70, "a", "1", 1.5, 1.0, None, True, [1], ("a", 1)], ids=repr
)
def test_what_is_no_id_is_in_no_registry(wanted):
    assert wanted not in registry
    with pytest.raises(UnknownContextError) as error:
        registry[wanted]
    assert str(error.value) == f"no context is called {wanted!r}; known: {len(registry)} ids from 1 on"


def test_an_id_out_of_a_frame_is_an_id():
    root = thag_nb.contexts().index[0]
    assert root in registry
    assert registry[root].name == "root"


def opened_by_a_generator(name: str) -> None:
    @thag_nb.task(name)
    def generate() -> Iterator[None]:
        yield

    next(generate())


async def opened_by_an_async_generator(name: str) -> None:
    @thag_nb.task(name)
    async def generate() -> AsyncIterator[None]:
        yield

    await anext(generate())


def opened_in_the_registry(name: str) -> None:
    guard = ContextGuard(registry.open(name, "task"))
    guard.enter()
    guard.close()


OPENINGS = {
    "task": lambda name: thag_nb.task(name).__enter__(),
    "decorator": lambda name: thag_nb.task(name)(abs)(1),
    "generator": opened_by_a_generator,
    "async generator": lambda name: asyncio.run(opened_by_an_async_generator(name)),
    "push": lambda name: thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, name).close(),
    "push untracked": lambda name: thag_nb.push_allocator_context(thag_nb.Allocator.SYSTEM, name).close(),
    "memory context": lambda name: thag_nb.TaskMemoryContext(name).enter().close(),
    "call": lambda name: thag_nb.with_task_allocator(name, int),
    "registry": opened_in_the_registry,
    "mark": thag_nb.mark,
}


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("opening", OPENINGS)
def test_a_name_out_of_data_is_cleaned_and_counted_at_every_door(opening):
    before = thag_nb.status().cleaned_names
    OPENINGS[opening]("first line\nsecond \ud83d")
    taken = thag_nb.read()
    names = [record.name for record in taken.contexts] + [mark.name for mark in taken.marks]
    assert r"first line second \ud83d" in names
    assert not any("\n" in name for name in names)
    status = thag_nb.status()
    assert status.cleaned_names == before + 1
    assert f"{before + 1} names were cleaned" in str(status)


def test_a_name_is_found_as_it_was_given_and_as_it_is_called():
    for given in ("one\ntask", "one task"):  # alike once they are clean: two tasks of one name
        with thag_nb.task(given):
            pass
    taken = thag_nb.read()
    assert taken.find("one\ntask") == taken.find("one task")
    assert len(taken.find_all("one\ntask")) == 2
    assert list(thag_nb.timeline("one\ntask")["name"].unique()) == ["one task"]


def test_cleaning_a_name_is_charged_to_nobody():
    with push("around") as around:
        total = of("around").self_total_bytes
        with thag_nb.task("x\n" * 1_000_000):
            pass
    assert of("around").context_id == around.id
    assert of("around").self_total_bytes - total < 10_000 + 2 * 1_000_001


@pytest.mark.parametrize("name", ["größe", "負荷", "👩\u200d🚀", "1\xa0000", "بار"])
def test_a_name_in_any_script_is_taken(name):
    with push(name) as context:
        pass
    assert of(name).context_id == context.id


@pytest.mark.parametrize("open_context", [push, thag_nb.TaskMemoryContext, thag_nb.task])
def test_a_refused_value_is_shown_in_one_short_line(open_context):
    class Table:
        def __repr__(self) -> str:
            return "a  b\n" * 1_000

    with pytest.raises(ContextNameError) as error:
        open_context(Table())
    assert str(error.value) == f"context name must be a str, not {'a  b ' * 24}..."


def test_something_else_than_an_allocator_is_refused():
    with pytest.raises(AllocatorError, match="not 'task'"):
        thag_nb.push_allocator_context("task")


def test_allocate_in_a_and_free_in_b_debits_a_and_leaves_b_alone():
    with push("a"):
        block = [bytearray(SIZE)]
    with thag_nb.task("b"):
        block.clear()
    assert of("a").self_live_bytes <= 200
    assert of("a").foreign_frees >= 1
    b = of("b")
    assert (b.self_live_bytes, b.peak_bytes, b.foreign_frees) == (0, 0, 0)
    assert_sums_hold()


def test_a_task_that_a_reset_dropped_can_be_entered_again():
    context = thag_nb.TaskMemoryContext("again")
    context.enter().close()
    first = context.context.id
    thag_nb.reset()
    context.enter().close()
    assert context.context.id > first
    assert [record.context_id for record in thag_nb.read().find_all("again")] == [context.context.id]


def test_a_flow_left_in_a_dropped_context_is_charged_to_the_heir():
    keep = []

    async def child() -> None:
        await asyncio.sleep(0)
        thag_nb.reset()
        assert thag_nb.current_context().name == "root"
        keep.append(bytearray(100 * SIZE))

    async def main() -> None:
        with thag_nb.task("dropped"):
            running = asyncio.create_task(child())
        await running

    asyncio.run(main())
    assert of("root").self_live_bytes >= 100 * SIZE
    assert 100 * SIZE <= of("root").total_bytes < 102 * SIZE
    assert_sums_hold()
    keep.clear()
    assert_sums_hold()


def test_a_flow_left_in_a_dropped_untracked_context_stays_untracked():
    async def child() -> bytearray:
        await asyncio.sleep(0)
        thag_nb.reset()
        assert thag_nb.current_context().allocator is Allocator.SYSTEM
        return bytearray(SIZE)

    async def main() -> bytearray:
        with thag_nb.push_allocator_context(Allocator.SYSTEM, "unseen"):
            running = asyncio.create_task(child())
        return await running

    keep = asyncio.run(main())
    assert _native.owner_of(id(keep)) is None
    assert of("root").self_live_bytes < SIZE
    assert_sums_hold()


def test_opening_and_ending_many_contexts_costs_records_only():
    overhead = thag_nb.status().overhead_bytes
    for _ in range(20_000):
        push("many").close()
    grown = thag_nb.status().overhead_bytes - overhead
    assert grown < 20_000 * 512
    thag_nb.reset()


def test_a_million_contexts_have_ids_of_their_own_and_cost_records_only():
    count = fewer(1_000_000)
    code = f"""
        import thag_nb
        from thag_nb import _native
        thag_nb.start()
        overhead, seen = sum(_native.overhead().values()), 0
        for _ in range({count}):
            with thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "many") as context:
                assert context.id > seen
                seen = context.id
        grown = sum(_native.overhead().values()) - overhead
        assert seen == {count} + 2 and grown < {count} * 512, (seen, grown)
        thag_nb.reset()
        print(len(thag_nb.read().contexts), sum(_native.overhead().values()) - overhead < grown / 2)
    """
    assert python(code) == "2 True\n"


@pytest.mark.skipif("tsan" in os.environ.get("LD_PRELOAD", ""), reason="ThreadSanitizer holds signals back")
def test_an_interrupt_anywhere_in_opening_and_closing_a_task_leaves_the_right_context():
    """Interrupts from a timer land between any two instructions."""
    code = """
        import signal, sys, thag_nb
        landed = wrong = 0
        def opened():
            scope = thag_nb.task("interrupted")
            with scope:
                with thag_nb.task("inner"):
                    pass
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        opened()
        for round in range(3000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.000001 + (round % 60) * 0.0000007)
                opened()
                while True:
                    pass
            except KeyboardInterrupt:
                landed += 1
            name = thag_nb.current_context().name
            wrong += name != "root"
            if name != "root":
                thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "repair")
        print(landed, wrong)
    """
    landed, wrong = map(int, python(code).split())
    assert landed == 3000
    assert wrong == 0


@pytest.mark.skipif("tsan" in os.environ.get("LD_PRELOAD", ""), reason="ThreadSanitizer holds signals back")
def test_an_interrupt_between_making_and_entering_a_guard_leaves_no_context_open():
    """The handler's exception lands anywhere in what opens contexts one after the other."""
    code = """
        import signal, sys, thag_nb

        def drive(coroutine):
            try:
                coroutine.send(None)
            except StopIteration:
                pass

        @thag_nb.task("function")
        def function(): pass

        @thag_nb.task("coroutine")
        async def coroutine(): pass

        @thag_nb.task("generator")
        def generator(): yield

        def block():
            with thag_nb.task("block"): pass

        async def async_block():
            async with thag_nb.task("async block"): pass

        def pushed():
            thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "pushed").close()

        def again():
            thag_nb.TaskMemoryContext("again").enter().close()

        forms = (function, lambda: drive(coroutine()), lambda: list(generator()), block, lambda: drive(async_block()),
                 pushed, again)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        landed = 0
        for round in range(2_100):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + round % 97 * 0.000001)
                while True:
                    forms[round % len(forms)]()
            except KeyboardInterrupt:
                landed += 1
        print(landed, [record.name for record in thag_nb.read().contexts if record.state == "open"])
    """
    assert python(code) == "2100 ['root', 'system']\n"


def states(name: str) -> list[str]:
    return [record.state for record in thag_nb.read().contexts if record.name == name]


def test_a_guard_owns_its_context_from_the_beginning_and_whoever_drops_it_ends_it():
    guard = prepare_guard(ContextGuard, "dropped", "task")
    thag_nb.reset()
    assert states("dropped") == ["open"]
    del guard
    assert states("dropped") == ["ended"]
    thag_nb.reset()
    assert states("dropped") == []


def test_a_guard_that_is_closed_instead_of_entered_ends_its_context_and_can_still_be_entered():
    guard = prepare_guard(ContextGuard, "closed", "task")
    guard.close()
    assert states("closed") == ["ended"]
    guard.enter()
    assert (states("closed"), thag_nb.current_context()) == (["open"], guard.context)
    guard.close()
    guard.close()
    assert states("closed") == ["ended"]
    thag_nb.reset()
    with pytest.raises(ValueError, match=f"the context {guard.context.id} is not known any more"):
        guard.enter()
    assert guard.context.name == "closed"


def test_a_task_memory_context_that_is_never_entered_ends_with_its_object():
    context = thag_nb.TaskMemoryContext("never")
    thag_nb.reset()
    assert states("never") == ["open"]
    del context
    assert states("never") == ["ended"]


def test_a_guard_for_a_context_that_there_is_does_nothing_to_it_before_it_is_entered():
    context = registry.open("there", "task")
    ContextGuard(context)
    assert states("there") == ["open"]
    with ContextGuard(context) as guarded:
        assert guarded is context
        assert thag_nb.current_context().name == "root"
    guard = ContextGuard(context)
    guard.enter()
    guard.close()
    ContextGuard(context)
    assert states("there") == ["ended"]


def test_a_guard_that_is_not_entered_can_be_pickled_and_copied_and_one_that_is_cannot():
    guard = push("entered")
    copied = pickle.loads(pickle.dumps(ContextGuard(guard.context)))
    assert type(copied) is ContextGuard
    assert copied.context == guard.context
    with pytest.raises(TypeError, match="entered"):
        copy.copy(guard)
    guard.close()


def test_guards_take_keywords_only_and_no_others():
    guard = push("keywords")
    for call in (lambda: guard.close(False), lambda: guard.close(orphans=False), lambda: guard.enter(True)):
        with pytest.raises(TypeError, match="argument"):
            call()
    guard.close(orphan=False)
    assert states("keywords") == ["ended"]


def test_guards_can_be_subclassed():
    class Own(thag_nb.TaskGuard):
        def __init__(self, context: AllocatorContext, note: str) -> None:
            super().__init__(context)
            self.note = note

    guard = Own(registry.open("own", "task"), "a note")
    guard.enter()
    assert thag_nb.current_context().name == "own"
    del guard
    assert states("own") == ["ended"]


def test_a_guard_entered_twice_is_entered_once():
    guard = push("once")
    guard.enter()
    guard.close()
    assert thag_nb.current_context().name == "root"


def test_leaving_a_scope_that_nobody_is_in_does_nothing():
    scope = thag_nb.task("not entered")
    scope.__exit__(None, None, None)
    with scope:
        pass
    scope.__exit__(None, None, None)
    assert thag_nb.current_context().name == "root"


def test_a_value_in_our_variable_that_is_not_ours_is_the_root():
    import contextvars

    with push("here"):
        variable = next(var for var in contextvars.copy_context() if var.name == "thag_nb_frame")

    def intrude() -> str:
        variable.set("not a frame")
        block = bytearray(SIZE)
        with push("inside"):
            pass
        del block
        return thag_nb.current_context().name

    assert contextvars.copy_context().run(intrude) == "root"


def test_work_that_reschedules_itself_in_a_task_does_not_nest_for_ever():
    most = fewer(2000)

    async def main() -> int:
        loop, ticks, done = asyncio.get_running_loop(), 0, asyncio.Event()

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            with thag_nb.task("tick"):
                loop.call_soon(tick if ticks < most else done.set)

        tick()
        await done.wait()
        return ticks

    assert asyncio.run(main()) == most
    parents = {record.context_id: record.parent_id for record in thag_nb.read().contexts}
    depth, context_id = 0, max(parents)
    while context_id:
        depth, context_id = depth + 1, parents[context_id]
    assert depth < 100


def test_children_of_a_dropped_context_are_shown_under_its_heir():
    async def child() -> str:
        await asyncio.sleep(0)
        with thag_nb.task("grandchild"):
            thag_nb.reset()
            await asyncio.sleep(0)
            return thag_nb.read().find("grandchild").parent_id

    async def main() -> int:
        with thag_nb.task("dropped"):
            running = asyncio.create_task(child())
        return await running

    assert asyncio.run(main()) == _native.ROOT_ID
    ids = {record.context_id for record in thag_nb.read().contexts}
    assert all(record.parent_id in ids | {0} for record in thag_nb.read().contexts)


def test_resets_while_other_threads_open_tasks_break_neither():
    import threading

    failures, stop = [], threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                with thag_nb.task("racing"):
                    bytearray(100)
                thag_nb.current_context()
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        thag_nb.reset()
        thag_nb.read()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_sums_hold()


def test_the_records_of_dropped_contexts_are_given_back_and_their_blocks_stay_exact():
    def round_of_work(keep: list[bytearray]) -> None:
        for number in range(fewer(10_000)):
            with thag_nb.task("passing"):
                if number % 1000 == 0:
                    keep.append(bytearray(SIZE))

    keep: list[bytearray] = []
    round_of_work(keep)
    thag_nb.reset()
    overhead = thag_nb.status().overhead_bytes
    for _ in range(5):
        round_of_work(keep)
        thag_nb.reset()
        assert_sums_hold()
    assert thag_nb.status().overhead_bytes - overhead < 1 << 20  # 50,000 records would be more than ten times that
    assert of("root").self_live_bytes >= len(keep) * SIZE
    keep.clear()
    assert of("root").self_live_bytes < SIZE
    assert_sums_hold()


def burn(number: int) -> None:
    """Contexts that nobody needs, so that the next ones' records lie in another chunk."""
    for _ in range(number):
        push("burnt").close()


def test_a_flow_that_holds_on_to_a_dropped_context_keeps_its_record_and_is_charged_to_the_heir():
    async def waiting(go: asyncio.Event) -> list[bytearray]:
        await go.wait()
        return [bytearray(SIZE)]

    async def main() -> list[bytearray]:
        go = asyncio.Event()
        with thag_nb.task("held"):
            running = asyncio.create_task(waiting(go))
        for _ in range(3):
            for _ in range(6_000):
                with thag_nb.task("passing"):
                    pass
            thag_nb.reset()
        go.set()
        return await running

    burn(4096)  # the first chunk has the root, and is never given back
    keep = asyncio.run(main())
    assert of("root").self_live_bytes >= SIZE
    assert_sums_hold()
    assert len(keep) == 1


def test_a_flow_in_a_dropped_context_is_charged_to_its_last_heir_when_the_first_is_dropped_as_well():
    burn(4096)
    with thag_nb.task("first heir"):
        burn(4096)
        with thag_nb.task("left"):
            inherited = contextvars.copy_context()

        def opened_later() -> contextvars.Context:
            with thag_nb.task("dropped"):
                return contextvars.copy_context()

        flow = inherited.run(opened_later)
        thag_nb.reset()
    burn(4096)
    del inherited
    thag_nb.reset()
    block = flow.run(RAW.malloc, SIZE)
    assert flow.run(thag_nb.current_context).name == "root"
    assert _native.owner_of(block) == (_native.ROOT_ID, SIZE)
    RAW.free(block)
    assert_sums_hold()


AT_THE_END_OF_A_LEAF = """
    import sys, thag_nb
    sys.path.insert(0, "tests/support")
    from blocks import RAW, SIZE
    from figures import assert_sums_hold
    from thag_nb import _native
    LEAF_BYTES = 1 << 26  # of the address space, in the owner table
    blocks = []

    def allocate(size):
        blocks.append(RAW.malloc(size))
        return blocks[-1]

    def reaches_the_end_of_a_leaf():
        top = allocate(100_000) + 100_016  # with the eight bytes that glibc puts before a block
        gap = (-top - 16) % LEAF_BYTES
        if not 20_000 < gap < 120_000:
            return False
        while (filling := allocate(gap - 8)) < top:
            pass  # it took a hole in the heap
        return filling == top and (allocate(SIZE) + 16) % LEAF_BYTES == 0

    with thag_nb.task("owner"):
        assert any(reaches_the_end_of_a_leaf() for _ in range(2000))
    for _ in range(8192):  # so that the next records lie in another chunk
        with thag_nb.task("burnt"):
            pass
    thag_nb.reset()
    assert _native.owner_of(blocks[-1]) == (_native.ROOT_ID, SIZE)
    assert_sums_hold()
    for address in blocks:
        RAW.free(address)
    assert_sums_hold()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what a heap does next is known of glibc's only")
@pytest.mark.skipif("san.so" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers have heaps of their own")
def test_a_block_at_the_end_of_a_leaf_of_the_owner_table_passes_to_the_heir():
    assert python(AT_THE_END_OF_A_LEAF) == ""
