from __future__ import annotations

import subprocess
import sys

import pytest
from handmade import EMPTY, KIB, MIB, MS, SECOND, busy, context, marked, pack, recording, root
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from pictures import check_words, key, texts

import thag_nb
from thag_nb.comparison.differences import aligned
from thag_nb.errors import AxesError, NothingToCompareError, UnknownContextError
from thag_nb.palette import COLOURS, GREY, styles
from thag_nb.plotting.axes import figure_png
from thag_nb.plotting.timeline import plot_comparison, plot_timeline
from thag_nb.recordings.model import Recording, work_names


def peak_labels(axes: Axes) -> list[str]:
    return [text for text in texts(axes) if " peak " in text and "not drawn" not in text]


def curve_names(axes: Axes) -> list[str]:
    return [line.get_label() for line in axes.lines if line.get_drawstyle() == "steps-post"]


def curve(axes: Axes, place: int = 0):  # type: ignore[no-untyped-def]
    return [line for line in axes.lines if line.get_drawstyle() == "steps-post"][place]


def highest_drawn(axes: Axes) -> float:
    bands = [patch.get_path().vertices[:, 1].max(initial=0) for patch in axes.findobj(PathPatch)]
    lines = [line for line in axes.lines if line.get_transform() == axes.transData]
    return max([max(line.get_ydata()) for line in lines] + bands)


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
from thag_nb.plotting.axes import figure_png
from thag_nb.plotting.timeline import plot_timeline
from thag_nb.recordings.model import Recording
from thag_nb.plotting.stack import plot_stack
for plot in (plot_timeline, plot_stack):
    figure_png(plot(Recording((), {}, 0, 0, 0)))
assert "matplotlib.pyplot" not in sys.modules
import matplotlib.pyplot as plt
for plot in (plot_timeline, plot_stack):
    plot(Recording((), {}, 0, 0, 0))
assert plt.get_fignums() == []
"""
    subprocess.run([sys.executable, "-c", code], check=True)


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
    spike = axes.findobj(PathPatch)[0].get_path().vertices
    assert spike[:, 0].max() - spike[:, 0].min() == 4.0
    assert spike[:, 1].max() == MIB


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


def test_one_context_alone_has_no_boundaries() -> None:
    axes = plot_timeline(busy(), "parse")
    assert texts(axes) == ["parse peak 3.0 MiB"]


@pytest.mark.parametrize("source", [busy(), crowd(3), crowd(8)], ids=["busy", "three", "eight"])
def test_labels_do_not_overlap(source: Recording) -> None:
    check_words(plot_timeline(source))


def test_colour_of_a_name_is_the_same_in_every_picture() -> None:
    alone, among = plot_timeline(busy(), 3), plot_timeline(busy())
    assert curve(alone).get_color() == curve(among, 1).get_color()
    assert curve(alone).get_color() == styles(work_names(busy()))["load"].line


def test_colour_and_style_together_tell_eight_contexts_apart() -> None:
    axes = plot_timeline(crowd(8))
    codes = {(curve(axes, i).get_color(), str(curve(axes, i)._dash_pattern)) for i in range(1, 9)}
    assert len(codes) == 8
    assert len({colour for colour, _ in codes}) == len(COLOURS)


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


def test_a_list_draws_each_and_nothing_below() -> None:
    assert curve_names(plot_timeline(busy(), ["root", "load"])) == ["root", "load"]
    assert curve_names(plot_timeline(busy(), ("load", 3))) == ["load", "load"]
    assert curve_names(plot_timeline(busy(), ["load"], all=True)) == ["load", "load"]


def test_a_context_is_drawn_like_its_id() -> None:
    assert (
        curve_names(plot_timeline(busy(), busy().find(4))) == curve_names(plot_timeline(busy(), 4)) == ["load", "parse"]
    )


def test_an_empty_list_draws_nothing_and_says_so() -> None:
    assert texts(plot_timeline(busy(), [])) == ["nothing to draw"]


def test_children_that_are_not_drawn_are_told() -> None:
    assert "9 started under root not drawn" in texts(plot_timeline(crowd(9), "root"))
    assert not any("not drawn" in text for text in texts(plot_timeline(crowd(8), "root")))


def test_children_are_as_thin_as_the_chosen_are_not() -> None:
    axes = plot_timeline(busy(), busy().find(4))
    assert curve(axes, 1).get_linewidth() < curve(axes, 0).get_linewidth()


# A new figure


def test_without_axes_the_public_plots_make_a_figure_that_pyplot_shows() -> None:
    code = """
