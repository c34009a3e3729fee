from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from thag_nb.plotting.text import arrange, write


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("words", ["数据加载", "🚀", "a\tb"])
def test_letters_that_the_font_lacks_do_not_warn(words: str) -> None:
    axes = Figure().add_subplot()
    text = write(axes, words, (0.5, 0.5))
    axes.figure.draw_without_rendering()
    assert text.get_window_extent().width > 0


def test_a_font_that_has_the_letters_is_taken_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def family(words: str) -> list[str]:
        return write(Figure().add_subplot(), words, (0.5, 0.5)).get_fontfamily()

    # Two fonts that matplotlib brings, under names that are looked for. Of these letters one has both, the other one.
    names = {"STIXGeneral.ttf": "Noto Sans CJK SC", "STIXGeneralItalic.ttf": "Unifont"}
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    installed = [font_manager.FontEntry(fname=str(folder / file), name=name) for file, name in names.items()]
    usual = [font for font in font_manager.fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*usual, *installed])
    assert family("\u210aの") == [*family("plain"), "Noto Sans CJK SC"]
    assert family("é") == family("訓") == family("plain")


def test_words_that_found_no_room_are_taken_out_and_are_in_the_key() -> None:
    axes = Figure(layout="constrained").add_subplot()
    (line,) = axes.plot([0, 1], label="the line")
    texts = [write(axes, word, (0.5, 0.5)) for word in ("stays", "goes")]
    arrange(axes, lambda _: [texts[1]] if texts[1].axes else [], lambda lost: [line] if texts[1] in lost else [])
    assert [text.get_text() for text in axes.texts] == ["stays"]
    key = [text.get_text() for artist in axes.get_children() for text in getattr(artist, "get_texts", list)()]
    assert key == ["the line"]


def test_a_key_that_is_long_says_how_many_more_there_are() -> None:
    axes = Figure(layout="constrained").add_subplot()
    lines = [axes.plot([0, 1], label=str(number))[0] for number in range(20)]
    text = write(axes, "goes", (0.5, 0.5))
    arrange(axes, lambda _: [text] if text.axes else [], lambda _: lines)
    key = [text.get_text() for artist in axes.get_children() for text in getattr(artist, "get_texts", list)()]
    assert key == [*map(str, range(11)), "9 more"]


def test_words_are_placed_again_only_when_the_axes_have_moved() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    placed: list[float] = []
    arrange(axes, lambda _: placed.append(axes.bbox.width) or [], lambda _: [])
    figure.draw_without_rendering()
    assert len(placed) == 1
    axes.set_position((0.1, 0.1, 0.2, 0.2))
    figure.draw_without_rendering()
    assert placed[1] == pytest.approx(0.2 * figure.bbox.width)


def test_drawing_does_not_ask_for_another_drawing() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    text = write(axes, "words", (0.5, 0.5), tie="#000000")
    arrange(axes, lambda _: text.put((2.0, 1.0), tied=True) or [], lambda _: [])
    figure.draw_without_rendering()
    assert not figure.stale


def test_words_have_a_box_without_their_tie() -> None:
    agg = FigureCanvasAgg(Figure())
    axes = agg.figure.add_subplot()
    text = write(axes, "words", (0.1, 0.1), offset=(100, 50), tie="#000000")
    box = text.box(agg.get_renderer())
    assert np.all(box[:2] > axes.transAxes.transform((0.1, 0.1)))
