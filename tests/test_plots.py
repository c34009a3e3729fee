from __future__ import annotations

import io
import subprocess
import sys
from itertools import combinations

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import PathPatch
from recordings import EMPTY, MIB, MS, SECOND, busy, context, pack, recording, root

import thag_nb
from thag_nb.comparisons import aligned
from thag_nb.errors import AxesError, NothingToCompareError, UnknownContextError
from thag_nb.plots import GREY, PALETTE, describe_timeline, figure_png, plot_comparison, plot_timeline
from thag_nb.recording import Recording


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def peak_labels(axes: Axes) -> list[str]:
    return [text for text in texts(axes) if " peak " in text]


def curve_names(axes: Axes) -> list[str]:
    return [line.get_label() for line in axes.lines if line.get_drawstyle() == "steps-post"]


def curve(axes: Axes, place: int = 0):  # type: ignore[no-untyped-def]
    return [line for line in axes.lines if line.get_drawstyle() == "steps-post"][place]


def highest_drawn(axes: Axes) -> float:
    bands = [patch.get_path().vertices[:, 1].max() for patch in axes.findobj(PathPatch)]
    return max([max(line.get_ydata()) for line in axes.lines] + bands)


def crowd(count: int) -> Recording:
    """A root with tasks ``task 0``, ``task 1``... of 1, 2... MiB, all at once, over a second."""
    tasks = [
        (
            context(3 + i, f"task {i}", peak_bytes=(i + 1) * MIB, duration_ns=SECOND),
            pack((0, 0, (i + 1) * MIB, i * MIB, 0)),
        )
        for i in range(count)
    ]
    return recording((root(duration_ns=SECOND), pack((0, 0, 0, 0, 0))), *tasks, taken_ns=SECOND)


def test_axes_given_are_drawn_on_and_returned() -> None:
    axes = Figure().add_subplot()
    assert plot_timeline(busy(), "load", ax=axes) is axes
    assert curve_names(axes) == ["load", "parse"]


@pytest.mark.parametrize("ax", [3, "axes", False, Figure(), Figure().subplots(2)], ids=lambda ax: type(ax).__name__)
def test_something_else_than_axes_is_refused(ax: object) -> None:
    with pytest.raises(AxesError, match=r"^ax must be one matplotlib Axes, not .*; leave it out to draw a new figure$"):
        plot_timeline(busy(), "load", ax=ax)  # type: ignore[arg-type]


def test_without_axes_a_figure_with_an_agg_canvas_is_made() -> None:
    figure = plot_timeline(busy(), "load").figure
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert figure.get_size_inches().tolist() == [7, 2.5]


