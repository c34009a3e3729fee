"""What each cell and task cost, as the rows of a table: nested, and few enough to be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from thag_nb.recordings.model import ContextRecord, Recording

MOST_ROWS = 200
_MOST_ALIKE = 4  # of one name under one parent that have a row each


class Cost(NamedTuple):
    """One row: a context, or several of one name under one parent. From ``name`` on, it is as the table has it.

    ``context_id`` is that of the first of them, and ``parent_id`` that of the row above.
    Sizes are bytes, as in `ContextRecord`. ``kept_bytes`` is what was live when the context ended, None while it is
    open. For several contexts, peaks are the highest of any of them, ``duration_ns`` goes from the first start to the
    last end, and everything else is added up.
    """

    context_id: int
    parent_id: int
    depth: int
    contexts: int
    name: str
    peak_bytes: int
    self_peak_bytes: int
    kept_bytes: int | None
    live_bytes: int
    self_live_bytes: int
    total_bytes: int
    self_total_bytes: int
    allocations: int
    foreign_frees: int
    duration_ns: int


class Costs(NamedTuple):
    """The rows, each below its parent, and how many contexts have none."""

    rows: tuple[Cost, ...]
    left_out: int


def costs(recording: Recording, top: ContextRecord, *, most: int = MOST_ROWS) -> Costs:
    """A context and everything started under it.

    More than 4 of one name under one parent become one row. Of more than `most` rows, those directly under `top` are
    kept first, then those of highest peak and what they are nested in.
    """
    rows = _nested(recording, top)
    selected = _highest(rows, most)
    return Costs(tuple(selected), sum(row.contexts for row in rows) - sum(row.contexts for row in selected))


def _nested(recording: Recording, top: ContextRecord) -> list[Cost]:
    children: dict[int, list[ContextRecord]] = {}
    for record in recording.contexts:
        if record.kind != "system" and record.parent_id < record.context_id:  # else it may be its own ancestor
            children.setdefault(record.parent_id, []).append(record)
    rows = []
    waiting = [([top], 0, top.parent_id)]
    while waiting:
        alike, depth, parent_id = waiting.pop()
        rows.append(_cost(alike, depth, parent_id))
        below = [record for parent in alike for record in children.get(parent.context_id, [])]
        waiting += [(group, depth + 1, alike[0].context_id) for group in reversed(_groups(below))]
    return rows


def _groups(records: Iterable[ContextRecord]) -> list[list[ContextRecord]]:
    """Records that share a row, in the order of their first."""
    by_name: dict[str, list[ContextRecord]] = {}
    for record in records:
        by_name.setdefault(record.name, []).append(record)
    groups = []
    for alike in by_name.values():
        groups += [alike] if len(alike) > _MOST_ALIKE else [[record] for record in alike]
    return sorted(groups, key=lambda group: group[0].context_id)


def _cost(alike: list[ContextRecord], depth: int, parent_id: int) -> Cost:
    first = alike[0]
    ended = all(record.state == "ended" for record in alike)
    end_ns = max(record.started_ns + record.duration_ns for record in alike)
    return Cost(
        context_id=first.context_id,
        parent_id=parent_id,
        depth=depth,
        contexts=len(alike),
        name=first.name if len(alike) == 1 else f"{first.name} ×{len(alike):,}",
        peak_bytes=max(record.peak_bytes for record in alike),
        self_peak_bytes=max(record.self_peak_bytes for record in alike),
        kept_bytes=sum(record.retained_bytes for record in alike) if ended else None,
        live_bytes=sum(record.live_bytes for record in alike),
        self_live_bytes=sum(record.self_live_bytes for record in alike),
        total_bytes=sum(record.total_bytes for record in alike),
        self_total_bytes=sum(record.self_total_bytes for record in alike),
        allocations=sum(record.allocations for record in alike),
        foreign_frees=sum(record.foreign_frees for record in alike),
        duration_ns=end_ns - min(record.started_ns for record in alike),
    )


def _highest(rows: list[Cost], most: int) -> list[Cost]:
    if len(rows) <= most:
        return rows
    above: list[Cost] = []  # the rows that the next one is nested in
    parents: dict[int, list[Cost]] = {}
    for row in rows:
        del above[row.depth :]
        parents[row.context_id] = above[:]
        above.append(row)
    selected: set[int] = set()
    # What stands directly under the top comes first: of a cell with many tasks the tasks go, and not other cells.
    for row in sorted(rows, key=lambda row: (row.depth > 1, -row.peak_bytes)):
        wanted = {row.context_id, *(parent.context_id for parent in parents[row.context_id])}
        if len(selected | wanted) > most:
            break
        selected |= wanted
    return [row for row in rows if row.context_id in selected]
