"""Stacks from where the user's work begins, and the frame that counts."""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from typing import Any

import pytest
from handmade import CELL, PANDAS, Frames, busy, charged

from thag_nb.recordings.model import CellFile, Recording, Site
from thag_nb.sites.stacks import (
    Frame,
    OwnFrames,
    Stack,
    Stacks,
    called_through,
    function_around,
    innermost_own,
    names_of_files,
    outermost_own,
    stack_of,
)

OTHER = "/tmp/ipykernel_5/99.py"
MINE = "/home/me/work/load.py"
STANDARD = "/usr/lib/python3.13/"
FRAME = (PANDAS + "core/frame.py", 5, "merge")
JOIN = (PANDAS + "core/join.py", 9, "join")
LOOP = ((STANDARD + "asyncio/base_events.py", 645, "run_forever"), (STANDARD + "asyncio/events.py", 89, "Handle._run"))
KERNEL = ((STANDARD + "site-packages/ipykernel/kernelapp.py", 7, "start"), *LOOP, (PANDAS + "run.py", 3, "run_code"))
THREAD = (
    (STANDARD + "threading.py", 1002, "Thread._bootstrap"),
    (STANDARD + "concurrent/futures/thread.py", 58, "_WorkItem.run"),
)


def stack(*frames: tuple[str, int, str], cells: tuple[str, ...] = ()) -> Stack:
    source = charged(busy(), (4, frames, 1, {}))
    return stack_of(source.sites, len(frames) - 1, cells)


def own(choose: object, frames: Frames, cells: tuple[str, ...] = ()) -> tuple[str, int, str]:
    made = stack(*frames, cells=cells)
    return plain(made)[choose(made, cells)]  # type: ignore[operator]


def plain(made: Stack) -> Frames:
    """Without whether functions are to be shown."""
    return tuple((file, line, function) for file, line, function, _ in made)


def test_a_stack_is_told_from_the_outermost_frame() -> None:
    frames = ((MINE, 3, "main"), (MINE, 7, "load"), FRAME)
    assert plain(stack(*frames)) == frames


def test_a_stack_of_a_cell_begins_there() -> None:
    assert plain(stack(*KERNEL, (CELL, 2, "<module>"), (CELL, 9, "f"), cells=(CELL,))) == (
        (CELL, 2, "<module>"),
        (CELL, 9, "f"),
    )


def test_a_stack_under_an_event_loop_begins_at_what_it_calls_back() -> None:
    assert plain(stack((MINE, 3, "main"), *LOOP, (MINE, 7, "load"), FRAME)) == ((MINE, 7, "load"), FRAME)
    assert plain(stack(*LOOP, (MINE, 7, "load"), *LOOP, (MINE, 8, "inner"))) == ((MINE, 8, "inner"),)
    assert plain(stack(*LOOP)) == LOOP  # or nothing would be left of it
    assert plain(stack((MINE, 3, "Handle._run"), (MINE, 4, "f")))[0] == (MINE, 3, "Handle._run")


def test_a_loop_that_a_cell_runs_is_part_of_it() -> None:
    assert len(stack((CELL, 2, "<module>"), *LOOP, (CELL, 9, "f"), cells=(CELL,))) == 4


def test_the_innermost_own_line_is_the_last_outside_of_libraries() -> None:
    assert own(innermost_own, ((CELL, 2, "<module>"), (MINE, 7, "load"), FRAME, JOIN)) == (MINE, 7, "load")
    assert own(innermost_own, ((CELL, 2, "<module>"), FRAME, (MINE, 9, "key"))) == (MINE, 9, "key")


def test_the_outermost_line_in_the_cell_counts_and_else_the_outermost_own() -> None:
    frames = ((MINE, 1, "main"), (OTHER, 4, "f"), (CELL, 2, "g"), (CELL, 5, "h"), FRAME)
    assert own(outermost_own, frames, cells=(CELL,)) == (CELL, 2, "g")
    assert own(outermost_own, frames[:2], cells=(CELL,)) == (MINE, 1, "main")
    assert own(outermost_own, frames) == (MINE, 1, "main")


@pytest.mark.parametrize("choose", [innermost_own, outermost_own])
def test_without_own_code_it_is_the_package_that_was_called_or_the_innermost_line(choose: object) -> None:
    assert own(choose, (*THREAD, FRAME, JOIN)) == FRAME
    assert own(choose, THREAD) == THREAD[-1]


def test_what_a_program_made_belongs_to_who_ran_it_unless_all_began_there() -> None:
    made = ("<string>", 2, "Point.__init__")
    assert own(innermost_own, ((MINE, 7, "load"), made)) == (MINE, 7, "load")
    assert own(innermost_own, (("<string>", 9, "<module>"), made, FRAME)) == made
    assert own(innermost_own, (FRAME, made, JOIN)) == FRAME


def test_a_cell_is_own_whatever_its_file_is_called() -> None:
    assert own(innermost_own, ((MINE, 1, "main"), ("<cell>", 2, "f"), FRAME), cells=("<cell>",)) == ("<cell>", 2, "f")


CHECKED = Frame(MINE, 20, "checked", is_hidden=True)


def test_a_function_that_is_not_to_be_shown_counts_as_one_of_a_library() -> None:
    made = (Frame(CELL, 2, "<module>"), Frame(MINE, 7, "load"), CHECKED, Frame(*FRAME))
    assert innermost_own(made, ()) == 1
    assert innermost_own((*made[:3], Frame(MINE, 30, "rows")), ()) == 3
    assert called_through(made, 1) == "checked"
    assert called_through(made, 2) == "merge"


