from __future__ import annotations

import numpy as np
import pytest
from handmade import EMPTY, MIB, MS, busy, context, marked, pack, recording, root

import thag_nb
from thag_nb.errors import UnknownContextError
from thag_nb.recordings.model import (
    NO_FRAME,
    NOT_TOLD_APART,
    SMALLER,
    CellFile,
    ContextRecord,
    LinesOf,
    Mark,
    Recording,
    ResidentSize,
    SeveralWanted,
    Site,
    SiteFigures,
    SourceLine,
    Status,
    TimelineBucket,
    Wanted,
    descendants,
    pack_timeline,
    work_names,
)
from thag_nb.runtime.contexts import Allocator, AllocatorContext


def test_context_record_fields_are_the_contract_in_order() -> None:
    assert ContextRecord._fields == (
        "context_id",
        "name",
        "kind",
        "parent_id",
        "allocator",
        "state",
        "live_bytes",
        "peak_bytes",
        "total_bytes",
        "self_live_bytes",
        "self_peak_bytes",
        "self_total_bytes",
        "allocations",
        "frees",
        "foreign_frees",
        "retained_bytes",
        "started_ns",
        "duration_ns",
        "at_session_peak_bytes",
        "at_parent_peak_bytes",
        "self_live_numpy_bytes",
        "self_live_native_bytes",
        "at_session_peak_numpy_bytes",
        "at_session_peak_native_bytes",
    )


def test_the_fields_of_marks_samples_and_recordings_are_the_contract_in_order() -> None:
    assert Mark._fields == ("time_ns", "context_id", "name", "kind", "duration_ns")
    assert ResidentSize._fields == ("time_ns", "resident_bytes")
    totals = ("taken_ns", "overhead_bytes", "dropped")
    of_sites = ("sites", "site_figures", "lines", "source_lines", "cell_files")
    assert Recording._fields == ("contexts", "timelines", *totals, "marks", "resident", *of_sites)
    figures = ("live_bytes", "total_bytes", "allocations", "frees")
    assert Site._fields == ("parent", "file", "line", "function", "is_hidden")
    assert SiteFigures._fields == ("context_id", "site", *figures, "at_peaks")
    assert LinesOf._fields == ("context_id", "least_bytes", "peak_site", "is_explained", "cells")
    assert SourceLine._fields == ("file", "line", "text")
    assert CellFile._fields == ("file", "name")
    assert len({NO_FRAME, SMALLER, NOT_TOLD_APART, 0}) == 4


@pytest.mark.usefixtures("dispatcher")
def test_a_recording_of_no_lines_has_all_fields_and_nothing_in_those_of_lines() -> None:
    taken = thag_nb.read()
    assert (taken.sites, taken.site_figures, taken.lines, taken.source_lines) == ((), (), (), ())


def test_a_recording_without_marks_and_samples_can_be_made() -> None:
    made = Recording((), {}, 0, 0, 0)
    assert (made.marks, made.resident) == ((), ())


def test_find_by_name_takes_the_newest() -> None:
    assert busy().find("load").context_id == 4


def test_find_by_id_takes_that_context() -> None:
    assert busy().find(3).context_id == 3


def test_find_all_by_name_is_oldest_first() -> None:
    assert [record.context_id for record in busy().find_all("load")] == [3, 4]


def test_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownContextError, match=r"^no context is called 'nosuch'; known: parse, load, root$"):
        busy().find("nosuch")


def test_unknown_id_is_told() -> None:
    with pytest.raises(UnknownContextError, match=r"^no context is called 99; known:"):
        busy().find(99)


def test_unknown_name_in_an_empty_recording_says_that_nothing_was_recorded() -> None:
    with pytest.raises(LookupError, match=r"known: nothing has been recorded yet$"):
        EMPTY.find_all("load")


def test_name_of_digits_is_not_an_id() -> None:
    with pytest.raises(UnknownContextError):
        busy().find("4")


@pytest.mark.parametrize(
    "wanted", [True, 1.0, 1.5, None, [1], {}, 2**70, b"load", np.array([1, 3]), np.True_], ids=repr
)
def test_what_is_neither_a_name_nor_an_id_is_told(wanted: object) -> None:
    for ask in (busy().find, busy().find_all, busy().timeline):
        with pytest.raises(UnknownContextError) as error:
            ask(wanted)  # type: ignore[operator]
        assert str(error.value) == f"no context is called {wanted!r}; known: parse, load, root"


def test_a_name_that_is_nearly_right_is_told() -> None:
    with pytest.raises(UnknownContextError) as error:
        busy().find("lode")
    assert str(error.value) == "no context is called 'lode'; did you mean 'load'?"


