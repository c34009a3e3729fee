"""Who called whom to allocate, as an icicle: a picture in SVG in which what was called hangs below who called it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from thag_nb import palette
from thag_nb.browser.assets import flame_script
from thag_nb.mimebundle import Bundle, Picture, html_table, text_table, with_picture
from thag_nb.palette import Style
from thag_nb.recordings.model import LineCost, Recording, Wanted
from thag_nb.recordings.own_code import is_library
from thag_nb.sites.figures import Figure, Shown, frames_of, in_words, shown
from thag_nb.sites.rows import lines
from thag_nb.sites.stacks import Frame
from thag_nb.units import cut, format_bytes, visible

WIDTH = 900
MOST_LEVELS = 60  # of frames, below the box of the whole
_LEVEL = 20
_GAP = 1  # between boxes
_NARROWEST = 2.0  # a box that can be seen
_LETTER = 6.7  # the width of one, of a fixed-width font of 11 px
_MARGIN = 4
_LABELLED = 3 * _LETTER + 2 * _MARGIN  # a box that has room for something to be read
_FONT = 'font-family="ui-monospace, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="11"'

_ROWS = 20  # lines in the table below the picture, those of most bytes
_SOURCE_LETTERS = 40  # of a line in that table; a statement may be long, and figures come after it
_LARGEST = 3  # that the words for the picture name
_COLUMNS = ("line", "function", "through", "source", "share", "at peak", "still live", "allocated")
_LEFT = (0, 1, 2, 3)
_BRIEF = (0, 1, 2, 4, 5, 6, 7)  # without source, which a terminal has no room for


class Flame:
    """A picture of who called whom to allocate, for a notebook; `svg` is the same for a file.

    In a notebook that is trusted, a box can be clicked to fill the width of the picture with it.

    ``alt`` says in words what it shows.
    """

    def __init__(self, svg: str, alt: str, summary: str, rows: tuple[LineCost, ...], figure: Figure) -> None:
        """`rows` are by line, and `summary` is what the picture is of."""
        self.svg = svg
        self.alt = alt
        self._summary = summary
        self._rows = rows
        self._figure = figure

    def __repr__(self) -> str:
        """One line: whose bytes, which of them, and how many."""
        return f"<Flame of {self._summary}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Bundle:  # noqa: ARG002
        """IPython's protocol: the picture, and the lines as a table, in HTML and as text."""
        table = _table(self._rows, self._figure)
        brief = text_table(
            [[row[column] for column in _BRIEF] for row in table], [_COLUMNS[i] for i in _BRIEF], _LEFT[:3]
        )
        below = html_table(table, _COLUMNS, _LEFT)
        picture = with_picture("", Picture(self.alt, svg=self.svg), f"lines of {self._summary}", below, flame_script())
        return {"text/plain": f"{self._summary}\n{brief}"} | picture


def flame(recording: Recording, wanted: Wanted, figure: Shown = "peak") -> Flame:
    """The picture of a context's stacks, as wide as their bytes of a figure. See `thag_nb.flame`."""
    chosen = shown(figure)
    stacks = lines(recording, wanted, "stack")
    rows = lines(recording, wanted)
    whole = sum(size for size in map(chosen.of, stacks) if size > 0)
    summary = f"{visible(cut(recording.find(wanted).name, 60))} · {format_bytes(whole)} {chosen.words}"
    return Flame(_svg(_tree(stacks, chosen, summary)), _alt(summary, rows, chosen, whole), summary, rows, chosen)


# The tree


class _Node:
    """A frame under the one that called it, with all that was called from there."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.size_bytes = 0
        self.below: dict[Frame, _Node] = {}


def _tree(rows: Iterable[LineCost], figure: Figure, summary: str) -> _Node:
    top = _Node(Frame("", 0, summary))
    for row in rows:
        size_bytes = figure.of(row)
        if size_bytes <= 0:
            continue
        top.size_bytes += size_bytes
        node = top
        for frame in frames_of(row):
            node = node.below.setdefault(frame, _Node(frame))
            node.size_bytes += size_bytes
    return top


class _Box(NamedTuple):
    """A node in the picture: where it begins, how wide it is, and how many are above it."""

    node: _Node
    left: float
    width: float
    level: int


class _Boxes(NamedTuple):
    """Those that are drawn, and how many are not, each with all that is below it."""

    drawn: list[_Box]
    narrower: int
    deeper: int


def _boxes(top: _Node) -> _Boxes:
    drawn: list[_Box] = []
    narrower = deeper = 0
    waiting = [_Box(top, 0, WIDTH, 0)]
    while waiting:
        box = waiting.pop()
        if box.width < _NARROWEST:
            narrower += 1
        elif box.level > MOST_LEVELS:
            deeper += 1
        else:
            drawn.append(box)
            waiting += reversed(list(_below(box)))  # the leftmost, which is the widest, comes next
    return _Boxes(drawn, narrower, deeper)


def _below(box: _Box) -> Iterator[_Box]:
    left = box.left
    for node in sorted(box.node.below.values(), key=lambda node: -node.size_bytes):
        width = box.width * node.size_bytes / box.node.size_bytes
        yield _Box(node, left, width, box.level + 1)
        left += width


# The picture


def _svg(top: _Node) -> str:
    boxes = _boxes(top)
    files = (box.node.frame.file for box in boxes.drawn)
    styles = palette.styles(file for file in files if file and not is_library(file))
    notes = _notes(boxes)
    height = (max((box.level for box in boxes.drawn), default=0) + 1 + bool(notes)) * _LEVEL
    parts = [_rectangle(box, _style(box, styles), top.size_bytes) for box in boxes.drawn]
    if notes:
        parts.append(f'<text x="{_MARGIN}" y="{height - 6}" fill="{palette.GREY}">{html.escape(notes)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f"{_FONT}>{''.join(parts)}</svg>"
    )


def _style(box: _Box, styles: palette.Styles) -> Style:
    """A colour for each file of the user's; libraries, and what has no file, are grey."""
    if box.level == 0 or not box.node.frame.file:
        return palette.ROOT
    return styles.get(box.node.frame.file, palette.OTHERS)