def test_by_cell_a_function_that_is_not_to_be_shown_does_not_count_either() -> None:
    hidden = Frame(CELL, 9, "checked", is_hidden=True)
    assert outermost_own((hidden, Frame(CELL, 2, "f"), Frame(MINE, 7, "load")), (CELL,)) == 1
    assert outermost_own((hidden, Frame(MINE, 7, "load")), (CELL,)) == 1
    assert outermost_own((CHECKED, Frame(MINE, 7, "load")), ()) == 1


@pytest.mark.parametrize("choose", [innermost_own, outermost_own])
def test_where_no_function_is_to_be_shown_they_count_after_all(choose: Any) -> None:
    assert choose((Frame(*THREAD[0]), CHECKED, Frame(*FRAME)), ()) == 1


def test_a_comprehension_in_a_function_that_is_not_to_be_shown_is_part_of_it() -> None:
    for part in ("checked.<locals>.<listcomp>", "checked.<locals>.<genexpr>"):
        assert innermost_own((Frame(MINE, 7, "load"), CHECKED, Frame(MINE, 21, part)), ()) == 0
    for other in ("other.<locals>.<listcomp>", "checked", "checked.<locals>.inner"):
        assert innermost_own((Frame(MINE, 7, "load"), CHECKED, Frame(MINE, 21, other)), ()) == 2
    assert innermost_own((Frame(MINE, 7, "load"), Frame(MINE, 21, "load.<locals>.<listcomp>")), ()) == 1


def test_through_is_the_first_function_of_a_library_that_was_called() -> None:
    assert called_through(stack((MINE, 7, "load"), FRAME, JOIN), 0) == "merge"
    assert called_through(stack((CELL, 2, "<module>"), (MINE, 7, "load"), JOIN), 0) == "join"
    assert called_through(stack((MINE, 7, "load"), ("<string>", 2, "__init__")), 0) == ""
    assert called_through(stack((MINE, 7, "load")), 0) == ""
    importing = ("<frozen importlib._bootstrap>", 1007, "_find_and_load")
    assert called_through(stack((MINE, 1, "<module>"), importing, FRAME), 0) == "import"


@pytest.mark.parametrize(
    ("function", "around"),
    [
        ("<listcomp>", "<module>"),
        ("load.<locals>.<listcomp>", "load"),
        ("Table.rows.<locals>.<genexpr>", "Table.rows"),
        ("Table.<dictcomp>", "Table"),
        ("load.<locals>.<lambda>", "load.<locals>.<lambda>"),
        ("load", "load"),
        ("<module>", "<module>"),
    ],
)
def test_a_comprehension_is_part_of_the_function_around_it(function: str, around: str) -> None:
    assert function_around(function) == around


def test_a_file_that_is_several_cells_is_called_as_the_contexts_own_or_the_newest() -> None:
    source: Recording = charged(busy(), (3, (), 1, {}), (4, (), 1, {}), (5, (), 1, {}))
    names = {3: ((CELL, "In[3]"), (OTHER, "In[2]")), 4: ((CELL, "In[4]"),), 5: ((CELL, "In[7]"),)}
    source = source._replace(lines=tuple(lines._replace(cells=names[lines.context_id]) for lines in source.lines))
    assert names_of_files(source, 3) == {CELL: "In[3]", OTHER: "In[2]"}
    assert names_of_files(source, 4) == {CELL: "In[4]", OTHER: "In[2]"}
    assert names_of_files(source, 1) == {CELL: "In[7]", OTHER: "In[2]"}


def test_a_file_of_a_cell_that_recorded_no_lines_is_called_as_that_cell() -> None:
    source: Recording = charged(busy(), (3, (), 1, {}), cells=((CELL, "In[3]"),))
    source = source._replace(cell_files=(CellFile(CELL, "In[9]"), CellFile(OTHER, "In[2]")))
    assert names_of_files(source, 3) == {CELL: "In[3]", OTHER: "In[2]"}
    assert names_of_files(source, 1) == {CELL: "In[9]", OTHER: "In[2]"}


FILES = (CELL, MINE, FRAME[0], STANDARD + "asyncio/events.py", "<string>", "<frozen importlib._bootstrap>")
FUNCTIONS = ("<module>", "f", "f.<locals>.<listcomp>", "Handle._run")


@pytest.mark.parametrize("chosen", [innermost_own, outermost_own])
@pytest.mark.parametrize("seed", range(200))
def test_own_frames_are_those_of_whole_stacks(seed: int, chosen: Callable[[Stack, Container[str]], int]) -> None:
    choose = random.Random(seed)
    sites = tuple(
        Site(
            choose.randrange(-1, number) if choose.random() < 0.5 else number - 1,
            choose.choice(FILES),
            choose.randrange(1, 9),
            choose.choice(FUNCTIONS),
            choose.random() < 0.2,
        )
        for number in range(40)
    )
    cells = {file for file in (CELL, FRAME[0]) if choose.random() < 0.5}  # which may lie where libraries do
    own = OwnFrames(Stacks(sites, cells), cells, chosen)
    for place in choose.sample(range(40), 40):
        stack = stack_of(sites, place, cells)
        depth = chosen(stack, cells)
        assert own.of(place)[:2] == (stack[depth], called_through(stack, depth)), place
