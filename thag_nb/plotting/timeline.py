"""Timelines as pictures: the live bytes of some contexts over time, each as a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from thag_nb.palette import GREY, styles
from thag_nb.plotting import placement
from thag_nb.plotting.axes import DASHES, LABEL_POINTS, Clock, axes_for, check_axes, scale
from thag_nb.plotting.event_lines import AFTER, BEFORE, EventLine, draw_collections, draw_event_lines, mark_lines
from thag_nb.plotting.text import Boxes, Words, arrange, write, write_note
from thag_nb.recordings.model import ContextRecord, Recording, SeveralWanted, is_work, work_names
from thag_nb.recordings.resampling import bucket_rows, peak_ns
from thag_nb.units import KEY_LETTERS, NAME_LETTERS, format_bytes, short

MOST_CONTEXTS = 8

_MARKERS = "os^DvPXp"  # of the peaks, for those who do not see the colour

_BUCKET_NS = 1 << 20  # the width of a timeline's buckets until there are so many of them that they widen
_VISIBLE_PART = 250  # of the time shown, what a spike is drawn at least as wide as: about 2 pixels
_WIDEST_PART = 100  # and at most: when within its bucket it was is not known
_LABELLED_PART = 100  # of the highest peak, what a peak must be to be told


@dataclass(frozen=True, slots=True)
class _Look:
    """How a context is drawn, and the marker of its peak."""

    colour: str
    dash: int
    marker: str
    width: float


@dataclass(frozen=True, slots=True)
class _Curve:
    """One context as it is drawn. Times are nanoseconds since the dispatcher started."""

    record: ContextRecord
    rows: NDArray[np.int64]
    end_ns: int
    highest_ns: int
    look: _Look

    @property
    def start_ns(self) -> int:
        return int(self.rows[0, 0])

    @property
    def is_brief(self) -> bool:
        """Too short for its timeline to tell when anything happened."""
        return self.end_ns - self.start_ns < _BUCKET_NS

    @property
    def peak_ns(self) -> int:
        return (self.start_ns + self.end_ns) // 2 if self.is_brief else self.highest_ns

    def words(self, letters: int) -> str:
        return f"{short(self.record.name, letters)} peak {format_bytes(self.record.peak_bytes)}"

    def handle(self) -> Line2D:
        """What stands for it in a key."""
        look = self.look
        return Line2D(
            [],
            [],
            color=look.colour,
            linestyle=DASHES[look.dash],
            linewidth=look.width,
            marker=look.marker,
            markersize=3.5,
            label=self.words(KEY_LETTERS),
        )


def plot_timeline(
    recording: Recording,
    wanted: SeveralWanted = None,
    *,
    all: bool = False,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    pyplot: bool = False,
) -> Axes:
    """Draw live bytes over time on `ax`, or on the axes of a new figure, and return the axes.

    `wanted` is a name, an id or a context: of a name the newest context, or, with `all`, every one; and below it,
    thinner, the contexts started directly under it if there are at most 8. A list of them draws each, and nothing
    below. Without it, the whole process in grey and all cells and tasks. Of more than 8 only those of highest peak are
    drawn. Notes say what was left out.

    The x axis is in seconds since the start of what is drawn, the y axis in bytes; the ticks choose their units. A line
    is the live bytes at the end of each bucket of the timeline, the band behind it the lowest and highest within; a dot
    is the peak. Marks are dashed lines. A new figure has `figsize` in inches, and is pyplot's only with `pyplot`.
    Raises `UnknownContextError`, and `AxesError` if `ax` is something else.
    """
    check_axes(ax)
    selected, below, notes = _choose(recording, wanted, all)
    curves = _curves(recording, selected, below)
    axes = axes_for(ax, figsize, pyplot=pyplot)
    clock = _clock(curves)
    scale(axes, clock, 1.2 * max((curve.record.peak_bytes for curve in curves), default=0))
    for curve in curves:
        _draw_curve(axes, curve, clock)
    notes.append(draw_collections(axes, recording, clock))
    _annotate(axes, recording, curves, clock, [note for note in notes if note])
    return axes


def plot_comparison(
    aligned: Recording,
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    pyplot: bool = False,
) -> Axes:
    """Draw two contexts that start at the same moment over each other, as `plot_timeline` does.

    `aligned` is made by `differences.aligned`. Raises `AxesError` if `ax` is something else.
    """
    return plot_timeline(aligned, ax=ax, figsize=figsize, pyplot=pyplot)


# What is drawn


def _choose(
    recording: Recording, wanted: SeveralWanted, all: bool
) -> tuple[list[ContextRecord], list[ContextRecord], list[str | None]]:
    """The contexts to draw, those in the background leading; those below them; and what to say of the others."""
    if wanted is None:
        selected, note = _highest(record for record in recording.contexts if is_work(record))
        return [record for record in recording.contexts if record.kind == "root"] + selected, [], [note]
    records = recording.choose(wanted, all=all)
    selected, note = _highest(records)
    if isinstance(wanted, list | tuple) and not isinstance(wanted, ContextRecord) and not hasattr(wanted, "id"):
        return selected, [], [note]
    selected_ids = {record.context_id for record in selected}
    below = [record for record in recording.contexts if record.parent_id in selected_ids and is_work(record)]
    below = [record for record in below if record.context_id not in selected_ids]
    if len(below) > MOST_CONTEXTS:
        return selected, [], [note, f"{len(below):,} started under {short(selected[0].name)} not drawn"]
    return selected, below, [note]


def _highest(records: Iterable[ContextRecord]) -> tuple[list[ContextRecord], str | None]:
    """The contexts of highest peak, oldest first, and what to say of the others."""
    ranked = sorted(records, key=lambda record: record.peak_bytes, reverse=True)
    selected = sorted(ranked[:MOST_CONTEXTS], key=lambda record: record.context_id)
    left_out = len(ranked) - len(selected)
    return selected, f"{left_out:,} of lower peak not drawn" if left_out else None


def _curves(recording: Recording, selected: list[ContextRecord], below: list[ContextRecord]) -> list[_Curve]:
    looks = styles(work_names(recording))
    markers = dict(zip(looks, cycle(_MARKERS), strict=False))
    seen: dict[str, int] = {}
    curves = []
    for record in [*selected, *below]:
        rows = bucket_rows(recording, record.context_id)
        if not len(rows):
            continue
        if record.name in looks and is_work(record):
            style, again = looks[record.name], seen.get(record.name, 0)
            seen[record.name] = again + 1
            dash, width = (style.dash + again) % len(DASHES), 1.0 if record in below else 1.6
            look = _Look(style.line, dash, markers[record.name], width)
        else:
            look = _Look(GREY, 0, _MARKERS[0], 0.9)
        highest_ns = peak_ns(recording, record)
        end_ns = max(record.started_ns + record.duration_ns, highest_ns)
        curves.append(_Curve(record, rows[rows[:, 0] <= end_ns], end_ns, highest_ns, look))
    return curves


def _clock(curves: list[_Curve]) -> Clock:
    starts = [curve.start_ns for curve in curves]
    return Clock(min(starts, default=0), max((curve.end_ns for curve in curves), default=0))


# Drawing


def _draw_curve(axes: Axes, curve: _Curve, clock: Clock) -> None:
    look, layer = curve.look, 2 + curve.look.width
    band = _stem(curve, clock) if curve.is_brief else _band(curve, clock)
    # Not add_patch, which would spend 100 ms on the limits of a long path; we set the limits ourselves.
    axes.add_artist(PathPatch(band, facecolor=look.colour, alpha=0.35, linewidth=0, zorder=layer - 1))
    times, live = _line(curve)
    axes.plot(
        clock.seconds(times),
        live,
        drawstyle="steps-post",
        color=look.colour,
        linestyle=DASHES[look.dash],
        linewidth=look.width,
        zorder=layer,
        label=short(curve.record.name),
    )
    peak = (clock.seconds(curve.peak_ns), curve.record.peak_bytes)
    (dot,) = axes.plot(*peak, look.marker, color=look.colour, markersize=4, zorder=6, clip_on=False)
    dot.set_in_layout(False)  # wherever somebody has zoomed to, the axes keep their room


def _line(curve: _Curve) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each bucket's live bytes until the next; of a brief context what is known: from nothing to what it kept."""
    if curve.is_brief:
        record = curve.record
        before = 0 if curve.rows[0, 1] <= 0 else int(curve.rows[0, 1])
        left_bytes = record.retained_bytes if record.state == "ended" else record.live_bytes
        return np.array([curve.start_ns, curve.peak_ns, curve.end_ns]), np.array([before, left_bytes, left_bytes])
    return np.append(curve.rows[:, 0], curve.end_ns), np.append(curve.rows[:, 3], curve.rows[-1, 3])


