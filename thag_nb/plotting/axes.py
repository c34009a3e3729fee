"""What pictures are drawn on: somebody's axes or a figure of our own, time to the right and bytes upwards.

matplotlib's settings are never changed here, and pyplot is only asked for a figure where a person wants to see one.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from math import ceil, floor, log2, log10
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator
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

_MOST_STEPS = 8  # between the ticks of time
_ROUNDED = 1 + 1e-9  # what floating point may add or take away
_SHORTEST_STEP = 1e-9  # in any unit
_SHORTEST_NS = 1_000  # a window of no length has no scale


class _TimeUnit(NamedTuple):
    """What times are told in for spans from `least_s` seconds on, and how many of it a clock has between two ticks.

    Where there are no such steps, ticks are 1, 2 or 5 times a power of ten apart. chart.js has the same units.
    """

    name: str
    seconds: float
    least_s: float
    steps: tuple[float, ...] = ()


_SIXTIETHS = (1, 2, 5, 10, 15, 30)
_TIME_UNITS = (
    _TimeUnit("µs", 1e-6, 0),
    _TimeUnit("ms", 1e-3, 1e-3),
    _TimeUnit("s", 1, 1, (0.2, 0.5, *_SIXTIETHS)),
    _TimeUnit("min", 60, 180, _SIXTIETHS),
    _TimeUnit("h", 3600, 3 * 3600, (1, 2, 3, 6, 12)),
    _TimeUnit("d", 86400, 3 * 86400),
)


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
    """Raises `AxesError` for what is neither axes nor None, and for axes on which time does not go to the right."""
    if ax is None:
        return
    if not isinstance(ax, Axes):
        raise AxesError(ax)
    if hasattr(ax, "zaxis") or not ax.transData.is_separable:  # three dimensions; polar, a map
        raise AxesError(ax, rule="flat axes with time to the right and bytes upwards")


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
    # On a logarithmic scale, which only somebody's own axes have, there is no zero, and it has ticks of its own.
    axes.set_xlim(_SHORTEST_NS / 1e9 if axes.get_xscale() == "log" else 0, span)
    axes.set_ylim(1 if axes.get_yscale() == "log" else 0, top)
    if axes.get_yscale() != "log":
        axes.yaxis.set_major_locator(_BinaryLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _position: _byte_tick(size)))
    _scale_time(axes, span)


def _scale_time(axes: Axes, span: float) -> None:
    unit = next(unit for unit in reversed(_TIME_UNITS) if span >= unit.least_s)
    if axes.get_xscale() != "log":
        axes.xaxis.set_major_locator(_TimeLocator(unit))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _position: f"{seconds / unit.seconds:.6g}"))
    axes.set_xlabel(f"time since start ({unit.name})")


class _TimeLocator(Locator):
    """Ticks where a clock would have them: at whole minutes and hours, and not at 100 or 1000 seconds."""

    def __init__(self, unit: _TimeUnit) -> None:
        self._unit = unit

    def __call__(self) -> list[float]:
        if self.axis is None:
            return []
        low, high = sorted(self.axis.get_view_interval())
        return self.tick_values(low, high)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        step = self._step(vmax - vmin)
        return [step * number for number in range(ceil(vmin / step), floor(vmax / step * _ROUNDED) + 1)]

    def _step(self, span: float) -> float:
        """The shortest with few enough ticks."""
        unit = self._unit
        least = max(span / unit.seconds / _MOST_STEPS, _SHORTEST_STEP)
        # Of a span that somebody zoomed into there may be less than a minute: then parts of one are what there is.
        steps = unit.steps if span >= unit.least_s else ()
        power = 10.0 ** floor(log10(least))
        decades = (power, 2 * power, 5 * power, 10 * power)
        return next(step for step in (*steps, *decades) if step * _ROUNDED >= least) * unit.seconds


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
