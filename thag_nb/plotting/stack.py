"""The stacked timeline as a picture: whose live bytes were how many of all, over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from thag_nb.palette import GREY, OTHERS, ROOT, Style, styles
from thag_nb.plotting import placement
from thag_nb.plotting.axes import DASHES, LABEL_POINTS, Clock, axes_for, check_axes, scale
from thag_nb.plotting.event_lines import EventArtists, draw_collections, draw_event_lines, mark_lines, start_lines
from thag_nb.plotting.text import Boxes, Words, arrange, write, write_note
from thag_nb.recordings import resampling
from thag_nb.recordings.model import ContextRecord, Recording, Wanted, descendants, is_work, work_names
from thag_nb.units import KEY_LETTERS, format_bytes, short

# Dark dashes on a light line: one of the two is seen on any page and on any area.
_RESIDENT_COLOURS = ("#C4C4C4", "#444444")
_RESIDENT_DASHES = (0, (2, 2))
_RESIDENT_ANCHORS = 12

_HEADROOM = 1.2
_TALLEST_RESIDENT = 2  # times the peak; what of the process is above is cut off
_SHIFTED_PART = 4  # of the peak, what the process must be more than that before its line is moved down
_LABELLED_PART = 100  # of the peak, what a context must have of its own to be named


@dataclass(frozen=True, slots=True)
class _Area:
    """One layer as it is drawn, from bottom to top, in bytes in each column."""

    name: str
    style: Style
    bottom: NDArray[np.int64]
    top: NDArray[np.int64]
    most_bytes: int

    def handle(self) -> Patch:
        """What stands for it in a key."""
        words = f"{short(self.name, KEY_LETTERS)} up to {format_bytes(self.most_bytes)}"
        ink, dashes = self.style.ink, DASHES[self.style.dash]
        return Patch(facecolor=self.style.colour, edgecolor=ink, linewidth=0.6, linestyle=dashes, label=words)


@dataclass(frozen=True, slots=True)
class _Resident:
    """The size of the process at some moments, less what makes it comparable with live bytes."""

    times_ns: NDArray[np.int64]
    size_bytes: NDArray[np.int64]
    less_bytes: int

    @property
    def words(self) -> str:
        less = f" less {format_bytes(self.less_bytes)}" if self.less_bytes else ""
        return f"RSS{less}, up to {format_bytes(self.size_bytes.max() + self.less_bytes)} in all"


def plot_stack(
    recording: Recording,
    wanted: Wanted | None = None,
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    pyplot: bool = False,
) -> Axes:
    """Draw on `ax`, or on the axes of a new figure, whose live bytes they were, and return the axes.

    `wanted` is a name, an id or a context: the newest of that name with everything under it; without it, the whole
    session. An area is the self live bytes of one context; they add up to the live bytes of all. Of more than 8 below,
    those of highest self peak have areas of their own. The thin line above is the highest within each column of the
    picture, its dot the peak. Upright lines are where cells and tasks directly below start; dashed ones are marks.

    RSS is a dashed line through its samples. If it always was much more than what was live, it is drawn less the
    smallest difference, and cut off above twice the peak; its label says by how much, and how high it was.

    The x axis is in seconds since the start of what is drawn, the y axis in bytes; the ticks choose their units. A new
    figure has `figsize` in inches, and is pyplot's only with `pyplot`. Raises `UnknownContextError`, and `AxesError` if
    `ax` is something else.
    """
    check_axes(ax)
    if wanted is None and not recording.contexts:
        axes = axes_for(ax, figsize, pyplot=pyplot)
        scale(axes, Clock(0, 0), 0)
        write(axes, "nothing has been recorded yet", (0.5, 0.5), ha="center")
        return axes
    top = recording.contexts[0] if wanted is None else recording.find(wanted)
    window = resampling.window_of(recording, top)
    window = window._replace(end_ns=max(window.end_ns, resampling.peak_ns(recording, top)))
    stack = resampling.stack(recording, top, window=window)
    axes = axes_for(ax, figsize, pyplot=pyplot)
    _draw(axes, recording, top, stack)
    return axes


def _draw(axes: Axes, recording: Recording, top: ContextRecord, stack: resampling.Stack) -> None:
    clock = Clock(int(stack.window.edges_ns[0]), int(stack.window.edges_ns[-1]))
    areas, resident = _areas(recording, top, stack), _resident(recording, top, stack)
    tallest = 0 if resident is None else min(int(resident.size_bytes.max()), _TALLEST_RESIDENT * top.peak_bytes)
    scale(axes, clock, _HEADROOM * max(top.peak_bytes, tallest))
    seconds = clock.seconds(stack.window.edges_ns)
    for area in areas:
        _draw_area(axes, area, seconds)
    axes.plot(seconds, _closed(stack.high_bytes), drawstyle="steps-post", color=GREY, linewidth=0.8, zorder=3)
    if resident is not None:
        times = clock.seconds(resident.times_ns)
        for colour, dashes in zip(_RESIDENT_COLOURS, ("-", _RESIDENT_DASHES), strict=True):
            axes.plot(
                times,
                resident.size_bytes,
                drawstyle="steps-post",
                color=colour,
                linewidth=1.2,
                linestyle=dashes,
                zorder=4,
            )
    children = [record for record in recording.children(top.context_id) if is_work(record)]
    event_artists = draw_event_lines(axes, [*mark_lines(recording, [top]), *start_lines(children)], clock)
    note = draw_collections(axes, recording, clock)
    beside = _write_beside(axes, recording, top, clock, resident)
    _annotate(axes, areas, event_artists, beside, write_note(axes, [note] if note else []), clock, stack)


# What is drawn


def _areas(recording: Recording, top: ContextRecord, stack: resampling.Stack) -> list[_Area]:
    looks = styles(work_names(recording))
    records = {record.context_id: record for record in recording.contexts}
    count = len(descendants(recording, top.context_id)) - len(stack.layers) + 2
    bottom = np.zeros(stack.window.columns, np.int64)
    areas = []
    for layer in stack.layers:
        ceiling = bottom + np.maximum(layer.live_bytes, 0)
        most_bytes = int((ceiling - bottom).max())
        if layer.context_id == resampling.OTHERS_ID:
            name, style = f"{count:,} {layer.name if count > 1 else 'other'}", OTHERS
        else:
            name, style = layer.name, looks.get(layer.name, ROOT)
            most_bytes = max(most_bytes, records[layer.context_id].self_peak_bytes)
        if layer.context_id == top.context_id and len(stack.layers) > 1:
            name = f"{short(name, KEY_LETTERS)} itself"
        areas.append(_Area(name, style, bottom, ceiling, most_bytes))
        bottom = ceiling
    return areas


def _resident(recording: Recording, top: ContextRecord, stack: resampling.Stack) -> _Resident | None:
    window = stack.window
    samples = np.array([sample for sample in recording.resident if window.start_ns <= sample.time_ns <= window.end_ns])
    if not len(samples):
        return None
    times_ns, size_bytes = samples.T.astype(np.int64)
    live_bytes = resampling.lives(recording, top, window)
    column = np.clip(np.searchsorted(window.edges_ns, times_ns, side="right") - 1, 0, window.columns - 1)
    more_bytes = int((size_bytes - live_bytes[column]).min())
    less_bytes = more_bytes if more_bytes * _SHIFTED_PART > top.peak_bytes else 0
    return _Resident(times_ns, size_bytes - less_bytes, less_bytes)


# Drawing


def _closed(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value of each column at its left edge, and of the last one at its right edge too."""
    return np.append(columns, columns[-1])


