"""What is shown of lines below a cell: its own source, with three figures and a bar for each beside every line."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from thag_nb.mimebundle import Bundle, output, text_table
from thag_nb.palette import ROOT, styles
from thag_nb.recordings.model import ContextRecord, LinesOf, Recording, work_names
from thag_nb.sites.annotated import Figures, Row, Sources, added, annotated
from thag_nb.sites.peak import lines_of, peak_of, words_of_peak
from thag_nb.sites.stacks import function_around
from thag_nb.units import cut, format_bytes, visible

_NAME_LETTERS = 60
_TEXT_LETTERS = 72  # of a line of source where it cannot be broken
_NAMED = 2  # functions of libraries beside one line
_UNFOLDED = 6  # ways through them below it
_TAB = 4
_GAP = "⋮"
_MARK = "← {}"

_TABLE = "border-collapse: collapse; border-spacing: 0; margin: 0"
_CELL = "padding: 1px 8px; vertical-align: top; border: none; text-align: "
_FIGURE = _CELL + "right; white-space: nowrap; min-width: 72px"
_NUMBER = _CELL + "right; opacity: 0.6"
_TEXT = _CELL + "left"
_SOURCE = "white-space: pre-wrap; overflow-wrap: anywhere; background: none; padding: 0"
_BAR = "height: 3px; margin-top: 1px; width: {share:.1f}%; background-color: {colour}"
_NOTE = "font-size: 90%; opacity: 0.8"


def lines_bundle(recording: Recording, context_id: int, sources: Sources) -> Bundle:
    """The source of a context's cell with what each line cost beside it, and all else that adds up to the context.

    The text of what is not among the sources is read. Raises `UnknownContextError`.
    """
    record = recording.find(context_id)
    lines = lines_of(recording, context_id)
    if lines is None:
        return {"text/plain": f"{cut(record.name, _NAME_LETTERS)} · its lines were not recorded"}
    rows = annotated(recording, record, sources)
    columns = _columns(record, lines)
    notes = _notes(recording, lines)
    colour = styles(work_names(recording)).get(record.name, ROOT).line
    below = "".join(f'<div style="{_NOTE}">{html.escape(note)}</div>' for note in notes)
    return {
        "text/plain": "\n".join([_text(rows, columns), *notes]),
        "text/html": output(_html(rows, columns, colour) + below),
    }


def _columns(record: ContextRecord, lines: LinesOf) -> dict[str, int]:
    """Which figures are shown, by what they are called: their places in `Figures`."""
    live, kept = map(format_bytes, (record.live_bytes, record.retained_bytes))
    is_as_kept = record.state == "ended" and live == kept
    columns = {"at peak": 0, "kept" if is_as_kept else "live now": 1, "allocated": 2}
    if not lines.is_explained:
        del columns["at peak"]
    return columns


def _notes(recording: Recording, lines: LinesOf) -> list[str]:
    notes = []
    peak = peak_of(recording, lines.context_id)
    if peak is not None:
        words = words_of_peak(recording, lines.context_id, peak)
        inside = "" if peak.is_most else _function_inside(recording, lines.peak_site)
        notes.append(f"{words[0].upper()}{words[1:]}{inside}.")
    if not lines.is_explained:
        notes.append(
            "What made up the peak is not known: too many contexts around this one record their lines as well."
        )
    return [
        *notes,
        "A line has what it allocated itself or through libraries; your own functions have lines of their own.",
    ]


def _function_inside(recording: Recording, site: int) -> str:
    """The innermost function of a site, of whoever it is."""
    function = function_around(recording.sites[site].function)
    return "" if function == "<module>" else f", in {function}"


def _text(rows: Sequence[Row], columns: dict[str, int]) -> str:
    table = [[*_figures(row.figures, columns), str(row.number or ""), _text_of(row)] for row in rows]
    text_column = len(columns) + 1
    return text_table(table, [*columns, "line", ""], left=(text_column,))


def _text_of(row: Row) -> str:
    if row.kind == "gap":
        return _GAP
    words = [cut(_source(row.text), _TEXT_LETTERS)] if row.kind == "line" else [row.text]
    through = _names(way.through for way, _ in row.ways)
    words += [f"(through {through})"] if through else []
    words += [f"→ {_names(row.calls)}"] if row.calls else []
    return "  ".join([*words, *([_MARK.format(row.mark)] if row.mark else [])])


def _source(text: str) -> str:
    """A line of source as it stands, in one line that can be shown."""
    return visible(text.expandtabs(_TAB))


def _names(several: Iterable[str]) -> str:
    """``merge, read_csv and 2 others``; nothing for those that are empty."""
    names = list(dict.fromkeys(filter(None, several)))
    more = len(names) - _NAMED
    if more <= 0:
        return " and ".join(names)
    return f"{', '.join(names[:_NAMED])} and {more:,} {'others' if more > 1 else 'other'}"


def _figures(figures: Figures, columns: dict[str, int]) -> list[str]:
    return [format_bytes(figures[place]) if figures[place] else "" for place in columns.values()]


def _html(rows: Sequence[Row], columns: dict[str, int], colour: str) -> str:
    whole = rows[-1].figures
    head = "".join(f'<th style="{_FIGURE}">{column}</th>' for column in columns)
    head += f'<th style="{_NUMBER}"></th><th style="{_TEXT}"></th>'
    body = "".join(f"<tr>{_html_row(row, columns, whole, colour)}</tr>" for row in rows)
    table = f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div style="overflow: auto; max-height: 640px">{table}</div>'


def _html_row(row: Row, columns: dict[str, int], whole: Figures, colour: str) -> str:
    figures = (
        f'<td style="{_FIGURE}">{text}{_bar(row, place, whole, colour)}</td>'
        for text, place in zip(_figures(row.figures, columns), columns.values(), strict=True)
    )
    number = f'<td style="{_NUMBER}">{row.number or ""}</td>'
    return "".join([*figures, number, f'<td style="{_TEXT}">{_html_text(row, columns)}</td>'])


def _bar(row: Row, place: int, whole: Figures, colour: str) -> str:
    if row.kind == "whole" or row.figures[place] <= 0:
        return ""
    return f'<div style="{_BAR.format(share=100 * row.figures[place] / whole[place], colour=colour)}"></div>'


def _html_text(row: Row, columns: dict[str, int]) -> str:
    if row.kind == "gap":
        return _GAP
    if row.kind != "line":
        text = html.escape(visible(row.text))
        return text if row.kind == "rest" else f"<b>{text}</b>"
    code = f'<code style="{_SOURCE}">{html.escape(_source(row.text))}</code>'
    calls = f' <span style="{_NOTE}">→ {html.escape(visible(_names(row.calls)))}</span>' if row.calls else ""
    mark = f" <b>{_MARK.format(row.mark)}</b>" if row.mark else ""
    return f"{code}{calls}{mark}{_unfolded(row, columns)}"


def _unfolded(row: Row, columns: dict[str, int]) -> str:
    """The functions of libraries that a line called, and behind them where these allocated."""
    ways = [(way, figures) for way, figures in row.ways if way.through]
    if not ways:
        return ""
    told = [f"{way.through} → {way.innermost}: {_in_words(figures, columns)}" for way, figures in ways[:_UNFOLDED]]
    if rest := ways[_UNFOLDED:]:
        told.append(f"{len(rest):,} more: {_in_words(added(figures for _, figures in rest), columns)}")
    below = "".join(f"<div>{html.escape(visible(text))}</div>" for text in told)
    named = html.escape(visible(_names(way.through for way, _ in ways)))
    return f'<details style="{_NOTE}"><summary>through <code>{named}</code></summary>{below}</details>'


def _in_words(figures: Figures, columns: dict[str, int]) -> str:
    return ", ".join(f"{format_bytes(figures[place])} {column}" for column, place in columns.items())
