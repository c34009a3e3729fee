"""Where what a holder keeps was allocated, in words."""

from __future__ import annotations

from typing import Any

import pytest
from handmade import CELL, MIB, PANDAS, READ, Frames, busy, charged, context, recording, root
from hypothesis import given
from hypothesis import strategies as st

from thag_nb.recordings.model import NO_FRAME, NOT_TOLD_APART, SMALLER, Recording
from thag_nb.sites.held import AllocatedAt
from thag_nb.sites.rows import lines

MINE = "/home/me/load.py"
HERE = ((CELL, 4, "<module>"),)
READING = (*HERE, *READ)
MERGING = (*HERE, (PANDAS + "core/frame.py", 5, "merge"))
LOADING = ((CELL, 5, "<module>"), (MINE, 7, "load"))


def of_load(*stacks: Frames | int, **fields: Any) -> Recording:
    """A task ``load`` of In[3] that allocated something at these stacks."""
    source = recording((root(), b""), (context(3, "load", live_bytes=len(stacks)), b""))
    return charged(source, *((3, stack, 1, {}) for stack in stacks), **{"cells": ((CELL, "In[3]"),), **fields})


def said(*held: tuple[Frames | int, int], unknown: int = 0, **fields: Any) -> str:
    """What is said of a holder of so many bytes of each stack, and some of which nothing is known."""
    source = of_load(*(stack for stack, _ in held), HERE, **fields)
    by_site = {figures.site: size for figures, (_, size) in zip(source.site_figures, held, strict=False)}
    return AllocatedAt(source)(3, sum(by_site.values()) + unknown, by_site)


def test_one_line_is_told_with_what_it_called_and_without_bytes() -> None:
    assert said((READING, 5 * MIB)) == "In[3] line 4 through read_csv"
    assert said((HERE, 5 * MIB)) == "In[3] line 4"
    assert said((LOADING, 5 * MIB)) == "load.py line 7"


def test_stacks_of_one_line_count_together() -> None:
    assert said((READING, 2 * MIB), (HERE, MIB)) == "In[3] line 4 through read_csv"
    assert said((READING, 2 * MIB), (MERGING, MIB)) == "In[3] line 4 through several functions"


def test_of_several_lines_the_largest_come_first_with_their_bytes() -> None:
    assert (
        said((LOADING, MIB), (READING, 3 * MIB)) == "In[3] line 4 through read_csv (3.0 MiB), load.py line 7 (1.0 MiB)"
    )


def test_three_lines_are_told_and_the_rest_is_elsewhere() -> None:
    several = [(((MINE, number, "load"),), number * MIB) for number in range(1, 6)]
    assert said(*several) == (
        "load.py line 5 (5.0 MiB), load.py line 4 (4.0 MiB), load.py line 3 (3.0 MiB), elsewhere (3.0 MiB)"
    )


def test_next_to_nothing_is_not_told_unless_it_adds_up() -> None:
    few = [(((MINE, number, "load"),), 99) for number in range(1, 21)]
    assert said((HERE, 10_000), few[0]) == "In[3] line 4"
    assert said((HERE, 9_801), few[0]) == "In[3] line 4 (9.6 KiB), load.py line 1 (99 B)"
    assert said((HERE, 10_000), *few) == "In[3] line 4 (9.8 KiB), elsewhere (1.9 KiB)"


def test_the_largest_line_is_told_however_little_it_has() -> None:
    many = [(((MINE, number, "load"),), 10 + (number == 7)) for number in range(1, 201)]
    assert said(*many) == "load.py line 7 (11 B), elsewhere (1.9 KiB)"


def test_what_has_no_line_says_so() -> None:
    assert said(unknown=MIB) == "not known where"
    assert said((HERE, MIB), unknown=2 * MIB) == "not known where (2.0 MiB), In[3] line 4 (1.0 MiB)"
    assert said((NO_FRAME, MIB)) == "where no Python ran"
    assert said((SMALLER, MIB), least_bytes=4096) == "smaller than 4.0 KiB"
    assert said((NOT_TOLD_APART, MIB)) == "not told apart"


def test_less_than_nothing_is_not_known_where() -> None:
    assert AllocatedAt(of_load(HERE))(3, -5, {}) == "not known where"  # other threads freed it meanwhile


def test_a_context_without_lines_says_nothing() -> None:
    assert AllocatedAt(busy())(4, MIB, {}) == ""


def test_files_of_other_cells_are_called_as_somebody_knows_them() -> None:
    other = "/tmp/ipykernel_5/99.py"
    source = of_load(((other, 1, "build"),))
    assert AllocatedAt(source)(3, MIB, {0: MIB}) == "99.py line 1"
    assert AllocatedAt(source, {other: "In[1]", CELL: "In[9]"})(3, MIB, {0: MIB}) == "In[1] line 1"
    assert AllocatedAt(of_load(HERE), {CELL: "In[9]"})(3, MIB, {0: MIB}) == "In[3] line 4"


def test_each_context_has_names_of_its_own() -> None:
    source = of_load(HERE)
    again = source.contexts[1]._replace(context_id=4)
    both = source._replace(
        contexts=(*source.contexts, again),
        lines=(*source.lines, source.lines[0]._replace(context_id=4, cells=((CELL, "In[5]"),))),
    )
    where = AllocatedAt(both)
    assert [where(number, MIB, {0: MIB}) for number in (3, 4, 3)] == ["In[3] line 4", "In[5] line 4", "In[3] line 4"]


@pytest.mark.parametrize("stack", [READING, HERE, LOADING, MERGING])
def test_a_line_is_the_one_that_lines_has(stack: Frames) -> None:
    source = of_load(stack)
    (row,) = (row for row in lines(source, "load") if row.file)
    words = AllocatedAt(source)(3, MIB, {source.site_figures[0].site: MIB})
    through = f" through {row.through}" if row.through else ""
    assert words == f"{row.file.rpartition('/')[2]} line {row.line}{through}"


SIZES = st.integers(1, 10 * MIB)
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@given(st.lists(SIZES, min_size=1, max_size=9), st.integers(0, 10 * MIB))
def test_bytes_that_are_told_are_no_more_than_those_that_are_held(sizes: list[int], unknown: int) -> None:
    text = said(*((((MINE, number, "load"),), size) for number, size in enumerate(sizes, 1)), unknown=unknown)
    figures = [part.rpartition("(")[2].rstrip(")").split() for part in text.split(", ") if "(" in part]
    told = sum(float(number) * UNITS[unit] for number, unit in figures)
    held = sum(sizes) + unknown
    rounding = sum(0.05 * UNITS[unit] for _, unit in figures)
    assert len(figures) != 1
    assert told <= held + rounding
    assert not figures or told >= 0.96 * held - rounding
