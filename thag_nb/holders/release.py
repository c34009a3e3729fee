"""Which lines free what counts for a holder: drawn from a trial on all names at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from thag_nb.holders.lines import Notebook, joined
from thag_nb.holders.roots import Holder


class GroupKind(IntEnum):
    """What the references to some objects are. See ``native/heap/release.h``."""

    NAMES = 0
    LIBRARY = 1
    CACHE = 2
    PASSING = 3
    GARBAGE = 4
    DETOUR = 5


Group = tuple[int, int, list[Any]]  # a holder's number, a GroupKind, objects
Told = tuple[
    dict[tuple[int, int, bool, bool, int], int], dict[int, tuple[int, ...] | None]
]  # see `_native.Walk.release`


class Portion(NamedTuple):
    """Bytes that go if all of `holders` let go, by a run of the collector if `is_cyclic`; not if `is_pinned`.

    `holders` is None where there are too many to tell.
    """

    holders: frozenset[int] | None
    is_pinned: bool
    is_cyclic: bool
    held_bytes: int


_ENOUGH = 0.9  # of what a holder keeps has to go with a line
_LITTLE = 100  # of less than one part in so many, nobody asks who shares it,
_FEW_BYTES = 1024  # nor of less than that

NO_TIME = "(not looked for: too many objects)"
UNKNOWN = "(something that is no name)"
_MANY = "(more than 8 names)"


class Release:
    """What a trial has told of these holders, or None if there was not enough time for it."""

    def __init__(self, told: Told | None, holders: Sequence[Holder], notebook: Notebook) -> None:
        self._holders = holders
        self._notebook = notebook
        self._portions: dict[tuple[int, int], list[Portion]] = {}
        self._has_ended = told is not None
        if told is not None:
            sums, labels = told
            sets = {label: None if numbers is None else frozenset(numbers) for label, numbers in labels.items()}
            for (first, label, is_pinned, is_cyclic, context_id), held_bytes in sums.items():
                reaching = frozenset({first}) if sets[label] == frozenset() else sets[label]  # garbage has no label
                portion = Portion(reaching, is_pinned, is_cyclic, held_bytes)
                self._portions.setdefault((first, context_id), []).append(portion)

    def line(self, number: int, context_id: int, held_bytes: int) -> str:
        """The line that frees nine tenths of what a holder keeps of a context, by the fewest names; else nothing."""
        portions = [
            portion
            for portion in self._portions.get((number, context_id), ())
            if portion.holders and not portion.is_pinned and all(self._holders[one].line for one in portion.holders)
        ]
        enough = _ENOUGH * held_bytes
        chosen = _cover(portions, enough)
        if chosen is None:
            return ""
        lines = (self._holders[one].line for one in sorted(chosen))
        line = joined(line for line in lines if line is not None)
        at_once = _freed([portion for portion in portions if not portion.is_cyclic], chosen)
        return self._notebook.write(line._replace(collects=line.collects or at_once < enough))

    def alone_bytes(self, number: int, context_id: int) -> int:
        """What goes if the holder alone lets go."""
        portions = self._portions.get((number, context_id), ())
        return _freed([portion for portion in portions if not portion.is_pinned], frozenset({number}))

    def sharing(self, number: int, context_id: int, held_bytes: int) -> tuple[str, ...]:
        """Who else reaches more than a little of what a holder keeps of a context, those that reach most first."""
        if held_bytes < _FEW_BYTES:
            return ()
        if not self._has_ended:
            return (NO_TIME,)
        reached: dict[str, int] = {}
        for portion in self._portions.get((number, context_id), ()):
            for name in self._others(portion, number):
                reached[name] = reached.get(name, 0) + portion.held_bytes
        names = sorted(reached, key=lambda name: -reached[name])
        return tuple(name for name in names if reached[name] * _LITTLE >= held_bytes)

    def _others(self, portion: Portion, number: int) -> list[str]:
        if portion.holders is None:
            return [_MANY]
        others = [self._holders[one].name for one in sorted(portion.holders) if one != number]
        if portion.is_pinned and self._holders[number].line and UNKNOWN not in others:
            others.append(UNKNOWN)
        return others


def _freed(portions: Iterable[Portion], chosen: frozenset[int]) -> int:
    return sum(portion.held_bytes for portion in portions if portion.holders and portion.holders <= chosen)


def _cover(portions: list[Portion], enough: float) -> frozenset[int] | None:
    """The fewest holders, as far as a greedy choice finds them, that free so many bytes; None if all do not."""
    chosen: frozenset[int] = frozenset()
    for portion in sorted(portions, key=lambda portion: -portion.held_bytes):
        if portion.holders is not None:
            chosen |= portion.holders
        if _freed(portions, chosen) >= enough:
            break
    else:
        return None
    for one in sorted(chosen):
        if _freed(portions, chosen - {one}) >= enough:
            chosen -= {one}
    return chosen
