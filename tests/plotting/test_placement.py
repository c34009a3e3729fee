from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from thag_nb.plotting.placement import (
    boxes_of_lines,
    cut,
    overlaps,
    place_above,
    place_beside,
    place_note,
    place_within,
)
from thag_nb.plotting.text import Words, write

NOTHING = np.empty((0, 4))


def canvas() -> tuple[Axes, RendererBase]:
    agg = FigureCanvasAgg(Figure(figsize=(6, 3), dpi=100))
    axes = agg.figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.figure.draw_without_rendering()
    return axes, agg.get_renderer()


def words(axes: Axes, at: tuple[float, float], text: str = "some words") -> Words:
    return write(axes, text, at, xycoords="data", tie="#000000")


def test_words_above_take_a_second_row_and_then_have_no_room() -> None:
    axes, renderer = canvas()
    texts = [write(axes, "some words", (0.5, 1)) for _ in range(3)]
    assert list(place_above(axes, [(text, 2.0) for text in texts], renderer)) == [texts[2]]
    assert texts[0].get_position()[1] < texts[1].get_position()[1]


def test_words_above_change_sides_at_the_edge() -> None:
    axes, renderer = canvas()
    text = write(axes, "some words", (1, 1))
    assert not list(place_above(axes, [(text, 2.0)], renderer))
    assert text.get_position()[0] == -2.0


def test_words_beside_a_point_are_near_it() -> None:
    axes, renderer = canvas()
    text = words(axes, (0.5, 0.5))
    assert not list(place_beside(axes, [text], NOTHING, [], renderer))
    assert text.get_position() == (6.0, 5.0)
    assert not text.arrow_patch.get_visible()


def test_words_that_must_go_further_are_tied() -> None:
    axes, renderer = canvas()
    first, second = words(axes, (0.5, 0.5)), words(axes, (0.5, 0.5))
    assert not list(place_beside(axes, [first, second], NOTHING, [], renderer))
    assert not overlaps(first.box(renderer)[np.newaxis], second.box(renderer)[np.newaxis]).any()


def test_words_whose_surroundings_are_filled_have_no_room() -> None:
    axes, renderer = canvas()
    text = words(axes, (0.5, 0.5))
    assert list(place_beside(axes, [text], np.array([axes.bbox.extents]), [], renderer)) == [text]


def test_words_take_the_anchor_that_has_room() -> None:
    axes, renderer = canvas()
    text = words(axes, (0.1, 0.5))
    text.anchors = [(0.1, 0.5), (0.8, 0.5)]
    left = np.array([[*axes.bbox.min, axes.bbox.x0 + 0.5 * axes.bbox.width, axes.bbox.y1]])
    assert not list(place_beside(axes, [text], left, [], renderer))
    assert text.xy == (0.8, 0.5)


def test_upright_lines_are_cut_where_words_cross_them_and_whole_again_when_they_do_not() -> None:
    axes, renderer = canvas()
    line = axes.axvline(0.52)
    text = words(axes, (0.5, 0.5))
    text.put((2.0, 0.0))
    cut(axes, [line], [text], renderer)
    low, high = axes.transAxes.inverted().transform(text.box(renderer).reshape(2, 2))[:, 1]
    np.testing.assert_allclose(line.get_ydata(), [0, low, np.nan, high, 1])
    text.show(False)
    cut(axes, [line], [text], renderer)
    assert list(line.get_ydata()) == [0, 1]


def test_words_within_an_area_are_where_it_is_highest() -> None:
    axes, renderer = canvas()
    text = words(axes, (0, 0))
    left = np.linspace(0, 600, 601)
    bottom, top = np.zeros(600), np.where(np.arange(600) >= 400, 100.0, 20.0)
    x, y = place_within(text, left, bottom, top, renderer) or (0, 0)
    assert x > 400
    assert y == 50
    assert place_within(text, left, bottom, np.full(600, 5.0), renderer) is None
    assert place_within(text, left[:11], bottom[:10], top[-10:], renderer) is None


def test_a_note_gives_way_to_the_name_of_the_axis() -> None:
    axes, renderer = canvas()
    axes.set_xlabel("time since start " * 6)
    axes.figure.draw_without_rendering()
    note = write(axes, "a note that is rather long", (1, 0), ha="right", va="top")
    place_note(axes, note, renderer)
    assert note.get_position() == (0, -30)
    axes.set_xlabel("")
    place_note(axes, note, renderer)
    assert note.get_position() == (0, -17)


def test_lines_are_boxes_also_when_they_are_steps_or_slanted() -> None:
    axes, _ = canvas()
    axes.plot([0, 0.5, 1], [0.2, 0.8, 0.8], drawstyle="steps-post")
    boxes = boxes_of_lines(axes, [])
    middle = axes.transData.transform((0.25, 0.5))
    assert not overlaps(np.array([[*middle, *middle + 1]]), boxes).any()
    step = axes.transData.transform((0.5, 0.5))
    assert overlaps(np.array([[*step - 2, *step + 2]]), boxes).any()
    (slanted,) = axes.plot([0, 1], [0, 1])
    corner = axes.transData.transform((0.1, 0.9))
    assert not overlaps(np.array([[*corner, *corner + 1]]), boxes_of_lines(axes, [])).any()
    assert len(boxes_of_lines(axes, [slanted])) == len(boxes)
