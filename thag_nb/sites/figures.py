"""The three figures that pictures and exports of call sites show, and what frames are called there."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Literal, NamedTuple

from thag_nb.errors import ChoiceError
from thag_nb.recordings.model import LineCost
from thag_nb.sites.stacks import Frame

Shown = Literal["peak", "kept", "total"]


class Figure(NamedTuple):
    """A figure in words, and what a row has of it in bytes."""

    words: str
    of: Callable[[LineCost], int]


FIGURES = {
    "peak": Figure("live at its peak", attrgetter("peak_bytes")),
    "kept": Figure("still live", attrgetter("live_bytes")),
    "total": Figure("allocated in all", attrgetter("total_bytes")),
}


def shown(figure: Shown) -> Figure:
    """One of `FIGURES`. Raises `ChoiceError`."""
    if figure not in FIGURES:
        raise ChoiceError("figure", figure, tuple(FIGURES))
    return FIGURES[figure]


def frames_of(row: LineCost) -> tuple[Frame, ...]:
    """The stack of a row by stack; what has none is a frame in words."""
    return tuple(Frame(*frame) for frame in row.stack) or (Frame("", 0, row.function),)


def in_words(frame: Frame) -> str:
    """``read (load.py:7)``."""
    file, line, function, _ = frame
    place = file.rpartition("/")[2] + (f":{line}" if line else "")
    return f"{function} ({place})" if place else function
