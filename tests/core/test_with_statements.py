"""Stacks while a `with` statement whose lines are recorded goes on: what calls it is not looked at again."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from stacks import both

import thag_nb

pytestmark = pytest.mark.usefixtures("dispatcher")


def recorded() -> thag_nb.task:
    return thag_nb.task("recorded", lines=True)


def compare(*_: object) -> int:
    pythons, ours = both()
    assert ours == pythons
    return len(ours)


def further_in(depth: int, call: Callable[[], object]) -> object:
    return call() if depth == 0 else further_in(depth - 1, call)


def statement(depth: int = 0) -> None:
    with recorded():
        compare()
        further_in(depth, compare)
        if depth:
            statement(depth - 1)
        compare()
    compare()


def no_statement(depth: int = 0) -> None:
    """Has its frame where that of the other was."""
    further_in(depth, compare)
    compare()


def test_statements_within_statements():
    for depth in (0, 5, 2, 0, 7):
        statement(depth)
        further_in(depth, statement)
        with recorded():
            further_in(depth, functools.partial(statement, 3))
            statement(depth)


@pytest.mark.parametrize("first", [statement, functools.partial(statement, 3)])
def test_what_runs_where_a_statement_was_has_callers_of_its_own(first: Callable[[], None]):
    def one_line() -> None:
        first()

    def another_line() -> None:
        pass
        no_statement()

    with recorded():
        for _ in range(3):
            one_line()
            another_line()
            _ = one_line(), another_line()


def test_a_statement_that_ends_by_an_error_is_over():
    def failing() -> None:
        with recorded():
            compare()
            raise ValueError("on purpose")

    def going_on() -> None:
        compare()
        no_statement()

    for _ in range(3):
        with pytest.raises(ValueError, match="on purpose"):
            failing()
        going_on()
        going_on()


def test_generators_go_on_elsewhere_with_a_statement_open():
    def generated() -> Iterator[int]:
        with recorded():
            while True:
                yield compare()

    generator = generated()

    def go_on() -> int:
        return next(generator)

    def above() -> None:
        go_on()
        go_on()

    with recorded():
        for depth in (0, 3, 3, 1, 0):
            above()
            further_in(depth, go_on)
            above()
            go_on()
    generator.close()
    compare()


def test_coroutines_with_a_statement_open_take_turns():
    async def waiting(depth: int) -> None:
        with recorded():
            compare()
            await asyncio.sleep(0)
            further_in(depth, statement)
            await asyncio.sleep(0)
            compare()

    async def all_of_them() -> None:
        await asyncio.gather(*map(waiting, (0, 4, 2, 4)))
        compare()

    asyncio.run(all_of_them())
    with recorded():
        asyncio.run(all_of_them())
        compare()


def test_what_enters_for_another_is_no_statement():
    """The frame of ``enter_context`` is over when the task has only begun."""
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(recorded())
            compare()
            no_statement()
            no_statement()
        scope = recorded()
        scope.__enter__()
        no_statement()
        compare()
        scope.__exit__(None, None, None)
    compare()


def test_very_deep_statements_have_both_ends():
    """Of such stacks, not all frames are kept: where they are is not how deep they are."""

    def deep(depth: int) -> None:
        if depth == 0:
            with recorded():
                for further in (0, 300, 1, 500, 210, 200, 209, 190, 299, 2, 450, 3):
                    further_in(further, compare_ends)
        else:
            deep(depth - 1)

    def compare_ends() -> None:
        pythons, ours = both()
        gap = ours.index(("", 0, "...")) if len(pythons) > 520 else len(ours)
        inner, outer = ours[:gap], ours[gap + 1 :]
        assert inner == pythons[:gap]
        assert outer == pythons[len(pythons) - len(outer) :]
        # From 3.12 on, what the interpreter puts between frames counts as well.
        assert len(inner) == len(pythons) <= 513 or (240 < len(inner) <= 256 and 240 < len(outer) <= 256)

    for depth in (0, 100, 190, 300):
        deep(depth)


def test_statements_of_greenlets_end_in_any_order():
    greenlet = pytest.importorskip("greenlet")

    def switch() -> None:
        greenlet.getcurrent().parent.switch()

    def open_for_a_while() -> None:
        with recorded():
            compare()
            switch()
            compare()

    def first() -> None:
        further_in(80, open_for_a_while)  # deeper than those of others
        open_for_a_while()  # and when this ends, the other's goes on
        switch()
        further_in(80, no_statement)  # its frame is where the first statement's was
        further_in(80, no_statement)
        no_statement()
        no_statement()

    def second() -> None:
        open_for_a_while()
        no_statement()

    for _ in range(3):
        workers = [greenlet.greenlet(work) for work in (first, second)]
        for worker in workers:
            worker.gr_context = contextvars.copy_context()
            worker.switch()
            compare()
        no_statement(3)
        no_statement(3)
        workers[0].switch()
        with recorded():
            for number in (0, 1, 0):
                workers[number].switch()
                compare()
        assert all(worker.dead for worker in workers)


KEPT = recorded()


class NeverLeft(type(KEPT)):  # type: ignore[misc]
    def __exit__(self, *_: object) -> None:
        """It is somebody else's to end what was begun."""


NEVER_LEFT = NeverLeft("recorded", lines=True)


def never_leave() -> None:
    """As a debugger's ``jump``, which is not tried: from 3.12 on, code that was traced once has data for that."""
    with NEVER_LEFT:
        compare()


def be_ended_by_another_thread() -> None:
    with KEPT:
        compare()
        thread = threading.Thread(target=KEPT.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        compare()
    compare()


@pytest.fixture
def all_left() -> Iterator[None]:
    yield
    while thag_nb.current_context().name == "recorded":
        type(KEPT).__exit__(NEVER_LEFT, None, None, None)
        KEPT.__exit__(None, None, None)


@pytest.mark.parametrize("leave", [never_leave, be_ended_by_another_thread])
@pytest.mark.usefixtures("all_left")
def test_a_frame_that_is_over_is_not_taken_for_the_statement_that_it_had(leave: Callable[[], None]):
    go_on = no_statement

    def one_line() -> None:
        leave()

    def another_line() -> None:
        """As large as that, and its callee's frame is where the other's was."""
        go_on()
        go_on()

    for depth in (0, 1, 2):
        further_in(depth, one_line)
        further_in(depth, another_line)
        _ = further_in(depth, one_line), further_in(depth, another_line), no_statement()


@pytest.mark.usefixtures("all_left")
def test_what_a_frame_had_is_let_go_of_when_its_statement_is_left_at_last():
    class Held:
        pass

    def function() -> weakref.ref[Held]:
        held = Held()
        with NEVER_LEFT:
            compare(held)
        return weakref.ref(held)

    held = function()
    type(KEPT).__exit__(NEVER_LEFT, None, None, None)
    assert held() is None


def test_what_a_frame_had_is_collected_with_the_statement_that_it_never_left():
    def function() -> weakref.ref[thag_nb.task]:
        scope = NeverLeft("recorded", lines=True)
        with scope:
            compare()
        return weakref.ref(scope)

    scope = function()
    gc.collect()
    assert scope() is None
