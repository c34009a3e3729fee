"""Contexts that have ended and hold nothing: the newest are kept, and older ones are counted in what is above them."""

import contextlib
import contextvars
import ctypes
import itertools
from collections.abc import Iterator

import pytest
from blocks import RAW, SIZE
from figures import assert_sums_hold, of

import thag_nb
from thag_nb import _native
from thag_nb.errors import UnknownContextError
from thag_nb.runtime.contexts import registry

KEPT = 1 << 14
ENOUGH = KEPT * 3 // 2  # that older ones are surely looked for


def burn(contexts: int = ENOUGH) -> None:
    """Takes nothing that Python keeps for the next time, as it does integers: that would be held by some of them."""
    for _ in itertools.repeat(None, contexts):
        with thag_nb.task("burnt"):
            bytes(SIZE)
            block = bytes(2)
        del block


def burn_everywhere() -> None:
    with thag_nb.task("around"):
        burn()
    burn()


@pytest.fixture
def slots() -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * 4)()


pytestmark = pytest.mark.usefixtures("dispatcher")


@pytest.fixture(autouse=True)
def around_a_reset() -> Iterator[None]:
    thag_nb.reset()
    yield
    assert_sums_hold()
    thag_nb.reset()


def assert_counts(context_id: int, burnt: int) -> None:
    """What is below the context is so many burnt ones, each like the others, most of which are not listed."""
    recording = thag_nb.read()
    record, each = recording.find(context_id), recording.find_all("burnt")[-2]
    others = [child for child in recording.contexts if child.context_id > context_id and child.name != "burnt"]
    own_total_bytes = record.self_total_bytes + sum(child.self_total_bytes for child in others)
    assert sum(child.name == "burnt" for child in recording.contexts) < burnt
    assert record.total_bytes - own_total_bytes == burnt * each.total_bytes
    assert burnt * each.allocations <= record.allocations < 3 * burnt * each.allocations
    assert abs(record.allocations - record.frees) < 100
    assert each.foreign_frees * burnt <= record.foreign_frees < (each.foreign_frees + 2) * burnt


def test_a_day_of_tasks_without_a_reset_takes_no_more_room_than_its_first_hour():
    burn(2 * KEPT)
    with thag_nb.untracked():
        most = _native.overhead()
    before = thag_nb.status().given_back
    burn(8 * KEPT)
    with thag_nb.untracked():
        after = _native.overhead()
    assert (after["contexts"], after["timelines"]) <= (most["contexts"], most["timelines"])
    assert len(registry) < 1.5 * KEPT
    status = thag_nb.status()
    assert status.given_back - before > 7 * KEPT
    assert f"{status.given_back:,} old contexts that held nothing are only counted in those above them" in str(status)
    assert not any("contexts" in note for note in status.notes)  # which are what to doubt


def test_the_newest_are_listed_and_their_ids_go_on():
    burn()
    with thag_nb.task("burnt") as last:
        pass
    ids = list(thag_nb.contexts().index)
    assert ids[-KEPT:] == list(range(last.id - KEPT + 1, last.id + 1))
    assert ids == sorted(set(ids))


def test_what_is_above_counts_those_that_are_not_listed():
    with thag_nb.task("around") as around:
        RAW.free(RAW.malloc(SIZE))
        with thag_nb.task("part"):
            burn()
    assert_counts(around.id, ENOUGH)
    record = thag_nb.read().find(around.id)
    assert record.self_total_bytes < 2 * SIZE <= 2 * record.peak_bytes < 4 * SIZE


def test_a_reset_counts_from_now_on_and_not_what_was_given_back():
    with thag_nb.task("around"):
        burn()
        thag_nb.reset()
        record = of("around")
    assert record.total_bytes < SIZE


def test_counts_go_up_and_up():
    """What was given back below a context that is given back itself is counted above both."""
    around = registry.open("around", "task")
    between = registry.open("between", "task", parent_id=around.id)
    for context in around, between:
        _native.hold(context.id)
    burn_below(between)
    _native.release(between.id)
    burn_below(around)
    assert between.id not in registry
    assert_counts(around.id, 2 * ENOUGH)
    _native.release(around.id)


def burn_below(context: thag_nb.AllocatorContext) -> None:
    for _ in itertools.repeat(None, ENOUGH):
        guard = thag_nb.ContextGuard(registry.open("burnt", "task", parent_id=context.id))
        guard.enter()
        bytes(SIZE)
        guard.close()


