"""Random work of many flows, next to a model of what it should hold, worked out by hand."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import gc
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from blocks import MEM, OBJ, RAW, RAW_WITHOUT_GIL, SIZE
from figures import assert_sums_hold
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import thag_nb
from thag_nb import Allocator, AllocatorContext, ContextGuard, ContextRecord, _native
from thag_nb.runtime.contexts import registry

EXAMPLES = int(os.environ.get("THAG_STATEFUL_EXAMPLES", "50"))
STEPS = int(os.environ.get("THAG_STATEFUL_STEPS", "30"))

SLOTS = 10
MOST_FLOWS = 6
MOST_GUARDS = 10
IMPOSSIBLE = sys.maxsize // 2
FAMILIES = ((RAW, RAW_WITHOUT_GIL), (MEM, MEM), (OBJ, OBJ))
THREADS_INHERIT = bool(getattr(sys.flags, "thread_inherit_context", 0))


class Worker:
    """A thread that does what it is told, one piece at a time."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while (function := self._work.get()) is not None:
            try:
                self._results.put((True, function()))
            except BaseException as error:
                self._results.put((False, error))
            del function

    def do(self, function: Callable[[], Any]) -> Any:
        self._work.put(function)
        del function
        done, result = self._results.get()
        if not done:
            raise result
        return result

    def stop(self) -> None:
        self._work.put(None)
        self._thread.join()


