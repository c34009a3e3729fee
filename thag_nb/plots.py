"""Recordings as pictures: live bytes over time on matplotlib axes.

Nothing here touches pyplot or matplotlib's settings: a picture is drawn on the axes given, or on a figure that belongs
to nobody but its axes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from math import ceil, floor, log2
from zlib import crc32

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from thag_nb.errors import AxesError
from thag_nb.frames import bucket_rows
from thag_nb.recording import ContextRecord, Recording
from thag_nb.units import format_bytes, format_duration

MOST_CONTEXTS = 8

# Okabe & Ito 2008, "Color Universal Design", without black, yellow: they vanish on a dark or a white page.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
LINE_STYLES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (6, 1.5, 1, 1.5)),
)
GREY = "#767676"  # 4.5:1 on white, 4.1:1 on #111

_BUCKET_NS = 1 << 20  # the width of a timeline's buckets until there are so many of them that they widen
_VISIBLE_PART = 250  # of the time shown, what a spike is drawn at least as wide as: about 2 pixels

_TIME_UNITS = ((1e-3, "µs", 1e6), (1.0, "ms", 1e3), (180.0, "s", 1.0), (float("inf"), "min", 1 / 60))
_TIME_STEPS = [1, 2, 2.5, 5, 10]
_MINUTE_STEPS = [1, 1.2, 1.8, 3, 6, 10]  # of 60, 600, 6000 seconds: whole minutes
_SHORTEST_NS = 1_000  # a window of no length has no scale

_LABEL_POINTS = 8
_SMALL_POINTS = 7
_BOUNDARY_ROWS = 2
_NAME_LETTERS = 28


@dataclass(frozen=True, slots=True)
class _Curve:
    """One context as it is drawn. Times are nanoseconds since the dispatcher started."""

    record: ContextRecord
    rows: NDArray[np.int64]
    start_ns: int
    end_ns: int
    colour: str
    style: str | tuple[int, tuple[float, ...]]
    width: float

    @property
    def peak_ns(self) -> int:
        return _peak_ns(self.rows)


@dataclass(frozen=True, slots=True)
class _Window:
    """The stretch of time that is drawn; zero seconds is its start."""

    start_ns: int
    end_ns: int

    @property
    def span_ns(self) -> int:
        return max(self.end_ns - self.start_ns, _SHORTEST_NS)

    def seconds(self, time_ns: NDArray[np.int64] | int) -> NDArray[np.float64]:
        return np.asarray((time_ns - self.start_ns) / 1e9)


def plot_timeline(
    recording: Recording, wanted: str | int | None = None, *, all: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw live bytes over time on `ax`, or on the axes of a new figure, and return the axes.

    `wanted` is a name or an id: the newest context of that name, or, with `all`, every one, and below it, thinner, the
    contexts started directly under it if there are at most 8. Without it, the whole process in grey and all cells and
    tasks. Of more than 8 only those of highest peak are drawn, and a note says so.

    The x axis is in seconds since the start of what is drawn, the y axis in bytes; the ticks choose their units. A line
    is the live bytes at the end of each bucket of the timeline, the band behind it the lowest and highest within; a dot
    is the peak. Raises `UnknownContextError`, and `AxesError` if `ax` is something else.
    """
    if ax is not None and not isinstance(ax, Axes):
        raise AxesError(ax)
    records, left_out = _choose(recording, wanted, all)
    curves = _curves(recording, records, wanted)
    axes = _new_axes() if ax is None else ax
    window = _window(curves)
    _scale(axes, window, max((curve.record.peak_bytes for curve in curves), default=0))
    for curve in curves:
        _draw_curve(axes, curve, window)
    _annotate(axes, curves, window, left_out, settle=ax is None)
    return axes


def plot_comparison(aligned: Recording, *, ax: Axes | None = None) -> Axes:
    """Draw two contexts that start at the same moment over each other, as `plot_timeline` does.

    `aligned` is made by `comparisons.aligned`. Raises `AxesError` if `ax` is something else.
    """
    return plot_timeline(aligned, ax=ax)


