"""What is shown of a comparison below a cell: sentences, curves and a table, as text and HTML that survives saving."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby

from thag_nb.comparison.differences import FIGURES, compare, in_words, verdict
from thag_nb.mimebundle import Bundle, Picture, html_table, output, text_table, with_picture
from thag_nb.plotting import pictures
from thag_nb.recordings.model import Difference, Recording

_COLUMNS = ("context", "figure", "before", "after", "difference", "ratio", "")
_LEFT = (0, 1, 6)
_NAMES = 10  # that are shown, those whose peak differs most
_CAVEAT = (
    "Bytes and counts are exact; the time is that of one run, and varies. "
    "The same is what is less than 1 % apart (5 % of a count, 25 % of a time), or than 64 KiB, 100 allocations or 1 ms."
)

_OfName = tuple[Difference, ...]


def comparison_bundle(rows: tuple[Difference, ...], aligned: Recording | None, of_lines: Sequence[str] = ()) -> Bundle:
    """What differs, in words and as a table, and with `aligned` as a picture of its two contexts.

    After the words come `of_lines`, sentences of what changed in their lines. Of one name every figure is shown, of
    several only those that differ, and no more than 10 names.
    """
    names = [tuple(of_name) for _, of_name in groupby(rows, key=lambda row: row.name)]
    different = names if len(names) == 1 else list(filter(_differs, names))
    selected = different[:_NAMES]
    words = [*in_words(row for of_name in selected for row in of_name), *of_lines, *_notes(names, different)]
    table = [line for of_name in selected for line in _lines(of_name, every=len(names) == 1)]
    picture = None if aligned is None else _curves(aligned)
    problem = [picture.problem] if picture is not None and picture.problem else []
    text = [*words, *problem, *(["", text_table(table, _COLUMNS, _LEFT), _CAVEAT] if table else [])]
    above = "".join(f"<div>{html.escape(sentence)}</div>" for sentence in words)
    caveat = f'<div style="font-size: 90%; opacity: 0.8">{_CAVEAT}</div>'
    below = html_table(table, _COLUMNS, _LEFT) + caveat if table else ""
    page = output(above + below)
    shown = {"text/html": page} if picture is None else with_picture(above, picture, None, below)
    return {"text/plain": "\n".join(text), **shown}


def _differs(of_name: _OfName) -> bool:
    return any(verdict(row) != "the same" for row in of_name)


def _notes(names: list[_OfName], different: list[_OfName]) -> list[str]:
    if not names:
        return ["There is no cell or task to compare."]
    notes = []
    if len(different) > _NAMES:
        notes.append(f"... and {len(different) - _NAMES:,} more; thag_nb.compare() has them all")
    if len(names) > len(different):
        notes.append(f"the same in everything: {len(names) - len(different):,} of {len(names):,} names")
    return notes


def _lines(of_name: _OfName, *, every: bool) -> list[tuple[str, ...]]:
    """The rows of one name that matter, its name on the first; the peak stands for a context without a counterpart."""
    if of_name[0].difference is None:
        selected = of_name[:1]
    else:
        selected = tuple(row for row in of_name if (every and (row.before or row.after)) or verdict(row) != "the same")
    return [("" if index else row.name, *_cells(row)) for index, row in enumerate(selected)]


def _cells(row: Difference) -> tuple[str, ...]:
    show = FIGURES[row.figure].show
    before, after = ("" if value is None else show(value) for value in (row.before, row.after))
    difference = "" if row.difference is None else _signed(row.difference, show(abs(row.difference)))
    outcome = verdict(row)
    ratio = "" if outcome == "the same" else _ratio(row.ratio)  # 5 of 28 is 0.18, and yet nothing to speak of
    return FIGURES[row.figure].title, before, after, difference, ratio, outcome


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return "<0.01" if 0 < ratio < 0.005 else f"{ratio:,.2f}"


def _signed(difference: int, size: str) -> str:
    sign = "+" if difference > 0 else "-" if difference < 0 else ""
    return f"{sign}{size}"


def _curves(aligned: Recording) -> Picture:
    first, second = aligned.contexts
    (sentence,) = in_words(compare(aligned, aligned, first.context_id, second.context_id))
    return pictures.comparison(
        aligned, f"Live bytes of {first.name} and {second.name}, both from their start. {sentence}."
    )
