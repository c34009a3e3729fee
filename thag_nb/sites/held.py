"""Where what a holder keeps was allocated, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from thag_nb.recordings.model import Recording
from thag_nb.sites.peak import short_file
from thag_nb.sites.rows import SEVERAL, Place, one_of, places
from thag_nb.sites.stacks import names_of_files
from thag_nb.units import format_bytes

_MOST = 3  # lines that are told
_LITTLE = 100  # what is less than one part in so many is not told, but added to what is elsewhere
_UNKNOWN = "not known where"


class _Line(NamedTuple):
    """A line as people know it, and how many bytes of a holder's were allocated there."""

    words: str
    size_bytes: int


class AllocatedAt:
    """Tells of contexts in a recording where what somebody keeps of them was allocated.

    Lines are those of `thag_nb.lines`. `names` are what people know files as that the recording has no names for.
    """

    def __init__(self, recording: Recording, names: Mapping[str, str] | None = None) -> None:
        self._recording = recording
        self._names = names or {}
        self._with_lines = {lines.context_id for lines in recording.lines}
        self._known_of = cache(self._find_known)

    def __call__(self, context_id: int, held_bytes: int, by_site: Mapping[int, int]) -> str:
        """``In[3] line 4 through read_csv``: the lines that most of so many bytes of a context were allocated in.

        `by_site` has bytes by places as in `SiteFigures`; what they do not add up to has no line. One line that has
        next to all is told alone; of several the largest three with their bytes, and what the rest has is elsewhere.
        Empty for a context whose lines are not recorded.
        """
        if context_id not in self._with_lines:
            return ""
        lines = [*self._lines(context_id, by_site), _Line(_UNKNOWN, held_bytes - sum(by_site.values()))]
        lines.sort(key=lambda line: (-line.size_bytes, line.words))
        told = [line for index, line in enumerate(lines[:_MOST]) if not index or _counts(line.size_bytes, held_bytes)]
        rest_bytes = held_bytes - sum(line.size_bytes for line in told)
        if _counts(rest_bytes, held_bytes):
            told.append(_Line("elsewhere", rest_bytes))
        if len(told) == 1:
            return told[0].words
        return ", ".join(f"{line.words} ({format_bytes(line.size_bytes)})" for line in told)

    def _lines(self, context_id: int, by_site: Mapping[int, int]) -> list[_Line]:
        place_of, files = self._known_of(context_id)
        folded: dict[tuple[str, int, str], list[tuple[Place, int]]] = {}
        for site, size_bytes in by_site.items():
            place = place_of(site)
            file, line, function, _ = place.frame
            folded.setdefault((file, line, "" if file else function), []).append((place, size_bytes))
        return [
            _Line(_words(key, one_of({place.through for place, _ in parts}), files), sum(size for _, size in parts))
            for key, parts in folded.items()
        ]

    def _find_known(self, context_id: int) -> tuple[Callable[[int], Place], Mapping[str, str]]:
        """What tells the place of a site of a context, and what files are known as there."""
        files = {**self._names, **names_of_files(self._recording, context_id)}
        return cache(places(self._recording, context_id, "line")), files


def _counts(part_bytes: int, whole_bytes: int) -> bool:
    return part_bytes > 0 and part_bytes * _LITTLE >= whole_bytes


def _words(key: tuple[str, int, str], through: str, files: Mapping[str, str]) -> str:
    file, line, instead = key
    if not file:
        return instead
    called = {"": "", SEVERAL: " through several functions"}.get(through, f" through {through}")
    return f"{short_file(files.get(file, file))} line {line}{called}"