def figure_png(axes: Axes, dpi: int = 100) -> bytes:
    """The figure of these axes as the bytes of a PNG with a transparent background."""
    png = BytesIO()
    # Transparent, because the page may be dark or white and a saved notebook is read on both: our greys and the palette
    # read on either, whereas a white box in a dark page dazzles.
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the text beside the picture has it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        axes.figure.figure.savefig(png, format="png", dpi=dpi, transparent=True)
    return png.getvalue()


def describe_timeline(recording: Recording, wanted: str | int | None = None) -> str:
    """A picture's alternative text: who, for how long, the peak and when, what is kept. Raises `UnknownContextError`.

    `wanted` is a name or an id as in `plot_timeline`; without it, the whole process is told of.
    """
    if wanted is None and not recording.contexts:
        return "Nothing has been recorded yet."
    record = recording.contexts[0] if wanted is None else recording.find(wanted)
    rows = bucket_rows(recording, record.context_id)
    after_ns = max(_peak_ns(rows) - record.started_ns, 0) if len(rows) else 0
    ended = record.state == "ended"
    kept = f"{format_bytes(record.retained_bytes)} retained at its end" if ended else _live_now(record)
    return (
        f"Live bytes of {_short(record.name)} over {format_duration(record.duration_ns)}: "
        f"peak {format_bytes(record.peak_bytes)} after {format_duration(after_ns)}, {kept}."
    )


def _live_now(record: ContextRecord) -> str:
    return f"{format_bytes(record.live_bytes)} live now"


# What is drawn


def _choose(recording: Recording, wanted: str | int | None, all: bool) -> tuple[list[ContextRecord], int]:
    """The contexts to draw, oldest first, those in the background leading, and how many were left out."""
    if wanted is None:
        shown, left_out = _highest(filter(_is_work, recording.contexts))
        return [record for record in recording.contexts if record.kind == "root"] + shown, left_out
    shown, left_out = _highest(recording.find_all(wanted) if all else [recording.find(wanted)])
    drawn = {record.context_id for record in shown}
    children = [record for record in recording.contexts if record.parent_id in drawn and _is_work(record)]
    children = [record for record in children if record.context_id not in drawn]
    return shown + (children if len(children) <= MOST_CONTEXTS else []), left_out


def _is_work(record: ContextRecord) -> bool:
    return record.kind in ("cell", "task")


def _highest(records: Iterable[ContextRecord]) -> tuple[list[ContextRecord], int]:
    ranked = sorted(records, key=lambda record: record.peak_bytes, reverse=True)
    shown = sorted(ranked[:MOST_CONTEXTS], key=lambda record: record.context_id)
    return shown, len(ranked) - len(shown)


def _curves(recording: Recording, records: list[ContextRecord], wanted: str | int | None) -> list[_Curve]:
    work = [record for record in records if record.kind != "root"]
    colours = _colours(record.name for record in work)
    curves = []
    for record in records:
        rows = bucket_rows(recording, record.context_id)
        if not len(rows):
            continue
        if record.kind == "root":
            colour, style, width = GREY, LINE_STYLES[0], 0.9
        else:
            colour, style = colours[record.name], LINE_STYLES[work.index(record) % len(LINE_STYLES)]
            width = 1.6 if wanted in (None, record.name, record.context_id) else 1.0
        end_ns = _end_ns(record, rows)
        rows = rows[rows[:, 0] <= end_ns]
        curves.append(_Curve(record, rows, int(rows[0, 0]), end_ns, colour, style, width))
    return curves


def _end_ns(record: ContextRecord, rows: NDArray[np.int64]) -> int:
    # What runs under a context may outlive it and bring the peak later. And after a reset a context that had started
    # before begins anew.
    return max(record.started_ns + record.duration_ns, _peak_ns(rows), int(rows[0, 0]))


