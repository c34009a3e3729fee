"""Call sites: for which contexts the lines that allocate are recorded, and which cells these lines are of."""

from __future__ import annotations

import sys
from operator import index

from thag_nb import _native
from thag_nb.errors import LinesError
from thag_nb.light_typing import TYPE_CHECKING
from thag_nb.recordings.model import CellFile
from thag_nb.runtime.contexts import unrecorded
from thag_nb.units import bytes_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from thag_nb.recordings.model import LinesOf, Recording, Site

    Lines = bool | int | str
    NameFiles = Callable[[set[str]], Mapping[str, str]]

_ABOVE_ALL = 1 << 63  # no allocation is as large

# What IPython's %time and %timeit call the code that they are given, and what runs them, with a cell or a line.
_TIMED = ("<timed exec>", "<timed eval>", "<magic-timeit>")
_CELL_MAGIC = "InteractiveShell.run_cell_magic"
_LINE_MAGIC = "InteractiveShell.run_line_magic"


class _Asked:
    times = 0
    why_not: str | None = None  # lines are not available
    in_vain = 0  # there was no memory


# Since the last reset, by the context of a cell: the files of its code, each with what people know it as.
_cells: dict[int, tuple[tuple[str, str], ...]] = {}

# Since the last reset, the files of any cell, with what people know them as by now; and who knows that.
_files: dict[str, str] = {}
_asked_for_names: list[NameFiles] = []


def least_bytes(lines: Lines) -> int | None:
    """From which size on somebody wants allocations to be told apart, by ``lines=``: 0 for all, None for no lines.

    Raises `LinesError` for what is neither True nor False nor a size of at least one byte, as a number or a text.
    """
    if isinstance(lines, bool):
        return 0 if lines else None
    try:
        size = bytes_from(lines) if isinstance(lines, str) else index(lines)
    except TypeError:
        size = None
    if size is None or not 0 < size < _ABOVE_ALL:
        raise LinesError(lines)
    return size


def lines_from(least_bytes: int | None) -> Lines:
    """What gives this size when it is asked for by ``lines=``."""
    return False if least_bytes is None else least_bytes or True


def record(context_id: int, least_bytes: int) -> None:
    """Record the lines that allocate in a context that nobody has entered yet; `problem` says if they are not."""
    if not _Asked.times:
        _Asked.why_not = _why_not()
    _Asked.times += 1
    if _Asked.why_not is None and not _native.lines_begin(context_id, least_bytes):
        _Asked.in_vain += 1


def problem() -> str | None:
    """Why lines that somebody asked for are not recorded, or None."""
    if _Asked.in_vain:
        return f"the lines of {_Asked.in_vain:,} tasks were not recorded for lack of memory"
    return _Asked.why_not


def _why_not() -> str | None:
    """Why they cannot be recorded here, or None: found out by trying."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "lines are not recorded while Python runs without its GIL"
    ours, pythons = _native.stack_here(), _frames(sys._getframe())
    enough = 100  # of a deep stack, the middle is left out
    return None if ours[:enough] == pythons[:enough] else "lines are not recorded: this Python's frames are not known"


def _frames(frame: FrameType | None) -> list[tuple[str, int, str]]:
    """What a frame and its callers are called: file, line, function."""
    found = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
        frame = frame.f_back
    return found


def asked() -> int:
    """How often lines were asked for, since the process started."""
    return _Asked.times


def name_cells(context_id: int, cells: Iterable[tuple[str, str]]) -> None:
    """Keep, until a reset, what people know the files as that hold the code of the cell with this context."""
    _cells[context_id] = tuple(cells)
    _files.update(_cells[context_id])


def ask_for_names(name_files: NameFiles) -> None:
    """Ask whenever lines are read, from now on: of these files, those of cells, with what people know them as."""
    _asked_for_names.append(name_files)


def ask_no_more(name_files: NameFiles) -> None:
    """Ask no longer. What was told is kept until a reset."""
    _asked_for_names.remove(name_files)


def release_code() -> None:
    """Let code die that is kept alive for its lines alone, as before Python 3.12 nobody would tell that it dies.

    Code of anybody's may run then: not for us to be charged to nobody.
    """
    _native.lines_release()


def forget() -> None:
    """Keep nothing of what cells are called."""
    _cells.clear()
    _files.clear()


def completed(recording: Recording) -> Recording:
    """The same with what the native core cannot know: which files are cells, and where timed code stands in them.

    That is charged to nobody.
    """
    if not recording.lines:
        return recording
    with unrecorded():
        files = {site.file for site in recording.sites}
        sites = recording.sites if files.isdisjoint(_TIMED) else tuple(_placed(recording.sites))
        cell_files = tuple(_cells_among(files if sites is recording.sites else {site.file for site in sites}))
        parents = {record.context_id: record.parent_id for record in recording.contexts}
        lines = tuple(one._replace(cells=_cells_around(one, parents)) for one in recording.lines)
        return recording._replace(sites=sites, lines=lines, cell_files=cell_files)


def _cells_among(files: set[str]) -> Iterator[CellFile]:
    """Those of the files that are known to be cells."""
    for name_files in tuple(_asked_for_names):
        _files.update(name_files(files))
    return (CellFile(file, _files[file]) for file in sorted(files & _files.keys()))


def _cells_around(lines: LinesOf, parents: dict[int, int]) -> tuple[tuple[str, str], ...]:
    """The files of the cell that a context is or is part of, the nearest that is known."""
    context_id = lines.context_id
    while context_id and context_id not in _cells:
        context_id = parents.get(context_id, 0)
    return _cells.get(context_id, ())


def _placed(sites: tuple[Site, ...]) -> Iterator[Site]:
    """The sites, those of code that %time or %timeit runs where it stands in the cell.

    Its lines count from the first below ``%%time`` that is not blank; ``%time`` has only its own.
    """
    for site in sites:
        above, is_cell_magic = _magic_above(sites, site) if site.file in _TIMED else (None, False)
        if above is None:
            yield site
        else:
            before = 1 + _blank_lines(above.file, above.line) if is_cell_magic else 0
            yield site._replace(file=above.file, line=above.line + before + site.line - 1)


def _blank_lines(file: str, line: int) -> int:
    """How many blank lines follow a cell magic, which IPython has made a call with all below it as a text."""
    import ast
    import linecache

    try:
        call = ast.parse(linecache.getline(file, line).strip(), mode="eval").body
        body = ast.literal_eval(call.args[-1]) if isinstance(call, ast.Call) else ""
    except (SyntaxError, ValueError, IndexError):  # it is not known any more
        return 0
    return next((number for number, text in enumerate(str(body).splitlines()) if text.strip()), 0)


def _magic_above(sites: tuple[Site, ...], site: Site) -> tuple[Site | None, bool]:
    """The line of a cell that runs the magic around a site, and whether that is a cell magic; None if there is none."""
    while site.parent >= 0 and site.function not in (_CELL_MAGIC, _LINE_MAGIC):
        site = sites[site.parent]
    return (sites[site.parent] if site.parent >= 0 else None), site.function == _CELL_MAGIC
