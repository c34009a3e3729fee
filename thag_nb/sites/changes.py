"""What the lines of two contexts cost, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from thag_nb.recordings.model import LineCost, LineDifference, Recording
from thag_nb.sites.rows import lines
from thag_nb.sites.stacks import cells_of
from thag_nb.units import format_bytes

FIGURES = ("peak_bytes", "live_bytes", "total_bytes", "allocations")

_ARROW = " -> "  # between the names of two contexts
_CELL = "the cell"  # whatever it is called: it has another number each time it runs
_NOISE_BYTES = 64 << 10
_NOISE_PART = 0.01  # of the larger: what is less than that apart is the same

_Key = tuple[object, ...]
_Pair = tuple[LineCost | None, LineCost | None]


def changes(before: Recording, before_id: int, after: Recording, after_id: int) -> tuple[LineDifference, ...]:
    """What differs between the lines of two contexts: a row for each of `FIGURES`, first of lines that differ most.

    A line is the same whose text is; of those that are left, whose number is. Raises `NoLinesError`.
    """
    first, second = _Side(before, before_id), _Side(after, after_id)
    name = _ARROW.join(dict.fromkeys((before.find(before_id).name, after.find(after_id).name)))
    pairs = _paired(first, second)
    pairs.sort(key=lambda pair: -abs(_value(pair[1], "peak_bytes") - _value(pair[0], "peak_bytes")))
    return tuple(_difference(name, pair, figure) for pair in pairs for figure in FIGURES)


def in_words(rows: Iterable[LineDifference]) -> tuple[str, ...]:
    """A sentence for each line whose bytes at the peak changed: ``In[5] line 7 fell from 690.0 MiB to 12.0 MiB``.

    Less than 1 % or 64 KiB is no change.
    """
    return tuple(_sentence(row) for row in rows if row.figure == "peak_bytes" and _is_change(row))


# Pairs


class _Side:
    """The lines of one context, with what they are known by, in their order."""

    def __init__(self, recording: Recording, context_id: int) -> None:
        self.rows = sorted(lines(recording, context_id), key=lambda row: (row.file, row.line, row.function))
        self._cells = set(cells_of(recording, context_id).values())

    def by_text(self) -> dict[_Key, LineCost]:
        """Lines by what they say; the second that says the same in one function is another one."""
        known = [row for row in self.rows if row.source or not row.file]
        seen: Counter[_Key] = Counter()
        keyed: dict[_Key, LineCost] = {}
        for row in known:
            key = (self._file(row), row.function, row.source)
            keyed[(*key, seen[key])] = row
            seen[key] += 1
        return keyed

    def by_number(self) -> dict[_Key, LineCost]:
        return {(self._file(row), row.line): row for row in self.rows if row.file}

    def _file(self, row: LineCost) -> str:
        return _CELL if row.file in self._cells else row.file


def _paired(first: _Side, second: _Side) -> list[_Pair]:
    pairs: list[_Pair] = list(_take_pairs(first, second, _Side.by_text))
    pairs += _take_pairs(first, second, _Side.by_number)
    return [*pairs, *((row, None) for row in first.rows), *((None, row) for row in second.rows)]


def _take_pairs(
    first: _Side, second: _Side, keyed: Callable[[_Side], dict[_Key, LineCost]]
) -> Iterator[tuple[LineCost, LineCost]]:
    """The rows of both sides that have a key in common, which are no longer theirs afterwards."""
    before, after = keyed(first), keyed(second)
    for key in [key for key in before if key in after]:
        first.rows.remove(before[key])
        second.rows.remove(after[key])
        yield before[key], after[key]


# Figures


def _value(row: LineCost | None, figure: str) -> int:
    value: int = 0 if row is None else getattr(row, figure)
    return value


def _difference(name: str, pair: _Pair, figure: str) -> LineDifference:
    row = pair[1] or pair[0]
    assert row is not None, "a line is on one side at least"
    before, after = (_value(side, figure) for side in pair)
    ratio = after / before if before else None
    return LineDifference(
        name, row.file, row.line, row.function, row.source, figure, before, after, after - before, ratio
    )


# Words


def _is_change(row: LineDifference) -> bool:
    return abs(row.difference) >= max(_NOISE_BYTES, _NOISE_PART * max(row.before, row.after))


def _sentence(row: LineDifference) -> str:
    where = f"{row.file.rpartition('/')[2]} line {row.line}" if row.file else row.function
    moved = "fell" if row.difference < 0 else "rose"
    return f"{where} {moved} from {format_bytes(row.before)} to {format_bytes(row.after)}"
