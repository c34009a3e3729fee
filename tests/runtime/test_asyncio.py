"""Contexts and asyncio: cancellation, groups, eager tasks, shared Contexts, many loops."""

import asyncio
import contextvars
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Generator

import pytest
from blocks import RAW_WITHOUT_GIL, SIZE
from figures import assert_sums_hold, of

import thag_nb
from thag_nb import _native

pytestmark = pytest.mark.usefixtures("dispatcher")


def name() -> str:
    return thag_nb.current_context().name


def test_eight_loops_in_eight_threads_charge_every_task_its_own():
    count, keep = 200, {}

    async def work(thread: int, number: int) -> None:
        with thag_nb.task("in a loop") as context:
            block = b""
            for step in range(3):
                block = bytes(1_000 + number + step)
                await asyncio.sleep(0)
            keep[thread, number] = context.id, block

    async def main(thread: int) -> None:
        await asyncio.gather(*(work(thread, number) for number in range(count)))

    threads = [threading.Thread(target=lambda thread=thread: asyncio.run(main(thread))) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keep) == 8 * count
    owners = [_native.owner_of(id(block)) for _, block in keep.values()]
    assert owners == [(context_id, sys.getsizeof(block)) for context_id, block in keep.values()]
    assert_sums_hold()


def test_cancellation_timeouts_and_shields_restore_the_context():
    async def main() -> list[str]:
        names = []

        async def long() -> None:
            with thag_nb.task("inner"):
                await asyncio.sleep(10)

        with thag_nb.task("outer"):
            task = asyncio.create_task(long())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            names.append(name())
            with pytest.raises(TimeoutError):  # noqa: PT012 - the timeout is what raises
                async with asyncio.timeout(0.01):
                    with thag_nb.task("timed"):
                        await asyncio.sleep(10)
            names.append(name())
            shielded = asyncio.create_task(long())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(shielded), 0.01)
            names.append(name())
            shielded.cancel()
        return [*names, name()]

    assert asyncio.run(main()) == ["outer", "outer", "outer", "root"]


def test_a_failing_sibling_in_a_group_leaves_everybody_where_they_were():
    async def main() -> list[str]:
        names = []

        async def waits() -> None:
            try:
                with thag_nb.task("sibling"):
                    await asyncio.sleep(10)
            finally:
                names.append(name())

        async def fails() -> None:
            with thag_nb.task("failing"):
                await asyncio.sleep(0)
                raise LookupError

        with thag_nb.task("group"):
            with pytest.raises(ExceptionGroup):  # noqa: PT012 - the group is what raises
                async with asyncio.TaskGroup() as group:
                    group.create_task(waits())
                    group.create_task(fails())
            names.append(name())
        return [*names, name()]

    assert asyncio.run(main()) == ["group", "group", "root"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_an_eager_task_that_finishes_at_once_leaves_its_parents_context_alone():
    async def child() -> str:
        guard = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "child")
        inside = name()
        del guard
        return inside

    async def main() -> tuple[str, str]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        with thag_nb.task("parent"):
            inside = await asyncio.create_task(child())
            return inside, name()

    assert asyncio.run(main()) == ("child", "parent")


def test_a_scope_that_a_thread_closes_in_a_copy_of_its_context_is_over_for_who_opened_it_and_what_that_starts():
    """As a web framework does with a dependency that yields, and a test runner with a fixture's teardown."""

    def dependency() -> Generator[None, None, None]:
        with thag_nb.task("request"):
            yield

    async def background(go_on: asyncio.Event) -> str:
        await go_on.wait()
        return name()

    async def started_afterwards() -> str:
        return name()

    async def main() -> list[str]:
        with thag_nb.task("around"):
            generator, go_on = dependency(), asyncio.Event()
            next(generator)
            inherited = asyncio.create_task(background(go_on))
            await asyncio.to_thread(generator.close)
            go_on.set()
            names = [name(), await asyncio.to_thread(name), await asyncio.create_task(started_afterwards())]
            return [*names, await inherited]

    assert asyncio.run(main()) == ["around", "around", "around", "request"]
    assert of("request").state == "ended"


def test_an_async_generator_that_the_loop_closes_in_a_task_of_its_own_leaves_who_began_it_where_it_was():
    async def values() -> AsyncGenerator[None, None]:
        with thag_nb.task("generator"):
            yield

    async def main() -> list[str]:
        async for _ in values():
            break  # the loop is given the generator to close, in a copy of this Context
        await asyncio.sleep(0.01)
        return [name(), await asyncio.create_task(asyncio.to_thread(name))]

    assert asyncio.run(main()) == ["root", "root"]
    assert of("generator").state == "ended"


def test_two_tasks_that_share_a_contextvars_context_break_nothing():
    async def work(task: str, shared: asyncio.Event) -> None:
        with thag_nb.task(task):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        shared.set()

    async def main() -> str:
        shared, done = contextvars.copy_context(), asyncio.Event()
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(work(task, done), context=shared) for task in ("one", "two", "three")]
        await asyncio.gather(*tasks)
        assert shared.run(name) == "root"
        return name()

    assert asyncio.run(main()) == "root"
    assert_sums_hold()


def test_raw_allocations_without_the_gil_are_their_own_contexts_whatever_runs_meanwhile():
    stop, rounds = threading.Event(), 3_000

    def with_gil() -> None:
        with thag_nb.task("busy"):
            while not stop.is_set():
                [bytearray(100) for _ in range(50)]

    def without_gil() -> None:
        with thag_nb.task("without the GIL"):
            for _ in range(rounds):
                RAW_WITHOUT_GIL.free(RAW_WITHOUT_GIL.malloc(SIZE))
        stop.set()

    threads = [threading.Thread(target=work) for work in (with_gil, without_gil)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rounds * SIZE <= of("without the GIL").self_total_bytes < rounds * (SIZE + 500)
    assert of("busy").peak_bytes < SIZE
    assert_sums_hold()


def test_finalizers_and_weakref_callbacks_repay_the_owner_and_charge_the_one_who_runs_them():
    keep = []

    class Finalized:
        def __init__(self) -> None:
            self.block = bytearray(SIZE)

        def __del__(self) -> None:
            keep.append(bytearray(2 * SIZE))

    with thag_nb.task("owner"):
        finalized = [Finalized()]
        watched = [Finalized()]
        reference = weakref.ref(watched[0], lambda _: keep.append(bytearray(3 * SIZE)))
    with thag_nb.task("runs them"):
        finalized.clear()
        watched.clear()
    assert of("owner").self_live_bytes < SIZE
    assert 7 * SIZE <= of("runs them").self_live_bytes < 7 * SIZE + 2_000
    assert reference() is None
    assert len(keep) == 3
    assert_sums_hold()
