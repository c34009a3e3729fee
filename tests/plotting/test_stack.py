from __future__ import annotations

import itertools

import numpy as np
import pytest
from handmade import EMPTY, MIB, MS, SECOND, context, marked, pack, recording, root
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from pictures import check_words, key, texts

from thag_nb.errors import AxesError, UnknownContextError
from thag_nb.palette import GREY, OTHERS, styles
from thag_nb.plotting.axes import figure_png
from thag_nb.plotting.stack import plot_stack
from thag_nb.plotting.timeline import plot_timeline
from thag_nb.recordings.model import Mark, Recording, ResidentSize, work_names


def session(*, count: int = 3, resident: tuple[ResidentSize, ...] = ()) -> Recording:
    """A root with 10 MiB of its own and tasks, one after the other, each of 20 MiB more than the one before.

    A spike of 200 MiB at 0.1 s is gone within a column.
    """
    total = 10 * MIB
    rows = [(0, 0, total, total, total), (100 * MS, total, 200 * MIB, total, total)]
    tasks = []
    for place in range(count):
        start, size = (place + 1) * SECOND, (place + 1) * 20 * MIB
        total += size
        rows.append((start, total - size, total, total, 10 * MIB))
        figures = {"peak_bytes": size, "self_peak_bytes": size, "started_ns": start, "duration_ns": SECOND // 2}
        tasks.append((context(3 + place, f"task {place}", **figures), pack((start, 0, size, size, size))))
    record = root(
        peak_bytes=max(total, 200 * MIB), live_bytes=total, self_peak_bytes=10 * MIB, duration_ns=(count + 1) * SECOND
    )
    return recording((record, pack(*rows)), *tasks, taken_ns=(count + 1) * SECOND, resident=resident)


def areas(axes: Axes) -> dict[str, PolyCollection]:
    return {area.get_label(): area for area in axes.collections if isinstance(area, PolyCollection)}


def top_of(area: PolyCollection) -> float:
    return float(area.get_paths()[0].vertices[:, 1].max())


def dashed(axes: Axes) -> np.ndarray:
    """The heights of the line of RSS."""
    (line,) = [line for line in axes.lines if line.get_color() == "#444444"]
    return np.asarray(line.get_ydata())


def samples(*sizes: int) -> tuple[ResidentSize, ...]:
    return tuple(ResidentSize(place * SECOND, size) for place, size in enumerate(sizes))


def test_areas_of_self_bytes_lie_upon_each_other_up_to_the_live_bytes() -> None:
    drawn = areas(plot_stack(session()))
    assert list(drawn) == ["root itself", "task 0", "task 1", "task 2"]
    assert [top_of(area) / MIB for area in drawn.values()] == [10, 30, 70, 130]


def test_the_root_is_grey_and_names_are_as_in_a_timeline() -> None:
    axes = plot_stack(session())
    colours = {name: to_hex(area.get_facecolor()[0], keep_alpha=False).upper() for name, area in areas(axes).items()}
    assert colours.pop("root itself") == GREY
    assert colours == {name: style.colour for name, style in styles(work_names(session())).items()}
    assert {line.get_color() for line in plot_timeline(session(), "task 0").lines} == {
        styles(work_names(session()))["task 0"].line
    }


def test_a_spike_shorter_than_a_column_is_in_the_outline_and_its_height_is_told() -> None:
    axes = plot_stack(session())
    (outline,) = [line for line in axes.lines if line.get_color() == GREY and line.get_drawstyle() == "steps-post"]
    assert max(outline.get_ydata()) == 200 * MIB
    assert "peak 200.0 MiB" in texts(axes)


def test_a_context_is_drawn_with_what_is_under_it_only() -> None:
    assert list(areas(plot_stack(session(), "task 1"))) == ["task 1"]
    assert plot_stack(session(), session().find("task 1")).get_xlim() == (0, 0.5)


def test_what_has_no_area_of_its_own_is_counted() -> None:
    drawn = areas(plot_stack(session(count=11)))
    assert list(drawn)[-1] == "3 others"
    assert to_hex(drawn["3 others"].get_facecolor()[0]).upper() == OTHERS.colour
    assert list(areas(plot_stack(session(count=9))))[-1] == "1 other"


def test_names_stand_in_their_areas_or_in_the_key() -> None:
    axes = plot_stack(session(count=11))
    named = set(texts(axes)) | {words.split(" up to ")[0] for words in key(axes)}
    assert set(areas(axes)) - named == {"root itself"}  # less than a hundredth of the peak


def test_a_name_in_an_area_is_within_it() -> None:
    axes = plot_stack(session())
    axes.figure.draw_without_rendering()
    (text,) = [text for text in axes.texts if text.get_text() == "task 2" and text.xycoords == "data"]
    box = text.get_window_extent().transformed(axes.transData.inverted())
    assert box.y0 >= 70 * MIB
    assert box.y1 <= 130 * MIB
    assert box.x0 >= 3


def test_starts_and_marks_are_lines_with_names_where_there_is_room() -> None:
    source = session()._replace(marks=(Mark(SECOND, 1, "epoch", "mark", 0), Mark(SECOND, 1, "gc 2", "collection", 5)))
    axes = plot_stack(source)
    upright = [line.get_xdata()[0] for line in axes.lines if line.get_transform() == axes.get_xaxis_transform()]
    assert upright == [1.0, 1.0, 2.0, 3.0, 1.0]
    assert {"epoch", "task 0", "task 1", "task 2", "ticks: 1 garbage collection"} <= set(texts(axes))


def test_resident_sizes_near_the_live_bytes_are_drawn_as_they_are() -> None:
    axes = plot_stack(session(resident=samples(20 * MIB, 40 * MIB, 80 * MIB)))
    assert dashed(axes).tolist() == [20 * MIB, 40 * MIB, 80 * MIB]
    assert "RSS, up to 80.0 MiB in all" in texts(axes) + key(axes)


def test_resident_sizes_far_above_are_drawn_less_the_smallest_difference_and_say_so() -> None:
    axes = plot_stack(session(resident=samples(320 * MIB, 330 * MIB, 390 * MIB)))
    assert dashed(axes).tolist() == [20 * MIB, 30 * MIB, 90 * MIB]
    assert "RSS less 300.0 MiB, up to 390.0 MiB in all" in texts(axes) + key(axes)


def test_resident_sizes_beyond_twice_the_peak_are_cut_off_and_told() -> None:
    axes = plot_stack(session(resident=samples(20 * MIB, 9000 * MIB, 80 * MIB)))
    assert axes.get_ylim()[1] == pytest.approx(1.2 * 2 * 200 * MIB)
    assert "RSS, up to 8.8 GiB in all" in texts(axes) + key(axes)


def test_samples_outside_of_the_window_are_left_out() -> None:
    source = session(resident=samples(320 * MIB, 330 * MIB, 390 * MIB))
    assert dashed(plot_stack(source, "task 0")).size == 1


def test_an_empty_recording_gives_axes_that_say_so() -> None:
    axes = plot_stack(EMPTY)
    assert texts(axes) == ["nothing has been recorded yet"]
    assert figure_png(axes)


def test_nothing_wrong_is_drawn() -> None:
    with pytest.raises(UnknownContextError):
        plot_stack(session(), "nosuch")
    with pytest.raises(UnknownContextError):
        plot_stack(EMPTY, "nosuch")
    with pytest.raises(AxesError):
        plot_stack(session(), ax=Figure())  # type: ignore[arg-type]


def test_axes_given_are_drawn_on_and_returned() -> None:
    axes = Figure().subplots(2)[1]
    assert plot_stack(session(), ax=axes) is axes


def test_a_peak_after_the_end_is_drawn_too() -> None:
    record = context(3, "load", peak_bytes=5 * MIB, duration_ns=10 * MS)
    source = recording((record, pack((0, 0, MIB, MIB, 0), (50 * MS, MIB, 5 * MIB, 0, 0))), taken_ns=SECOND)
    axes = plot_stack(source, "load")
    assert axes.get_xlim()[1] == pytest.approx(0.05)
    assert max(np.nanmax([*line.get_ydata(), 0]) for line in axes.lines) == 5 * MIB


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("buckets", [pack(), pack((0, 0, 0, 0, 0)), pack((5, 0, 0, 0, 0), (5, 0, 0, 0, 0))])
def test_a_context_of_no_bytes_and_no_duration_can_be_drawn(buckets: bytes) -> None:
    assert figure_png(plot_stack(recording((context(3, "nothing"), buckets)), "nothing"))


def strange() -> Recording:
    source = session(count=9, resident=samples(320 * MIB, 330 * MIB, 390 * MIB))
    names = dict(
        zip(
            range(3, 12), ["数据加载", "🚀 launch", "обработка", "$x^", "x" * 60, "load", "load", "b", "c"], strict=True
        )
    )
    renamed = tuple(r._replace(name=names.get(r.context_id, r.name)) for r in source.contexts)
    return source._replace(
        contexts=renamed, marks=tuple(Mark(t * SECOND // 4, 1, f"epoch {t}", "mark", 0) for t in range(20))
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dpi", [100, 200])
@pytest.mark.parametrize("source", [session(), session(count=20), strange(), marked()], ids=itertools.count())
def test_words_are_neither_over_each_other_nor_over_a_line(source: Recording, dpi: int) -> None:
    axes = plot_stack(source)
    axes.figure.set_dpi(dpi)
    check_words(axes)
    assert figure_png(axes, dpi=dpi)


ABSURD = [2**63 - 1, -(2**63), 2**53, -1]


@pytest.mark.parametrize("field", range(5))
@pytest.mark.parametrize("value", ABSURD)
def test_a_timeline_of_absurd_figures_is_drawn(field: int, value: int) -> None:
    absurd = tuple(value if place == field else 1000 for place in range(5))
    rows = sorted([absurd, (MS, 1000, 6000, 2000, 2000)])
    source = recording((root(), pack(*rows)), (context(3, "load", peak_bytes=6000, duration_ns=SECOND), pack(*rows)))
    for wanted in (None, "load"):
        assert figure_png(plot_stack(source, wanted))
        assert figure_png(plot_timeline(source, wanted))


@pytest.mark.parametrize("field", ["started_ns", "duration_ns", "peak_bytes", "self_peak_bytes", "retained_bytes"])
@pytest.mark.parametrize("value", ABSURD)
def test_a_context_of_absurd_figures_is_drawn(field: str, value: int) -> None:
    rows = pack((0, 0, 5000, 4000, 4000), (MS, 1000, 6000, 2000, 2000))
    record = context(3, "load", peak_bytes=6000, duration_ns=SECOND)._replace(**{field: value})
    source = recording((root(), rows), (record, rows))
    for wanted in (None, "load"):
        assert figure_png(plot_stack(source, wanted))
        assert figure_png(plot_timeline(source, wanted))
