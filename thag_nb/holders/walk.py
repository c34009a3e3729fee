"""Who still holds what a context allocated: a walk from everything with a name to the blocks that hang on it.

The walk goes from holder to holder in the order of their rank (variables, outputs, the last traceback, modules, caches,
then what only the garbage collector knows) and from each along `gc.get_referents`. Each object is visited once and its
blocks count for the holder that reached it first, so the sums over all holders add up. What leads everywhere, modules,
classes, frames and the shell, is not passed through on behalf of a variable.

No code of the user's runs: objects are looked at by their exact types and in C, never by their attributes.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from thag_nb import _native
from thag_nb.holders import kinds
from thag_nb.holders.roots import (
    MODULE_DICT,
    Holder,
    Modules,
    Namespace,
    collected,
    is_dunder,
    package_of,
    type_name,
    type_package,
    with_article,
)
from thag_nb.recordings.model import ContextRecord, Held, Recording, Wanted
from thag_nb.runtime.dispatcher import read

Progress = Callable[[int], object]

UNEXPLAINED = Holder("(unexplained)", "unexplained")
_GARBAGE = Holder("(reference cycles)", "cycle", "import gc; gc.collect();")


def find(
    wanted: Wanted | None = None,
    *,
    collect: bool = False,
    namespace: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Held, ...]:
    """What every ended context, or the wanted one, still holds: contexts oldest first, the largest holder leading.

    The rows of a context add up to its self live bytes; the last of them is what could not be explained. See
    `thag_nb.retained`. `progress` is called now and then with the number of objects looked at so far. To be called
    untracked. Raises `UnknownContextError`, `NamespaceError`.
    """
    user = Namespace(namespace)
    _chosen(read(), wanted)  # before anything is collected
    if collect:
        gc.collect()
    with _collector_off():
        for _ in range(_TRIES):
            rows, consistent = _look(user, wanted, progress)
            if consistent:  # else other threads have freed something between the walk and the reading
                break
    return rows


_TRIES = 3
_LITTLE = 100  # of less than one part in so many, nobody asks who shares it,
_FEW_BYTES = 1024  # nor of less than that


def _look(user: Namespace, wanted: Wanted | None, progress: Progress | None) -> tuple[tuple[Held, ...], bool]:
    walk = _Walk(user, progress)
    return _rows(_chosen(read(), wanted), walk)


def _chosen(recording: Recording, wanted: Wanted | None) -> tuple[ContextRecord, ...]:
    if wanted is not None:
        return (recording.find(wanted),)
    return tuple(record for record in recording.contexts if record.state == "ended" and record.self_live_bytes)


def _rows(records: Iterable[ContextRecord], walk: _Walk) -> tuple[tuple[Held, ...], bool]:
    """The rows, and whether no context has less live bytes than were found."""
    rows: list[Held] = []
    consistent = True
    for record in records:
        found = [
            (sums[record.context_id], number) for number, sums in enumerate(walk.sums) if record.context_id in sums
        ]
        unexplained = record.self_live_bytes - sum(held_bytes for held_bytes, _ in found)
        consistent &= unexplained >= 0
        for held_bytes, number in sorted(found, key=lambda pair: -pair[0]):
            matters = held_bytes >= _FEW_BYTES and held_bytes * _LITTLE >= record.self_live_bytes
            shared_with = walk.sharing(number, record.context_id) if matters else ()
            rows.append(_row(record, walk.holder(number), held_bytes, shared_with))
        if unexplained:  # less than nothing, if other threads never leave off
            rows.append(_row(record, UNEXPLAINED, unexplained, ()))
    return tuple(rows), consistent


def _row(record: ContextRecord, holder: Holder, held_bytes: int, shared_with: tuple[str, ...]) -> Held:
    return Held(record.context_id, record.name, holder.name, holder.kind, held_bytes, holder.released_by, shared_with)


@contextmanager
def _collector_off() -> Iterator[None]:
    """No finalizer runs in the middle of a walk, and no address is used again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# ---- the walk ----

_LRU_CACHE: type = type(functools.lru_cache(len))


