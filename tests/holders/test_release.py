"""What would go if names went, by trial."""

from __future__ import annotations

import functools
import gc
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from processes import python

import thag_nb
from thag_nb import _native
from thag_nb.holders import kinds
from thag_nb.holders.release import GroupKind

SIZE = 100_003
NAMES, LIBRARY, CACHE, PASSING, GARBAGE, DETOUR = GroupKind


def tried(
    *groups: tuple[GroupKind, list[Any]], limit_ms: int = 10_000, excluded: list[Any] | None = None, least: int = 10_000
) -> Any:
    """What a walk over these holders, in their order, tells of the task "made": bytes by label, pinned, cyclic."""
    context_id = thag_nb.read().find("made").context_id
    walk = _native.Walk(kinds.known(), ())
    walk.exclude(excluded or [])
    described = []
    for number, (kind, objects) in enumerate(groups):
        if kind not in (PASSING, GARBAGE, DETOUR):
            pending: list[Any] = []
            _, special = walk.follow(number, objects, pending)
            walk.follow(number, [], special)
        described.append((number, kind, objects))
    del objects
    told = walk.release(described, limit_ms)
    if told is None:
        return None
    sums, labels = told
    found: dict[Any, int] = {}
    for (_first, label, pinned, cyclic, context), held in sums.items():
        if context == context_id:
            key = (labels[label], pinned, cyclic)
            found[key] = found.get(key, 0) + held
    return {key: held for key, held in found.items() if held > least}


class Node:
    data: Any = None
    other: Any = None


def block() -> bytearray:
    with thag_nb.task("made"):
        return bytearray(SIZE)


@pytest.fixture(autouse=True)
def _dispatcher(dispatcher):
    """Every test here records."""


def only(found: Any) -> Any:
    ((key, held),) = found.items()
    assert held >= SIZE
    return key


def test_what_one_name_holds_goes_with_it():
    names = {"a": [block()]}
    assert only(tried((NAMES, [names["a"]]))) == ((0,), False, False)


def test_what_two_names_hold_goes_with_both():
    names: dict[str, Any] = {"a": [block()]}
    names["b"] = [names["a"][0]]
    assert only(tried((NAMES, [names["a"]]), (NAMES, [names["b"]]))) == ((0, 1), False, False)


def test_sets_that_begin_alike_are_kept_apart():
    with thag_nb.task("made"):
        names: dict[str, Any] = {"a": [bytearray(SIZE), bytearray(SIZE)]}
    names["b"], names["c"] = names["a"]
    found = tried(*((NAMES, [value]) for value in names.values()))
    assert set(found) == {((0, 1), False, False), ((0, 2), False, False)}


def test_what_is_held_by_something_unknown_stays():
    names = {"a": [block()]}
    unknown = names["a"][0]
    assert only(tried((NAMES, [names["a"]]))) == ((0,), True, False)
    del unknown


def test_what_hangs_on_something_that_stays_stays():
    names = {"a": [Node()]}
    names["a"][0].data = names["a"][0].other = block()  # of two references, so that it has a label of its own
    unknown = names["a"][0]
    assert only(tried((NAMES, [names["a"]]))) == ((0,), True, False)
    del unknown


def test_a_cycle_and_what_hangs_on_it_wait_for_the_collector():
    names: dict[str, Any] = {"a": Node()}
    names["a"].other = names["a"]
    names["a"].data = [block()]
    assert only(tried((NAMES, [names["a"]]))) == ((0,), False, True)


def array_of(*held: Any) -> Any:
    made = np.empty(len(held), dtype=object)
    made[:] = held
    return made


def test_a_cycle_that_the_collector_is_not_shown_stays():
    names: dict[str, Any] = {"a": array_of(None, block())}
    names["a"][0] = names["a"]
    assert only(tried((NAMES, [names["a"]]))) == ((0,), True, True)
    names = {"a": Node()}
    names["a"].data, names["a"].other = array_of(names["a"]), [block()]
    assert only(tried((NAMES, [names["a"]]))) == ((0,), True, True)


def test_what_hangs_on_a_cycle_in_an_array_goes_with_it():
    names: dict[str, Any] = {"a": Node()}
    names["a"].other, names["a"].data = names["a"], array_of([block()], (1,))
    assert only(tried((NAMES, [names["a"]]))) == ((0,), False, True)


