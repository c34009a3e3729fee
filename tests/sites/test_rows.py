"""Figures of call sites, folded into rows that add up to the context's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handmade import CELL, KIB, MIB, PANDAS, READ, Frames, busy, charged, context, lined, recording, root
from hypothesis import given
from hypothesis import strategies as st

from thag_nb.errors import ChoiceError, NoLinesError, UnknownContextError
from thag_nb.recordings.model import NO_FRAME, NOT_TOLD_APART, SMALLER, LineCost, LinesOf, Recording, SiteFigures
from thag_nb.sites.rows import BY, lines

MINE = "/home/me/load.py"
FIGURES = ("peak_bytes", "live_bytes", "total_bytes", "allocations", "frees")


def of_load(*charges: tuple[Frames | int, int], **fields: Any) -> Recording:
    """A task ``load`` whose bytes at its peak, all live, were allocated at these stacks."""
    whole = sum(size for _, size in charges)
    record = context(3, "load", peak_bytes=whole, live_bytes=whole, total_bytes=whole, allocations=len(charges))
    source = recording((root(), b""), (record, b""))
    return charged(source, *((3, stack, size, {3: size}) for stack, size in charges), **fields)


def brief(rows: tuple[LineCost, ...]) -> list[tuple[Any, ...]]:
    return [(row.file, row.line, row.function, row.through, row.peak_bytes) for row in rows]


def test_lines_are_ordered_by_what_they_had_at_the_peak_and_include_contexts_below() -> None:
    left = MIB - 300 * KIB
    assert brief(lines(lined(), "load")) == [
        ("In[3]", 2, "<module>", "read_csv", 8 * MIB),
        ("/home/me/parse.py", 6, "parse", "", 4 * MIB),
        ("", 0, "not known where", "", left),
        ("", 0, "smaller than 4.0 KiB", "", 300 * KIB),
    ]
    assert {(row.context_id, row.name, row.stack) for row in lines(lined(), "load")} == {(4, "load", ())}


def test_the_peak_is_that_of_the_context_that_is_asked_for() -> None:
    assert brief(lines(lined(), 5)) == [("/home/me/parse.py", 6, "parse", "", 3 * MIB)]


def test_by_cell_a_function_counts_for_the_line_that_called_it() -> None:
    assert [row[:2] + row[4:] for row in brief(lines(lined(), "load", "cell"))[:2]] == [
        ("In[3]", 2, 8 * MIB),
        ("In[3]", 9, 4 * MIB),
    ]


STACKS = (
    (((CELL, 2, "<module>"), (MINE, 7, "load"), *READ), 100),
    (((CELL, 3, "<module>"), (MINE, 7, "load"), (PANDAS + "core/frame.py", 5, "merge")), 50),
    (((CELL, 2, "<module>"), (MINE, 9, "load")), 7),
    (((CELL, 2, "<module>"), (MINE, 9, "other")), 8),
)


def test_a_line_is_one_row_whatever_it_called() -> None:
    assert brief(lines(of_load(*STACKS), 3)) == [(MINE, 7, "load", "...", 150), (MINE, 9, "other", "", 15)]


def test_a_line_that_called_one_function_and_allocated_itself_as_well_went_through_that_one() -> None:
    source = of_load((((MINE, 7, "load"),), 9), (((MINE, 7, "load"), *READ), 1))
    assert brief(lines(source, 3)) == [(MINE, 7, "load", "read_csv", 10)]


def test_a_function_is_one_row_without_a_line() -> None:
    rows = [(MINE, 0, "load", "...", 157), (MINE, 0, "other", "", 8)]
    assert brief(lines(of_load(*STACKS), 3, "function")) == rows


def test_a_file_is_one_row_without_a_function() -> None:
    assert brief(lines(of_load(*STACKS), 3, "file")) == [(MINE, 0, "", "...", 165)]


def test_a_stack_is_one_row_that_has_it() -> None:
    rows = lines(of_load(*STACKS, cells=((CELL, "In[3]"),)), 3, "stack")
    assert [(row.line, row.through, row.peak_bytes) for row in rows] == [
        (7, "read_csv", 100),
        (7, "merge", 50),
        (9, "", 8),
        (9, "", 7),
    ]
    assert rows[2].stack == (("In[3]", 2, "<module>"), (MINE, 9, "other"))


def test_instructions_of_one_line_are_one_stack() -> None:
    source = of_load((((MINE, 7, "load"),), 1), (((MINE, 7, "load"), *READ[:1]), 2))
    twice = source._replace(sites=(source.sites[0], source.sites[0]))
    assert [row.peak_bytes for row in lines(twice, 3, "stack")] == [3]


def test_a_comprehension_is_a_line_of_its_function() -> None:
    source = of_load((((MINE, 7, "load"), (MINE, 7, "load.<locals>.<listcomp>")), 9))
    assert brief(lines(source, 3)) == [(MINE, 7, "load", "", 9)]


def test_a_function_that_is_not_to_be_shown_is_told_of_the_line_that_called_it() -> None:
    checked = (MINE, 20, "checked")
    source = of_load((((CELL, 2, "<module>"), (MINE, 7, "load"), checked, *READ), 9), cells=((CELL, "In[3]"),))
    sites = tuple(site._replace(is_hidden=site.function == "checked") for site in source.sites)
    source = source._replace(sites=sites)
    assert brief(lines(source, 3)) == [(MINE, 7, "load", "checked", 9)]
    assert brief(lines(source, 3, "function")) == [(MINE, 0, "load", "checked", 9)]
    assert brief(lines(source, 3, "cell")) == [("In[3]", 2, "<module>", "checked", 9)]
    (row,) = lines(source, 3, "stack")
    assert row.stack[1:] == ((MINE, 7, "load"), checked, *READ)


def test_source_is_the_text_of_the_line_where_a_row_has_one(tmp_path: Path) -> None:
    file = str(tmp_path / "load.py")
    Path(file).write_text("def load():\n    return [0] * 9  # here\n")
    source = of_load((((file, 2, "load"), *READ), 9))
    shown = {by: lines(source, 3, by)[0].source for by in BY}  # type: ignore[arg-type]
    text = "return [0] * 9  # here"
    assert shown == {"line": text, "cell": text, "function": "", "file": "", "stack": text}


def test_a_recording_saved_with_its_source_shows_it_where_the_file_is_not(tmp_path: Path) -> None:
    file = tmp_path / "load.py"
    file.write_text("def load():\n    return [0] * 9  # here\n")
    source = of_load((((str(file), 2, "load"),), 9))
    source.save(tmp_path / "without.json")
    source.save(tmp_path / "with.json", source=True)
    file.write_text("# something else\n" * 9)
    assert lines(Recording.load(tmp_path / "with.json"), 3)[0].source == "return [0] * 9  # here"
    file.unlink()
    assert lines(Recording.load(tmp_path / "without.json"), 3)[0].source == ""


def test_what_has_no_line_says_why() -> None:
    source = of_load((NO_FRAME, 5), (SMALLER, 3), (NOT_TOLD_APART, 2), least_bytes=4096)
    for by in BY:
        assert brief(lines(source, 3, by)) == [  # type: ignore[arg-type]
            ("", 0, "where no Python ran", "", 5),
            ("", 0, "smaller than 4.0 KiB", "", 3),
            ("", 0, "not told apart", "", 2),
        ]


def test_smaller_is_told_of_the_context_and_those_below_it() -> None:
    source = charged(busy(), (3, SMALLER, 1, {}), (4, SMALLER, 1, {}), (5, SMALLER, 1, {}))
    least = {3: 65536, 4: 0, 5: 512}
    source = source._replace(lines=tuple(one._replace(least_bytes=least[one.context_id]) for one in source.lines))
    assert "smaller than 512 B" in [row.function for row in lines(source, "load")]


def test_a_peak_that_is_not_explained_is_not_told_apart() -> None:
    source = of_load((((MINE, 7, "load"),), 9), is_explained=False)
    figures = tuple(row._replace(at_peaks=()) for row in source.site_figures)
    record = source.find(3)._replace(live_bytes=11)
    source = source._replace(site_figures=figures, contexts=(source.contexts[0], record))
    assert [(row.function, row.peak_bytes, row.live_bytes) for row in lines(source, 3)] == [
        ("not told apart", 9, 0),
        ("load", 0, 9),
        ("not known where", 0, 2),
    ]


def test_a_context_without_lines_says_how_to_ask_for_them() -> None:
    asked = "ask for them before it allocates: thag_nb.task('load', lines=True)"
    for wanted, name in (("load", "load"), ("root", "root")):
        with pytest.raises(NoLinesError) as error:
            lines(busy(), wanted)
        assert str(error.value) == f"no lines of {name!r} were recorded; {asked}"
    with pytest.raises(UnknownContextError):
        lines(busy(), "laod")


def test_a_context_that_allocated_nothing_has_no_rows() -> None:
    source = recording((root(), b""), (context(3, "load"), b""))
    assert lines(source._replace(lines=(LinesOf(3, 0, NO_FRAME, True, ()),)), 3) == ()


def test_what_cannot_be_chosen_is_told() -> None:
    with pytest.raises(ChoiceError) as error:
        lines(lined(), "load", "lines")  # type: ignore[arg-type]
    assert str(error.value) == "by must be 'line', 'cell', 'function', 'file' or 'stack', not 'lines'"


FRAMES = [(CELL, 1, "<module>"), (CELL, 2, "f"), (MINE, 2, "f"), (MINE, 2, "g"), *READ, ("<string>", 1, "<module>")]
stacks = st.lists(st.sampled_from(FRAMES), min_size=1, max_size=4).map(tuple) | st.integers(-3, -1)
sizes = st.integers(0, 2**40)


@given(data=st.data(), is_explained=st.booleans())
def test_rows_add_up_to_the_contexts_figures_however_they_are_folded(data: st.DataObject, is_explained: bool) -> None:
    parents = [data.draw(st.integers(1, number - 1)) for number in range(2, 6)]
    figures = [data.draw(st.fixed_dictionaries(dict.fromkeys(FIGURES, sizes))) for _ in range(5)]
    pairs = [(root(**figures[0]), b"")]
    pairs += [
        (context(number, f"task {number}", parent_id=parent, **figures[number - 1]), b"")
        for number, parent in enumerate(parents, 2)
    ]
    charges = data.draw(st.lists(st.tuples(st.integers(1, 5), stacks, sizes), max_size=8))
    source = charged(recording(*pairs), *((who, stack, size, {}) for who, stack, size in charges))
    rows = {(row.context_id, row.site): row for row in source.site_figures}  # one of a context at a site
    peaks = st.lists(st.tuples(st.integers(1, 5), sizes), max_size=3, unique_by=lambda pair: pair[0]).map(tuple)
    source = source._replace(
        site_figures=tuple(SiteFigures(*key, *(data.draw(sizes) for _ in range(4)), data.draw(peaks)) for key in rows),
        lines=tuple(LinesOf(number, 4096, NO_FRAME, is_explained, ((CELL, "In[1]"),)) for number in range(1, 6)),
    )
    for record in source.contexts:
        for by in BY:
            made = lines(source, record.context_id, by)  # type: ignore[arg-type]
            for figure in FIGURES:
                assert sum(getattr(row, figure) for row in made) == getattr(record, figure)