def _band(curve: _Curve, clock: Clock) -> Path:
    """A rectangle from low to high for each bucket that was beyond its line, as one path: overlaps do not darken."""
    starts, visible = curve.rows[:, 0], clock.span_ns // _VISIBLE_PART
    nexts = np.append(starts[1:], curve.end_ns)
    # A bucket is not followed by another until something happens, so it may be much shorter than the gap. One that has
    # been widened is one of 512 or more, hence still narrower than what is visible.
    widest = min(_BUCKET_NS, max(clock.span_ns // _WIDEST_PART, 1))
    ends = np.maximum(np.minimum(starts + widest, nexts), starts + visible)
    shift = np.clip(ends - max(curve.end_ns, curve.start_ns + visible), 0, None)
    beyond = _is_beyond(curve)
    low, high = curve.rows[beyond, 1], curve.rows[beyond, 2]
    return _rectangles(clock, (starts - shift)[beyond], (ends - shift)[beyond], low, high)


def _is_beyond(curve: _Curve) -> NDArray[np.bool_]:
    """For each bucket, whether it was lower or higher than the line from the bucket before to its own live bytes."""
    _, low, high, live, _ = curve.rows.T
    before = np.append(low[:1], live[:-1])
    return np.asarray((low < np.minimum(before, live)) | (high > np.maximum(before, live)), np.bool_)


def _stem(curve: _Curve, clock: Clock) -> Path:
    """From the lowest to the highest of a brief context, somewhere within it."""
    half = max(clock.span_ns // _VISIBLE_PART // 2, 1)
    middle, low, high = np.array([curve.peak_ns]), curve.rows[:, 1].min(), curve.rows[:, 2].max()
    return _rectangles(clock, middle - half, middle + half, np.array([low]), np.array([high]))


def _rectangles(
    clock: Clock,
    left_ns: NDArray[np.int64],
    right_ns: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> Path:
    left, right = clock.seconds(left_ns), clock.seconds(right_ns)
    corners = np.stack([left, low, right, low, right, high, left, high, left, low], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(left_ns))
    return Path(corners, codes)


# Words in the picture


def _annotate(axes: Axes, recording: Recording, curves: list[_Curve], clock: Clock, notes: list[str]) -> None:
    if not curves:
        words = "nothing to draw" if recording.contexts else "nothing has been recorded yet"
        write(axes, words, (0.5, 0.5), ha="center")
    events = mark_lines(recording, [curve.record for curve in curves])
    if len(curves) > 1:
        starts, ends = _boundaries(curves)
        events = [*events, *starts, *ends]
    event_artists = draw_event_lines(axes, events, clock)
    peaks = {_write_peak(axes, curve, clock): curve for curve in _worth_a_label(curves)}
    nameless = [curve for curve in curves if curve not in peaks.values()]
    note = write_note(axes, notes)

    def place_words(renderer: RendererBase) -> Iterable[Words]:
        yield from placement.place_above(axes, event_artists.texts, renderer)
        placement.place_note(axes, note, renderer)
        lines = placement.boxes_of_lines(axes, event_artists.lines)
        filled = np.vstack([lines, *(_spikes(axes, curve, clock) for curve in curves)])
        yield from placement.place_beside(axes, list(peaks), filled, event_artists.lines, renderer)
        placement.cut(axes, event_artists.lines, peaks, renderer)

    def entries(lost: Sequence[Words]) -> list[Artist]:
        names = {text.get_text() for text in lost if text not in peaks}
        lost_peaks = [peaks[text] for text in lost if text in peaks]
        lost_curves = lost_peaks + [curve for curve in nameless if short(curve.record.name) in names]
        return [curve.handle() for curve in sorted(lost_curves, key=lambda curve: -curve.record.peak_bytes)]

    arrange(axes, place_words, entries)


def _boundaries(curves: list[_Curve]) -> tuple[list[EventLine], list[EventLine]]:
    """Where each cell and task starts, and where it ends."""
    work = sorted((curve for curve in curves if is_work(curve.record)), key=lambda curve: curve.start_ns)
    starts = [EventLine(curve.start_ns, short(curve.record.name), AFTER, curve.look.colour) for curve in work]
    ends = [
        EventLine(curve.end_ns, f"{short(curve.record.name)} end", BEFORE, curve.look.colour)
        for curve in work
        if curve.record.state == "ended"
    ]
    return starts, ends


def _worth_a_label(curves: list[_Curve]) -> list[_Curve]:
    """The curves whose peak can be told from none, the highest first."""
    highest = max((curve.record.peak_bytes for curve in curves), default=0)
    seen = [curve for curve in curves if curve.record.peak_bytes * _LABELLED_PART >= highest]
    return sorted(seen, key=lambda curve: -curve.record.peak_bytes)


def _write_peak(axes: Axes, curve: _Curve, clock: Clock) -> Words:
    peak = (float(clock.seconds(curve.peak_ns)), float(curve.record.peak_bytes))
    words = curve.words(NAME_LETTERS)
    text = write(axes, words, peak, xycoords="data", size=LABEL_POINTS, tie=curve.look.colour)
    text.set_in_layout(False)
    return text


def _spikes(axes: Axes, curve: _Curve, clock: Clock) -> Boxes:
    """What stands out of a line: the highest of each bucket, as boxes in pixels."""
    seconds = clock.seconds(np.array([curve.peak_ns]) if curve.is_brief else curve.rows[:, 0])
    rows = curve.rows[: len(seconds)]
    corners = [axes.transData.transform(np.stack([seconds, rows[:, field]], axis=1)) for field in (1, 2)]
    return np.hstack(corners)