class _Walk:
    """Visits everything once. `sums` has for each of `holders` the bytes by context."""

    def __init__(self, user: Namespace, progress: Progress | None) -> None:
        # Before the walk makes any objects of its own. What dies meanwhile stays until its end.
        self._tracked = gc.get_objects()
        self.holders: list[Holder] = []
        self.sums: list[dict[int, int]] = []
        self._touched: dict[int, dict[int, list[Any]]] = {}  # what a holder has that others came across, by the other
        self._caches: list[tuple[Any, int]] = []
        self._enters_caches = False
        self._loops: set[int] = set()  # holders whose line lets go, but only the collector frees
        self._package: str | None = "__main__"  # whose classes are passed through; None for all
        self._walk = _native.Walk((_LRU_CACHE, *kinds.known()))
        self._progress = progress
        self._modules = Modules(user)
        self._main = user.names
        own = (self, user, vars(user), user.outputs, self._tracked, progress)
        self._walk.exclude([*own, user.names, sys.modules, *self._modules.dicts.values()])
        try:
            self._go(user)
        finally:
            self._tracked.clear()  # whoever interrupts this keeps its frames, but not every object there is

    def holder(self, number: int) -> Holder:
        """The holder of this number, with a line that frees even what refers to itself."""
        holder = self.holders[number]
        return holder._replace(released_by=collected(holder.released_by)) if number in self._loops else holder

    def sharing(self, number: int, context_id: int) -> tuple[str, ...]:
        """Who else keeps more than a little of the context's once the holder of this number has let go."""
        first, enough = self.holders[number], self.sums[number][context_id] // _LITTLE + 1
        return tuple(
            self.holders[other].name
            for other, touched in self._touched.get(number, {}).items()
            if _lets_go_apart(self.holders[other], first) and self._walk.reaches(number, touched, context_id, enough)
        )

    def _go(self, user: Namespace) -> None:
        if user.shell is not None:
            self._walk.exclude([user.shell])
        for holder, value in user.holders():
            if not self._is_of_library(value):
                self._follow(holder, [value])
        self._follow(*user.traceback_holder())
        if user.shell is not None:
            self._walk.include([user.shell])
        self._follow_modules()
        self._follow_caches()
        self._package = None
        self._follow_rest()

    def _is_of_library(self, value: Any) -> bool:
        """Imported names: their modules hold what they name."""
        if issubclass(type(value), type):
            return type_package(value) not in ("__main__", dict.get(self._main, "__name__"))
        return issubclass(type(value), ModuleType)

    def _follow_modules(self) -> None:
        for name in self._modules.users:
            self._package = package_of(name)
            for variable, value in list(self._modules.dicts[name].items()):
                if type(variable) is str and not is_dunder(variable):
                    self._follow(Holder(f"{name}.{variable}", "module", f"del {name}.{variable}"), [value])
            self._follow_package(name, [name])
        for package in self._modules.packages():
            self._package = package
            self._follow_package(package, self._modules.libraries[package])

    def _follow_package(self, package: str, modules: list[str]) -> None:
        dicts = [self._modules.dicts[name] for name in modules]
        self._walk.include(dicts)  # two modules may have one dict
        self._follow(Holder(package, "module"), dicts)

    def _follow_caches(self) -> None:
        self._enters_caches = True
        for wrapper, number in self._caches:
            self._walk.include([wrapper])
            self._follow(self._cache_holder(wrapper, number), [wrapper])

    def _cache_holder(self, wrapper: Any, number: int) -> Holder:
        """A cache by the name of its function, if it has one that can be written down."""
        function = _wrapped(wrapper)
        found_by = self.holders[number]
        if type(function) is not FunctionType or "<" in function.__code__.co_qualname:
            return Holder(f"{found_by.name}.cache", "cache", found_by.released_by)
        name = function.__code__.co_qualname
        if function.__globals__ is not self._main:
            name = f"{dict.get(function.__globals__, '__name__')}.{name}"
        return Holder(name, "cache", f"{name}.cache_clear()")

    def _follow(self, holder: Holder, objects: list[Any]) -> None:
        number, sums = len(self.holders), dict[int, int]()
        self.holders.append(holder)
        self.sums.append(sums)
        tells = not _is_library(holder)
        pending: list[Any] = []
        while objects or pending:
            held, special, shared, loops = self._walk.follow(number, objects, pending, tells)
            for context_id, held_bytes in held.items():
                sums[context_id] = sums.get(context_id, 0) + held_bytes
            for first, touched in shared.items():
                if self.holders[first].released_by:
                    self._touched.setdefault(first, {}).setdefault(number, []).extend(touched)
            if loops:
                self._loops.add(number)
            objects = []
            pending += [thing for thing in special if self._is_passed(thing, number, objects)]
            if self._progress is not None:
                self._progress(self._walk.known_count)

    def _is_passed(self, thing: Any, number: int, objects: list[Any]) -> bool:
        """Whether to go on from something special. To `objects` is added what to go on from instead."""
        kind = type(thing)
        if kind is FunctionType:
            # An imported function is held by its module, but not one of its making, which holds what it was given.
            imported = id(thing.__globals__) in self._modules.addresses and "<locals>" not in thing.__code__.co_qualname
            return self._package != "__main__" or not imported or thing.__closure__ is not None
        if issubclass(kind, type):
            return self._package is None or type_package(thing) == self._package
        if kind is TracebackType:
            self._open_frame(thing.tb_frame, objects)
            return True
        if kind is _LRU_CACHE and not self._enters_caches:
            self._walk.exclude([thing])
            self._caches.append((thing, number))
            function = _wrapped(thing)
            if function is not None:
                objects.append(function)
        return kind is _LRU_CACHE and self._enters_caches

    def _open_frame(self, frame: FrameType, objects: list[Any]) -> None:
        """The locals of a frame that a traceback keeps. Those of IPython, which ran the cell, lead everywhere."""
        package = dict.get(frame.f_globals, "__name__")
        if self._walk.unvisited([frame]) and not (type(package) is str and package_of(package) in _SHELLS):
            objects += gc.get_referents(frame)

    # ---- what only the collector knows ----

    def _follow_rest(self) -> None:
        """Objects that no name leads to: those that something unknown refers to, and those that are garbage."""
        rest = self._walk.unvisited(self._tracked)
        self._tracked.clear()
        held, garbage = _divide(rest)
        del rest
        by_type: dict[int, list[Any]] = {}
        for thing in held:
            by_type.setdefault(id(type(thing)), []).append(thing)
        del held
        for things in by_type.values():
            self._follow(Holder(f"({with_article(type_name(type(things[0])))})", "object"), things)
        by_type.clear()
        self._follow(_GARBAGE, garbage)


