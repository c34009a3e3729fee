"""The annotated cell as rows: its own source with what each line cost, and the lines elsewhere that it came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from thag_nb.recordings.model import ContextRecord, LineCost, Recording
from thag_nb.recordings.own_code import is_library, source_of
from thag_nb.sites.peak import LITTLE, lines_of, peak_of, short_file
from thag_nb.sites.rows import unsorted_lines
from thag_nb.sites.stacks import cells_of, names_of_files

_NEIGHBOURS = 1  # lines above and below one that counts, where not all are shown
_WHOLE_LINES = 120  # of a cell that is shown as a whole

Sources: TypeAlias = Mapping[str, Sequence[str]]  # the lines of cells as they were typed, by names such as ``In[3]``


class Figures(NamedTuple):
    """What was live at the peak of the context, what is live, and all that was allocated."""

    peak_bytes: int
    live_bytes: int
    total_bytes: int


NOTHING = Figures(0, 0, 0)


class Way(NamedTuple):
    """How a line came to allocate: through which function of a library, and where in the end. Both empty for itself."""

    through: str
    innermost: str


class Row(NamedTuple):
    """A line of source, what has no line, the sum of all, or only a heading or a gap between lines.

    Of `figures`, those of 0 are not shown. `ways` are those of a line that count, the largest first; `calls` the
    functions elsewhere that it called and that have lines which count.
    """

    kind: Literal["line", "heading", "gap", "rest", "whole"]
    text: str
    number: int = 0
    figures: Figures = NOTHING
    ways: tuple[tuple[Way, Figures], ...] = ()
    calls: tuple[str, ...] = ()
    mark: Literal["", "peak", "most at peak"] = ""


class _Block(NamedTuple):
    """A cell or file, or a function in one."""

    file: str
    function: str


_Part = TypeVar("_Part")
_Lines = dict[int, dict[Way, Figures]]


def added(several: Iterable[Figures]) -> Figures:
    """The sums of each figure."""
    return Figures(*map(sum, zip(NOTHING, *several, strict=True)))


def annotated(recording: Recording, record: ContextRecord, sources: Sources) -> list[Row]:
    """The cell of a context whose lines are recorded, then functions elsewhere, then what has no line, then the whole.

    In each column, what is above the last row adds up to that row: it is what the context cost. The text of what
    is not among the sources is read.
    """
    return _Annotated(recording, record, sources).rows()


def _most_of(ways: dict[Way, Figures]) -> dict[Way, Figures]:
    """Those of at least a hundredth of what the line allocated."""
    whole_bytes = sum(figures.total_bytes for figures in ways.values())
    return {way: figures for way, figures in ways.items() if figures.total_bytes * LITTLE >= whole_bytes}


class _Annotated:
    def __init__(self, recording: Recording, record: ContextRecord, sources: Sources) -> None:
        self._own_cells = list(dict.fromkeys(cells_of(recording, record.context_id).values()))
        names = names_of_files(recording, record.context_id)
        self._files = {name: file for file, name in names.items()}
        hidden = (site for site in recording.sites if site.is_hidden)
        self._hidden = {(names.get(site.file, site.file), site.function) for site in hidden}
        self._sources = sources
        self._text_of_file = source_of(recording)
        known = lines_of(recording, record.context_id)
        self._is_explained = known is not None and known.is_explained
        self._whole = self._figures(record.peak_bytes, record.live_bytes, record.total_bytes)
        peak = peak_of(recording, record.context_id)
        self._mark: Literal["peak", "most at peak"] = "most at peak" if peak and peak.is_most else "peak"
        self._peak = (
            [(self._block(peak.frame.file, peak.frame.function), peak.frame.line)]
            if peak is not None and not is_library(peak.frame.file)
            else []
        )
        blocks = [*(_Block(cell, "") for cell in self._own_cells), *(block for block, _ in self._peak)]
        self._blocks: dict[_Block, _Lines] = {block: {} for block in blocks}
        self._calls: dict[int, dict[str, Figures]] = {}  # from lines of the context's own cell to other blocks
        self._without_line: dict[str, Figures] = {}
        for cost in unsorted_lines(recording, record, by="stack"):
            self._add(cost)

    def _add(self, cost: LineCost) -> None:
        figures = self._figures(cost.peak_bytes, cost.live_bytes, cost.total_bytes)
        if not cost.stack or is_library(cost.file):
            words = "around your code" if cost.stack else cost.function
            self._without_line[words] = added([self._without_line.get(words, NOTHING), figures])
            return
        file, line, function = cost.stack[-1]
        way = Way(cost.through, f"{function}, {short_file(file)} line {line}" if cost.through else "")
        ways = self._blocks.setdefault(self._block(cost.file, cost.function), {}).setdefault(cost.line, {})
        ways[way] = added([ways.get(way, NOTHING), figures])
        if cost.file in self._own_cells:
            return
        shown = ((file, line) for file, line, function in cost.stack if (file, function) not in self._hidden)
        callers = [line for file, line in shown if file in self._own_cells]
        if callers:
            calls = self._calls.setdefault(callers[-1], {})
            calls[cost.function] = added([calls.get(cost.function, NOTHING), figures])

    def _figures(self, peak_bytes: int, live_bytes: int, total_bytes: int) -> Figures:
        """Without those of a peak of which it is not known what made it up."""
        return Figures(peak_bytes if self._is_explained else 0, live_bytes, total_bytes)

    def _block(self, file: str, function: str) -> _Block:
        is_shown_whole = file in self._own_cells or function == "<module>"
        return _Block(file, "" if is_shown_whole else function)

    def rows(self) -> list[Row]:
        sums = {block: added(added(ways.values()) for ways in lines.values()) for block, lines in self._blocks.items()}
        largest_first = sorted(sums, key=lambda block: (block.file in self._own_cells, sums[block]), reverse=True)
        rows = [row for block in largest_first for row in self._block_rows(block)]
        rests = (Row("rest", words, figures=self._counting(figures)) for words, figures in self._without_line.items())
        rows += sorted((row for row in rests if any(row.figures)), key=lambda row: row.figures, reverse=True)
        shown = added(row.figures for row in rows)
        rest = Figures(*(whole - part for whole, part in zip(self._whole, shown, strict=True)))
        if any(rest):
            rows.append(Row("rest", f"less than {1 / LITTLE:.0%} each", figures=rest))
        return [*rows, Row("whole", "together", figures=self._whole)]

    def _block_rows(self, block: _Block) -> Iterator[Row]:
        lines = self._blocks[block]
        counting = {number for number, ways in lines.items() if any(self._counting(added(ways.values())))}
        counting |= {number for where, number in self._peak if where == block}
        source_lines = len(self._sources.get(block.file, ())) if block.file in self._own_cells else 0
        if not counting and not source_lines:
            return
        yield Row("heading", f"{block.function}, in {block.file}" if block.function else block.file)
        before = 0
        for number in self._numbers(block.file, counting, source_lines):
            if before and number > before + 1:
                yield Row("gap", "")
            before = number
            yield self._line_row(block, number)

    def _line_row(self, block: _Block, number: int) -> Row:
        ways = self._blocks[block].get(number, {})
        calls = self._calls.get(number, {}) if block.file in self._own_cells else {}
        return Row(
            "line",
            self._text(block.file, number),
            number,
            self._counting(added(ways.values())),
            self._largest(_most_of(ways)),
            tuple(name for name, _ in self._largest(calls)),
            self._mark if (block, number) in self._peak else "",
        )

    def _numbers(self, file: str, counting: set[int], source_lines: int) -> list[int]:
        """The lines of a block that are shown."""
        if 0 < source_lines <= _WHOLE_LINES:
            return list(range(1, max(source_lines, *counting, 0) + 1))
        near = range(-_NEIGHBOURS, _NEIGHBOURS + 1)
        around = {number + offset for number in counting for offset in near}
        return sorted(number for number in around if number in counting or self._text(file, number).strip())

    def _text(self, file: str, number: int) -> str:
        source = self._sources.get(file)
        if source is None:
            return self._text_of_file(self._files.get(file, file), number) if number > 0 else ""
        return source[number - 1] if 0 < number <= len(source) else ""

    def _largest(self, parts: dict[_Part, Figures]) -> tuple[tuple[_Part, Figures], ...]:
        counting = ((part, figures) for part, figures in parts.items() if any(self._counting(figures)))
        return tuple(sorted(counting, key=lambda pair: pair[1], reverse=True))

    def _counting(self, figures: Figures) -> Figures:
        """The same with 0 for those that are too small to be shown by themselves."""
        pairs = zip(figures, self._whole, strict=True)
        return Figures(*(part if abs(part) * LITTLE >= whole else 0 for part, whole in pairs))