class Identified:
    id = 3


@pytest.mark.parametrize(
    "wanted", [context(3, "other"), AllocatorContext(3, Allocator.SYSTEM, "", "task", 1), Identified()]
)
def test_a_context_stands_for_its_id(wanted: Wanted) -> None:
    assert busy().find(wanted).context_id == 3
    assert busy().timeline(wanted) == busy().timeline(3)
    assert busy().choose(wanted) == busy().find_all(3)


@pytest.mark.parametrize(
    ("wanted", "every", "ids"),
    [
        (None, False, [1, 3, 4, 5]),
        ("load", False, [4]),
        ("load", True, [3, 4]),
        (["parse", "load"], False, [4, 5]),
        (("load", np.int64(3)), False, [3, 4]),
        (["load", 4, "load"], True, [3, 4]),
        ([], False, []),
    ],
)
def test_contexts_are_chosen_oldest_first_and_once(wanted: SeveralWanted, every: bool, ids: list[int]) -> None:
    assert [record.context_id for record in busy().choose(wanted, all=every)] == ids


def test_one_unknown_name_of_several_is_told() -> None:
    with pytest.raises(UnknownContextError, match="'nosuch'"):
        busy().choose(["load", "nosuch"])


def test_an_integer_of_numpy_is_an_id() -> None:
    assert busy().find(np.int64(3)).context_id == 3
    assert busy().timeline(np.int64(4)) == busy().timeline(4)


def test_children_are_the_direct_ones() -> None:
    assert [record.context_id for record in busy().children(1)] == [3, 4]
    assert [record.context_id for record in busy().children(4)] == [5]
    assert busy().children(5) == ()


def test_timeline_unpacks_buckets_in_order() -> None:
    assert busy().timeline(4) == (
        TimelineBucket(500 * MS, 0, 4 * MIB, 4 * MIB, 4 * MIB),
        TimelineBucket(700 * MS, 2 * MIB, 13 * MIB, 2 * MIB, 2 * MIB),
    )


def test_buckets_are_packed_as_they_were() -> None:
    assert pack_timeline(busy().timeline(4)) == busy().timelines[4]
    assert pack_timeline(()) == b""


def test_timeline_by_name_takes_the_newest() -> None:
    assert busy().timeline("load") == busy().timeline(4)


@pytest.mark.parametrize("wanted", [77, -1, "nosuch", "4"])
def test_timeline_of_an_unknown_context_is_told_with_the_known_ones(wanted: str | int) -> None:
    with pytest.raises(UnknownContextError, match=rf"^no context is called {wanted!r}; known: parse, load, root$"):
        busy().timeline(wanted)


def test_timeline_without_buckets_is_empty() -> None:
    assert recording((context(3, "load"), pack())).timeline(3) == ()


def test_timeline_keeps_the_largest_integers() -> None:
    largest = 2**63 - 1
    bucket = (largest, -largest - 1, largest, 0, -1)
    assert recording((context(3, "load"), pack(bucket))).timeline(3) == (TimelineBucket(*bucket),)


def test_recording_is_frozen() -> None:
    with pytest.raises(AttributeError):
        busy().taken_ns = 1  # type: ignore[misc]


def test_status_reads_as_state_hooks_and_notes() -> None:
    hooks = {"raw": "on top", "numpy": "absent"}
    status = Status(
        "recording", hooks, True, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "Recording.", ("one thing", "another")
    )
    details = "state: recording; hooks: raw on top, numpy absent; threads: followed"
    assert str(status) == f"Recording.\n{details}\none thing\nanother"


@pytest.mark.parametrize("shown", [busy(), marked()], ids=["busy", "marked"])
def test_a_recording_is_shown_in_one_line(shown: Recording) -> None:
    assert repr(shown).startswith("<Recording of ")
    assert "\n" not in repr(shown)
    assert len(repr(shown)) < 120


def test_work_is_what_cells_and_tasks_do() -> None:
    system = context(2, "system", kind="system")
    records = (*busy().contexts[:1], system, context(3, "In[1]", kind="cell"), *busy().contexts[1:])
    assert list(work_names(busy()._replace(contexts=records))) == ["In[1]", "load", "load", "parse"]


def test_descendants_are_below_at_any_depth_without_system() -> None:
    odd = recording(
        (root(), b""),
        (context(2, "system", kind="system"), b""),
        (context(3, "a"), b""),
        (context(4, "b", parent_id=3), b""),
        (context(5, "c", parent_id=4), b""),
        (context(6, "d"), b""),
    )
    assert [record.name for record in descendants(odd, 3)] == ["b", "c"]
    assert [record.name for record in descendants(odd, 1)] == ["a", "b", "c", "d"]
