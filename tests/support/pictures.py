"""What can be said of a picture without looking at it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import pts_to_poststep
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_visible()]


def key(axes: Axes) -> list[str]:
    """The words of the key beside the axes."""
    return [text.get_text() for legend in axes.findobj(Legend) for text in legend.get_texts()]


def steps(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_drawstyle() == "steps-post" and line.get_label()[0] != "_"]


def check_words(axes: Axes) -> None:
    """No words are over each other, over a line or beyond the figure."""
    axes.figure.draw_without_rendering()
    seen = [text for text in axes.texts if text.get_visible()]
    seen += [text for legend in axes.findobj(Legend) for text in legend.get_texts()]
    boxes = [(text.get_text(), Text.get_window_extent(text).padded(-1)) for text in seen]
    assert [(one, other) for (one, box), (other, far) in combinations(boxes, 2) if box.overlaps(far)] == []
    assert [words for words, box in boxes if any(_crosses(line, box) for line in axes.lines)] == []
    assert [words for words, box in boxes if axes.figure.bbox.count_contains(box.corners()) < 4] == []


def _crosses(line: Line2D, box: Bbox) -> bool:
    if line.get_linestyle() == "None" or not line.get_visible():
        return False
    x, y = line.get_xdata(), line.get_ydata()
    if line.get_drawstyle() == "steps-post":
        x, y = pts_to_poststep(x, y)
    points = np.stack([x, y], axis=1)
    pieces = np.split(points, np.flatnonzero(np.isnan(points).any(axis=1)))
    paths = [Path(piece[~np.isnan(piece).any(axis=1)]) for piece in pieces]
    return any(path.transformed(line.get_transform()).intersects_bbox(box, filled=False) for path in paths if len(path))