def test_a_cycle_behind_what_is_held_stays():
    names: dict[str, Any] = {"a": Node()}
    inner = Node()
    inner.other, inner.data = inner, [block()]
    names["a"].data, names["a"].other = array_of(names["a"]), inner
    del inner
    assert only(tried((NAMES, [names["a"]]))) == ((0,), True, True)


def test_what_hangs_on_a_cycle_twice_goes_with_it():
    names: dict[str, Any] = {"a": Node()}
    names["a"].other, names["a"].data = names["a"], [block()]
    names["a"].data.append(tuple(names["a"].data))
    found = tried((NAMES, [names["a"]]))
    assert only(found) == ((0,), False, True)


def test_a_cycle_in_an_array_in_a_cycle_is_left_by_the_first_run_of_the_collector():
    gc.disable()
    try:
        names: dict[str, Any] = {"a": Node()}
        inner = Node()
        inner.other, inner.data = inner, [block()]
        names["a"].other, names["a"].data = names["a"], array_of(inner)
        del inner
        assert only(tried((NAMES, [names["a"]]))) == ((0,), True, True)
        before = thag_nb.read().find("made").self_live_bytes
        del names["a"]
        gc.collect()
        assert thag_nb.read().find("made").self_live_bytes == before
        gc.collect()
        assert thag_nb.read().find("made").self_live_bytes <= before - SIZE
    finally:
        gc.enable()


def test_a_cycle_is_collected_though_garbage_refers_to_it():
    gc.disable()
    try:
        names: dict[str, Any] = {"a": Node()}
        names["a"].other, names["a"].data = names["a"], [block()]
        garbage = Node()
        garbage.other, garbage.data = garbage, [names["a"]]
        listed = [garbage, garbage.data]
        del garbage
        assert only(tried((NAMES, [names["a"]]), (GARBAGE, listed))) == ((0,), False, True)
    finally:
        gc.enable()


def test_what_is_beside_a_cycle_goes_at_once():
    names: dict[str, Any] = {"a": [Node(), block()]}
    names["a"][0].other = names["a"][0]
    assert only(tried((NAMES, [names["a"]]))) == ((0,), False, False)


def test_a_name_of_several_references_lets_go_only_if_all_are_told():
    names: dict[str, Any] = {"a": block()}
    names["again"] = names["a"]
    assert only(tried((NAMES, [names["a"]]))) == ((0,), True, False)
    assert only(tried((NAMES, [names["a"], names["again"]]))) == ((0,), False, False)


def test_a_reference_in_passing_keeps_nothing():
    names: dict[str, Any] = {"a": block()}
    passing = [names["a"]]
    assert only(tried((NAMES, [names["a"]]))) == ((0,), True, False)
    listed = [passing[0]]
    assert only(tried((NAMES, [names["a"]]), (PASSING, listed))) == ((0,), False, False)


def test_a_library_that_leads_there_is_told():
    names = {"a": [block()]}
    library = {"kept": names["a"], "other": [1, 2, 3]}
    other = {"kept": names["a"]}
    found = tried((NAMES, [names["a"]]), (LIBRARY, [library]), (LIBRARY, [other]))
    assert only(found) == ((0, 1), False, False)


def test_a_cache_lets_go_of_results_but_not_of_its_function():
    names: dict[str, Any] = {}
    with thag_nb.task("made"):
        big = bytearray(2 * SIZE)
        names["big"] = functools.lru_cache(lambda n, data=big: bytearray(n + 0 * len(data)))
        names["big"](SIZE)
        names["big"](SIZE + 1)
    del big
    found = tried((NAMES, [names["big"], names["big"].__wrapped__]), (CACHE, [names["big"]]))
    assert set(found) == {((0,), False, False), ((1,), False, False)}
    for held in found.values():
        assert 2 * SIZE < held < 2 * SIZE + 20_000


def test_labels_that_an_index_looks_up_go_with_it():
    with thag_nb.task("made"):
        names = {"a": pd.Index([("x" * 1000) + str(n) for n in range(500)], dtype=object)}
    assert "not there" not in names["a"]
    unknown = names["a"][7]
    found = tried((NAMES, [names["a"]]), least=1000)
    whole = sum(map(sys.getsizeof, names["a"]))
    assert whole * 0.98 < found[(0,), False, False] < whole * 1.05
    assert 1000 < found[(0,), True, False] < 1200, "the one that is held elsewhere"
    del unknown