def _draw_area(axes: Axes, area: _Area, seconds: NDArray[np.float64]) -> None:
    bottom, top = _closed(area.bottom), _closed(area.top)
    axes.fill_between(
        seconds, bottom, top, step="post", facecolor=area.style.colour, linewidth=0, zorder=2, label=short(area.name)
    )
    # Contexts of one name lie upon each other in one colour: an edge parts them.
    edge = np.where(top > bottom, top, np.nan)
    ink, dashes = area.style.ink, DASHES[area.style.dash]
    axes.plot(seconds, edge, drawstyle="steps-post", color=ink, linewidth=0.6, alpha=0.6, linestyle=dashes, zorder=2.5)


# Words in the picture


def _write_beside(
    axes: Axes, recording: Recording, top: ContextRecord, clock: Clock, resident: _Resident | None
) -> dict[Words, Artist]:
    """The words that stand beside their points, and what stands for them in a key."""
    peak = (float(clock.seconds(resampling.peak_ns(recording, top))), float(top.peak_bytes))
    words = f"peak {format_bytes(top.peak_bytes)}"
    (dot,) = axes.plot(*peak, "o", color=GREY, markersize=4, zorder=6, clip_on=False)
    dot.set_in_layout(False)  # wherever somebody has zoomed to, the axes keep their room
    beside: dict[Words, Artist] = {
        write(axes, words, peak, xycoords="data", size=LABEL_POINTS, tie=GREY): Line2D(
            [], [], color=GREY, linewidth=0.8, marker="o", markersize=3.5, label=words
        )
    }
    if resident is not None:
        times, sizes = clock.seconds(resident.times_ns), resident.size_bytes
        spread = np.unique(np.linspace(len(times) - 1, 0, _RESIDENT_ANCHORS).astype(int))[::-1]
        anchors = [(float(times[index]), float(min(sizes[index], axes.get_ylim()[1]))) for index in spread]
        text = write(axes, resident.words, anchors[0], xycoords="data", tie=GREY)
        text.anchors = anchors
        beside[text] = Line2D([], [], color=GREY, linewidth=1.0, linestyle=_RESIDENT_DASHES, label=resident.words)
    for text in beside:
        text.set_in_layout(False)
    return beside


