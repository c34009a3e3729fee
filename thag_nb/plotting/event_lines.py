"""Upright lines in a picture: where contexts start and end, what somebody marked, and when the collector ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from thag_nb.palette import GREY
from thag_nb.plotting.axes import Clock
from thag_nb.plotting.text import Words, write
from thag_nb.recordings.model import ContextRecord, Mark, Recording, descendants
from thag_nb.units import short

AFTER, BEFORE = 2.0, -2.0  # on which side of its line a name stands, and how far in points

_CLOSEST_PART = 250  # of the time shown, how near to each other lines of one kind are drawn: about 2 pixels


class EventLine(NamedTuple):
    """A line from top to bottom, with words above it."""

    time_ns: int
    words: str
    side: float
    colour: str = GREY
    dashed: bool = False


def start_lines(records: Iterable[ContextRecord]) -> list[EventLine]:
    """Where contexts start, in grey."""
    return [EventLine(record.started_ns, short(record.name), AFTER) for record in records]


def mark_lines(recording: Recording, records: Iterable[ContextRecord]) -> list[EventLine]:
    """What was marked in the contexts shown, and in those above and below them."""
    related = set(_related(recording, records))
    named = [mark for mark in recording.marks if mark.kind == "mark" and mark.context_id in related]
    return [EventLine(mark.time_ns, short(mark.name), AFTER, dashed=True) for mark in named]


def _related(recording: Recording, records: Iterable[ContextRecord]) -> Iterator[int]:
    # A parent is older than its children: anything else, in a recording made by hand, would lead round and round.
    older = (record for record in recording.contexts if record.parent_id < record.context_id)
    parents = {record.context_id: record.parent_id for record in older}
    for record in records:
        yield from (below.context_id for below in descendants(recording, record.context_id))
        context_id = record.context_id
        while context_id:
            yield context_id
            context_id = parents.get(context_id, 0)


class EventArtists(NamedTuple):
    """The lines of events, and the words that belong above them where there is room, with their side."""

    lines: list[Line2D]
    texts: list[tuple[Words, float]]


def draw_event_lines(axes: Axes, events: Iterable[EventLine], clock: Clock) -> EventArtists:
    """A line for each event, and its words."""
    lines, texts = [], []
    for event in _apart(events, clock):
        seconds = float(clock.seconds(event.time_ns))
        style = {"linewidth": 0.8, "linestyle": (0, (4, 3))} if event.dashed else {"linewidth": 0.5}
        layer = 5 if event.dashed else 1  # what somebody marked is not hidden behind areas
        line = axes.axvline(seconds, color=event.colour, alpha=0.7, zorder=layer, **style)
        above = write(axes, event.words, (seconds, 1), xycoords=("data", "axes fraction"), va="bottom")
        lines.append(line)
        texts.append((above, event.side))
    return EventArtists(lines, texts)


def _apart(events: Iterable[EventLine], clock: Clock) -> Iterator[EventLine]:
    """The events on the clock, without those that one would not tell from the one before."""
    last: dict[object, int] = {}
    for event in events:
        kind = (event.side, event.colour, event.dashed)
        near = kind in last and abs(event.time_ns - last[kind]) < clock.span_ns / _CLOSEST_PART
        if clock.start_ns <= event.time_ns <= clock.end_ns and not near:
            last[kind] = event.time_ns
            yield event


def draw_collections(axes: Axes, recording: Recording, clock: Clock) -> str | None:
    """Small ticks where the garbage collector ran, and what to say of them."""
    ran: list[Mark] = [
        mark for mark in recording.marks if mark.kind == "collection" and clock.start_ns <= mark.time_ns <= clock.end_ns
    ]
    if not ran:
        return None
    seconds = [float(clock.seconds(mark.time_ns)) for mark in ran]
    bottom = axes.get_xaxis_transform()
    axes.plot(seconds, [0.0] * len(ran), "|", transform=bottom, color=GREY, markersize=9, clip_on=False, zorder=6)
    return f"ticks: {len(ran):,} garbage collection{'s' if len(ran) > 1 else ''}"