import matplotlib, thag_nb
matplotlib.use("agg")
import matplotlib.pyplot as plt
before = dict(matplotlib.rcParams)
with thag_nb.task("load"): pass
for plot, wanted in (thag_nb.plot_timeline, "load"), (thag_nb.plot_stack, None), (thag_nb.plot_timeline, ["load", 1]):
    axes = plot(wanted, figsize=(5, 2))
    assert plt.gca() is axes and axes.figure.get_size_inches().tolist() == [5, 2]
assert plt.get_fignums() == [1, 2, 3]
try: thag_nb.plot_timeline("nosuch")
except thag_nb.ThagError: pass
assert plt.get_fignums() == [1, 2, 3]
assert thag_nb.plot_stack(ax=plt.gca()) is plt.gca()
assert plt.get_fignums() == [1, 2, 3]
assert dict(matplotlib.rcParams) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_size_is_that_of_the_figure_also_with_axes() -> None:
    axes = Figure().add_subplot()
    plot_timeline(busy(), ax=axes, figsize=(4, 3))
    assert axes.figure.get_size_inches().tolist() == [4, 3]


# Short contexts


def brief(**fields: int) -> Recording:
    """A task of 0.2 ms that takes 20 MiB and keeps 5, in a session of a second; another task frees them soon after."""
    figures = {
        "peak_bytes": 20 * MIB,
        "retained_bytes": 5 * MIB,
        "started_ns": 300 * MS,
        "duration_ns": MS // 5,
        **fields,
    }
    return recording(
        (root(peak_bytes=20 * MIB, duration_ns=SECOND), pack((0, 0, 20 * MIB, 0, 0))),
        (context(3, "brief", **figures), pack((300 * MS, 0, 20 * MIB, 0, 0))),
        taken_ns=SECOND,
    )


def test_a_task_shorter_than_a_bucket_is_a_dot_on_a_stem_with_what_it_kept() -> None:
    axes = plot_timeline(brief(), "brief")
    assert peak_labels(axes) == ["brief peak 20.0 MiB"]
    assert curve(axes).get_ydata().tolist() == [0, 5 * MIB, 5 * MIB]
    stem = axes.findobj(PathPatch)[0].get_path().vertices
    assert stem[:, 1].max() == 20 * MIB
    assert stem[:, 0].max() - stem[:, 0].min() < axes.get_xlim()[1] / 100
    assert highest_drawn(axes) == 20 * MIB


def test_a_bucket_is_no_slab_in_a_short_window() -> None:
    record = context(3, "load", peak_bytes=9 * MIB, duration_ns=5 * MS)
    buckets = pack((0, 0, 9 * MIB, 0, 0), (2 * MS, 0, 9 * MIB, 0, 0))
    axes = plot_timeline(recording((record, buckets)), "load")
    band = axes.findobj(PathPatch)[0].get_path().vertices
    assert band[4, 0] <= band[1, 0] <= 5e-5
    assert len(band) == 10


def test_what_a_line_shows_has_no_band() -> None:
    record = context(3, "load", peak_bytes=3 * MIB, duration_ns=50 * MS)
    stairs = pack(*((place * 2 * MS, place * MIB, (place + 1) * MIB, (place + 1) * MIB, 0) for place in range(3)))
    assert not axes_bands(plot_timeline(recording((record, stairs)), "load"))


def axes_bands(axes: Axes) -> list[float]:
    return [vertex for patch in axes.findobj(PathPatch) for vertex in patch.get_path().vertices.tolist()]


def test_after_a_reset_an_open_context_is_drawn_from_there() -> None:
    thawed = context(3, "load", state="open", started_ns=500 * MS, duration_ns=500 * MS, live_bytes=MIB, peak_bytes=MIB)
    source = recording((thawed, pack((500 * MS, MIB, MIB, MIB, MIB))), taken_ns=SECOND)
    assert plot_timeline(source, "load").get_xlim() == (0, 0.5)


# Crowded pictures