def _peak_ns(rows: NDArray[np.int64]) -> int:
    return int(rows[rows[:, 2].argmax(), 0])


def _window(curves: list[_Curve]) -> _Window:
    starts = [curve.start_ns for curve in curves]
    return _Window(min(starts, default=0), max((curve.end_ns for curve in curves), default=0))


def _colours(names: Iterable[str]) -> dict[str, str]:
    """A name's colour is the same in every picture, unless an older context in this one has it."""
    chosen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        first = crc32(name.encode(errors="backslashreplace")) % len(PALETTE)
        free = [colour for colour in PALETTE[first:] + PALETTE[:first] if colour not in chosen.values()]
        chosen[name] = free[0] if free else list(chosen.values())[len(chosen) % len(PALETTE)]
    return chosen


# Drawing


def _new_axes() -> Axes:
    figure = Figure(figsize=(7, 2.5), layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="none")
    axes.tick_params(colors=GREY, labelsize=_LABEL_POINTS)
    axes.xaxis.label.set(color=GREY, size=_LABEL_POINTS)
    axes.spines[:].set_color(GREY)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _draw_curve(axes: Axes, curve: _Curve, window: _Window) -> None:
    times = window.seconds(np.append(curve.rows[:, 0], curve.end_ns))
    live = np.append(curve.rows[:, 3], curve.rows[-1, 3])
    layer = 2 + curve.width
    # Not add_patch, which would spend 100 ms on the limits of a long path; we set the limits ourselves.
    axes.add_artist(PathPatch(_band(curve, window), facecolor=curve.colour, alpha=0.35, linewidth=0, zorder=layer - 1))
    axes.plot(
        times,
        live,
        drawstyle="steps-post",
        color=curve.colour,
        linestyle=curve.style,
        linewidth=curve.width,
        zorder=layer,
        label=_short(curve.record.name),
    )
    peak = (window.seconds(curve.peak_ns), curve.record.peak_bytes)
    axes.plot(*peak, "o", color=curve.colour, markersize=4, zorder=6, clip_on=False)


def _band(curve: _Curve, window: _Window) -> Path:
    """A rectangle from low to high for each bucket, as one path so that overlaps do not darken."""
    starts, visible = curve.rows[:, 0], window.span_ns // _VISIBLE_PART
    nexts = np.append(starts[1:], curve.end_ns)
    # A bucket is not followed by another until something happens, so it may be much shorter than the gap. One that has
    # been widened is one of 512 or more, hence still narrower than what is visible.
    ends = np.maximum(np.minimum(starts + _BUCKET_NS, nexts), starts + visible)
    shift = np.clip(ends - max(curve.end_ns, curve.start_ns + visible), 0, None)
    left, right = window.seconds(starts - shift), window.seconds(ends - shift)
    low, high = curve.rows[:, 1], curve.rows[:, 2]
    corners = np.stack([left, low, right, low, right, high, left, high, left, low], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(starts))
    return Path(corners, codes)


def _scale(axes: Axes, window: _Window, peak_bytes: int) -> None:
    span, top = window.span_ns / 1e9, max(peak_bytes, 1) * 1.2
    if axes.has_data():
        span, top = max(span, axes.get_xlim()[1]), max(top, axes.get_ylim()[1])
    axes.set_xlim(0, span)
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(_BinaryLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _place: _byte_tick(size)))
    _scale_time(axes, span)


def _scale_time(axes: Axes, span: float) -> None:
    _, unit, per_second = next(row for row in _TIME_UNITS if span < row[0])
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=_MINUTE_STEPS if unit == "min" else _TIME_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _place: f"{seconds * per_second:.6g}"))
    axes.set_xlabel(f"time since start ({unit})")


def _byte_tick(size: float) -> str:
    return format_bytes(size).replace(".0 ", " ")


