"""Words in a picture: how they are written and moved, and a key beside the axes for those that find no room.

Whether there is room depends on how large the axes are once everything around them has been measured, and that may
change until the picture is drawn. So room is looked for once at first, and again whenever the axes moved.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from thag_nb.palette import GREY

Boxes = NDArray[np.float64]
"""Left, bottom, right and top in pixels, shape (boxes, 4)."""

SMALL_POINTS = 7

_KEY_ENTRIES = 12
_ROUNDS = 4

# With most letters of the scripts that matplotlib's own font lacks, on Linux, macOS and Windows.
_FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Noto Emoji", "Symbola", "Unifont"),
)


class Words(Annotation):
    """Words at a point, moved by an offset in points.

    Letters that no font has are drawn as boxes, and nobody is warned: the text beside the picture has them right.
    ``anchors`` are the points that they may belong to, in bytes and seconds, if there are more than one.
    """

    anchors: Sequence[tuple[float, float]] = ()

    def draw(self, renderer: RendererBase) -> None:
        """As `Annotation`, without warnings, and not beyond the view: FreeType fails on words that are far away."""
        with _quietly():
            if self._is_in_view():
                super().draw(renderer)

    def get_window_extent(self, *args: Any, **kwargs: Any) -> Bbox:
        """As `Annotation`, without warnings."""
        with _quietly():
            return super().get_window_extent(*args, **kwargs)

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox | None:
        """As `Annotation`, but those of a moment beyond the view, where somebody zoomed, take no room from the axes."""
        return super().get_tightbbox(renderer) if self._is_in_view() else Bbox.null()

    def _is_in_view(self) -> bool:
        if self.axes is None or self.xycoords == "axes fraction":
            return True
        x, y = self.axes.transData.transform(self.xy)
        left, bottom, right, top = self.axes.bbox.padded(1).extents
        return bool(left <= x <= right and (self.xycoords != "data" or bottom <= y <= top))

    def box(self, renderer: RendererBase) -> Boxes:
        """Where the words are, without the line that ties them to their point, shape (4,)."""
        with _quietly():
            self.update_positions(renderer)
            return np.asarray(Text.get_window_extent(self, renderer).extents)

    def put(self, offset: tuple[float, float], *, tied: bool = False) -> None:
        """Begin or, to the left, end at this offset in points, and be seen."""
        self.show(True)
        alignment = "left" if offset[0] > 0 else "right"
        if (self.get_position(), self.get_horizontalalignment()) != (offset, alignment):
            self.set(position=offset, ha=alignment)
        if self.arrow_patch is not None and self.arrow_patch.get_visible() != tied:
            self.arrow_patch.set_visible(tied)

    def move(self, at: tuple[float, float]) -> None:
        """Belong to another point."""
        self.show(True)
        if self.xy != at:
            self.xy = at
            self.stale = True

    def show(self, visible: bool) -> None:
        """Be seen or not. What changes nothing must not ask for the picture to be drawn again."""
        if self.get_visible() != visible:
            self.set_visible(visible)


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def write(
    axes: Axes,
    words: str,
    at: tuple[float, float],
    *,
    offset: tuple[float, float] = (0, 0),
    xycoords: str | tuple[str, str] = "axes fraction",
    size: int = SMALL_POINTS,
    colour: str = GREY,
    tie: str | None = None,
    **alignment: Any,
) -> Words:
    """Words at a point, never as mathematics or TeX: a context may be called ``$x_1``. `tie` colours a line to it."""
    line = {"arrowstyle": "-", "color": tie, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}
    text = Words(
        words,
        at,
        xytext=offset,
        xycoords=xycoords,
        textcoords="offset points",
        color=colour,
        fontsize=size,
        parse_math=False,
        usetex=False,
        annotation_clip=False,
        clip_on=False,
        arrowprops=line if tie else None,
        fontfamily=_families(words),
        zorder=7,
        **{"ha": "left", "va": "center", **alignment},
    )
    axes.add_artist(text)
    return text


def _families(words: str) -> list[str] | None:
    """matplotlib's fonts and one that has the letters they lack, if there is one."""
    if words.isascii():
        return None
    usual = FontProperties()
    lacking = {ord(letter) for letter in words} - _letters(font_manager.findfont(usual))
    if not lacking:
        return None
    installed = {font.name: font.fname for font in fontManager.ttflist}
    having = {name: len(lacking & _letters(installed[name])) for name in _FALLBACKS if name in installed}
    best = max(having, key=lambda name: having[name], default="")
    return [*usual.get_family(), best] if having.get(best) else None


