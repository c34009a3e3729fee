"""What pictures are drawn on: somebody's axes or a figure of our own, time to the right and bytes upwards.

matplotlib's settings are never changed, and pyplot is only asked for a figure where a person wants to see one.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from math import ceil, floor, log2
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator
from numpy.typing import NDArray

from thag_nb.errors import AxesError
from thag_nb.palette import GREY
from thag_nb.units import format_bytes

FIGURE_SIZE = (7.0, 2.5)  # inches
LABEL_POINTS = 8

# By the number of a style's dash.
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (6, 1.5, 1, 1.5)),
)

_TIME_UNITS = ((1e-3, "µs", 1e6), (1.0, "ms", 1e3), (180.0, "s", 1.0), (float("inf"), "min", 1 / 60))
_TIME_STEPS = [1, 2, 2.5, 5, 10]
_MINUTE_STEPS = [1, 1.2, 1.8, 3, 6, 10]  # of 60, 600, 6000 seconds: whole minutes
_SHORTEST_NS = 1_000  # a window of no length has no scale


@dataclass(frozen=True, slots=True)
class Clock:
    """The stretch of time that is drawn, in nanoseconds since the first start; zero seconds is its start."""

    start_ns: int
    end_ns: int

    @property
    def span_ns(self) -> int:
        """How long it is; at least as long as can be drawn."""
        return max(self.end_ns - self.start_ns, _SHORTEST_NS)

    def seconds(self, time_ns: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Where moments are on the x axis."""
        return np.asarray((time_ns - self.start_ns) / 1e9)


def check_axes(ax: object) -> None:
    """Raises `AxesError` for what is neither axes nor None."""
    if ax is not None and not isinstance(ax, Axes):
        raise AxesError(ax)


def axes_for(ax: Axes | None, figsize: tuple[float, float] | None, *, pyplot: bool) -> Axes:
    """The axes given, their figure of that size; else new ones, of a figure of pyplot's or of one that is nobody's."""
    if ax is not None:
        if figsize is not None:
            ax.figure.figure.set_size_inches(figsize)
        return ax
    size = figsize or FIGURE_SIZE
    if pyplot:
        from matplotlib import pyplot as plt

        return _plain(plt.figure(figsize=size, layout="constrained").add_subplot())
    figure = Figure(figsize=size, layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    return _plain(figure.add_subplot(facecolor="none"))


def _plain(axes: Axes) -> Axes:
    axes.tick_params(colors=GREY, labelsize=LABEL_POINTS)
    axes.xaxis.label.set(color=GREY, size=LABEL_POINTS)
    axes.spines[:].set_color(GREY)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def scale(axes: Axes, clock: Clock, top_bytes: float) -> None:
    """Axes from the clock's start and from 0 bytes, large enough for this and for what was drawn before."""
    span, top = clock.span_ns / 1e9, max(top_bytes, 1)
    if axes.has_data():
        span, top = max(span, axes.get_xlim()[1]), max(top, axes.get_ylim()[1])
    axes.set_xlim(0, span)
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(_BinaryLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _position: _byte_tick(size)))
    _scale_time(axes, span)


def _scale_time(axes: Axes, span: float) -> None:
    _, unit, per_second = next(row for row in _TIME_UNITS if span < row[0])
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=_MINUTE_STEPS if unit == "min" else _TIME_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _position: f"{seconds * per_second:.6g}"))
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
        return [float(step * number) for number in range(ceil(vmin / step), floor(vmax / step) + 1)]


def figure_png(axes: Axes, dpi: int = 100) -> bytes:
    """The figure of these axes as the bytes of a PNG with a transparent background."""
    png = BytesIO()
    # Transparent, because the page may be dark or white and a saved notebook is read on both: our greys and the palette
    # read on either, whereas a white box in a dark page dazzles.
    axes.figure.figure.savefig(png, format="png", dpi=dpi, transparent=True)
    return png.getvalue()
