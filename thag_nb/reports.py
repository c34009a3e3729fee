"""What a person sees below a cell: one line, a figure, a table, as text and as HTML that survives saving."""

from __future__ import annotations

import base64
import html

from thag_nb.holders import Held
from thag_nb.recording import ContextRecord, Recording
from thag_nb.units import format_bytes, format_count, format_duration

Bundle = dict[str, str]

_COLUMNS = ("context", "peak", "kept", "live now", "allocated", "allocations", "foreign frees", "time")
_RETAINED_COLUMNS = ("context", "holder", "held", "share", "released by")
_RETAINED_LEFT = (0, 1, 4)
_HOLDERS = 6  # of one context that are shown, the largest
_CONTEXTS = 20
_CAVEAT = "Live bytes are not RSS; kept is what was live when the context ended, not a leak."
# Notebook servers strip classes, style sheets and variables from outputs that they do not trust; inline styles stay.
_CELL = "padding: 2px 10px; text-align: {align}; border-bottom: 1px solid #8888; white-space: pre"


def summary_line(record: ContextRecord) -> str:
    """``load · peak 812.4 MiB · kept 405.1 MiB · 1,204,332 allocations · 1.21 s``."""
    return " · ".join(
        (
            record.name,
            f"peak {format_bytes(record.peak_bytes)}",
            f"kept {format_bytes(_kept_bytes(record))}",
            f"{format_count(record.allocations)} allocations",
            format_duration(record.duration_ns),
        )
    )


def task_bundle(recording: Recording, context_id: int, *, figure: bool) -> Bundle:
    """The line of one task and, with `figure`, its timeline as a picture with a table, in every MIME type."""
    record = recording.find(context_id)
    line = summary_line(record)
    bundle = {"text/plain": line}
    if figure:
        table = html_table(_rows(recording, record), _COLUMNS)
        picture, alt = _timeline_picture(recording, context_id)
        bundle |= with_picture(f"<div>{html.escape(line)}</div>", picture, alt, f"figures of {record.name}", table)
    return bundle


def costs_bundle(recording: Recording, *, figure: bool) -> Bundle:
    """What each cell and task cost, nested, with the root and the bookkeeping; with `figure`, over time as well."""
    rows = [*_rows(recording, recording.contexts[0]), _overhead_row(recording)]
    bundle = {"text/plain": f"{text_table(rows, _COLUMNS)}\n{_CAVEAT}"}
    if figure:
        picture, alt = _timeline_picture(recording, None)
        note = f'<div style="font-size: 90%; opacity: 0.8">{_CAVEAT}</div>'
        bundle |= with_picture(html_table(rows, _COLUMNS) + note, picture, alt, None, "")
    return bundle


def retained_bundle(held: tuple[Held, ...]) -> Bundle:
    """Who still holds what, the context that holds most first: its largest holders, and the others as one row."""
    contexts: dict[int, list[Held]] = {}
    for row in held:
        contexts.setdefault(row.context_id, []).append(row)
    if not contexts:
        return {"text/plain": "Nothing that was allocated is still held."}
    largest = sorted(contexts.values(), key=lambda rows: -sum(row.held_bytes for row in rows))
    rows = [line for of_context in largest[:_CONTEXTS] for line in _retained_rows(of_context)]
    notes = []
    if len(largest) > _CONTEXTS:
        notes.append(f"... and {len(largest) - _CONTEXTS:,} contexts that hold less; thag_nb.retained() has them all")
    note = "".join(f"<div>{html.escape(text)}</div>" for text in notes)
    return {
        "text/plain": "\n".join([text_table(rows, _RETAINED_COLUMNS, _RETAINED_LEFT), *notes]),
        "text/html": html_table(rows, _RETAINED_COLUMNS, _RETAINED_LEFT) + note,
    }


def _retained_rows(held: list[Held]) -> list[tuple[str, ...]]:
    """The holders of one context that matter, its name and sum on top."""
    total = sum(row.held_bytes for row in held)
    shown = [row for row in held[:_HOLDERS] if row.held_bytes * 100 >= total]
    rows: list[tuple[str, ...]] = [(held[0].name, "", format_bytes(total), "", "")]
    for row in shown:
        also = f", also held by {', '.join(row.shared_with)}" if row.shared_with and row.released_by else ""
        rows.append(
            ("", row.holder, format_bytes(row.held_bytes), _share(row.held_bytes, total), row.released_by + also)
        )
    rest_bytes = total - sum(row.held_bytes for row in shown)
    if len(shown) < len(held):
        rest = f"{len(held) - len(shown):,} smaller"
        rows.append(("", rest, format_bytes(rest_bytes), _share(rest_bytes, total), ""))
    return rows


def _share(part_bytes: int, total_bytes: int) -> str:
    return f"{part_bytes / total_bytes:.0%}" if total_bytes else ""


def _kept_bytes(record: ContextRecord) -> int:
    return record.retained_bytes if record.state == "ended" else record.live_bytes


def _rows(recording: Recording, top: ContextRecord) -> list[tuple[str, ...]]:
    """A context and everything started under it, each below its parent and indented."""
    children: dict[int, list[ContextRecord]] = {}
    for record in recording.contexts:
        if record.kind != "system":
            children.setdefault(record.parent_id, []).append(record)
    rows = []
    waiting = [(top, 0)]
    while waiting:
        record, depth = waiting.pop()
        rows.append(_row(record, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(record.context_id, []))]
    return rows


def _row(record: ContextRecord, depth: int) -> tuple[str, ...]:
    return (
        "  " * depth + record.name,
        format_bytes(record.peak_bytes),
        format_bytes(_kept_bytes(record)) if record.state == "ended" else "",
        format_bytes(record.live_bytes),
        format_bytes(record.total_bytes),
        format_count(record.allocations),
        format_count(record.foreign_frees),
        format_duration(record.duration_ns),
    )


def _overhead_row(recording: Recording) -> tuple[str, ...]:
    """The bookkeeping itself: part of no context, and not of the root's figures."""
    return ("thag_nb itself", "", "", format_bytes(recording.overhead_bytes), "", "", "", "")


def text_table(rows: list[tuple[str, ...]], columns: tuple[str, ...], left: tuple[int, ...] = (0,)) -> str:
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


def html_table(rows: list[tuple[str, ...]], columns: tuple[str, ...], left: tuple[int, ...] = (0,)) -> str:
    """The same as HTML that looks alike in notebooks that are not trusted."""
    head = "".join(_html_cell("th", column in left, text) for column, text in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(_html_cell("td", column in left, text) for column, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html_cell(tag: str, left: bool, text: str) -> str:
    style = _CELL.format(align="left" if left else "right")
    return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'


def _timeline_picture(recording: Recording, context_id: int | None) -> tuple[bytes, str]:
    from thag_nb import plots  # loads matplotlib, which %load_ext and a terminal do without

    axes = plots.plot_timeline(recording, context_id)
    return plots.figure_png(axes), plots.describe_timeline(recording, context_id)


def with_picture(above: str, png: bytes, alt: str, summary: str | None, below: str) -> Bundle:
    """The alternative text stands in the HTML because notebooks ignore it anywhere else."""
    encoded = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{encoded}" style="max-width: 100%">'
    details = f"<details><summary>{html.escape(summary)}</summary>{below}</details>" if summary else ""
    return {"text/html": f"<div>{above}{image}{details}</div>", "image/png": encoded}
