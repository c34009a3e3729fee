"""The line at which a context reached its peak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from functools import lru_cache
from pathlib import PurePath
from typing import NamedTuple

from thag_nb.recordings.model import LinesOf, Recording
from thag_nb.recordings.own_code import is_own
from thag_nb.sites.stacks import Frame, OwnFrames, Stacks, cells_of, function_around, names_of_files

LITTLE = 100  # what is less than one part in so many of a figure is not told of by itself


def lines_of(recording: Recording, context_id: int) -> LinesOf | None:
    """What is known of a context whose lines are recorded; None of any other."""
    return next((lines for lines in recording.lines if lines.context_id == context_id), None)


class Peak(NamedTuple):
    """A line of the user's, its file as people know it, in which a context's live bytes were highest.

    Or else, with `is_most`, the one that had most of them.
    """

    frame: Frame
    is_most: bool = False


def peak_of(recording: Recording, context_id: int) -> Peak | None:
    """The line at which a context's live bytes were highest, the last time that they rose so high; None if unknown.

    If that line had less than a hundredth of them, something small came last, such as what the front end does behind a
    cell. Then it is the line of the user's that had most of them, if one had that much.
    """
    lines = lines_of(recording, context_id)
    return None if lines is None else _peak(recording, lines, _at_peaks(recording, {context_id})[context_id])


_Sizes = dict[int, int]  # bytes, by site


def _at_peaks(recording: Recording, context_ids: Set[int]) -> dict[int, _Sizes]:
    """What was live at each site at the peaks of these contexts."""
    sizes: dict[int, Counter[int]] = {context_id: Counter() for context_id in context_ids}
    for row in recording.site_figures:
        for context_id, size_bytes in row.at_peaks:
            if context_id in sizes:
                sizes[context_id][row.site] += size_bytes
    return dict(sizes)


def _peak(recording: Recording, lines: LinesOf, at_peak: _Sizes) -> Peak | None:
    cells = cells_of(recording, lines.context_id)
    own = OwnFrames(Stacks(recording.sites, cells), cells)
    names = names_of_files(recording, lines.context_id)
    users: set[tuple[str, int]] = set()

    def known(site: int) -> Frame:
        file, line, function, _ = own.of(site).frame
        name = names.get(file, file)
        if file in cells or is_own(file):
            users.add((name, line))
        return Frame(name, line, function_around(function))

    reached = known(lines.peak_site) if lines.peak_site >= 0 else None
    little_bytes = recording.find(lines.context_id).peak_bytes / LITTLE
    if not lines.is_explained:
        return None if reached is None else Peak(reached)
    if reached is not None and at_peak.get(lines.peak_site, 0) >= little_bytes:
        return Peak(reached)
    sizes: Counter[tuple[str, int]] = Counter()
    frames: dict[tuple[str, int], Frame] = {}
    for site, size_bytes in at_peak.items():
        if site >= 0:
            frame = known(site)
            frames.setdefault(frame[:2], frame)
            sizes[frame[:2]] += size_bytes
    if reached is not None and sizes[reached[:2]] >= little_bytes:
        return Peak(reached)
    most = max((place for place in sizes if place in users), key=lambda place: sizes[place], default=None)
    if most is None or sizes[most] < little_bytes:
        return None if reached is None else Peak(reached)
    return Peak(frames[most], is_most=True)


def peak_words(recording: Recording, context_id: int) -> str:
    """``peak at line 7``, or ``most at peak: line 7``; empty if it is not known.

    With the cell or file, if that is not the context's own.
    """
    return words_of_peak(recording, context_id, peak_of(recording, context_id))


def words_of_peak(recording: Recording, context_id: int, peak: Peak | None) -> str:
    """`peak_words` of a peak that `peak_of` has told."""
    if peak is None:
        return ""
    file, line, *_ = peak.frame
    is_in_own_cell = file in cells_of(recording, context_id).values()
    where = f"line {line}" + ("" if is_in_own_cell else f" of {short_file(file)}")
    return f"most at peak: {where}" if peak.is_most else f"peak at {where}"


def peak_lines(recording: Recording) -> dict[int, str]:
    """`peak_words` of all contexts whose lines are recorded, by their ids, but for those of which it is not known."""
    sizes = _at_peaks(recording, {lines.context_id for lines in recording.lines})
    peaks = {one.context_id: _peak(recording, one, sizes[one.context_id]) for one in recording.lines}
    words = {context_id: words_of_peak(recording, context_id, peak) for context_id, peak in peaks.items()}
    return {context_id: text for context_id, text in words.items() if text}


@lru_cache(1 << 12)
def short_file(file: str) -> str:
    """A file without the folders that it lies in."""
    return PurePath(file).name if "/" in file else file
