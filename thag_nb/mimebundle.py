"""What a front end takes: texts by MIME type, with pictures and tables in HTML that survives saving.

Notebook servers strip classes, style sheets and variables from outputs that they do not trust; inline styles stay. The
only class here tells MathJax, which they run themselves, to leave names with dollars alone.

All names are cut where they would push the figures off the screen; in HTML their whole is the cell's title.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import NamedTuple

from thag_nb.units import NAME_LETTERS, cut, visible

Bundle = dict[str, str]

Row = Sequence[str]


class Picture(NamedTuple):
    """A picture in words and as a PNG or an SVG, or a sentence that says why it could not be drawn."""

    alt: str
    png: bytes = b""
    problem: str = ""
    svg: str = ""


_CELL = "padding: 2px 10px; text-align: {align}; border-bottom: 1px solid #8888; white-space: "
_TABLE = "border-collapse: separate; border-spacing: 0"  # or what stays in sight covers its line, which all cells share
_AS_IT_STANDS = "pre"  # the first column is indented
_WRAPPED = "pre-wrap; overflow-wrap: anywhere"
# What scrolls below it is made illegible where the page gives rows no background to inherit.
_STAYS = "; position: sticky; left: 0; background: inherit; backdrop-filter: blur(12px)"
_NAME = "; overflow: hidden; text-overflow: ellipsis; max-width: {letters}ch" + _STAYS
_TEXT_LETTERS = 40  # of a name in a text, which has nowhere else to show the rest
_MOST_INDENT = 24

NO_MATHJAX = "tex2jax_ignore mathjax_ignore"  # what MathJax 2 and 3 pass over


def text_table(rows: Sequence[Row], columns: Row, left: Sequence[int] = (0,)) -> str:
    """Columns in line, those of `left` to the left and the others to the right. Names, which come first, are cut."""
    table = [[visible(cell) for cell in row] for row in (columns, *rows)]
    for row in table:
        row[0] = _indent(row[0]) + cut(row[0].lstrip(" "), _TEXT_LETTERS)
    widths = [max(len(row[column]) for row in table) for column in range(len(columns))]
    lines = (
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )
    return "\n".join(lines)


def html_table(
    rows: Sequence[Row],
    columns: Row,
    left: Sequence[int] = (0,),
    *,
    wrapped: Sequence[int] = (),
    code: Sequence[int] = (),
) -> str:
    """The same as a ``table`` with a head and a body; texts in columns that are `wrapped` may be long, or `code`.

    The names in the first column stay in sight when the figures are scrolled.
    """

    def cell(tag: str, column: int, text: str) -> str:
        style = _CELL.format(align="left" if column in left else "right")
        style += _WRAPPED if column in wrapped and tag == "td" else _AS_IT_STANDS
        content, title = html.escape(visible(text)), ""
        if column == 0:
            indent, name = _indent(text), html.escape(visible(text).lstrip(" "))
            style += _NAME.format(letters=len(indent) + NAME_LETTERS)
            content, title = indent + name, f' title="{name}"' if tag == "td" and name else ""
        if column in code and tag == "td" and text:
            content = f'<code style="white-space: {_WRAPPED}">{content}</code>'
        return f'<{tag}{title} style="{style}">{content}</{tag}>'

    head = "".join(cell("th", column, text) for column, text in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(cell("td", column, text) for column, text in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _indent(name: str) -> str:
    """The blanks before a name; however deep it is nested, it stays in sight."""
    return " " * min(len(name) - len(name.lstrip(" ")), _MOST_INDENT)


def output(content: str) -> str:
    """HTML to be shown, whatever it holds: names in it are text, and no formulas."""
    return f'<div class="{NO_MATHJAX}">{content}</div>'


def stacked(above: Bundle, below: Bundle) -> Bundle:
    """One bundle with another below it; as HTML as well if either is."""
    both: Bundle = {"text/plain": f"{above['text/plain']}\n{below['text/plain']}"}
    if "text/html" in above or "text/html" in below:
        both["text/html"] = "".join(
            one.get("text/html") or output(f"<div>{html.escape(one['text/plain'])}</div>") for one in (above, below)
        )
    return both


def with_picture(above: str, picture: Picture, summary: str | None, below: str, script: str = "") -> Bundle:
    """HTML with a picture between what stands above and below it, the latter folded under a `summary` if there is one.

    A `script` element comes last, and has them all as its parent.
    The picture is in the HTML alone, because notebooks ignore an alternative text anywhere else.
    """
    if summary is not None:
        below = f"<details><summary>{html.escape(summary)}</summary>{below}</details>"
    return {"text/html": output(f"{above}{_image(picture)}{below}{script}")}


def _image(picture: Picture) -> str:
    if picture.problem:
        return f"<div>{html.escape(picture.problem)}</div>"
    kind, data = ("svg+xml", picture.svg.encode("utf-8")) if picture.svg else ("png", picture.png)
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img alt="{html.escape(picture.alt)}" src="data:image/{kind};base64,{encoded}" style="max-width: 100%">'
