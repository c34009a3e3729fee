"""Lines that a test tells of itself, in place of those that the native core records."""

from __future__ import annotations

import sys
from typing import Any

import thag_nb
from thag_nb import _native
from thag_nb.recordings.model import NO_FRAME, LinesOf, Recording, Site, SiteFigures
from thag_nb.runtime import call_sites, dispatcher

_Frames = tuple[tuple[str, int, str], ...]

_asked: dict[int, int] = {}  # least sizes, by the ids of contexts
_charged: dict[tuple[int, _Frames], int] = {}  # bytes, by a context's id and a stack, the outermost first


def install() -> None:
    """Take the native core's place."""
    read = dispatcher.read
    core: Any = _native
    core.lines_begin = _asked.__setitem__
    core_dispatcher: Any = dispatcher
    core_dispatcher.read = lambda: call_sites.completed(_with_lines(read()))


def allocate(size_bytes: int) -> bytearray:
    """A block, charged to the line that calls this and to what called that, up to IPython."""
    with thag_nb.untracked():
        frames = []
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_name != "run_code":
            frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
            frame = frame.f_back
    key = thag_nb.current_context().id, tuple(reversed(frames))
    with thag_nb.untracked():
        _charged[key] = _charged.get(key, 0) + size_bytes
    return bytearray(size_bytes)


def _with_lines(recording: Recording) -> Recording:
    """A recording in which each allocation was a new peak of every context around it, and nothing was freed."""
    parents = {record.context_id: record.parent_id for record in recording.contexts}
    sites: list[Site] = []
    figures: list[SiteFigures] = []
    peaks: dict[int, int] = {}
    for (context_id, frames), size_bytes in _charged.items():
        sites += [Site(len(sites) + depth - 1 if depth else -1, *frame) for depth, frame in enumerate(frames)]
        above = [one for one in _above(context_id, parents) if one in _asked]
        peaks |= dict.fromkeys(above, len(sites) - 1)
        at_peaks = tuple((one, size_bytes) for one in above)
        figures.append(SiteFigures(context_id, len(sites) - 1, size_bytes, size_bytes, 1, 0, at_peaks))
    lines = tuple(LinesOf(one, least, peaks.get(one, NO_FRAME), True, ()) for one, least in _asked.items())
    return recording._replace(sites=tuple(sites), site_figures=tuple(figures), lines=lines)


def _above(context_id: int, parents: dict[int, int]) -> list[int]:
    """A context and those it is under."""
    found = []
    while context_id:
        found.append(context_id)
        context_id = parents[context_id]
    return found