@cache
def _letters(path: str) -> frozenset[int]:
    return frozenset(get_font(path).get_charmap())


# Arranging

PlaceWords = Callable[[RendererBase], Iterable[Words]]


def arrange(axes: Axes, place_words: PlaceWords, entries: Callable[[Sequence[Words]], Sequence[Artist]]) -> None:
    """Put words where they have room, and again when the axes move.

    `place_words` does that and says for which there was none. Those that have no room at first are taken out, and
    `entries` makes a key of them: lines or patches with labels.
    """
    keeper = _Keeper(axes, place_words)
    axes.add_artist(keeper)
    lost: list[Words] = []
    key: Legend | None = None
    for _ in range(_ROUNDS):  # a key makes the axes narrower
        axes.figure.figure.draw_without_rendering()
        if not keeper.lost:
            break
        lost += keeper.lost
        for text in keeper.lost:
            text.remove()
        if key is not None:
            key.remove()
        handles = entries(lost)
        key = _draw_key(axes, handles) if handles else None
        keeper.lost = []


class _Keeper(Artist):
    """Draws nothing, and puts the words where they have room before they are drawn, if the axes have moved since."""

    def __init__(self, axes: Axes, place_words: PlaceWords) -> None:
        super().__init__()
        self.set(zorder=-1000, in_layout=False)
        self.lost: list[Words] = []
        self._axes = axes
        self._place_words = place_words
        self._geometry: tuple[float, ...] = ()

    def draw(self, renderer: RendererBase) -> None:
        """Nothing to see."""
        axes = self._axes
        geometry = (*axes.bbox.extents, *axes.get_xlim(), *axes.get_ylim(), axes.figure.figure.dpi)
        if geometry != self._geometry:
            self._geometry = geometry
            self.lost = list(self._place_words(renderer))
            for text in self.lost:
                text.show(False)
        self.stale = False


class _Key(Legend):
    """A legend whose words may lack letters."""

    def draw(self, renderer: RendererBase) -> None:
        with _quietly():
            super().draw(renderer)

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox | None:
        with _quietly():
            return super().get_tightbbox(renderer)


def _draw_key(axes: Axes, handles: Sequence[Artist]) -> Legend:
    """Beside the axes, because inside it would hide something. Not `axes.legend`, which is the user's."""
    labels = [str(handle.get_label()) for handle in handles]
    if len(handles) > _KEY_ENTRIES:
        labels = [*labels[: _KEY_ENTRIES - 1], f"{len(handles) - _KEY_ENTRIES + 1:,} more"]
        handles = [*handles[: _KEY_ENTRIES - 1], Line2D([], [], linestyle="none")]
    key = _Key(
        axes,
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(1.005, 1.03),
        frameon=False,
        fontsize=SMALL_POINTS,
        labelcolor=GREY,
        handlelength=2.0,
        handletextpad=0.5,
        labelspacing=0.25,
        borderaxespad=0.0,
        borderpad=0.2,
    )
    for text, words in zip(key.get_texts(), labels, strict=True):
        text.set(parse_math=False, usetex=False, fontfamily=_families(words) or text.get_fontfamily())
    axes.add_artist(key)
    key.set_clip_on(False)
    return key


# Notes


def write_note(axes: Axes, notes: Sequence[str]) -> Words | None:
    """What was left out, below the axes to the right."""
    return write(axes, "\n".join(notes), (1, 0), ha="right", va="top", linespacing=1.1) if notes else None
