"""The line at which a context reached its peak."""

from __future__ import annotations

from pathlib import PurePath

from thag_nb.recordings.model import LinesOf, Recording
from thag_nb.sites.stacks import Frame, cells_of, function_around, innermost_own, names_of_files, stack_of


def lines_of(recording: Recording, context_id: int) -> LinesOf | None:
    """What is known of a context whose lines are recorded; None of any other."""
    return next((lines for lines in recording.lines if lines.context_id == context_id), None)


def peak_frame(recording: Recording, context_id: int) -> Frame | None:
    """The line of the user's at which a context's live bytes were highest, its file as people know it; None if unknown.

    It is the last time that they rose so high, and what ran then need not be what most of them were allocated for.
    """
    lines = lines_of(recording, context_id)
    if lines is None or lines.peak_site < 0:
        return None
    cells = cells_of(recording, context_id)
    stack = stack_of(recording.sites, lines.peak_site, cells)
    file, line, function, _ = stack[innermost_own(stack, cells)]
    return Frame(names_of_files(recording, context_id).get(file, file), line, function_around(function))


def peak_words(recording: Recording, context_id: int) -> str:
    """``peak at line 7``, with the cell or file if that is not the context's own; empty if it is not known."""
    frame = peak_frame(recording, context_id)
    if frame is None:
        return ""
    is_in_own_cell = frame.file in cells_of(recording, context_id).values()
    return f"peak at line {frame.line}" + ("" if is_in_own_cell else f" of {short_file(frame.file)}")


def peak_lines(recording: Recording) -> dict[int, str]:
    """`peak_words` of all contexts whose lines are recorded, by their ids, but for those of which it is not known."""
    words = {lines.context_id: peak_words(recording, lines.context_id) for lines in recording.lines}
    return {context_id: text for context_id, text in words.items() if text}


def short_file(file: str) -> str:
    """A file without the folders that it lies in."""
    return PurePath(file).name if "/" in file else file
