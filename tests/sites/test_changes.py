"""What the lines of two contexts cost, side by side."""

from __future__ import annotations

import math
from typing import Any

import pytest
from handmade import MIB, busy, charged, context, recording, root

import thag_nb
from thag_nb.errors import ChoiceError, NoLinesError, NothingToCompareError
from thag_nb.recordings.model import SMALLER, LineDifference, Recording, SourceLine
from thag_nb.sites.changes import FIGURES, changes, in_words

MINE = "/home/me/scale.py"


def cell(number: int, code: str, sizes: dict[int, int], *, name: str = "scale", file: str = "") -> Recording:
    """A task of one cell, of this code, whose lines had these bytes at its peak and nothing after it."""
    file = file or f"/tmp/ipykernel_5/{number}.py"
    whole = sum(sizes.values())
    record = context(number, name, peak_bytes=whole, total_bytes=whole, allocations=len(sizes), live_bytes=whole)
    charges = [(number, ((file, line, "<module>"),), size, {number: size}) for line, size in sizes.items()]
    source = charged(recording((root(), b""), (record, b"")), *charges, cells=((file, f"In[{number}]"),))
    texts = enumerate(code.splitlines(), 1)
    return source._replace(source_lines=tuple(SourceLine(file, line, text) for line, text in texts))


def peaks(rows: tuple[LineDifference, ...]) -> list[tuple[Any, ...]]:
    return [(row.file, row.line, row.before, row.after) for row in rows if row.figure == "peak_bytes"]


BEFORE = "import numpy as np\nX = read()\nXz = (X - X.mean()) / X.std()"
AFTER = "import numpy as np\nX = read()\nX -= X.mean()"


def test_a_line_that_was_written_anew_is_the_line_of_its_number() -> None:
    rows = changes(cell(3, BEFORE, {2: MIB, 3: 690 * MIB}), 3, cell(5, AFTER, {2: MIB, 3: 12 * MIB}), 5)
    assert peaks(rows) == [("In[5]", 3, 690 * MIB, 12 * MIB), ("In[5]", 2, MIB, MIB)]
    assert rows[0].source == "X -= X.mean()"
    assert in_words(rows) == ("In[5] line 3 fell from 690.0 MiB to 12.0 MiB",)


def test_a_line_that_moved_is_known_by_its_text() -> None:
    moved = "# a new comment\nimport numpy as np\n\nX = read()"
    rows = changes(cell(3, BEFORE, {2: 5 * MIB}), 3, cell(5, moved, {4: 6 * MIB}), 5)
    assert peaks(rows) == [("In[5]", 4, 5 * MIB, 6 * MIB)]


def test_two_lines_that_say_the_same_stay_apart() -> None:
    code = "x = read()\nx = read()"
    rows = changes(cell(3, code, {1: 5 * MIB, 2: MIB}), 3, cell(5, code, {1: 5 * MIB, 2: 3 * MIB}), 5)
    assert peaks(rows) == [("In[5]", 2, MIB, 3 * MIB), ("In[5]", 1, 5 * MIB, 5 * MIB)]
    moved = cell(5, f"# twice\n{code}", {2: 5 * MIB, 3: 3 * MIB})
    rows = changes(cell(3, code, {1: 5 * MIB, 2: MIB}), 3, moved, 5)
    assert peaks(rows) == [("In[5]", 3, MIB, 3 * MIB), ("In[5]", 2, 5 * MIB, 5 * MIB)]


def test_a_line_on_one_side_had_nothing_on_the_other() -> None:
    rows = changes(cell(3, BEFORE, {2: 5 * MIB, 3: MIB}), 3, cell(5, "X = read()", {1: 5 * MIB}), 5)
    assert peaks(rows) == [("In[3]", 3, MIB, 0), ("In[5]", 1, 5 * MIB, 5 * MIB)]
    (gone,) = [row for row in rows if row.line == 3 and row.figure == "peak_bytes"]
    assert (gone.difference, gone.ratio, gone.source) == (-MIB, 0.0, "Xz = (X - X.mean()) / X.std()")
    assert in_words(rows) == ("In[3] line 3 fell from 1.0 MiB to 0 B",)


def test_lines_without_a_text_are_known_by_their_numbers_and_files_apart() -> None:
    first = cell(3, "", {2: 5 * MIB}, file=MINE)._replace(lines=charged(busy(), (3, (), 1, {})).lines)
    second = cell(5, "", {2: MIB}, file=MINE)._replace(lines=charged(busy(), (5, (), 1, {})).lines)
    assert peaks(changes(first, 3, second, 5)) == [(MINE, 2, 5 * MIB, MIB)]
    other = cell(5, "", {2: MIB}, file=MINE + "x")._replace(lines=second.lines)
    assert peaks(changes(first, 3, other, 5)) == [(MINE, 2, 5 * MIB, 0), (MINE + "x", 2, 0, MIB)]