def _is_library(holder: Holder) -> bool:
    return holder.kind == "module" and not holder.released_by


def _lets_go_apart(other: Holder, first: Holder) -> bool:
    """Whether to tell of another holder: not of one that the same line lets go."""
    return not other.released_by or other.released_by != first.released_by


_SHELLS = ("IPython", "ipykernel", "thag_nb")


def _divide(objects: list[Any]) -> tuple[list[Any], list[Any]]:
    """Those that something outside of `objects` refers to, and the others: garbage, unless the first lead there."""
    own: list[Any] = []  # nobody refers to it, but this function
    objects.append(own)
    outside = {}
    for thing in objects:
        outside[id(thing)] = sys.getrefcount(thing)
    baseline = outside[id(own)] - 1
    for thing in objects:
        for held in _referents(thing):
            if id(held) in outside:
                outside[id(held)] -= 1
    objects.pop()
    first = [thing for thing in objects if outside[id(thing)] > baseline]
    return first, [thing for thing in objects if outside[id(thing)] <= baseline]


def _referents(thing: Any) -> list[Any]:
    """What an object refers to; of a module only its names: CPython 3.12's asyncio tells of objects that are dead."""
    return [MODULE_DICT(thing)] if issubclass(type(thing), ModuleType) else gc.get_referents(thing)


def _wrapped(wrapper: Any) -> Any:
    """The function behind an lru_cache. The wrapper's class is C's own, so nothing of the user's runs."""
    try:
        return object.__getattribute__(wrapper, "__wrapped__")
    except AttributeError:
        return None
