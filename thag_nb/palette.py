"""Which colour and dash stand for which context: the same in every picture of a session, still or moving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from thag_nb.recording import Recording

# Okabe & Ito 2008, "Color Universal Design", without black and yellow, which vanish on a dark or a white page. Ordered
# so that neighbours differ in lightness as well as in hue.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
DASHES = 4  # patterns that a name may have beside its colour
GREY = "#767676"  # 4.5:1 on white, 4.1:1 on #111


class Style(NamedTuple):
    """How a name is drawn: a colour, and the number of a dash pattern, for those who do not see the colour."""

    colour: str
    dash: int


Styles = Mapping[str, Style]


def styles(recording: Recording) -> Styles:
    """The style of each name of a cell or task, by the order in which the names first appeared.

    Names are only ever added, so a name keeps its style until a reset. Six in a row differ in colour, twenty-four in
    colour or dash.
    """
    return styles_of(record.name for record in recording.contexts if record.kind in ("cell", "task"))


def styles_of(names: Iterable[str]) -> Styles:
    """The styles of names, in this order."""
    return {
        name: Style(COLOURS[place % len(COLOURS)], place // len(COLOURS) % DASHES)
        for place, name in enumerate(dict.fromkeys(names))
    }
