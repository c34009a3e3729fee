from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import pytest
from handmade import busy, context, pack, recording
from matplotlib.figure import Figure
from matplotlib.image import imread

from thag_nb.errors import AxesError
from thag_nb.palette import GREY
from thag_nb.plotting.axes import figure_png
from thag_nb.plotting.stack import plot_stack
from thag_nb.plotting.timeline import plot_timeline


def test_settings_of_matplotlib_are_left_alone() -> None:
    before = dict(mpl.rcParams)
    figure_png(plot_timeline(busy()))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("draw", [plot_timeline, plot_stack])
@pytest.mark.parametrize("projection", ["3d", "polar", "hammer"])
def test_axes_on_which_time_does_not_go_to_the_right_are_refused(draw: Any, projection: str) -> None:
    axes = Figure().add_subplot(projection=projection)
    with pytest.raises(AxesError, match=r"^ax must be flat axes with time to the right and bytes upwards, not <.*>; "):
        draw(busy(), "load", ax=axes)
    assert axes.lines[:] == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", [plot_timeline, plot_stack])
def test_logarithmic_axes_stay_so(draw: Any) -> None:
    axes = Figure(layout="constrained").add_subplot(xscale="log", yscale="log")
    draw(busy(), "load", ax=axes).figure.draw_without_rendering()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylim()[0] > 0


def test_ticks_of_bytes_are_round_binary_units() -> None:
    axes = plot_timeline(busy(), "load")
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0 B", "4 MiB", "8 MiB", "12 MiB"]


@pytest.mark.parametrize("peak_bytes", [0, 1, 1023, 10**6, 3 * 2**29, 10**12])
def test_ticks_of_bytes_say_exactly_where_they_are(peak_bytes: int) -> None:
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
    record = context(3, "load", peak_bytes=peak_bytes)
    axes = plot_timeline(recording((record, pack((0, 0, peak_bytes, 0, 0)))), "load")
    sizes = axes.get_yticks()
    labels = [axes.yaxis.get_major_formatter()(size).split() for size in sizes]
    assert 2 <= len(sizes) <= 5
    assert [float(number) * units[unit] for number, unit in labels] == list(sizes)


MINUTE, HOUR, DAY = 60, 3600, 86400
SPANS = {
    5e-6: "0 1 2 3 4 5 µs",
    0.7: "0 100 200 300 400 500 600 700 ms",
    2.5: "0 0.5 1 1.5 2 2.5 s",
    100: "0 15 30 45 60 75 90 s",
    3 * MINUTE: "0 1 2 3 min",
    8 * MINUTE: "0 1 2 3 4 5 6 7 8 min",
    10 * MINUTE: "0 2 4 6 8 10 min",
    700: "0 2 4 6 8 10 min",
    2 * HOUR: "0 15 30 45 60 75 90 105 120 min",
    10 * HOUR: "0 2 4 6 8 10 h",
    DAY: "0 3 6 9 12 15 18 21 24 h",
    30 * DAY: "0 5 10 15 20 25 30 d",
}


@pytest.mark.parametrize("seconds", SPANS)
def test_ticks_of_time_are_where_a_clock_has_them(seconds: float) -> None:
    record = context(3, "load", duration_ns=round(seconds * 1e9))
    axes = plot_timeline(recording((record, pack((0, 0, 10, 0, 0)))), "load")
    axes.figure.draw_without_rendering()
    *labels, unit = SPANS[seconds].split()
    assert [label.get_text() for label in axes.get_xticklabels()] == labels
    assert axes.get_xlabel() == f"time since start ({unit})"


@pytest.mark.filterwarnings("error")
def test_whoever_zooms_into_minutes_gets_round_parts_of_one() -> None:
    record = context(3, "load", duration_ns=600 * 10**9)
    axes = plot_timeline(recording((record, pack((0, 0, 10, 0, 0)))), "load")
    axes.set_xlim(30, 42)
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.5", "0.55", "0.6", "0.65", "0.7"]


def test_png_is_transparent_and_as_large_as_asked() -> None:
    pixels = imread(io.BytesIO(figure_png(plot_timeline(busy(), "load"), dpi=50)), format="png")
    assert pixels.shape == (125, 350, 4)
    assert pixels[0, 0, 3] == 0


@pytest.mark.parametrize("page", [0x11, 0xFF])
def test_grey_of_our_words_has_contrast_on_dark_and_white(page: int) -> None:
    def luminance(level: int) -> float:
        return float(((level / 255 + 0.055) / 1.055) ** 2.4)

    lighter, darker = sorted([luminance(int(GREY[1:3], 16)) + 0.05, luminance(page) + 0.05], reverse=True)
    assert lighter / darker >= 3
