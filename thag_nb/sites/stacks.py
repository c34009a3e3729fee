"""Call sites as stacks, and the frame of a stack that a person can do something about."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import NamedTuple

from thag_nb.recordings.model import Recording, Site
from thag_nb.recordings.own_code import is_installed, is_library, is_own

_COMPREHENSION = re.compile(r"(\.<locals>)?\.?<(listcomp|setcomp|dictcomp|genexpr)>$")
_IMPORTING = "<frozen importlib"
_CALLBACK = "Handle._run"  # of asyncio's event loop, in:
_EVENTS = "asyncio/events.py"


class Frame(NamedTuple):
    """A line of a function that runs, and whether that function asks tools not to show it."""

    file: str
    line: int
    function: str
    is_hidden: bool = False


Stack = tuple[Frame, ...]  # the outermost first


class Stacks:
    """The stacks of sites, from where the user's work begins.

    That is the first frame in one of these cells, or what an event loop of asyncio calls back; else all of it. Sites
    have most of their stacks in common with their callers, so each is made of its caller's.
    """

    def __init__(self, sites: tuple[Site, ...], cells: Container[str]) -> None:
        self.sites = sites
        self._cells = cells
        self._known: dict[int, tuple[Stack, bool]] = {}  # and whether it begins in a cell

    def of(self, place: int) -> Stack:
        """The stack of the site at a place."""
        unknown = []
        while place >= 0 and place not in self._known:
            unknown.append(place)
            place = self.sites[place].parent
        stack, is_in_cell = self._known.get(place, ((), False))
        for place in reversed(unknown):
            frame = Frame(*self.sites[place][1:])
            begins = not is_in_cell and (frame.file in self._cells or (stack and _calls_back(stack[-1])))
            stack = (frame,) if begins else (*stack, frame)
            is_in_cell = is_in_cell or frame.file in self._cells
            self._known[place] = stack, is_in_cell
        return stack


def stack_of(sites: tuple[Site, ...], place: int, cells: Container[str]) -> Stack:
    """The stack of one site, as `Stacks` gives it."""
    return Stacks(sites, cells).of(place)


def _calls_back(frame: Frame | Site) -> bool:
    return frame.function == _CALLBACK and frame.file.endswith(_EVENTS)


def innermost_own(stack: Stack, cells: Container[str]) -> int:
    """Which frame of a stack is the innermost of the user's own code, but for functions that are not to be shown.

    Without any, it is the outermost of an installed package, such as what somebody gave to a thread, or the innermost.
    """
    own = _own(stack, cells)
    return own[-1] if own else _without_own(stack)


class OwnFrame(NamedTuple):
    """A frame that says where a call site is, and the outermost function of a library that it called, if any."""

    frame: Frame
    through: str
    is_users: bool


class OwnFrames:
    """What `innermost_own`, or another choice, tells of many sites.

    What a library goes on to call leaves the user's frame as it is, so few stacks are made for it.
    """

    def __init__(
        self, stacks: Stacks, cells: Container[str], choose: Callable[[Stack, Container[str]], int] = innermost_own
    ) -> None:
        self._stacks = stacks
        self._sites = stacks.sites
        self._cells = cells
        self._choose = choose
        self._known: dict[int, OwnFrame] = {}

    def of(self, place: int) -> OwnFrame:
        """The frame of the site at a place."""
        unknown = []
        while place not in self._known and place >= 0:
            unknown.append(place)
            place = self._sites[place].parent
        for site in reversed(unknown):
            self._known[site] = self._of_caller(self._sites[site]) or self._look_up(site)
        return self._known[unknown[0] if unknown else place]

    def _of_caller(self, site: Site) -> OwnFrame | None:
        """That of the caller, if it is the user's, and its stack does not end with it; else None."""
        caller = self._known.get(site.parent)
        if caller is None or not caller.is_users or site.file in self._cells or not is_library(site.file):
            return None
        if _calls_back(self._sites[site.parent]):
            return None
        return caller if caller.through else caller._replace(through=_name_of_library(site))

    def _look_up(self, site: int) -> OwnFrame:
        stack = self._stacks.of(site)
        depth = self._choose(stack, self._cells)
        return OwnFrame(stack[depth], called_through(stack, depth), bool(_own(stack, self._cells)))


def outermost_own(stack: Stack, cells: Container[str]) -> int:
    """Which frame of a stack is the outermost in one of the cells, or of the user's own code if none is."""
    own = _own(stack, cells)
    in_cells = [depth for depth in own if stack[depth].file in cells]
    return (in_cells or own)[0] if own else _without_own(stack)


def _own(stack: Stack, cells: Container[str]) -> list[int]:
    own = _written_by_user(stack, cells)
    return [depth for depth in own if not _is_hidden(stack, depth)] or own


def _written_by_user(stack: Stack, cells: Container[str]) -> list[int]:
    own = [depth for depth, frame in enumerate(stack) if frame.file in cells or is_own(frame.file)]
    if own or not stack or is_library(stack[0].file):
        return own
    # Made by a program, or what `python -c` was given: the user's if all began in it.
    return [depth for depth, frame in enumerate(stack) if frame.file == stack[0].file]


def _is_hidden(stack: Stack, depth: int) -> bool:
    """Whether a function asks tools not to show it, or is a comprehension in one that does."""
    frame = stack[depth]
    around = depth > 0 and function_around(frame.function) == stack[depth - 1].function != frame.function
    return frame.is_hidden or (around and stack[depth - 1].is_hidden)


def _without_own(stack: Stack) -> int:
    installed = (depth for depth, frame in enumerate(stack) if is_installed(frame.file))
    return next(installed, len(stack) - 1)


def called_through(stack: Stack, depth: int) -> str:
    """The outermost function of a library that was called from a frame, or ``import``; empty if there is none.

    A function that is not to be shown counts as one of a library.
    """
    library = next((frame for frame in stack[depth + 1 :] if frame.is_hidden or is_library(frame.file)), None)
    return "" if library is None else _name_of_library(library)


def _name_of_library(called: Frame | Site) -> str:
    return "import" if called.file.startswith(_IMPORTING) else called.function


def function_around(function: str) -> str:
    """The function that a comprehension stands in, which has a frame of its own before 3.12; else the same."""
    return _COMPREHENSION.sub("", function) or "<module>"


def cells_of(recording: Recording, context_id: int) -> dict[str, str]:
    """What each file of the context's own cell is known as."""
    return {file: name for lines in recording.lines if lines.context_id == context_id for file, name in lines.cells}


def names_of_files(recording: Recording, context_id: int) -> dict[str, str]:
    """What files are known as: those of the context's own cell as such, others by the newest cell that has them."""
    newest = {file: name for lines in recording.lines for file, name in lines.cells}
    return newest | dict(recording.cell_files) | cells_of(recording, context_id)
