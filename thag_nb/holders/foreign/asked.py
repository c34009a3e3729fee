"""The objects of libraries that a walk comes across, and what their libraries tell of them.

Types are looked up where their module is loaded already: what is not loaded has no objects. Their objects are asked by
the library's own functions, which copy and compute nothing; what they would have to copy for is not asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from thag_nb import _native
from thag_nb.holders.foreign.arrow import arrow
from thag_nb.holders.foreign.behind import documents, trees
from thag_nb.holders.foreign.library import UNTOLD, Library, answer, told_by
from thag_nb.holders.foreign.memory import arrays, buffers, capsules
from thag_nb.holders.foreign.pillow import pillow
from thag_nb.holders.foreign.polars import polars
from thag_nb.holders.foreign.torch import torch
from thag_nb.holders.modules import package_of
from thag_nb.holders.roots import Holder
from thag_nb.runtime import own_memory

_LIBRARIES = (arrow, polars, torch, pillow, arrays, buffers, capsules, documents, trees)
_ANYTHING = 0  # the address that stands for all that was told of


class Asked:
    """What is asked when all else has been visited: what libraries were lent is the lender's."""

    def __init__(self) -> None:
        known = (answer(library) for library in _LIBRARIES)
        self._libraries = [library for library in known if library is not None]
        self._library_of = {
            kind: library for library in self._libraries for kind in (*library.readers, *library.hoarders)
        }
        self.types = tuple(self._library_of)
        self._things: list[tuple[Any, int, bool]] = []
        self.unseen: list[Any] = []  # stands for whatever else holds a block, but no name leads to it

    def add(self, thing: Any, number: int, holder: Holder) -> bool:
        """Remember an object that a holder led to. False if no library here can be asked about it."""
        library = self._library_of.get(type(thing))
        if library is None:
            return False
        is_named = holder.kind != "object"
        if _is_asked(library, thing, holder) and (is_named or not library.only_of_names):
            self._things.append((thing, number, is_named))
        return True

    def ask(self, walk: _native.Walk) -> Iterator[tuple[int, list[Any]]]:
        """Let the walk know what each object holds: the numbers of the holders, and what is to be followed for them.

        What may hold anything comes last, and shares one object that stands for all that was told of.
        """
        blocks = _Blocks()
        told: dict[int, None] = {}
        anything: list[Any] = []
        hoards: list[tuple[int, bool]] = []
        for thing, number, is_named in self._things:
            found, is_whole = self._look(thing, blocks)
            told |= dict.fromkeys(found)
            held = walk.hold(thing, found if is_whole else (*found, _ANYTHING))
            if not is_whole:
                anything = [held.pop()]
                hoards.append((number, is_named))
            yield number, held
        if anything:
            walk.hold(anything[0], tuple(told))
        yield from ((number, anything) for number, _ in hoards)
        if not all(is_named for _, is_named in hoards):
            self.unseen += anything
        self._hide(walk, blocks)
        self._things.clear()

    def _look(self, thing: Any, blocks: _Blocks) -> tuple[tuple[int, ...], bool]:
        """The blocks that an object is told to hold, and whether these are all."""
        library = self._library_of[type(thing)]
        reader = library.readers.get(type(thing))
        told = [UNTOLD] if reader is None else told_by(reader, thing)
        return blocks.around(told), UNTOLD not in told

    def _hide(self, walk: _native.Walk, blocks: _Blocks) -> None:
        for library in self._libraries:
            if library.hidden is not None:
                things = [thing for thing, _, _ in self._things if self._library_of[type(thing)] is library]
                self.unseen.append([])
                walk.hold(self.unseen[-1], blocks.around(told_by(library.hidden, things)))

    def own_objects(self) -> list[Any]:
        """What refers to the objects, but not on behalf of anybody."""
        return [vars(self), self._libraries, *self._libraries, self._library_of, self._things, self.unseen, self.types]

    def clear(self) -> None:
        """Let go of the objects."""
        self._things.clear()
        self.unseen.clear()


def _is_asked(library: Library, thing: Any, holder: Holder) -> bool:
    """Not what may hold anything, but is only its library's own: what its modules have, nothing of the user's is in."""
    if type(thing) in library.readers:
        return True
    is_own = holder.kind == "module" and holder.line is None and package_of(holder.name) in library.packages
    return not is_own and library.may_hoard(thing)


_LARGE_BYTES = 1 << 18


class _Blocks:
    """Recorded blocks. Large ones are looked for once: it takes long to find where they begin.

    What was mapped for all that an allocator of some library will ever hand out is no block of an object that has a
    part of it: that goes, and the mapping stays.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._are_kept: list[bool] = []

    def around(self, told: Iterable[int | None]) -> tuple[int, ...]:
        """Where the blocks begin in which the addresses lie that were told, each once."""
        found = (self._start(address) for address in told if address is not UNTOLD)
        return tuple(dict.fromkeys(start for start in found if start is not None))

    def _start(self, address: int) -> int | None:
        i = bisect_right(self._starts, address)
        if i > 0 and address < self._ends[i - 1]:
            return None if self._are_kept[i - 1] else self._starts[i - 1]
        block = _native.block_around(address)
        if block is None:
            return None
        start, size = block
        if size < _LARGE_BYTES:
            return start
        i = bisect_right(self._starts, start)
        self._starts.insert(i, start)
        self._ends.insert(i, start + size)
        self._are_kept.insert(i, own_memory.is_kept(start))
        return None if self._are_kept[i] else start