def crowded() -> Recording:
    """Eight tasks that begin within 5 ms and climb side by side, with long names and ones in other scripts."""
    names = ["数据加载", "訓練", "🚀 launch", "обработка", "load", "x" * 60, "evaluate", "a task of quite a long name"]
    tasks = []
    for place, name in enumerate(names):
        start, size = place * MS // 2, (place + 1) * 5 * MIB
        climb = [(start + step * 10 * MS, 0, size * step // 30, size * step // 30, 0) for step in range(31)]
        task = context(3 + place, name, peak_bytes=size, started_ns=start, duration_ns=300 * MS)
        tasks.append((task, pack(*climb)))
    everything = root(peak_bytes=180 * MIB, duration_ns=320 * MS)
    return recording((everything, pack((0, 0, 180 * MIB, 0, 0))), *tasks, taken_ns=320 * MS)


def cells(count: int = 20) -> Recording:
    """Cells one after the other, each of 1 MiB more than the one before."""
    made = []
    for place in range(count):
        start, size = place * SECOND, (place + 1) * MIB
        record = context(3 + place, f"cell {place}", kind="cell", peak_bytes=size, started_ns=start, duration_ns=SECOND)
        made.append((record, pack((start, 0, 0, 0, 0), (start + SECOND // 2, 0, size, size, 0))))
    return recording((root(peak_bytes=count * MIB), pack((0, 0, 0, 0, 0))), *made, taken_ns=count * SECOND)


def uneven() -> Recording:
    """Tasks of a few KiB beside one of 500 MiB."""
    tasks = [
        (
            context(
                4 + place,
                f"tiny {place}",
                peak_bytes=(place + 1) * KIB,
                started_ns=place * 100 * MS,
                duration_ns=50 * MS,
            ),
            pack((place * 100 * MS, 0, (place + 1) * KIB, KIB, 0)),
        )
        for place in range(6)
    ]
    big = context(3, "big", peak_bytes=500 * MIB, duration_ns=SECOND)
    return recording((big, pack((0, 0, 500 * MIB, 0, 0))), *tasks, taken_ns=SECOND)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "source",
    [crowded(), cells(), uneven(), crowd(8), brief(), marked()],
    ids=["crowded", "cells", "uneven", "crowd", "brief", "marked"],
)
@pytest.mark.parametrize("dpi", [100, 200])
def test_words_are_neither_over_each_other_nor_over_a_line(source: Recording, dpi: int) -> None:
    axes = plot_timeline(source)
    axes.figure.set_dpi(dpi)
    check_words(axes)
    assert figure_png(axes, dpi=dpi)


@pytest.mark.filterwarnings("error")
def test_words_keep_their_places_on_axes_of_others_and_when_these_move() -> None:
    figure = Figure(figsize=(9, 6))
    axes = figure.subplots(2, 2)[1, 0]
    plot_timeline(crowded(), ax=axes)
    figure.subplots_adjust(right=0.7)
    figure.set_size_inches(6, 5)
    figure.draw_without_rendering()
    for text in axes.texts:
        assert text.get_window_extent().width > 0
    assert figure_png(axes)


@pytest.mark.parametrize("source", [crowded(), cells()])
def test_every_curve_is_named_beside_it_or_in_the_key(source: Recording) -> None:
    axes = plot_timeline(source)
    assert len(peak_labels(axes) + key(axes)) == 9


def test_peaks_that_cannot_be_told_from_none_are_not_labelled() -> None:
    axes = plot_timeline(uneven())
    assert peak_labels(axes) + key(axes) == ["big peak 500.0 MiB"]
    assert {f"tiny {place}" for place in range(6)} <= set(texts(axes))


def test_a_key_begins_with_the_highest_peak() -> None:
    sizes = [float(entry.split(" peak ")[1].split()[0]) for entry in key(plot_timeline(crowded()))]
    assert sizes
    assert sizes == sorted(sizes, reverse=True)


def test_the_markers_of_neighbours_differ() -> None:
    axes = plot_timeline(crowded())
    assert len({line.get_marker() for line in axes.lines if line.get_marker() != "None"}) == 8


# Marks


def test_marks_and_collections_are_drawn() -> None:
    axes = plot_timeline(marked(), "load")
    assert "joined" in texts(axes)
    assert "ticks: 1 garbage collection" in texts(axes)


def test_marks_of_other_contexts_are_not_drawn() -> None:
    assert "joined" not in texts(plot_timeline(marked(), 3))
    assert "joined" in texts(plot_timeline(marked()))
