"""Where words find room in a picture: above the axes, beside a point, within an area; not over each other or a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.lines import Line2D
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from thag_nb.plotting.text import Boxes, Words

_ROWS = 2
_ROW_POINTS = 9

_NEAR_POINTS = 8
# Beside a dot, further up or down, further away; in points.
_OFFSETS = np.array([(side * dx, dy) for side in (1, -1) for dx in (6.0, 14.0, 24.0) for dy in range(-30, 31, 5)])
_CROSSING_POINTS = 20  # how much further it may be not to cut a line that can be cut
_GAP_PIXELS = 2
_PAD_PIXELS = 2


def place_above(axes: Axes, texts: Sequence[tuple[Words, float]], renderer: RendererBase) -> Iterator[Words]:
    """Put words above the axes, to the right of their point if `side` is positive; yields those without room."""
    obstacles = np.empty((0, 4))
    left, right = axes.bbox.x0 - 4, axes.bbox.x1 + 4
    for text, side in texts:
        if text.axes is None:
            continue
        text.put((side, 1.0))
        box = text.box(renderer)
        if box[0] < left or box[2] > right:
            side = -side
        for row in range(_ROWS):
            text.put((side, 1.0 + _ROW_POINTS * row))
            box = text.box(renderer)
            if not overlaps(box[np.newaxis], obstacles).any():
                obstacles = np.vstack([obstacles, box + np.array([-_GAP_PIXELS, 0, _GAP_PIXELS, 0])])
                break
        else:
            yield text


def place_beside(
    axes: Axes, texts: Sequence[Words], filled: Boxes, lines: Sequence[Line2D], renderer: RendererBase
) -> Iterator[Words]:
    """Put words beside the points they belong to, over nothing that is filled, the first first; yields the others.

    `lines` are upright ones that can be cut, which is done only if there is no room beside them.
    """
    upright = np.vstack([np.empty((0, 4)), *(_upright(axes, line) for line in lines)])
    dots = [axes.transData.transform(text.xy) for text in texts if not text.anchors]
    filled = np.vstack([filled, *([x - 4, y - 4, x + 4, y + 4] for x, y in dots)])
    word_boxes = np.empty((0, 4))
    ties = np.empty((0, 4))
    for text in texts:
        if text.axes is None:
            continue
        text.put((1.0, 0.0))
        size = np.diff(text.box(renderer).reshape(2, 2), axis=0)[0]
        obstacles = np.vstack([filled, word_boxes, ties])
        anchors = text.anchors or [text.xy]
        dots = [axes.transData.transform(anchor) for anchor in anchors]
        spots = [_nearest(axes, dot, size, obstacles, word_boxes, upright) for dot in dots]
        best = min(range(len(spots)), key=lambda number: spots[number].distance)
        if np.isinf(spots[best].distance):
            yield text
            continue
        text.move(anchors[best])
        text.put(spots[best].offset, tied=len(spots[best].tie) > 0)
        word_boxes, ties = np.vstack([word_boxes, spots[best].box]), np.vstack([ties, spots[best].tie])


class _Spot(NamedTuple):
    """Where words may be: their offset in points, their box, the boxes of their tie, and how bad that is."""

    distance: float
    offset: tuple[float, float] = (0.0, 0.0)
    box: Boxes = np.empty((0, 4))
    tie: Boxes = np.empty((0, 4))


def _nearest(axes: Axes, dot: Boxes, size: Boxes, obstacles: Boxes, words: Boxes, upright: Boxes) -> _Spot:
    """The nearest free spot for words of a size in pixels; infinitely far if there is none."""
    shift = _OFFSETS * axes.figure.figure.dpi / 72
    corner = dot + shift - size * np.stack([_OFFSETS[:, 0] < 0, np.full(len(_OFFSETS), 0.5)], axis=1)
    boxes = np.hstack([corner, corner + size])
    inside = (boxes[:, :2] >= axes.bbox.min).all(axis=1) & (boxes[:, 2:] <= axes.bbox.max).all(axis=1)
    near = [boxes.min(axis=0)[:2], boxes.max(axis=0)[2:]]
    obstacles = obstacles[overlaps(obstacles, np.reshape(near, (1, 4))).any(axis=1)]
    free: Any = inside & ~overlaps(boxes, obstacles).any(axis=1)
    distance = np.abs(_OFFSETS[:, 0]) + 2 * np.abs(_OFFSETS[:, 1] - 5)
    distance = distance + _CROSSING_POINTS * overlaps(boxes, upright).sum(axis=1)
    for best in np.argsort(distance, kind="stable"):
        if not free[best]:
            continue
        tie = _tie(dot, boxes[best]) if np.abs(_OFFSETS[best]).max() > _NEAR_POINTS else np.empty((0, 4))
        if not overlaps(tie, words).any():
            offset = (float(_OFFSETS[best, 0]), float(_OFFSETS[best, 1]))
            return _Spot(float(distance[best]), offset, boxes[best], tie)
    return _Spot(np.inf)


def _tie(dot: Boxes, box: Boxes) -> Boxes:
    """Boxes along the line between a dot and words."""
    middle = (box[:2] + box[2:]) / 2
    points = dot + np.linspace(0.1, 1, 24)[:, np.newaxis] * (middle - dot)
    return np.hstack([points - 1, points + 1])


def cut(axes: Axes, lines: Sequence[Line2D], texts: Iterable[Words], renderer: RendererBase) -> None:
    """Let upright lines go from the bottom to the top of the axes, but for where there are words."""
    boxes = [text.box(renderer) for text in texts if text.axes is not None and text.get_visible()]
    words = np.vstack([np.empty((0, 4)), *boxes])
    for line in lines:
        crossed = words[overlaps(words, _upright(axes, line)[np.newaxis]).any(axis=1)]
        edges: Any = (np.sort(crossed[:, 1::2], axis=None) - axes.bbox.y0) / axes.bbox.height  # words do not overlap
        heights: list[float] = [0.0, *edges.tolist(), 1.0]
        pieces = [y for low, high in zip(heights[::2], heights[1::2], strict=True) for y in (low, high, np.nan)][:-1]
        if not np.array_equal(np.asarray(line.get_ydata()), pieces, equal_nan=True):
            line.set_data([np.asarray(line.get_xdata())[0]] * len(pieces), pieces)


def _upright(axes: Axes, line: Line2D) -> Boxes:
    x = float(axes.transData.transform((np.asarray(line.get_xdata())[0], 0))[0])
    return np.array([x - _GAP_PIXELS, axes.bbox.y0, x + _GAP_PIXELS, axes.bbox.y1])


def overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.bool_]:
    """For each box and each other box, whether they have a point in common. Shape (boxes, others)."""
    left, bottom, right, top = boxes.T[:, :, np.newaxis]
    shared = (left < others[:, 2]) & (right > others[:, 0]) & (bottom < others[:, 3]) & (top > others[:, 1])
    return np.asarray(shared, dtype=np.bool_)


def boxes_of_lines(axes: Axes, without: Sequence[Line2D]) -> Boxes:
    """The pieces of all lines on the axes but some."""
    lines = [line for line in axes.lines if line not in without and line.get_linestyle() != "None"]
    pieces = [_pieces(line) for line in lines if line.get_visible()]
    return np.vstack([np.empty((0, 4)), *pieces])


def _pieces(line: Line2D) -> Boxes:
    points: Any = line.get_xydata()
    if line.get_drawstyle() == "steps-post":
        corners = np.stack([points[1:, 0], points[:-1, 1]], axis=1)
        points = np.insert(points, np.arange(1, len(points)), corners, axis=0)
    elif len(points) < 1000:  # slanted ones are not as wide as their boxes
        finer = np.linspace(0, len(points) - 1, 8 * len(points))
        points = np.stack([np.interp(finer, np.arange(len(points)), column) for column in points.T], axis=1)
    ends = line.get_transform().transform(points)
    return np.hstack([np.minimum(ends[:-1], ends[1:]), np.maximum(ends[:-1], ends[1:])])


def place_within(
    text: Words, left: Boxes, bottom: Boxes, top: Boxes, renderer: RendererBase
) -> tuple[float, float] | None:
    """Where in pixels the middle of words has most room in an area: columns from `left`, each from bottom to top."""
    if not left[1] > left[0]:  # so early or late that its columns are at one place
        return None
    text.show(True)
    box = text.box(renderer)
    width, height = box[2] - box[0] + 2 * _PAD_PIXELS, box[3] - box[1] + 2 * _PAD_PIXELS
    columns = int(np.ceil(width / (left[1] - left[0]))) + 1
    if columns > len(bottom):
        return None
    floor = sliding_window_view(bottom, columns).max(axis=1)
    ceiling = sliding_window_view(top, columns).min(axis=1)
    best = int((ceiling - floor).argmax())
    if ceiling[best] - floor[best] < height:
        return None
    return float(left[best] + left[best + columns]) / 2, float(floor[best] + ceiling[best]) / 2


def place_note(axes: Axes, note: Words | None, renderer: RendererBase) -> None:
    """Put the note beside the axis' own words, or below them."""
    if note is None:
        return
    axis = np.array([axes.xaxis.label.get_window_extent(renderer).padded(4).extents])
    for down in (-17, -30):
        if note.get_position() != (0, down):
            note.set_position((0, down))
        if not overlaps(note.box(renderer)[np.newaxis], axis).any():
            break
