"""Timelines on one clock: what pictures, live views and reports draw, as arrays.

A timeline's buckets start whenever something happened. To be stacked, compared or sent to a browser, they are laid
over columns of equal width, the same for all. The stack is made of self live bytes: they add up, inclusive ones do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thag_nb.recordings.model import ContextRecord, Recording, TimelineBucket, descendants

OTHERS_ID = 0  # what stands for all contexts that have no layer of their own
COLUMNS = 600
MOST_LAYERS = 8

BUCKET_FIELDS = len(TimelineBucket._fields)
_INT64_AS_FLOAT = -(2.0**63), 2.0**63 - 1024  # a damaged recording may hold moments in the year 2262
_START, _LOW, _HIGH, _LIVE, _SELF_LIVE = range(BUCKET_FIELDS)


class Window(NamedTuple):
    """A stretch of time in nanoseconds since the first start, in columns of equal width."""

    start_ns: int
    end_ns: int
    columns: int = COLUMNS

    @property
    def edges_ns(self) -> NDArray[np.int64]:
        """The borders of the columns, shape (columns + 1,)."""
        edges = np.linspace(self.start_ns, max(self.end_ns, self.start_ns + self.columns), self.columns + 1)
        return np.clip(edges, *_INT64_AS_FLOAT).astype(np.int64)


class Layer(NamedTuple):
    """One context's share of a stack: its self live bytes at the end of each column, shape (columns,)."""

    context_id: int
    name: str
    live_bytes: NDArray[np.int64]


class Stack(NamedTuple):
    """The live bytes of a context, divided among itself and what was started under it.

    ``layers`` begin with the context's own bytes, then those started under it, oldest first, and end with one of
    ``context_id`` `OTHERS_ID` for all that have no layer, if there are any. ``high_bytes`` are the highest inclusive
    live bytes within each column, shape (columns,): its maximum is the context's peak.
    """

    window: Window
    layers: tuple[Layer, ...]
    high_bytes: NDArray[np.int64]


def bucket_rows(recording: Recording, context_id: int) -> NDArray[np.int64]:
    """The context's buckets as int64 rows in the order of `TimelineBucket`, shape (buckets, 5). Not writable."""
    return np.frombuffer(recording.timelines[context_id], dtype=np.int64).reshape(-1, BUCKET_FIELDS)


def stack(recording: Recording, top: ContextRecord, *, most: int = MOST_LAYERS, window: Window | None = None) -> Stack:
    """The live bytes of `top`, with a layer for each of `most` contexts under it.

    Half of them are those that hold most now, the others those of highest self peak.

    Without a `window`, from the start of `top` to its end, or to the last moment of the recording while it is open.
    """
    window = window or window_of(recording, top)
    edges = window.edges_ns
    below = descendants(recording, top.context_id)
    holding = sorted(below, key=lambda record: record.self_live_bytes, reverse=True)[: most // 2]
    highest = sorted(below, key=lambda record: (record in holding, record.self_peak_bytes), reverse=True)
    selected = [top, *sorted(highest[:most], key=lambda record: record.context_id)]
    layers = [Layer(record.context_id, record.name, _last(recording, record, edges, _SELF_LIVE)) for record in selected]
    if len(selected) <= len(below):
        layers.append(Layer(OTHERS_ID, "others", _others(recording, top, layers, edges)))
    return Stack(window, tuple(layers), highs(recording, top, window))


def window_of(recording: Recording, record: ContextRecord) -> Window:
    """From the start of a context to its end, or to the last moment of the recording while it is open."""
    end_ns = record.started_ns + record.duration_ns if record.state == "ended" else recording.taken_ns
    return Window(record.started_ns, end_ns)


def peak_ns(recording: Recording, record: ContextRecord) -> int:
    """When the live bytes of a context were highest: the start of that bucket, or of the context if it has none.

    It may come after the context's end, as what was started under it may outlive it.
    """
    rows = bucket_rows(recording, record.context_id)
    return int(rows[rows[:, _HIGH].argmax(), _START]) if len(rows) else record.started_ns


def highs(recording: Recording, record: ContextRecord, window: Window) -> NDArray[np.int64]:
    """The highest inclusive live bytes in each column, shape (columns,). No spike is lost, however short."""
    edges = window.edges_ns
    live = _last(recording, record, edges, _LIVE)
    at_begin = np.concatenate([_before(recording, record, edges[:1], _LIVE), live[:-1]])  # from the column before
    high = np.maximum(live, at_begin)
    rows = bucket_rows(recording, record.context_id)
    column = np.searchsorted(edges, rows[:, _START], side="right") - 1
    column[rows[:, _START] == edges[-1]] = window.columns - 1
    inside = (column >= 0) & (column < window.columns)
    np.maximum.at(high, column[inside], rows[inside, _HIGH])
    return np.asarray(high, np.int64)


def lives(recording: Recording, record: ContextRecord, window: Window) -> NDArray[np.int64]:
    """The inclusive live bytes at the end of each column, shape (columns,)."""
    return _last(recording, record, window.edges_ns, _LIVE)


def _others(
    recording: Recording, top: ContextRecord, layers: Sequence[Layer], edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What the contexts without a layer hold: the rest of the inclusive live bytes.

    Buckets of different contexts end at different moments, so within one the rest could be less than nothing.
    """
    in_layers = np.sum([layer.live_bytes for layer in layers], axis=0, dtype=np.int64)
    return np.asarray(np.maximum(_last(recording, top, edges, _LIVE) - in_layers, 0), np.int64)


def _last(recording: Recording, record: ContextRecord, edges: NDArray[np.int64], field: int) -> NDArray[np.int64]:
    """A field of the last bucket that started in each column or before it. The last edge belongs to its column."""
    ends = edges[1:].copy()
    ends[-1] += 1
    return _before(recording, record, ends, field)


def _before(recording: Recording, record: ContextRecord, moments: NDArray[np.int64], field: int) -> NDArray[np.int64]:
    """A field of the last bucket that started before each moment; 0 before the first."""
    rows = bucket_rows(recording, record.context_id)
    values = np.concatenate([np.zeros(1, np.int64), rows[:, field]])
    return np.asarray(values[np.searchsorted(rows[:, _START], moments)], np.int64)