class _BinaryLocator(Locator):
    """Ticks at multiples of a power of two bytes, at most five: their labels are exact with one decimal."""

    def __call__(self) -> list[float]:
        if self.axis is None:
            return []
        low, high = sorted(self.axis.get_view_interval())
        return self.tick_values(low, high)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        step = 2 ** max(ceil(log2(max(vmax - vmin, 1) / 4)), 0)
        return [float(step * place) for place in range(ceil(vmin / step), floor(vmax / step) + 1)]


# Words in the picture


def _short(name: str) -> str:
    words = " ".join(name.split())
    return words if len(words) <= _NAME_LETTERS else f"{words[: _NAME_LETTERS - 1]}…"


def _annotate(axes: Axes, curves: list[_Curve], window: _Window, left_out: int, *, settle: bool) -> None:
    if not curves:
        _write(axes, "nothing has been recorded yet", (0.5, 0.5), (0, 0), ha="center")
    if len(curves) > 1:
        _mark_boundaries(axes, curves, window)
    if left_out:
        note = f"{left_out:,} of lower peak not drawn"
        _write(axes, note, (1, 0), (0, -17), ha="right", va="top")
    if settle:
        # Where a label has room depends on how large the axes are once everything around them has been measured.
        axes.figure.figure.draw_without_rendering()
    _label_peaks(axes, curves, window)


def _mark_boundaries(axes: Axes, curves: list[_Curve], window: _Window) -> None:
    """A thin line where each cell and task starts and ends, its name above where there is room; starts come first."""
    work = sorted((curve for curve in curves if _is_work(curve.record)), key=lambda curve: curve.start_ns)
    ended = [curve for curve in work if curve.record.state == "ended"]
    taken: list[Bbox] = []
    for curve in work:
        _mark(axes, float(window.seconds(curve.start_ns)), _short(curve.record.name), 2.0, curve.colour, taken)
    for curve in ended:
        words = f"{_short(curve.record.name)} end"
        _mark(axes, float(window.seconds(curve.end_ns)), words, -2.0, curve.colour, taken)


def _mark(axes: Axes, seconds: float, words: str, side: float, colour: str, taken: list[Bbox]) -> None:
    axes.axvline(seconds, color=colour, linewidth=0.5, alpha=0.7, zorder=1)
    text = _write(axes, words, (seconds, 1), (0, 0), xycoords=("data", "axes fraction"), va="bottom")
    _move(text, (side, 1.0))
    box = text.get_window_extent()
    if box.x0 < axes.bbox.x0 - 4 or box.x1 > axes.bbox.x1 + 4:
        side = -side
    for row in range(_BOUNDARY_ROWS):
        _move(text, (side, 1.0 + 9 * row))
        box = text.get_window_extent()
        if not box.count_overlaps(taken):
            taken.append(box)
            return
    text.remove()


def _label_peaks(axes: Axes, curves: list[_Curve], window: _Window) -> None:
    """Name and peak of each curve beside its dot, or as near as there is room, tied to the dot by a thin line."""
    peaks = [(float(window.seconds(curve.peak_ns)), curve.record.peak_bytes) for curve in curves]
    dots = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in map(axes.transData.transform, peaks)]
    taken = [np.asarray(box.extents) for box in [*(text.get_window_extent() for text in axes.texts), *dots]]
    lines = [_line_pieces(axes, curve, window) for curve in curves]
    for curve, peak in sorted(zip(curves, peaks, strict=True), key=lambda pair: -pair[1][1]):
        words = f"{_short(curve.record.name)} peak {format_bytes(curve.record.peak_bytes)}"
        text = _write(axes, words, peak, (0, 0), xycoords="data", size=_LABEL_POINTS)
        text.set_in_layout(False)
        offset, place = _free_place(axes, text.get_window_extent(), np.array(taken), lines)
        _move(text, offset)
        taken.append(place)
        if max(map(abs, offset)) > _NEAR_POINTS:
            _tie(axes, peak, offset, curve.colour)


