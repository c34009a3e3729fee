"""What is shown of holders below a cell: contexts, who holds most of each, and the lines that let go."""

from __future__ import annotations

import html
from typing import NamedTuple

from thag_nb.mimebundle import Bundle, html_table, output, text_table
from thag_nb.recordings.model import Held
from thag_nb.units import format_bytes

_COLUMNS = ("context", "holder", "held", "share", "alone", "allocated at", "released by", "also held by")
_LEFT = ("context", "holder", "allocated at", "released by", "also held by")
_WRAPPED = ("holder", "allocated at", "released by", "also held by")
_CODE = ("released by",)
_OPTIONAL = ("alone", "allocated at", "also held by")  # where there is something to say
_LITTLE = 100  # a context or holder of less than one part in so many is summed up with others
_CONTEXTS_AT_LEAST, _CONTEXTS_AT_MOST = 3, 12
_HOLDERS = 6  # of one context
_FEW_BYTES = 1024  # what is less than that is no holder to speak of, unless nobody holds more
_NAMES = 3  # in one cell of the table
_ENOUGH = 0.9  # of what a holder keeps goes with it alone: then that is not told apart


class _Line(NamedTuple):
    """What one row of a context stands for: a holder, or its libraries together."""

    name: str
    held_bytes: int
    holders: int
    released_by: str = ""
    shared_with: tuple[str, ...] = ()
    alone_bytes: int = 0
    allocated_at: str = ""


def retained_bundle(held: tuple[Held, ...]) -> Bundle:
    """Who still holds what, the context that holds most first: its largest holders, and the others as one row.

    Without those that hold little, which are one row, so that what is shown adds up to the row "together".
    """
    contexts: dict[int, list[Held]] = {}
    for row in held:
        contexts.setdefault(row.context_id, []).append(row)
    if not contexts:
        return {"text/plain": "Nothing that was allocated is still held."}
    largest = sorted(contexts.values(), key=lambda rows: -_sum(rows))
    count = _count_selected(largest)
    rows = [line for of_context in largest[:count] for line in _rows(of_context)]
    notes = []
    if count < len(largest):
        rest_bytes = sum(map(_sum, largest[count:]))
        rows.append(_row(_others(len(largest) - count), held=format_bytes(rest_bytes)))
        notes.append(f"The {_others(len(largest) - count)} hold little; thag_nb.retained() has all of them.")
    if len(largest) > 1:
        rows.append(_row("together", held=format_bytes(_sum(held))))
    columns, rows = _without_empty(rows)
    left, wrapped, code = (tuple(map(columns.index, set(names) & set(columns))) for names in (_LEFT, _WRAPPED, _CODE))
    below = "".join(f'<div style="font-size: 90%; opacity: 0.8">{html.escape(note)}</div>' for note in notes)
    return {
        "text/plain": "\n".join([text_table(rows, columns, left), *notes]),
        "text/html": output(html_table(rows, columns, left, wrapped=wrapped, code=code) + below),
    }


def _without_empty(rows: list[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns that have something to say, and the rows without the others."""
    kept = [i for i, name in enumerate(_COLUMNS) if name not in _OPTIONAL or any(row[i] for row in rows)]
    return tuple(_COLUMNS[i] for i in kept), [tuple(row[i] for i in kept) for row in rows]


def _sum(rows: list[Held] | tuple[Held, ...]) -> int:
    return sum(row.held_bytes for row in rows)


def _count_selected(largest: list[list[Held]]) -> int:
    """How many of the largest contexts have rows of their own."""
    everything = sum(map(_sum, largest))
    large = sum(_sum(rows) * _LITTLE >= everything for rows in largest)
    count = min(max(large, _CONTEXTS_AT_LEAST), _CONTEXTS_AT_MOST)
    return len(largest) if len(largest) <= count + 1 else count  # a row for one other would be no shorter


def _others(count: int) -> str:
    return f"{count:,} others"


def _rows(held: list[Held]) -> list[tuple[str, ...]]:
    """The holders of one context that matter, its name and sum on top."""
    total = _sum(held)
    lines = sorted(_lines(held), key=lambda line: -line.held_bytes)
    selected = [line for index, line in enumerate(lines[:_HOLDERS]) if not index or _matters(line, total)]
    rest = [line for line in lines if line not in selected]
    if len(rest) == 1 and rest[0].released_by:  # takes no more room by its name
        selected += rest
    elif rest:
        count = sum(line.holders for line in rest)
        selected.append(_Line(f"{count:,} smaller", sum(line.held_bytes for line in rest), count))
    return [_row(held[0].under, held=format_bytes(total)), *(_line_row(line, total) for line in selected)]


def _matters(line: _Line, total: int) -> bool:
    return line.held_bytes >= _FEW_BYTES and line.held_bytes * _LITTLE >= total


def _lines(held: list[Held]) -> list[_Line]:
    """The holders, but libraries as one: nobody lets go of them."""
    libraries = [row for row in held if row.kind == "module" and "." not in row.holder]
    lines = [
        _Line(row.holder, row.held_bytes, 1, row.released_by, row.shared_with, row.alone_bytes, row.allocated_at)
        for row in held
        if row not in libraries
    ]
    if libraries:
        lines.append(_Line(_library_names([row.holder for row in libraries]), _sum(libraries), len(libraries)))
    return lines


def _library_names(names: list[str]) -> str:
    """``pandas and 27 other libraries``."""
    if len(names) == 1:
        return names[0]
    return f"{names[0]} and {names[1]}" if len(names) == 2 else f"{names[0]} and {len(names) - 1:,} other libraries"


def _line_row(line: _Line, total: int) -> tuple[str, ...]:
    more = len(line.shared_with) - _NAMES
    also = ", ".join(line.shared_with[:_NAMES]) + (f" and {more:,} more" if more > 0 else "")
    is_shared = line.released_by and line.alone_bytes < _ENOUGH * line.held_bytes
    alone = format_bytes(line.alone_bytes) if is_shared else ""
    return _row(
        "",
        line.name,
        format_bytes(line.held_bytes),
        _share(line.held_bytes, total),
        alone,
        line.allocated_at,
        line.released_by,
        also,
    )


def _row(
    context: str,
    holder: str = "",
    held: str = "",
    share: str = "",
    alone: str = "",
    allocated_at: str = "",
    released_by: str = "",
    also_held_by: str = "",
) -> tuple[str, ...]:
    return context, holder, held, share, alone, allocated_at, released_by, also_held_by


def _share(part_bytes: int, total_bytes: int) -> str:
    return f"{part_bytes / total_bytes:.0%}" if total_bytes else ""