def _rectangle(box: _Box, style: Style, whole: int) -> str:
    words = in_words(box.node.frame)
    title = words if box.level == 0 else f"{words}: {_with_share(box.node.size_bytes, whole)}"
    top, width = box.level * _LEVEL, max(box.width - _GAP, _NARROWEST - _GAP)
    rectangle = f'<rect width="{width:.1f}" height="{_LEVEL - _GAP}" rx="1" fill="{style.colour}"/>'
    label = ""
    if box.width >= _LABELLED:
        letters = int((width - 2 * _MARGIN) / _LETTER)
        text = html.escape(cut(visible(words), letters))
        label = f'<text x="{_MARGIN}" y="13" fill="currentColor">{text}</text>'
    # What is in an <svg> of its own is cut off at its edges, however wide the letters are.
    return (
        f'<svg x="{box.left:.1f}" y="{top}" width="{width:.1f}" height="{_LEVEL - _GAP}" color="{style.ink}">'
        f"<title>{html.escape(visible(title))}</title>{rectangle}{label}</svg>"
    )


def _notes(boxes: _Boxes) -> str:
    """How many boxes are left out, with what they called."""
    counts = ((boxes.narrower, "narrower"), (boxes.deeper, "deeper"))
    return " · ".join(f"{count:,} {word} than what is drawn" for count, word in counts if count)


# In words


def _with_share(size_bytes: int, whole: int) -> str:
    return f"{format_bytes(size_bytes)}, {_share(size_bytes, whole)}"


def _share(size_bytes: int, whole: int) -> str:
    return f"{size_bytes / whole:.1%}".replace("%", " %") if whole > 0 else ""


def _line(row: LineCost) -> str:
    """``In[3] line 2``; what has no line in words."""
    return f"{row.file.rpartition('/')[2]} line {row.line}" if row.file else row.function


def _alt(summary: str, rows: tuple[LineCost, ...], figure: Figure, whole: int) -> str:
    largest = sorted((row for row in rows if figure.of(row) > 0), key=lambda row: -figure.of(row))
    named = [_named(row, figure, whole) for row in largest[:_LARGEST]]
    more = len(largest) - len(named)
    rest = [f"{more:,} more {'lines' if more > 1 else 'line'}"] if more else []
    where = f": {'; '.join([*named, *rest])}" if named else ""
    return visible(f"Who called whom to allocate: {summary}{where}.")


def _named(row: LineCost, figure: Figure, whole: int) -> str:
    through = f" through {row.through}" if row.through and row.through != "..." else ""
    return f"{_line(row)}{through} {_with_share(figure.of(row), whole)}"


def _table(rows: tuple[LineCost, ...], figure: Figure) -> list[tuple[str, ...]]:
    """The lines of most bytes, and all others as one row, so that it adds up."""
    whole = sum(map(figure.of, rows))
    ordered = sorted(rows, key=lambda row: -figure.of(row))
    table = [
        (
            _line(row),
            row.function if row.file else "",
            row.through,
            cut(row.source, _SOURCE_LETTERS),
            *_cells(figure, whole, (row,)),
        )
        for row in ordered[:_ROWS]
    ]
    others = ordered[_ROWS:]
    if others:
        table.append((f"{len(others):,} others", "", "", "", *_cells(figure, whole, others)))
    return table


def _cells(figure: Figure, whole: int, rows: Iterable[LineCost]) -> tuple[str, ...]:
    several = tuple(rows)
    sizes = (
        [row.peak_bytes for row in several],
        [row.live_bytes for row in several],
        [row.total_bytes for row in several],
    )
    return _share(sum(map(figure.of, several)), whole), *(format_bytes(sum(of_rows)) for of_rows in sizes)