def test_pyplot_is_neither_imported_nor_given_a_figure() -> None:
    code = """
import sys
from thag_nb.plots import figure_png, plot_timeline
from thag_nb.recording import Recording
figure_png(plot_timeline(Recording((), {}, 0, 0, 0)))
assert "matplotlib.pyplot" not in sys.modules
import matplotlib.pyplot as plt
plot_timeline(Recording((), {}, 0, 0, 0))
assert plt.get_fignums() == []
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_settings_of_matplotlib_are_left_alone() -> None:
    before = dict(mpl.rcParams)
    figure_png(plot_timeline(busy()))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("wanted", "peak_bytes"), [("load", 13 * MIB), ("parse", 3 * MIB), (3, MIB), (None, 14 * MIB)])
def test_highest_point_drawn_is_the_peak(wanted: str | int | None, peak_bytes: int) -> None:
    assert highest_drawn(plot_timeline(busy(), wanted)) == peak_bytes


def test_peak_is_labelled_with_name_and_size() -> None:
    assert peak_labels(plot_timeline(busy(), "load")) == ["load peak 13.0 MiB", "parse peak 3.0 MiB"]


def test_peak_after_the_end_is_drawn_too() -> None:
    outlived = context(3, "load", peak_bytes=5 * MIB, duration_ns=10 * MS)
    source = recording((outlived, pack((0, 0, MIB, MIB, 0), (50 * MS, MIB, 5 * MIB, 0, 0))), taken_ns=SECOND)
    axes = plot_timeline(source, "load")
    assert highest_drawn(axes) == 5 * MIB
    assert axes.get_xlim() == (0, 0.05)


def test_line_holds_each_value_until_the_next_bucket_and_stops_at_the_end() -> None:
    line = curve(plot_timeline(busy(), "load"))
    assert line.get_xdata().tolist() == [0.0, 0.2, 1.0]
    assert line.get_ydata().tolist() == [4 * MIB, 2 * MIB, 2 * MIB]


def test_open_context_is_drawn_until_the_recording() -> None:
    open_root = root(peak_bytes=1, duration_ns=2 * SECOND)
    axes = plot_timeline(recording((open_root, pack((0, 0, 1, 1, 1))), taken_ns=2 * SECOND))
    assert axes.get_xlim() == (0, 2.0)


def test_what_happens_after_the_end_is_not_drawn() -> None:
    record = context(3, "load", peak_bytes=2, duration_ns=10 * MS)
    axes = plot_timeline(recording((record, pack((0, 0, 2, 2, 2), (SECOND, 0, 2, 0, 0)))), "load")
    assert curve(axes).get_xdata().tolist() == [0.0, 0.01]


def test_short_spike_in_a_long_task_is_wide_enough_to_see() -> None:
    record = context(3, "load", peak_bytes=MIB, duration_ns=1000 * SECOND)
    axes = plot_timeline(recording((record, pack((0, 0, 0, 0, 0), (500 * SECOND, 0, MIB, 0, 0)))), "load")
    spike = axes.findobj(PathPatch)[0].get_path().vertices[5:]
    assert spike[:, 0].max() - spike[:, 0].min() == 4.0
    assert spike[:, 1].max() == MIB


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


@pytest.mark.parametrize(
    ("duration_ns", "unit", "tick", "label"),
    [
        (40_000, "µs", 1e-5, "10"),
        (250 * MS, "ms", 0.05, "50"),
        (90 * SECOND, "s", 15.0, "15"),
        (600 * SECOND, "min", 120.0, "2"),
    ],
)
def test_time_is_in_seconds_and_read_in_the_unit_that_fits(
    duration_ns: int, unit: str, tick: float, label: str
) -> None:
    record = context(3, "load", started_ns=7 * SECOND, duration_ns=duration_ns)
    axes = plot_timeline(recording((record, pack((7 * SECOND, 0, 0, 0, 0)))), "load")
    assert axes.get_xlabel() == f"time since start ({unit})"
    assert axes.get_xlim() == (0, duration_ns / 1e9)
    assert axes.xaxis.get_major_formatter()(tick) == label


def test_name_takes_the_newest_with_its_children_thinner() -> None:
    axes = plot_timeline(busy(), "load")
    assert curve(axes, 1).get_linewidth() < curve(axes, 0).get_linewidth()
    assert curve(axes, 0).get_xdata()[-1] == 1.0


def test_all_of_a_name_are_drawn_in_one_colour_and_different_styles() -> None:
    axes = plot_timeline(busy(), "load", all=True)
    assert curve_names(axes) == ["load", "load", "parse"]
    assert curve(axes, 0).get_color() == curve(axes, 1).get_color()
    assert curve(axes, 0).get_linestyle() != curve(axes, 1).get_linestyle()


def test_more_than_eight_children_are_left_out() -> None:
    assert curve_names(plot_timeline(crowd(9), "root")) == ["root"]
    assert len(curve_names(plot_timeline(crowd(8), "root"))) == 9


def test_unknown_context_is_an_error() -> None:
    with pytest.raises(UnknownContextError):
        plot_timeline(busy(), "lode")


def test_whole_process_is_grey_with_cells_and_tasks_on_top() -> None:
    axes = plot_timeline(busy())
    assert curve_names(axes) == ["root", "load", "load", "parse"]
    assert curve(axes, 0).get_color() == GREY
    assert curve(axes, 0).get_zorder() < curve(axes, 1).get_zorder()


def test_only_the_eight_of_highest_peak_are_drawn_and_a_note_says_so() -> None:
    axes = plot_timeline(crowd(11))
    assert curve_names(axes) == ["root", *(f"task {i}" for i in range(3, 11))]
    assert "3 of lower peak not drawn" in texts(axes)


def test_starts_and_ends_are_marked_when_several_contexts_are_drawn() -> None:
    axes = plot_timeline(busy(), "load")
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_transform() == axes.get_xaxis_transform()]
    assert sorted(marks) == pytest.approx([0.0, 0.3, 0.5, 1.0])
    assert {"load", "parse", "load end", "parse end"} <= set(texts(axes))


def test_one_context_alone_has_no_marks() -> None:
    axes = plot_timeline(busy(), "parse")
    assert texts(axes) == ["parse peak 3.0 MiB"]


@pytest.mark.parametrize("source", [busy(), crowd(3), crowd(8)], ids=["busy", "three", "eight"])
def test_labels_do_not_overlap(source: Recording) -> None:
    axes = plot_timeline(source)
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert axes.figure.bbox.count_contains([corner for box in boxes for corner in box.corners()]) == 4 * len(boxes)


def test_colour_of_a_name_is_the_same_in_every_picture() -> None:
    alone, among = plot_timeline(busy(), 3), plot_timeline(busy())
    assert curve(alone).get_color() == curve(among, 1).get_color()
    assert curve(alone).get_color() in PALETTE


def test_colour_and_style_together_tell_eight_contexts_apart() -> None:
    axes = plot_timeline(crowd(8))
    codes = {(curve(axes, i).get_color(), str(curve(axes, i)._dash_pattern)) for i in range(1, 9)}
    assert len(codes) == 8
    assert len({colour for colour, _ in codes}) == len(PALETTE)


def test_second_drawing_on_the_same_axes_hides_nothing_of_the_first() -> None:
    axes = plot_timeline(busy(), "load")
    before = axes.get_xlim()[1], axes.get_ylim()[1]
    plot_timeline(busy(), "parse", ax=axes)
    assert (axes.get_xlim()[1], axes.get_ylim()[1]) == before


@pytest.mark.parametrize("name", ["$x^", "a_b", "weird \\frac", "two\nlines"])
def test_names_are_never_read_as_mathematics(name: str) -> None:
    axes = plot_timeline(recording((context(3, name), pack((0, 0, 1, 1, 1)))), name)
    assert peak_labels(axes) == [f"{' '.join(name.split())} peak 0 B"]
    assert figure_png(axes)


def test_long_names_are_shortened() -> None:
    axes = plot_timeline(recording((context(3, "x" * 99), pack((0, 0, 1, 1, 1)))), 3)
    assert peak_labels(axes) == ["x" * 27 + "… peak 0 B"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("timeline", [pack(), pack((0, 0, 0, 0, 0)), pack((5, 0, 0, 0, 0), (5, 0, 0, 0, 0))])
def test_context_of_no_bytes_and_no_duration_can_be_drawn(timeline: bytes) -> None:
    source = recording((context(3, "nothing"), timeline))
    assert figure_png(plot_timeline(source, "nothing"))
    assert figure_png(plot_timeline(source))


@pytest.mark.filterwarnings("error")
def test_empty_recording_gives_axes_that_say_so() -> None:
    axes = plot_timeline(EMPTY)
    assert texts(axes) == ["nothing has been recorded yet"]
    assert figure_png(axes)


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


def test_description_tells_name_duration_peak_and_what_is_retained() -> None:
    assert describe_timeline(busy(), "load") == (
        "Live bytes of load over 1.00 s: peak 13.0 MiB after 200.0 ms, 2.0 MiB retained at its end."
    )


def test_description_of_the_whole_process_tells_what_is_live() -> None:
    assert (
        describe_timeline(busy()) == "Live bytes of root over 2.00 s: peak 14.0 MiB after 700.0 ms, 2.0 MiB live now."
    )


def test_description_of_nothing_says_so() -> None:
    assert describe_timeline(EMPTY) == "Nothing has been recorded yet."
    assert "peak 0 B after 0 ns" in describe_timeline(recording((context(3, "load"), pack())), "load")


def test_description_of_unknown_context_is_an_error() -> None:
    with pytest.raises(UnknownContextError):
        describe_timeline(EMPTY, "load")


def test_a_comparison_draws_both_contexts_from_their_start() -> None:
    axes, source = Figure().add_subplot(), busy()
    assert plot_comparison(aligned(source, source, "load"), ax=axes) is axes
    assert curve_names(axes) == ["load (before)", "load (after)"]
    assert [curve(axes, place).get_xdata()[0] for place in (0, 1)] == [0, 0]
    assert peak_labels(axes) == ["load (after) peak 13.0 MiB", "load (before) peak 1.0 MiB"]


def test_a_comparison_refuses_something_else_than_axes() -> None:
    with pytest.raises(AxesError):
        plot_comparison(aligned(busy(), busy(), "load"), ax=3)  # type: ignore[arg-type]


def test_the_public_comparison_finds_what_it_draws() -> None:
    assert curve_names(thag_nb.plot_comparison("load", "parse", recording=busy())) == ["load", "parse"]
    assert curve_names(thag_nb.plot_comparison(busy(), busy())) == ["load (before)", "load (after)"]
    with pytest.raises(NothingToCompareError):
        thag_nb.plot_comparison("parse", recording=busy())
