"""Two contexts, or all of two recordings, side by side: what differs, by how much, and whether that is better.

Bytes and allocations are exact, so their differences are too. Times are those of one run each, and vary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Literal, NamedTuple

from thag_nb.errors import NothingToCompareError, UnknownContextError
from thag_nb.recordings.model import ContextRecord, Difference, Recording, TimelineBucket, pack_timeline
from thag_nb.units import NAME_LETTERS, cut, format_bytes, format_count, format_duration

Verdict = Literal["better", "worse", "the same", ""]


class Figure(NamedTuple):
    """How a figure is told of: its name, its unit, and the words for less and more of it.

    Two values less than ``noise`` apart, or than this ``part`` of the larger, are called the same. Only if ``judged``,
    less of it is better.
    """

    title: str
    show: Callable[[int], str]
    noise: int
    part: float
    judged: bool
    fewer: str
    as_many: str


_ARROW = " -> "  # between the names of two contexts
_BYTES_NOISE = 64 << 10
_COUNT_NOISE = 100  # IPython's own around a cell
_TIME_NOISE_NS = 1_000_000
# Of a count, IPython and warm caches move some; a time is that of one run, on a machine that does other things as well.
_EXACT, _MOVING, _VARYING = 0.01, 0.05, 0.25

FIGURES = {
    "peak_bytes": Figure("peak", format_bytes, _BYTES_NOISE, _EXACT, True, "less", "as much"),
    "retained_bytes": Figure("kept", format_bytes, _BYTES_NOISE, _EXACT, True, "less", "as much"),
    "total_bytes": Figure("allocated", format_bytes, _BYTES_NOISE, _EXACT, False, "less", "as much"),
    "allocations": Figure("allocations", format_count, _COUNT_NOISE, _MOVING, True, "fewer", "as many"),
    "foreign_frees": Figure("foreign frees", format_count, _COUNT_NOISE, _MOVING, False, "fewer", "as many"),
    "duration_ns": Figure("time of one run", format_duration, _TIME_NOISE_NS, _VARYING, True, "less", "as long"),
}


def compare(
    before: Recording, after: Recording, which_before: str | int | None = None, which_after: str | int | None = None
) -> tuple[Difference, ...]:
    """What differs between two contexts, chosen as by `pair`: one row for each of `FIGURES`.

    With neither chosen, between all tasks and ended cells of two recordings, the newest of each name: first the names
    that are in both, then those of one side only, each with the largest difference of peak first.

    Raises `UnknownContextError`, `NothingToCompareError`.
    """
    if which_before is None:
        return _differences_of_all(before, after)
    return _differences(*pair(before, after, which_before, which_after))


def pair(
    before: Recording, after: Recording, which_before: str | int, which_after: str | int | None = None
) -> tuple[ContextRecord, ContextRecord]:
    """The two contexts of these ids, or the newest of these names, each in its recording.

    Without `which_after`, the newest of the same name; if both recordings are one, `which_before` chooses the later
    context, and the one of its name before it is compared with it.

    Raises `UnknownContextError`, and `NothingToCompareError` if there is only one context.
    """
    same = before is after
    first = _find(before, which_before, "" if same else " in the recording before")
    if which_after is None and same:
        return _one_before(before, first), first
    wanted = first.name if which_after is None else which_after
    second = _find(after, wanted, "" if same else " in the recording after")
    if same and first.context_id == second.context_id:
        raise NothingToCompareError(
            f"{which_before!r} and {which_after!r} are the same context; "
            "leave out the second to compare the two newest of this name"
        )
    return first, second


def chosen(
    before: Recording, after: Recording, which_before: str | int | None = None, which_after: str | int | None = None
) -> tuple[ContextRecord, ContextRecord]:
    """The two contexts of `pair`; with neither chosen, of the name whose peak differs most. Raises what `pair` does."""
    return pair(before, after, _most_different(before, after) if which_before is None else which_before, which_after)


def chosen_with_lines(
    before: Recording, after: Recording, which_before: str | int | None = None, which_after: str | int | None = None
) -> tuple[ContextRecord, ContextRecord]:
    """The same; with neither chosen, of those names whose lines were recorded on both sides."""
    if which_before is not None:
        return pair(before, after, which_before, which_after)
    ids_before, ids_after = ({lines.context_id for lines in side.lines} for side in (before, after))
    for name in _names_in_both(before, after):
        first, second = pair(before, after, name)
        if first.context_id in ids_before and second.context_id in ids_after:
            return first, second
    raise NothingToCompareError("no cell or task whose lines were recorded is in both recordings; name two to compare")


def aligned(
    before: Recording, after: Recording, which_before: str | int | None = None, which_after: str | int | None = None
) -> Recording:
    """Two contexts as a recording of their own, in which both start at the same moment, 0.

    They are chosen as in `compare`; with neither chosen, the name whose peak differs most. Their ids are 1 and 2, their
    kind is task, and nothing is above them; two of one name are called ``load (before)`` and ``load (after)``.

    Raises `UnknownContextError`, `NothingToCompareError`.
    """
    first, second = chosen(before, after, which_before, which_after)
    same, name = first.name == second.name, cut(first.name, NAME_LETTERS - len(" (before)"))
    records = (
        _at_start(first, 1, f"{name} (before)" if same else first.name),
        _at_start(second, 2, f"{name} (after)" if same else second.name),
    )
    timelines = {1: _timeline_at_start(before, first), 2: _timeline_at_start(after, second)}
    return Recording(records, timelines, max(record.duration_ns for record in records), 0, 0)


def verdict(row: Difference) -> Verdict:
    """Whether a figure became better or worse; empty where neither can be said.

    Less than 1 % apart (5 % of a count, 25 % of a time), or less than 64 KiB, 100 allocations or 1 ms, is the same.
    """
    if row.before is None or row.after is None:
        return ""
    figure, apart = FIGURES[row.figure], abs(row.after - row.before)
    if apart < max(figure.noise, figure.part * max(row.before, row.after)):
        return "the same"
    if not figure.judged:
        return ""
    return "better" if row.after < row.before else "worse"


def in_words(rows: Iterable[Difference]) -> tuple[str, ...]:
    """A sentence for each name: what became better or worse, by how much, and what stayed the same."""
    return tuple(_sentence(_brief(name), tuple(of_name)) for name, of_name in groupby(rows, key=lambda row: row.name))


def _brief(name: str) -> str:
    """The name, or both of them, each short enough for the figures to be seen behind it."""
    return _ARROW.join(cut(one, NAME_LETTERS) for one in name.split(_ARROW))


def _sentence(name: str, rows: tuple[Difference, ...]) -> str:
    if rows[0].before is None:
        return f"{name}: only after, peak {format_bytes(rows[0].after or 0)}"
    if rows[0].after is None:
        return f"{name}: only before, peak {format_bytes(rows[0].before)}"
    judged = [row for row in rows if FIGURES[row.figure].judged]
    clauses = [_clause(row) for row in judged if verdict(row) != "the same"]
    same = [FIGURES[row.figure].title for row in judged if verdict(row) == "the same"]
    if same:
        clauses.append(f"{_listed(same)} the same")
    return f"{name}: {'; '.join(clauses)}"


def _listed(words: list[str]) -> str:
    """``peak, kept and allocations``."""
    return " and ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


def _clause(row: Difference) -> str:
    """``peak 812.4 MiB -> 405.1 MiB, 2.0 times less (better)``."""
    figure = FIGURES[row.figure]
    before, after = row.before or 0, row.after or 0
    by = f", {_by_how_much(before, after, figure)}" if before and after else ""
    return f"{figure.title} {figure.show(before)} -> {figure.show(after)}{by} ({verdict(row)})"


def _by_how_much(before: int, after: int, figure: Figure) -> str:
    factor = max(before, after) / min(before, after)
    if factor < 1.95:  # what would be read as 2.0 times is called so
        return f"{abs(after - before) / before:.0%} {figure.fewer if after < before else 'more'}".replace("%", " %")
    times = f"{factor:,.1f}" if factor < 10 else f"{factor:,.0f}"
    return f"{times} times {figure.fewer if after < before else figure.as_many}"


def _differences_of_all(before: Recording, after: Recording) -> tuple[Difference, ...]:
    first, second = _newest(before), _newest(after)
    both = [(record, second[name]) for name, record in first.items() if name in second]
    both.sort(key=lambda records: -abs(records[1].peak_bytes - records[0].peak_bytes))
    alone = [record for name, record in (first | second).items() if name not in first or name not in second]
    alone.sort(key=lambda record: -record.peak_bytes)
    sides = both + [(first.get(record.name), second.get(record.name)) for record in alone]
    return tuple(row for records in sides for row in _differences(*records))


def _newest(recording: Recording) -> dict[str, ContextRecord]:
    """The newest task or cell of each name. A cell that still runs is left out: usually, it is what asks."""
    return {
        record.name: record
        for record in recording.contexts
        if record.kind == "task" or (record.kind == "cell" and record.state == "ended")
    }


def _differences(before: ContextRecord | None, after: ContextRecord | None) -> tuple[Difference, ...]:
    name = _ARROW.join(dict.fromkeys(record.name for record in (before, after) if record is not None))
    return tuple(_difference(name, figure, _value(before, figure), _value(after, figure)) for figure in FIGURES)


def _difference(name: str, figure: str, before: int | None, after: int | None) -> Difference:
    if before is None or after is None:
        return Difference(name, figure, before, after, None, None)
    return Difference(name, figure, before, after, after - before, after / before if before else None)


def _value(record: ContextRecord | None, figure: str) -> int | None:
    if record is None:
        return None
    if figure == "retained_bytes" and record.state == "open":
        return record.live_bytes
    value: int = getattr(record, figure)
    return value


def _find(recording: Recording, wanted: str | int, among: str) -> ContextRecord:
    try:
        return recording.find(wanted)
    except UnknownContextError as error:
        raise UnknownContextError(wanted, error.known, among) from None


def _one_before(recording: Recording, record: ContextRecord) -> ContextRecord:
    earlier = [other for other in recording.find_all(record.name) if other.context_id < record.context_id]
    if not earlier:
        raise NothingToCompareError(
            f"only one {record.name!r} has been recorded; run it again, or name what to compare it with"
        )
    return earlier[-1]


def _most_different(before: Recording, after: Recording) -> str:
    name = next(_names_in_both(before, after), None)
    if name is None:
        raise NothingToCompareError("no cell or task is in both recordings; name two to compare")
    return name


def _names_in_both(before: Recording, after: Recording) -> Iterator[str]:
    """The name whose peak differs most comes first."""
    rows = _differences_of_all(before, after)
    return iter(dict.fromkeys(row.name for row in rows if row.difference is not None))


def _at_start(record: ContextRecord, context_id: int, name: str) -> ContextRecord:
    return record._replace(context_id=context_id, name=name, kind="task", parent_id=0, started_ns=0)


def _timeline_at_start(recording: Recording, record: ContextRecord) -> bytes:
    """The context's buckets, counted from its start, where it had nothing yet."""
    buckets = [
        bucket._replace(start_ns=max(bucket.start_ns - record.started_ns, 0))
        for bucket in recording.timeline(record.context_id)
    ]
    if not buckets or buckets[0].start_ns:
        buckets.insert(0, TimelineBucket(0, 0, 0, 0, 0))
    return pack_timeline(buckets)
