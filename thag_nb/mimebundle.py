"""What a front end takes: texts by MIME type, with pictures and tables in HTML that survives saving.

Notebook servers strip classes, style sheets and variables from outputs that they do not trust; inline styles stay.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

Bundle = dict[str, str]

Row = Sequence[str]

_CELL = "padding: 2px 10px; text-align: {align}; border-bottom: 1px solid #8888; white-space: "
_AS_IT_STANDS = "pre"  # the first column is indented
_WRAPPED = "pre-wrap; overflow-wrap: anywhere"


def text_table(rows: Sequence[Row], columns: Row, left: Sequence[int] = (0,)) -> str:
    """Columns in line, those of `left` to the left and the others to the right."""
    table = [columns, *rows]
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
    """The same as a ``table`` with a head and a body; texts in columns that are `wrapped` may be long, or `code`."""

    def cell(tag: str, column: int, text: str) -> str:
        style = _CELL.format(align="left" if column in left else "right")
        style += _WRAPPED if column in wrapped and tag == "td" else _AS_IT_STANDS
        content = html.escape(text)
        if column in code and tag == "td" and text:
            content = f'<code style="white-space: {_WRAPPED}">{content}</code>'
        return f'<{tag} style="{style}">{content}</{tag}>'

    head = "".join(cell("th", column, text) for column, text in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(cell("td", column, text) for column, text in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def with_picture(above: str, png: bytes, alt: str, summary: str | None, below: str) -> Bundle:
    """HTML with a picture between what stands above and below it, the latter folded under a `summary` if there is one.

    The alternative text stands in the HTML because notebooks ignore it anywhere else.
    """
    encoded = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{encoded}" style="max-width: 100%">'
    if summary is not None:
        below = f"<details><summary>{html.escape(summary)}</summary>{below}</details>"
    return {"text/html": f"<div>{above}{image}{below}</div>", "image/png": encoded}
