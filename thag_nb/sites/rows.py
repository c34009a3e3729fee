"""What call sites allocated, folded into rows: by line, cell, function, file or stack.

Sums are exact: the rows of a context add up to its figures, as what its sites do not explain is a row as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from operator import itemgetter
from typing import Literal, NamedTuple

from thag_nb.errors import ChoiceError, NoLinesError
from thag_nb.recordings.model import (
    NO_FRAME,
    NOT_TOLD_APART,
    SMALLER,
    ContextRecord,
    LineCost,
    LinesOf,
    Recording,
    Wanted,
    descendants,
)
from thag_nb.recordings.own_code import source_of
from thag_nb.sites.stacks import (
    Frame,
    OwnFrames,
    Stack,
    Stacks,
    cells_of,
    function_around,
    innermost_own,
    names_of_files,
    outermost_own,
)
from thag_nb.units import format_bytes

By = Literal["line", "cell", "function", "file", "stack"]
BY = ("line", "cell", "function", "file", "stack")
SEVERAL = "..."

_BEFORE = (
    NOT_TOLD_APART - 1
)  # no site at all: before, without the GIL by who is not known, or of a site that was forgotten


class Figures(NamedTuple):
    """Bytes live at the context's peak, live and allocated, and how many allocations and frees."""

    peak_bytes: int
    live_bytes: int
    total_bytes: int
    allocations: int
    frees: int


class Place(NamedTuple):
    """Where a call site is told of: a frame of its stack, and what of a library was called from there.

    The stack only where sites are told apart by it.
    """

    frame: Frame
    through: str
    stack: Stack


_Charge = tuple[Place, Figures]
_NOTHING = Figures(0, 0, 0, 0, 0)


def lines(recording: Recording, wanted: Wanted, by: By = "line") -> tuple[LineCost, ...]:
    """What a context, with everything below it, allocated where: those of most bytes at its peak first, then in all.

    Raises `UnknownContextError`, `NoLinesError` if its lines were not recorded, and `ChoiceError` if `by` is unknown.
    """
    if by not in BY:
        raise ChoiceError("by", by, BY)
    rows = unsorted_lines(recording, recording.find(wanted), by)
    return tuple(
        sorted(rows, key=lambda row: (-row.peak_bytes, -row.total_bytes, row.file, row.line, row.function, row.stack))
    )


def unsorted_lines(recording: Recording, record: ContextRecord, by: By) -> Iterator[LineCost]:
    """What `lines` gives, in no order."""
    known = _lines_of(recording, record)
    place_of = places(recording, known.context_id, by)
    folded: dict[object, list[_Charge]] = {}
    for site, figures in _charged(recording, record, known).items():
        place = place_of(site)
        folded.setdefault(site if site < 0 else _key(place, by), []).append((place, figures))
    return _rows(recording, record, folded.values(), by)


def _lines_of(recording: Recording, record: ContextRecord) -> LinesOf:
    known = next((lines for lines in recording.lines if lines.context_id == record.context_id), None)
    if known is None:
        raise NoLinesError(record.name, is_task=record.kind == "task")
    return known


# Figures


def _charged(recording: Recording, record: ContextRecord, known: LinesOf) -> dict[int, Figures]:
    """What was charged at each site, to the context and those below it, and what is left of the context's figures."""
    ids = _with_below(recording, record.context_id)
    sums: dict[int, Figures] = {}
    for row in recording.site_figures:
        if row.context_id in ids:
            peak_bytes = dict(row.at_peaks).get(record.context_id, 0)
            figures = Figures(peak_bytes, row.live_bytes, row.total_bytes, row.allocations, row.frees)
            sums[row.site] = _sum((sums[row.site], figures)) if row.site in sums else figures
    whole = Figures(*(getattr(record, figure) for figure in Figures._fields))
    left = Figures(*(all_ - part for all_, part in zip(whole, _sum(sums.values()), strict=True)))
    if not known.is_explained:
        sums[NOT_TOLD_APART] = _sum((sums.get(NOT_TOLD_APART, _NOTHING), _NOTHING._replace(peak_bytes=left.peak_bytes)))
        left = left._replace(peak_bytes=0)
    return {site: figures for site, figures in (sums | {_BEFORE: left}).items() if any(figures)}


def _with_below(recording: Recording, context_id: int) -> set[int]:
    return {context_id, *(below.context_id for below in descendants(recording, context_id))}


def _sum(several: Iterable[Figures]) -> Figures:
    return Figures(*map(sum, zip(*several, strict=True))) if (several := tuple(several)) else _NOTHING


# Places


def places(recording: Recording, context_id: int, by: By) -> Callable[[int], Place]:
    """What tells the place of a site: its frame that counts, or in words what has none."""
    cells = cells_of(recording, context_id)
    stacks = Stacks(recording.sites, cells)
    own = OwnFrames(stacks, cells, outermost_own if by == "cell" else innermost_own)
    ids = _with_below(recording, context_id)
    smaller = max(lines.least_bytes for lines in recording.lines if lines.context_id in ids)
    words = {
        NO_FRAME: "where no Python ran",
        SMALLER: f"smaller than {format_bytes(smaller)}",
        NOT_TOLD_APART: "not told apart",
        _BEFORE: "not known where",
    }

    def place_of(site: int) -> Place:
        if site < 0:
            return Place(Frame("", 0, words[site]), "", ())
        (file, line, function, _), through, _ = own.of(site)
        return Place(Frame(file, line, function_around(function)), through, stacks.of(site) if by == "stack" else ())

    return place_of


def _key(place: Place, by: By) -> object:
    """What sites of one row have in common."""
    file, line, function, _ = place.frame
    return {"line": (file, line), "cell": (file, line), "function": (file, function), "file": file}.get(by, place.stack)


# Rows


def _rows(recording: Recording, record: ContextRecord, folded: Iterable[list[_Charge]], by: By) -> Iterator[LineCost]:
    names = names_of_files(recording, record.context_id)
    source = cache(source_of(recording))
    shown = cache(lambda frame: (names.get(frame.file, frame.file), frame.line, frame.function))
    has_line, has_stack = by in ("line", "cell", "stack"), by == "stack"
    for charges in folded:
        largest, _ = max(charges, key=itemgetter(1))
        file, line, function, _ = largest.frame
        yield LineCost(
            record.context_id,
            record.name,
            names.get(file, file),
            line if has_line else 0,
            "" if by == "file" and file else function,
            source(file, line).strip() if has_line else "",
            _through_most_of(charges),
            *(charges[0][1] if len(charges) == 1 else _sum(figures for _, figures in charges)),
            tuple(map(shown, largest.stack)) if has_stack else (),
        )


def _through_most_of(charges: list[_Charge]) -> str:
    """The one function of a library that at least a hundredth of the row was allocated through, as `one_of` has it."""
    if len(charges) == 1:
        return charges[0][0].through
    whole_bytes = sum(figures.total_bytes for _, figures in charges)
    return one_of({place.through for place, figures in charges if figures.total_bytes * 100 >= whole_bytes})


def one_of(functions: set[str]) -> str:
    """The one function among these, `SEVERAL` if there are more, and nothing if there is none."""
    several = sorted(functions - {""})
    return several[0] if len(several) == 1 else SEVERAL if several else ""