class AsyncioTask:
    """An asyncio task that does one thing whenever its loop runs; the loop may run on any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: Callable[[Callable[[], Any]], Any]) -> None:
        self._loop = loop
        self.host = host
        self._work: asyncio.Queue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = asyncio.Queue()
        self._task = loop.create_task(self._serve())

    async def _serve(self) -> None:
        while (item := await self._work.get()) is not None:
            function, result = item
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)
            del item, function, result

    def do(self, function: Callable[[], Any]) -> Any:
        result = self._loop.create_future()
        self._work.put_nowait((function, result))
        del function
        return self.host(lambda: self._loop.run_until_complete(result))

    def stop(self) -> None:
        self._work.put_nowait(None)
        self.host(lambda: self._loop.run_until_complete(self._task))


@dataclass(eq=False)
class Flow:
    """Something with a current context of its own, and how to run things in it."""

    do: Callable[[Callable[[], Any]], Any]
    frame: Frame | None
    stop: Callable[[], None] = lambda: None

    def current(self) -> Frame | None:
        return self.at_or_below(self.frame)

    def at_or_below(self, frame: Frame | None) -> Frame | None:
        """The frame, or the nearest below it that is not over for this flow."""
        while frame is not None and (frame.orphaned or (frame.left and frame.opener is self)):
            frame = frame.parent
        return frame


@dataclass(eq=False)
class Frame:
    """A context made current, as the model sees it."""

    context_id: int
    parent: Frame | None
    opener: Flow | None = None
    left: bool = False
    orphaned: bool = False


@dataclass
class Context:
    """What the model knows of a context."""

    parent_id: int
    records: bool
    holds: int = 0
    heir_id: int | None = None


@dataclass
class Block:
    """A block at a slot; None owns what is not recorded."""

    family: int
    size: int
    owner_id: int | None


@dataclass
class Model:
    """Flows, guards, contexts and blocks, worked out by hand from the rules for each."""

    contexts: dict[int, Context] = field(
        default_factory=lambda: {
            _native.ROOT_ID: Context(0, True),
            _native.SYSTEM_ID: Context(_native.ROOT_ID, False),
        }
    )
    blocks: dict[int, Block] = field(default_factory=dict)

    def today(self, context_id: int) -> int:
        while (heir_id := self.contexts[context_id].heir_id) is not None:
            context_id = heir_id
        return context_id

    def current_id(self, flow: Flow) -> int:
        frame = flow.current()
        return _native.ROOT_ID if frame is None else self.today(frame.context_id)

    def charged_id(self, flow: Flow) -> int | None:
        context_id = self.current_id(flow)
        return context_id if self.contexts[context_id].records else None

    def parent_id(self, flow: Flow) -> int:
        """Who a context opened in this flow is started under: the innermost here that records."""
        frame = flow.current()
        while frame is not None and not self.contexts[self.today(frame.context_id)].records:
            frame = flow.at_or_below(frame.parent)
        return _native.ROOT_ID if frame is None else self.today(frame.context_id)

    def enter(self, flow: Flow, context_id: int) -> Frame:
        self.contexts[context_id].holds += 1
        flow.frame = Frame(context_id, flow.current(), flow)
        return flow.frame

    def leave(self, flow: Flow, frame: Frame) -> None:
        """Over for the flow that leaves it and the one that entered it; for all, if it was not current."""
        if frame.left:
            return
        frame.orphaned = flow.current() is not frame
        frame.left = True
        self.contexts[frame.context_id].holds -= 1
        if not frame.orphaned:
            flow.frame = flow.at_or_below(frame.parent)
            frame.opener.frame = frame.opener.current()

    def thread_frame(self, starter: Flow) -> Frame | None:
        """What a thread started in a flow begins with."""
        context_id = self.current_id(starter)
        inherited = starter.frame if THREADS_INHERIT else None
        if context_id == _native.ROOT_ID and not THREADS_INHERIT:
            return None
        return Frame(context_id, inherited)

    def survives(self, context_id: int) -> bool:
        return context_id <= _native.SYSTEM_ID or self.contexts[context_id].holds > 0

    def reset(self) -> None:
        for context_id in sorted(self.contexts, reverse=True):
            context = self.contexts[context_id]
            if self.survives(context_id) or context.heir_id is not None:
                continue
            heir_id = context.parent_id if context.records else _native.SYSTEM_ID
            while not self.survives(heir_id):
                heir_id = self.contexts[heir_id].parent_id
            context.heir_id = heir_id

    def expected(self, block: Block) -> tuple[int, int] | None:
        return None if block.owner_id is None else (self.today(block.owner_id), block.size)

    def ancestors(self, context_id: int) -> Iterator[int]:
        while context_id:
            yield context_id
            context_id = self.contexts[context_id].parent_id


numbers = st.integers(0, 63)
sizes = st.sampled_from([0, 1, 15, 16, 17, 511, 512, 513, 4096, SIZE, 1 << 20]) | st.integers(0, 2000)


class Machine(RuleBasedStateMachine):
    """Does everything twice: for real, and in the model. Numbers choose among what there is at the moment."""

    def __init__(self) -> None:
        super().__init__()
        self.collector_was_on = gc.isenabled()
        gc.disable()  # a guard in garbage is closed where the test says, not where the collector happens to run
        thag_nb.start(threads=True)
        thag_nb.reset()
        self.slots = (ctypes.c_void_p * SLOTS)()
        self.model = Model()
        self.loop = asyncio.new_event_loop()
        # A frame of this flow may be left for good in another one that inherited it: each example has a Context.
        self.main = Flow(contextvars.copy_context().run, None)
        self.flows = [self.main]
        self.workers: list[Flow] = []
        self.guards: list[tuple[ContextGuard, Frame]] = []
        self.left: list[tuple[ContextGuard, Frame]] = []
        self.garbage: Frame | None = None

    # ---- guards ----

    @precondition(lambda self: len(self.guards) < MOST_GUARDS)
    @rule(where=numbers, kind=st.sampled_from(["task", "task", "task", "system", "untracked"]))
    def enter(self, where: int, kind: str) -> None:
        flow = self.flow(where)
        parent_id = self.model.parent_id(flow)
        allocator = Allocator.TASK_AWARE if kind == "task" else Allocator.SYSTEM
        name = None if kind == "untracked" else kind
        guard = flow.do(lambda: thag_nb.push_allocator_context(allocator, name))
        if kind != "untracked":
            assert guard.context.parent_id == parent_id
            self.model.contexts[guard.context.id] = Context(parent_id, kind == "task")
        self.guards.append((guard, self.model.enter(flow, guard.context.id)))

    @precondition(lambda self: self.guards and len(self.guards) < MOST_GUARDS)
    @rule(where=numbers, which=numbers)
    def enter_again(self, where: int, which: int) -> None:
        flow = self.flow(where)
        self.enter_context(flow, self.guards[which % len(self.guards)][0].context)

    @precondition(lambda self: self.left and len(self.guards) < MOST_GUARDS)
    @rule(where=numbers, which=numbers)
    def enter_ended(self, where: int, which: int) -> None:
        flow = self.flow(where)
        self.enter_context(flow, self.left[which % len(self.left)][0].context)

    def enter_context(self, flow: Flow, context: AllocatorContext) -> None:
        guard = ContextGuard(context)
        if self.model.contexts[context.id].heir_id is None:
            flow.do(guard.enter)
            self.guards.append((guard, self.model.enter(flow, context.id)))
            return
        with pytest.raises(ValueError, match="not known any more"):
            flow.do(guard.enter)

    @precondition(lambda self: self.guards)
    @rule(where=numbers, which=numbers)
    def leave(self, where: int, which: int) -> None:
        flow = self.flow(where)
        guard, frame = self.guards.pop(which % len(self.guards))
        flow.do(guard.close)
        self.model.leave(flow, frame)
        self.left.append((guard, frame))

    @precondition(lambda self: self.guards)
    @rule(where=numbers)
    def leave_newest(self, where: int) -> None:
        self.leave(where, len(self.guards) - 1)

    @precondition(lambda self: self.guards)
    @rule(where=numbers, which=numbers)
    def leave_in_a_copy(self, where: int, which: int) -> None:
        """As when a generator is closed through `asyncio.to_thread`."""
        flow = self.flow(where)
        guard, frame = self.guards.pop(which % len(self.guards))
        flow.do(lambda: contextvars.copy_context().run(guard.close))
        self.model.leave(Flow(flow.do, flow.frame), frame)
        self.left.append((guard, frame))

    @precondition(lambda self: self.left)
    @rule(where=numbers, which=numbers)
    def leave_twice(self, where: int, which: int) -> None:
        guard, _ = self.left[which % len(self.left)]
        self.flow(where).do(guard.close)

    @precondition(lambda self: self.guards)
    @rule(where=numbers, which=numbers)
    def drop(self, where: int, which: int) -> None:
        flow = self.flow(where)
        guard, frame = self.guards.pop(which % len(self.guards))
        held = [guard]
        del guard
        flow.do(held.clear)
        self.model.leave(flow, frame)

    @precondition(lambda self: self.guards and self.garbage is None)
    @rule(which=numbers)
    def make_garbage(self, which: int) -> None:
        guard, self.garbage = self.guards.pop(which % len(self.guards))
        cycle: list[object] = [guard]
        cycle.append(cycle)

    @rule(where=numbers)
    def collect(self, where: int) -> None:
        flow = self.flow(where)
        flow.do(gc.collect)
        if self.garbage is not None:
            self.model.leave(flow, self.garbage)
            self.garbage = None

    # ---- blocks ----

    @rule(where=numbers, slot=numbers, family=numbers, way=numbers, size=sizes)
    def allocate(self, where: int, slot: int, family: int, way: int, size: int) -> None:
        flow, slot, family = self.flow(where), slot % SLOTS, family % len(FAMILIES)
        self.release(flow, slot, way)
        domain = FAMILIES[family][way & 1]
        block = Block(family, size, self.model.charged_id(flow))

        def work() -> None:
            if way & 2:
                self.slots[slot] = domain.calloc(1, size)
            elif way & 4:
                self.slots[slot] = domain.realloc(None, size)
            else:
                self.slots[slot] = domain.malloc(size)

        self.model.blocks[slot] = block
        self.do_to_block(flow, work, block, slot, domain is RAW_WITHOUT_GIL)

    @precondition(lambda self: self.model.blocks)
    @rule(where=numbers, slot=numbers, way=numbers, size=sizes)
    def resize(self, where: int, slot: int, way: int, size: int) -> None:
        flow, slot, block, domain = self.block(where, slot, way)

        def work() -> None:
            self.slots[slot] = domain.realloc(self.slots[slot], size)

        size = block.size if way & 8 else size
        grows = block.owner_id is None or size > block.size
        block.size = size
        if grows:
            block.owner_id = self.model.charged_id(flow)
        self.do_to_block(flow, work, block, slot, grows and domain is RAW_WITHOUT_GIL)

    @precondition(lambda self: self.model.blocks)
    @rule(where=numbers, slot=numbers, way=numbers)
    def fail_to_resize(self, where: int, slot: int, way: int) -> None:
        flow, slot, _, domain = self.block(where, slot, way)
        assert flow.do(lambda: domain.realloc(self.slots[slot], IMPOSSIBLE)) is None

    @precondition(lambda self: self.model.blocks)
    @rule(where=numbers, slot=numbers, way=numbers)
    def free(self, where: int, slot: int, way: int) -> None:
        flow, slot, _, _ = self.block(where, slot, way)
        self.release(flow, slot, way)

    # ---- flows ----

    @rule(where=numbers, slot=numbers, family=numbers, way=numbers, size=sizes, which=numbers, ends=st.booleans())
    def spawn(self, where: int, slot: int, family: int, way: int, size: int, which: int, ends: bool) -> None:
        """A short thread frees what is at the slot, allocates there anew, and may close a guard of somebody else."""
        starter = self.flow(where)
        worker = starter.do(Worker)
        flow = Flow(worker.do, self.model.thread_frame(starter))
        self.flows.append(flow)
        try:
            self.allocate(len(self.flows) - 1, slot, family, way, size)
            if ends and self.guards:
                self.leave(len(self.flows) - 1, which)
            self.check_current(flow)
        finally:
            self.flows.pop()
            worker.stop()

    @precondition(lambda self: len(self.flows) < MOST_FLOWS)
    @rule(where=numbers)
    def start_thread(self, where: int) -> None:
        starter = self.flow(where)
        worker = starter.do(Worker)
        flow = Flow(worker.do, self.model.thread_frame(starter), worker.stop)
        self.flows.append(flow)
        self.workers.append(flow)

    @precondition(lambda self: len(self.flows) < MOST_FLOWS)
    @rule(where=numbers, on=numbers)
    def create_asyncio_task(self, where: int, on: int) -> None:
        creator = self.flow(where)
        task = creator.do(lambda: AsyncioTask(self.loop, self.host(on)))
        self.flows.append(Flow(task.do, creator.frame, task.stop))

    @precondition(lambda self: len(self.flows) > 1)
    @rule(where=numbers)
    def end(self, where: int) -> None:
        flow = self.flows.pop(1 + where % (len(self.flows) - 1))
        if flow in self.workers:
            # Whoever it was running goes on elsewhere.
            self.workers.remove(flow)
            for other in self.flows:
                task = getattr(other.do, "__self__", None)
                if isinstance(task, AsyncioTask) and task.host == flow.do:
                    task.host = self.main.do
        flow.stop()

    @rule(where=numbers)
    def look_around(self, where: int) -> None:
        for number in range(len(self.flows)):
            self.check_current(self.flow(where + number))

    # ---- figures ----

    @rule(where=numbers)
    def reset(self, where: int) -> None:
        self.flow(where).do(thag_nb.reset)
        self.model.reset()

    @rule(where=numbers)
    def read(self, where: int) -> None:
        self.flow(where).do(thag_nb.read)

    @invariant()
    def owners_are_right(self) -> None:
        for slot, block in self.model.blocks.items():
            assert _native.owner_of(self.slots[slot]) == self.model.expected(block), f"slot {slot}: {block}"

    @invariant()
    def figures_are_right(self) -> None:
        contextvars.copy_context().run(self.check_figures)  # looking must not touch any flow

    def check_figures(self) -> None:
        assert_sums_hold()
        recording = thag_nb.read()
        records = {record.context_id: record for record in recording.contexts}
        alive = {number for number, context in self.model.contexts.items() if context.heir_id is None}
        assert records.keys() == alive
        self.check_inclusive(records)
        for context_id, record in records.items():
            self.check_record(record)
            buckets = recording.timeline(context_id)
            assert max(bucket.high_bytes for bucket in buckets) == record.peak_bytes
            assert all(bucket.low_bytes <= bucket.live_bytes <= bucket.high_bytes for bucket in buckets)
            assert [bucket.start_ns for bucket in buckets] == sorted({bucket.start_ns for bucket in buckets})
            assert buckets[-1].live_bytes == record.live_bytes

    def check_record(self, record: ContextRecord) -> None:
        known = sum(
            block.size
            for block in self.model.blocks.values()
            if block.owner_id is not None and self.model.today(block.owner_id) == record.context_id
        )
        assert record.self_live_bytes >= known
        assert record.peak_bytes >= record.live_bytes
        assert record.self_peak_bytes >= record.self_live_bytes
        assert record.peak_bytes >= record.self_peak_bytes
        if record.kind == "task":
            assert record.state == ("open" if self.model.contexts[record.context_id].holds else "ended")

    def check_inclusive(self, records: dict[int, ContextRecord]) -> None:
        inclusive = dict.fromkeys(self.model.contexts, 0)
        for context_id, record in records.items():
            for above in self.model.ancestors(context_id):
                inclusive[above] += record.self_live_bytes
        assert {number: record.live_bytes for number, record in records.items()} == {
            number: inclusive[number] for number in records
        }

    # ---- what the rules share ----

    def flow(self, number: int) -> Flow:
        return self.flows[number % len(self.flows)]

    def host(self, number: int) -> Callable[[Callable[[], Any]], Any]:
        """Who runs the loop: the main thread, or a worker."""
        hosts = [self.main, *self.workers]
        return hosts[number % len(hosts)].do

    def block(self, where: int, slot: int, way: int) -> tuple[Flow, int, Block, Any]:
        taken = sorted(self.model.blocks)
        slot = taken[slot % len(taken)]
        block = self.model.blocks[slot]
        return self.flow(where), slot, block, FAMILIES[block.family][way & 1]

    def release(self, flow: Flow, slot: int, way: int) -> None:
        block = self.model.blocks.pop(slot, None)
        if block is not None:
            domain = FAMILIES[block.family][way & 1]
            flow.do(lambda: domain.free(self.slots[slot]))

    def do_to_block(self, flow: Flow, work: Callable[[], None], block: Block, slot: int, without_gil: bool) -> None:
        """Without the GIL the last known context of the thread may be charged instead of the current one: counted."""
        before = _native.health()["stale_lookups"]
        flow.do(work)
        stale = _native.health()["stale_lookups"] - before
        if without_gil and stale:
            owner = _native.owner_of(self.slots[slot])
            block.owner_id = None if owner is None else owner[0]
        assert _native.owner_of(self.slots[slot]) == self.model.expected(block)
        self.check_current(flow)

    def check_current(self, flow: Flow) -> None:
        assert flow.do(_native.current_id) == self.model.current_id(flow)
        assert flow.do(thag_nb.current_context) == registry[self.model.current_id(flow)]

    def teardown(self) -> None:
        for slot in list(self.model.blocks):
            self.release(self.main, slot, 0)
        while self.guards:
            self.leave(0, len(self.guards) - 1)
        self.collect(0)
        while len(self.flows) > 1:
            self.end(len(self.flows) - 2)
        self.loop.close()
        if self.collector_was_on:
            gc.enable()
        assert_sums_hold()


def test_random_work_of_many_flows_is_charged_as_the_model_says():
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("look", [thag_nb.read, thag_nb.status, thag_nb.current_context, thag_nb.reset])
def test_looking_leaves_a_flow_where_it_was_when_its_guard_had_been_closed_elsewhere(look):
    thag_nb.start()
    with thag_nb.task("outer"):
        guard = thag_nb.push_allocator_context(Allocator.TASK_AWARE, "inner")
        worker = Worker()
        worker.do(guard.close)
        worker.stop()
        before = thag_nb.current_context()
        look()
        assert thag_nb.current_context() == before
    assert thag_nb.current_context().name == "root"
    assert_sums_hold()


@pytest.mark.parametrize("look", [thag_nb.status, thag_nb.current_context], ids=["after bookkeeping", "untouched"])
def test_what_closing_an_inherited_guard_means_does_not_depend_on_whether_the_flow_has_done_bookkeeping(look):
    def found() -> tuple[str, str]:
        outer = thag_nb.push_allocator_context(Allocator.TASK_AWARE, "outer")
        inner = thag_nb.push_allocator_context(Allocator.TASK_AWARE, "inner")
        heir = contextvars.copy_context()
        worker = Worker()
        worker.do(inner.close)  # passed over by every flow from now on: both of ours are in "outer"
        worker.stop()
        heir.run(look)
        heir.run(outer.close)  # so there it is innermost, and here, where it was entered, it is over as well
        return heir.run(thag_nb.current_context).name, thag_nb.current_context().name

    thag_nb.start()
    assert contextvars.copy_context().run(found) == ("root", "root")