def test_a_cell_is_not_driven_out_by_tasks_of_others():
    with thag_nb.task("cell"):
        pass
    with thag_nb.task("next cell"):
        burn()
    assert of("cell").state == "ended"


def test_what_still_holds_a_block_is_kept_be_it_an_empty_one(slots):
    for slot, size in enumerate((SIZE, 0)):
        with thag_nb.task(f"holds {size}"):
            slots[slot] = RAW.malloc(size)
        assert _native.owner_of(slots[slot]) is not None
    with thag_nb.task("held"):
        slots[2] = RAW.malloc(SIZE)
    RAW.free(slots[2])
    burn()
    assert [of(name).state for name in (f"holds {SIZE}", "holds 0")] == ["ended", "ended"]
    with pytest.raises(UnknownContextError):
        thag_nb.read().find("held")
    for slot in slots[:2]:
        RAW.free(slot)
    burn()
    with pytest.raises(UnknownContextError):
        thag_nb.read().find(f"holds {SIZE}")


@pytest.mark.parametrize("taken_over", [False, True], ids=["from before a reset", "taken over"])
def test_an_empty_block_keeps_it_after_a_reset_as_well(taken_over, slots):
    with thag_nb.task("open"):
        with thag_nb.task("dropped") if taken_over else contextlib.nullcontext():
            slots[0] = RAW.malloc(0)
        thag_nb.reset()
    burn()
    assert _native.owner_of(slots[0]) == (of("open").context_id, 0)
    RAW.free(slots[0])


def test_what_is_above_one_that_is_kept_is_kept_as_long():
    above = registry.open("above", "task")
    between = registry.open("between", "task", parent_id=above.id)
    inside = registry.open("inside", "task", parent_id=between.id)
    for context in above, between, inside:
        _native.hold(context.id)
    _native.release(above.id)
    _native.release(between.id)
    burn_everywhere()
    assert [of(name).state for name in ("above", "between", "inside")] == ["ended", "ended", "open"]
    assert registry[inside.id].parent_id == between.id
    _native.release(inside.id)
    burn_everywhere()
    assert {above.id, between.id, inside.id}.isdisjoint(_native.context_ids())


def test_work_that_goes_on_in_an_ended_context_is_charged_to_it(slots):
    work = contextvars.copy_context()
    guard = thag_nb.ContextGuard(registry.open("handed on", "task"))
    work.run(guard.enter)
    later = work.copy()
    work.run(guard.close)
    burn()
    assert of("handed on").live_bytes == 0
    slots[0] = later.run(RAW.malloc, SIZE)
    assert SIZE <= of("handed on").live_bytes < 2 * SIZE
    RAW.free(slots[0])


def test_who_asks_for_one_that_is_not_known_any_more_is_told():
    with thag_nb.task("once") as once:
        pass
    burn()
    assert once.id not in registry
    with pytest.raises(ValueError, match=f"the context {once.id} is not known any more: .* ended and held nothing"):
        thag_nb.ContextGuard(once).enter()
    with pytest.raises(UnknownContextError):
        thag_nb.read().find(once)


def test_a_parent_that_has_just_been_given_back_is_none():
    """Whichever of the new ones it is before which old ones are looked for."""
    old = [ended("old").id for _ in itertools.repeat(None, 6000)]
    burn(KEPT - 100)
    above = thag_nb.current_context().id
    parents = [ended("child", parent_id).parent_id for parent_id in old]
    assert all(found in (parent_id, above) for parent_id, found in zip(old, parents, strict=True))
    assert above in parents


def ended(name: str, parent_id: int | None = None) -> thag_nb.AllocatorContext:
    context = registry.open(name, "task", parent_id=parent_id)
    _native.hold(context.id)
    _native.release(context.id)
    return context


def test_nothing_is_given_back_while_a_thread_without_the_gil_may_have_found_it(interposed):
    """It has looked its context up and not yet charged it."""
    code = """
        def burn():
            for _ in range(30_000):
                thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "burnt").close()

        thag_nb.start()
        flow = contextvars.copy_context()
        guard = flow.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, "late")
        flow.run(_native.set_foreground, guard.context.id)
        library.late_begin(200 << 20)
        flow.run(guard.close)
        burn()
        assert thag_nb.status().given_back == 0
        library.late_finish_within(_native.now)
        burn()
        assert thag_nb.status().given_back > 0
        assert _native.owner_of(library.late_block()) == (guard.context.id, 200 << 20)
        assert_sums_hold()
        RAW.free(library.late_block())
        burn()
        assert _native.context(guard.context.id) is None
        assert_sums_hold()
    """
    assert interposed(code) == ""