_NEAR_POINTS = 8
# Beside the dot, further up or down, further away; in points. Coarser where it is far.
_PEAK_OFFSETS = np.array(
    [
        (side * dx, dy)
        for side in (1, -1)
        for dx in (6.0, 24.0, 60.0, 100.0)
        for dy in (*range(-150, -40, 10), *range(-40, 41, 5), *range(50, 151, 10))
    ]
)
# In points of distance: what it is worth to stay off one line; and what no distance outweighs.
_CROSSING_COST, _COVERING_COST = 40.0, 10_000.0


def _free_place(
    axes: Axes, box: Bbox, taken: NDArray[np.float64], lines: list[NDArray[np.float64]]
) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """The best of the offsets in points for a text whose box, in pixels, begins at its dot; and where that puts it."""
    dx, dy = _PEAK_OFFSETS.T * axes.figure.figure.dpi / 72
    left, bottom = box.x0 + np.where(dx > 0, dx, dx - box.width), box.y0 + dy
    places = np.stack([left, bottom, left + box.width, bottom + box.height], axis=1)
    inside = (places[:, :2] >= axes.bbox.min).all(axis=1) & (places[:, 2:] <= axes.bbox.max).all(axis=1)
    offsets, places = (_PEAK_OFFSETS[inside], places[inside]) if inside.any() else (_PEAK_OFFSETS, places)
    distance = np.abs(offsets[:, 0]) + 2 * np.abs(offsets[:, 1] - 5)
    crossed = sum((_overlaps(places, line).any(axis=1) for line in lines), start=np.zeros(len(places)))
    covered = _overlaps(places, taken).sum(axis=1)
    best = int((distance + _CROSSING_COST * crossed + _COVERING_COST * covered).argmin())
    return (float(offsets[best, 0]), float(offsets[best, 1])), places[best]


def _line_pieces(axes: Axes, curve: _Curve, window: _Window) -> NDArray[np.float64]:
    """The level and upright pieces of a curve's line as boxes in pixels: left, bottom, right, top."""
    times = window.seconds(np.append(curve.rows[:, 0], curve.end_ns))
    live = np.append(curve.rows[:, 3], curve.rows[-1, 3])
    x, y = axes.transData.transform(np.stack([times, live], axis=1)).T
    level = np.stack([x[:-1], y[:-1], x[1:], y[:-1]], axis=1)
    upright = np.stack([x[1:], np.minimum(y[:-1], y[1:]), x[1:], np.maximum(y[:-1], y[1:])], axis=1)
    return np.concatenate([level, upright])


def _overlaps(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """For each box and each other box, whether they have a point in common. Shape (boxes, others)."""
    left, bottom, right, top = boxes.T[:, :, np.newaxis]
    shared = (left < others[:, 2]) & (right > others[:, 0]) & (bottom < others[:, 3]) & (top > others[:, 1])
    return np.asarray(shared, dtype=np.bool_)


def _move(text: Annotation, offset: tuple[float, float]) -> None:
    text.set(position=offset, ha="left" if offset[0] > 0 else "right")


def _tie(axes: Axes, peak: tuple[float, float], offset: tuple[float, float], colour: str) -> None:
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}
    tie = axes.annotate("", xy=peak, xytext=offset, textcoords="offset points", arrowprops=line, zorder=5)
    tie.set_in_layout(False)


def _write(
    axes: Axes,
    words: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    *,
    xycoords: str | tuple[str, str] = "axes fraction",
    size: int = _SMALL_POINTS,
    ha: str = "left",
    va: str = "center",
) -> Annotation:
    """Words at a point, moved by an offset in points. Never as mathematics: a context may be called ``$x``."""
    return axes.annotate(
        words,
        at,
        xytext=offset,
        xycoords=xycoords,
        textcoords="offset points",
        ha=ha,
        va=va,
        color=GREY,
        fontsize=size,
        parse_math=False,
        annotation_clip=False,
        zorder=7,
    )