def test_what_has_no_line_is_compared_by_what_it_is() -> None:
    sides = [cell(number, BEFORE, {2: MIB}) for number in (3, 5)]
    for place, smaller in enumerate((MIB, 3 * MIB)):
        figures = sides[place].site_figures[0]._replace(site=SMALLER, at_peaks=((2 * place + 3, smaller),))
        record = sides[place].contexts[1]
        sides[place] = sides[place]._replace(
            site_figures=(*sides[place].site_figures, figures),
            contexts=(root(), record._replace(peak_bytes=record.peak_bytes + smaller)),
        )
    rows = changes(sides[0], 3, sides[1], 5)
    assert peaks(rows)[0] == ("", 0, MIB, 3 * MIB)
    assert in_words(rows) == ("smaller than 0 B rose from 1.0 MiB to 3.0 MiB",)


def test_little_is_no_change_in_words() -> None:
    first, second = cell(3, BEFORE, {2: 100 * MIB, 3: 100}), cell(5, BEFORE, {2: 100 * MIB + 70_000, 3: 60_000})
    assert in_words(changes(first, 3, second, 5)) == ()


def test_differences_of_lines_add_up_to_those_of_the_contexts() -> None:
    first, second = cell(3, BEFORE, {2: MIB, 3: 690 * MIB}), cell(5, AFTER, {1: 7, 2: MIB, 3: 12 * MIB})
    rows = changes(first, 3, second, 5)
    for figure in FIGURES:
        whole = getattr(second.find(5), figure) - getattr(first.find(3), figure)
        assert sum(row.difference for row in rows if row.figure == figure) == whole


def test_compare_by_line_is_a_frame_of_them() -> None:
    first, second = cell(3, BEFORE, {2: MIB, 3: 690 * MIB}), cell(5, AFTER, {1: MIB, 3: 12 * MIB}, name="lean")
    frame = thag_nb.compare("scale", "lean", by="line", recording=second, against=first)
    columns = "name file line function source figure before after difference ratio"
    assert list(frame.columns) == columns.split()
    assert frame["figure"].to_list()[:4] == list(FIGURES)
    assert frame.loc[0].to_list()[:4] == ["scale -> lean", "In[5]", 3, "<module>"]
    assert frame.loc[0].to_list()[5:9] == ["peak_bytes", 690 * MIB, 12 * MIB, -678 * MIB]
    assert frame["ratio"].map(math.isnan).sum() == 4  # line 1 allocated nothing before


def test_of_two_recordings_the_name_whose_peak_differs_most_is_compared_by_line() -> None:
    first, second = cell(3, BEFORE, {2: MIB, 3: 690 * MIB}), cell(5, AFTER, {1: MIB, 3: 12 * MIB})
    assert set(thag_nb.compare(first, second, by="line")["name"]) == {"scale"}


def test_of_names_that_have_no_lines_none_is_compared_by_line() -> None:
    """The cell around a task differs at least as much, and did not ask for lines."""
    around = [context(1, "In[2]", kind="cell", peak_bytes=900 * size, live_bytes=1) for size in (MIB, 2 * MIB)]
    tasks = cell(3, BEFORE, {3: 690 * MIB}), cell(5, AFTER, {3: 12 * MIB})
    sides = [
        task._replace(contexts=(task.contexts[0], one, task.contexts[1]))
        for one, task in zip(around, tasks, strict=True)
    ]
    assert set(thag_nb.compare(*sides)["name"]) == {"In[2]", "scale"}
    assert set(thag_nb.compare(*sides, by="line")["name"]) == {"scale"}
    without = [side._replace(lines=(), sites=(), site_figures=()) for side in sides]
    with pytest.raises(NothingToCompareError, match="whose lines were recorded"):
        thag_nb.compare(sides[0], without[1], by="line")


def test_what_cannot_be_compared_by_line_is_told() -> None:
    with pytest.raises(NoLinesError):
        thag_nb.compare("load", by="line", recording=busy())
    with pytest.raises(ChoiceError, match=r"^by must be 'line' or None, not 'cell'$"):
        thag_nb.compare("load", by="cell", recording=busy())  # type: ignore[arg-type]
    with pytest.raises(NothingToCompareError):
        thag_nb.compare(busy(), recording(), by="line")