def _annotate(
    axes: Axes,
    areas: list[_Area],
    event_artists: EventArtists,
    beside: dict[Words, Artist],
    note: Words | None,
    clock: Clock,
    stack: resampling.Stack,
) -> None:
    highest = max((int(stack.high_bytes.max()), *(area.most_bytes for area in areas)))
    named = [area for area in areas if area.most_bytes * _LABELLED_PART >= highest and area.most_bytes]
    within = {_write_name(axes, area): area for area in reversed(named)}
    seconds = clock.seconds(stack.window.edges_ns)

    def place_words(renderer: RendererBase) -> Iterable[Words]:
        yield from placement.place_above(axes, event_artists.texts, renderer)
        placement.place_note(axes, note, renderer)
        for text, area in within.items():
            if text.axes is not None and not _put_within(axes, text, area, seconds, renderer):
                yield text
        filled = np.vstack([placement.boxes_of_lines(axes, event_artists.lines), _boxes(axes, areas, seconds)])
        yield from placement.place_beside(axes, list(beside), filled, event_artists.lines, renderer)
        placement.cut(axes, event_artists.lines, [*within, *beside], renderer)

    def entries(lost: Sequence[Words]) -> list[Artist]:
        names_within = {area.name for text, area in within.items() if text not in lost}
        homeless = {area.name: area for text, area in within.items() if text in lost and area.name not in names_within}
        return [area.handle() for area in homeless.values()] + [beside[text] for text in lost if text in beside]

    arrange(axes, place_words, entries)


def _write_name(axes: Axes, area: _Area) -> Words:
    text = write(axes, short(area.name, KEY_LETTERS), (0, 0), xycoords="data", colour=area.style.ink, ha="center")
    text.set_in_layout(False)
    return text


def _put_within(axes: Axes, text: Words, area: _Area, seconds: NDArray[np.float64], renderer: RendererBase) -> bool:
    """Put a name where its area is highest, if it is high enough."""
    left, bottom = axes.transData.transform(np.stack([seconds, _closed(area.bottom)], axis=1)).T
    _, top = axes.transData.transform(np.stack([seconds, _closed(area.top)], axis=1)).T
    at = placement.place_within(text, left, bottom[:-1], top[:-1], renderer)
    if at is not None:
        x, y = axes.transData.inverted().transform(at)
        text.move((float(x), float(y)))
    return at is not None


def _boxes(axes: Axes, areas: list[_Area], seconds: NDArray[np.float64]) -> Boxes:
    """What is filled, as boxes in pixels."""
    corners = (
        axes.transData.transform(np.stack([seconds[:-1], areas[0].bottom], axis=1)),
        axes.transData.transform(np.stack([seconds[1:], areas[-1].top], axis=1)),
    )
    boxes = np.hstack(corners)
    return boxes[boxes[:, 3] > boxes[:, 1]]