def test_small_results_go_with_their_cache_to_the_last_byte():
    names: dict[str, Any] = {}
    with thag_nb.task("made"):
        names["load"] = functools.lru_cache(maxsize=10_000)(lambda n: n + 1_000_000)
        for n in range(5_000):
            names["load"](n + 1_000)
    ((key, held),) = tried((NAMES, [names["load"]]), (CACHE, [names["load"]])).items()
    before = thag_nb.read().find("made").self_live_bytes
    names["load"].cache_clear()
    assert key == ((1,), False, False)
    assert held >= before - thag_nb.read().find("made").self_live_bytes > 0.95 * held


def test_what_garbage_refers_to_waits_for_the_collector():
    gc.disable()
    try:
        names: dict[str, Any] = {"a": [block()]}
        garbage = Node()
        garbage.other, garbage.data = garbage, [names["a"]]
        listed = [garbage, garbage.data]
        del garbage
        assert only(tried((NAMES, [names["a"]]))) == ((0,), True, False)
        assert only(tried((NAMES, [names["a"]]), (GARBAGE, listed))) == ((0,), False, True)
    finally:
        gc.enable()


def test_what_a_frame_leads_to_by_a_detour_goes_with_both():
    names: dict[str, Any] = {"frame": (lambda: sys._getframe())(), "a": block()}
    not_walked = [names["a"]]
    groups = [(NAMES, [names["frame"]]), (NAMES, [names["a"]])]
    assert only(tried(*groups)) == ((1,), True, False)
    assert only(tried(*groups, (DETOUR, [names["frame"], names["a"]]))) == ((0, 1), False, False)
    del not_walked


def test_too_many_holders_are_not_told_one_by_one():
    shared = [block()]
    names = {n: [shared] for n in range(9)}
    del shared
    assert only(tried(*((NAMES, [names[n]]) for n in range(9)))) == (None, False, False)
    assert only(tried(*((NAMES, [names[n]]) for n in range(1, 9))))[1] is True  # as one is not known


def test_what_was_excluded_counts_as_unknown():
    names: dict[str, Any] = {"a": [block()]}
    names["own"] = [names["a"]]
    found = tried((NAMES, [names["a"]]), (NAMES, [names["own"]]), excluded=[names["own"]])
    assert only(found) == ((0,), True, False)


def test_a_trial_ends_when_its_time_is_up():
    names = {"a": [[] for _ in range(300_000)]}
    block()
    assert tried((NAMES, [names["a"]]), limit_ms=0) is None


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((), "release takes a list of groups and a number of milliseconds"),
        ([1], "a group is a number, a kind and a list"),
        ([(0, 6, [])], "no group is of the kind 6"),
        ([(-1, 0, [])], "no holder has the number -1"),
        ([(0, 2, [1])], "no cache: <class 'int'>"),
    ],
)
def test_groups_that_are_none_are_refused(groups, message):
    with pytest.raises((TypeError, ValueError), match=message):
        _native.Walk(kinds.known(), ()).release(groups, 1000)


def test_objects_are_divided_into_those_that_something_else_refers_to_and_garbage():
    first, second = Node(), Node()
    first.other, second.other = first, second
    objects = [first, second]
    del second
    walk = _native.Walk(kinds.known(), ())
    assert walk.divide(objects) == [first]
    assert len(objects) == 1
    assert objects[0].other is objects[0] is not first


def test_a_second_trial_of_the_same_says_the_same():
    names = {"a": [block()]}
    groups = [(0, NAMES, [names["a"]])]
    walk = _native.Walk(kinds.known(), ())
    walk.follow(0, groups[0][2], [])
    first = walk.release(groups, 1000)
    assert first is not None
    assert sum(first[0].values()) > SIZE
    assert walk.release(groups, 1000) == first


def test_a_second_trial_starts_anew():
    code = """
        from thag_nb import _native
        walk = _native.Walk((), ())
        names = {"a": [bytearray(1000)]}
        for _ in range(3):
            walk.follow(0, [names["a"]], [])
            print(walk.release([(0, 0, [names["a"]])], 1000))
            names["a"] = [[bytearray(1000)]]
    """
    assert python(code).splitlines() == ["({}, {})"] * 3
