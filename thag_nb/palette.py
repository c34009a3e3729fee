"""Which colour and dash stand for which context: the same in every picture of a session, still or moving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

# Okabe & Ito 2008, "Color Universal Design", without black and yellow, which vanish on a dark or a white page. Ordered
# so that neighbours differ in lightness as well as in hue.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
# On white, the two light ones are drawn darker where they are thin: 3:1 there, and 5:1 on #111.
_THIN = {"#E69F00": "#C08500", "#56B4E9": "#3A96CC"}
DASHES = 4  # patterns that a name may have beside its colour
GREY = "#767676"  # 4.5:1 on white, 4.1:1 on #111


class Style(NamedTuple):
    """How a name is drawn: a colour, and the number of a dash pattern, for those who do not see the colour."""

    colour: str
    dash: int

    @property
    def line(self) -> str:
        """The colour as a thin line has it: at least 3:1 on white and on #111."""
        return _THIN.get(self.colour, self.colour)

    @property
    def ink(self) -> str:
        """Black or white, whichever is read better on an area of the colour."""
        return "#FFFFFF" if _contrast(self.colour, "#FFFFFF") > _contrast(self.colour, "#000000") else "#000000"


ROOT = Style(GREY, 0)
OTHERS = Style("#A6A6A6", 2)  # the contexts of a stack that have no layer of their own

Styles = Mapping[str, Style]


def styles(names: Iterable[str]) -> Styles:
    """The style of each name, by the order in which the names first appear.

    While names are only ever added, as those of a session are until a reset, a name keeps its style. Six in a row
    differ in colour, twenty-four in colour or dash.
    """
    return {
        name: Style(COLOURS[number % len(COLOURS)], number // len(COLOURS) % DASHES)
        for number, name in enumerate(dict.fromkeys(names))
    }


def _contrast(colour: str, other: str) -> float:
    """From 1 to 21, as WCAG 2 defines it."""
    darker, lighter = sorted((_luminance(colour), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    shares = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
