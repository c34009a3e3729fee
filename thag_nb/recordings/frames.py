"""Recordings as pandas frames, with a column for each field of what they show."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Index, Series, array

from thag_nb.recordings.model import ContextRecord, Difference, Held, LineCost, LineDifference, Recording, SeveralWanted
from thag_nb.recordings.resampling import BUCKET_FIELDS, bucket_rows
from thag_nb.units import visible

_TEXT_COLUMNS = ("name", "kind", "allocator", "state")

CONTEXT_COLUMNS = ContextRecord._fields[1:]  # the first is the index
TIMELINE_COLUMNS = ("time", "context_id", "name", "low_bytes", "high_bytes", "live_bytes", "self_live_bytes")
RETAINED_COLUMNS = Held._fields
COMPARISON_COLUMNS = Difference._fields
LINES_COLUMNS = LineCost._fields[:-1]  # the last is of stacks
LINE_COMPARISON_COLUMNS = LineDifference._fields
_LINE_COMPARISON_TEXTS = ("name", "file", "function", "source", "figure")
_LINES_TEXTS = ("name", "file", "function", "source", "through")


def contexts_frame(recording: Recording) -> DataFrame:
    """What each context cost: one row per context, oldest first, indexed by ``context_id``.

    The columns are `CONTEXT_COLUMNS`, with the meanings and units of `ContextRecord`: text for ``name, kind, allocator,
    state``, int64 for the rest. An empty recording gives no rows and the same types.
    """
    records = recording.contexts
    index = Index(_integers(record.context_id for record in records), name="context_id")
    return DataFrame({column: _context_column(records, column) for column in CONTEXT_COLUMNS}).set_index(index)


def timeline_frame(recording: Recording, wanted: SeveralWanted = None, *, all: bool = False) -> DataFrame:
    """Live bytes over time: one row per context and bucket, the contexts oldest first, each in order of time.

    The columns are `TIMELINE_COLUMNS`: ``time`` is the start of the bucket as timedelta64[ns] since the dispatcher
    started; ``low_bytes, high_bytes, live_bytes`` are the bucket's lowest, highest and last, with everything started
    under the context; ``self_live_bytes`` is its last, without. `wanted` is a name, an id or a context, or a list of
    them: of a name the newest context, or, with `all`, every one. Without it, every context. Raises
    `UnknownContextError`.
    """
    records = recording.choose(wanted, all=all)
    timelines = [bucket_rows(recording, record.context_id) for record in records]
    counts = _integers(len(rows) for rows in timelines)
    # Copied, so that the frame can be written to and each column lies in one piece.
    start_ns, low, high, live, self_live = np.concatenate([_NO_BUCKETS, *timelines]).T.copy()
    columns: dict[str, object] = {
        "time": start_ns.view("timedelta64[ns]"),
        "context_id": np.repeat(_integers(record.context_id for record in records), counts),
        "name": _texts(record.name for record in records).take(np.repeat(np.arange(len(records)), counts)).array,
        "low_bytes": low,
        "high_bytes": high,
        "live_bytes": live,
        "self_live_bytes": self_live,
    }
    return DataFrame(columns, columns=list(TIMELINE_COLUMNS))


def retained_frame(held: Iterable[Held]) -> DataFrame:
    """Who still holds what: one row per context and holder, in the order given.

    The columns are `RETAINED_COLUMNS`, with the meanings of `Held`: int64 for ``context_id, held_bytes, alone_bytes``,
    text for the rest; ``shared_with`` has the names of holders joined by commas. No rows give the same types.
    """
    rows = tuple(held)
    columns: dict[str, object] = {
        column: _texts(getattr(row, column) for row in rows)
        for column in ("name", "holder", "kind", "released_by", "under", "allocated_at")
    }
    numbers = ("context_id", "held_bytes", "alone_bytes")
    columns |= {column: _integers(getattr(row, column) for row in rows) for column in numbers}
    columns["shared_with"] = _texts(", ".join(row.shared_with) for row in rows)
    return DataFrame(columns, columns=list(RETAINED_COLUMNS))


def comparison_frame(rows: Iterable[Difference]) -> DataFrame:
    """What differs between two contexts, or two recordings: one row per name and figure, in the order given.

    The columns are `COMPARISON_COLUMNS`, with the meanings of `Difference`: text for ``name, figure``; Int64, the
    integers of pandas that may be missing, for ``before, after, difference``; float64 for ``ratio``, NaN where there is
    none. No rows give the same types.
    """
    differences = tuple(rows)
    columns: dict[str, object] = {
        column: _texts(getattr(row, column) for row in differences) for column in ("name", "figure")
    }
    for column in ("before", "after", "difference"):
        columns[column] = array([getattr(row, column) for row in differences], dtype="Int64")
    columns["ratio"] = np.array([row.ratio for row in differences], dtype=np.float64)  # None becomes NaN
    return DataFrame(columns, columns=list(COMPARISON_COLUMNS))


def lines_frame(rows: Iterable[LineCost], *, stacks: bool = False) -> DataFrame:
    """What was allocated where: one row each, in the order given.

    The columns are `LINES_COLUMNS`, with the meanings of `LineCost`: text for ``name, file, function, source,
    through``, int64 for the rest. With `stacks`, ``stack`` has tuples of file, line and function, outermost first. No
    rows give the same types.
    """
    costs = tuple(rows)
    columns: dict[str, object] = {
        column: (_texts if column in _LINES_TEXTS else _integers)(getattr(cost, column) for cost in costs)
        for column in LINES_COLUMNS
    }
    if stacks:
        columns["stack"] = Series([cost.stack for cost in costs], dtype=object)
    return DataFrame(columns)


def line_comparison_frame(rows: Iterable[LineDifference]) -> DataFrame:
    """What differs between the lines of two contexts: one row per line and figure, in the order given.

    The columns are `LINE_COMPARISON_COLUMNS`, with the meanings of `LineDifference`: text for ``name, file, function,
    source, figure``; int64 for ``line, before, after, difference``; float64 for ``ratio``, NaN where there is none. No
    rows give the same types.
    """
    differences = tuple(rows)
    columns: dict[str, object] = {
        column: (_texts if column in _LINE_COMPARISON_TEXTS else _integers)(getattr(row, column) for row in differences)
        for column in LINE_COMPARISON_COLUMNS[:-1]
    }
    columns["ratio"] = np.array([row.ratio for row in differences], dtype=np.float64)  # None becomes NaN
    return DataFrame(columns, columns=list(LINE_COMPARISON_COLUMNS))


_NO_BUCKETS = np.empty((0, BUCKET_FIELDS), dtype=np.int64)


def _context_column(records: tuple[ContextRecord, ...], column: str) -> object:
    values = (getattr(record, column) for record in records)
    return _texts(values) if column in _TEXT_COLUMNS else _integers(values)


def _integers(values: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(values, dtype=np.int64)


def _texts(values: Iterable[str]) -> Series[str]:
    # Typed, so that a frame without rows has the types of one with rows. pandas 2 makes this object, pandas 3 str,
    # which takes no text that cannot be encoded, as a variable's name may be.
    return Series(list(map(visible, values)), dtype=str)
