from __future__ import annotations

from handmade import MS, SECOND, busy, context, marked, pack, recording, root
from matplotlib.figure import Figure

from thag_nb.plotting.axes import Clock
from thag_nb.plotting.event_lines import AFTER, EventLine, draw_collections, draw_event_lines, mark_lines, start_lines
from thag_nb.recordings.model import Mark


def test_starts_are_where_contexts_start() -> None:
    assert start_lines([busy().find("parse")]) == [EventLine(800 * MS, "parse", AFTER)]


def test_marks_are_those_of_the_contexts_shown_and_of_those_above_and_below() -> None:
    made = recording(
        (root(), pack()),
        (context(3, "a"), pack()),
        (context(4, "b", parent_id=3), pack()),
        (context(5, "c", parent_id=4), pack()),
        (context(6, "d"), pack()),
        marks=tuple(Mark(number, number, f"in {number}", "mark", 0) for number in (1, 3, 4, 5, 6)),
    )
    assert [line.words for line in mark_lines(made, [made.find("b")])] == ["in 1", "in 3", "in 4", "in 5"]
    assert len(mark_lines(made, [made.contexts[0]])) == 5


def test_events_outside_of_the_clock_or_next_to_their_like_have_no_line() -> None:
    axes = Figure().add_subplot()
    events = [EventLine(time_ns, "x", AFTER) for time_ns in (0, SECOND, SECOND + 1, 2 * SECOND, 9 * SECOND)]
    drawn = draw_event_lines(axes, [*events, EventLine(SECOND, "mark", AFTER, dashed=True)], Clock(SECOND, 3 * SECOND))
    assert [line.get_xdata()[0] for line in drawn.lines] == [0, 1, 0]
    assert [text.get_text() for text, _ in drawn.texts] == ["x", "x", "mark"]


def test_collections_are_ticks_that_are_counted() -> None:
    axes = Figure().add_subplot()
    assert draw_collections(axes, marked(), Clock(0, SECOND)) == "ticks: 1 garbage collection"
    assert axes.lines[0].get_xdata().tolist() == [0.9]
    assert draw_collections(axes, marked(), Clock(0, MS)) is None
