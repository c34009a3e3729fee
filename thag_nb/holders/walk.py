"""Who still holds what a context allocated: a walk from everything with a name to the blocks that hang on it.

The walk goes from holder to holder in the order of their rank (variables, outputs, the last traceback, modules, caches,
then what only the garbage collector knows) and from each along `gc.get_referents`. Each object is visited once and its
blocks count for the holder that reached it first, so the sums over all holders add up. What leads everywhere, modules,
classes and the shell, is not passed through on behalf of a variable. Then a trial tells who else leads there, and which
lines together free what counts for a holder.

No code of the user's runs: objects are looked at by their exact types and in C, never by their attributes.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from thag_nb import _native
from thag_nb.holders import kinds
from thag_nb.holders.foreign.asked import Asked
from thag_nb.holders.lines import Caches, Line
from thag_nb.holders.modules import Modules, is_dunder, package_of, type_name, type_package
from thag_nb.holders.release import UNKNOWN, Group, GroupKind, Release
from thag_nb.holders.roots import ERRORS, Holder, Namespace, behind, is_of_shell, with_article
from thag_nb.recordings.model import (
    NO_FRAME,
    NOT_TOLD_APART,
    SMALLER,
    ContextRecord,
    Held,
    Recording,
    Wanted,
    is_work,
)
from thag_nb.runtime.dispatcher import read_numbered, read_without_lines, workspaces

Progress = Callable[[int], object]
# Of a recording: says in words where so many bytes of a context were allocated, of which it is known at which sites.
Where = Callable[[Recording], Callable[[int, int, Mapping[int, int]], str]]

UNEXPLAINED = Holder("(unexplained)", "unexplained")
_WORKSPACE = Holder("(OpenBLAS, to work in)", "object")
_GARBAGE = Holder("(reference cycles)", "cycle", Line(collects=True))


def find(
    wanted: Wanted | None = None,
    *,
    collect: bool = False,
    namespace: dict[str, Any] | None = None,
    self_only: bool = False,
    progress: Progress | None = None,
    where: Where | None = None,
) -> tuple[Held, ...]:
    """What every ended context, or the wanted one, still holds: contexts oldest first, the largest holder leading.

    With the wanted one comes what was started under it, unless `self_only`. The rows of a context add up to its self
    live bytes; the last of them is what could not be explained. See `thag_nb.retained`. `progress` is called now and
    then with the number of objects looked at so far. `where` says for a row in which lines its bytes were allocated.
    To be called untracked. Raises `UnknownContextError`, `NamespaceError`.
    """
    user = Namespace(namespace)
    _chosen(read_without_lines(), wanted, self_only)  # before anything is collected
    if collect:
        gc.collect()
    with _collector_off():
        for _ in range(_TRIES):
            walk = _Walk(user, progress)
            recording, numbers = read_numbered()
            rows, consistent = _rows(_chosen(recording, wanted, self_only), walk, _Sites(recording, numbers, where))
            if consistent:  # else other threads have freed something between the walk and the reading
                break
    return rows


_TRIES = 3
_LIMIT_MS = 5000  # to find out which lines let go
_UNDER = " › "


def _chosen(recording: Recording, wanted: Wanted | None, self_only: bool) -> list[tuple[ContextRecord, str]]:
    """The contexts to tell of, oldest first, each with the names that lead to it."""
    if wanted is None:
        paths = _paths(recording, tuple(record for record in recording.contexts if not is_work(record)))
        return [(record, paths[record.context_id]) for record in recording.contexts if _is_held(record)]
    top = recording.find(wanted)
    if self_only:
        return [(top, top.name)]
    paths = _paths(recording, (top,))
    return [(record, paths[record.context_id]) for record in recording.contexts if record.context_id in paths]


def _is_held(record: ContextRecord) -> bool:
    return record.state == "ended" and record.self_live_bytes != 0


def _paths(recording: Recording, tops: tuple[ContextRecord, ...]) -> dict[int, str]:
    """For each of these contexts and those started under it, its name behind those of the tasks that it is part of."""
    paths = {top.context_id: top.name for top in tops}
    tasks = {top.context_id for top in tops if top.kind == "task"}
    for record in recording.contexts:  # none is older than the one that it was started under
        if record.context_id in paths or record.parent_id not in paths:
            continue
        is_part = record.parent_id in tasks
        paths[record.context_id] = f"{paths[record.parent_id]}{_UNDER}{record.name}" if is_part else record.name
        if record.kind == "task":
            tasks.add(record.context_id)
    return paths


class _Sites:
    """Where blocks were allocated: a walk has their sites by numbers, and a recording by places."""

    def __init__(self, recording: Recording, numbers: list[int], where: Where | None) -> None:
        self._words = None if where is None else where(recording)
        self._places = {place: place for place in (NO_FRAME, SMALLER, NOT_TOLD_APART)}
        self._places |= {number: place for place, number in enumerate(numbers)}
        self._live: dict[int, dict[int, int]] = {}
        for row in recording.site_figures:
            self._live.setdefault(row.context_id, {})[row.site] = row.live_bytes

    def words(self, context_id: int, held_bytes: int, by_number: Mapping[int, int]) -> str:
        """Where so many bytes of a context were allocated, these of them at known sites; empty if nobody asked."""
        return "" if self._words is None else self._words(context_id, held_bytes, self._by_place(by_number))

    def words_of_rest(self, context_id: int, rest_bytes: int, found: Iterable[Mapping[int, int]]) -> str:
        """The same of what is left when this was found of a context."""
        left = Counter(self._live.get(context_id))
        for by_number in found:
            left.subtract(self._by_place(by_number))
        is_sure = min(left.values(), default=0) >= 0 and left.total() <= rest_bytes
        return "" if self._words is None else self._words(context_id, rest_bytes, +left if is_sure else {})

    def _by_place(self, by_number: Mapping[int, int]) -> dict[int, int]:
        return {self._places[number]: size for number, size in by_number.items() if number in self._places}


def _rows(chosen: list[tuple[ContextRecord, str]], walk: _Walk, sites: _Sites) -> tuple[tuple[Held, ...], bool]:
    """The rows, and whether no context has less live bytes than were found."""
    rows: list[Held] = []
    consistent = True
    of_openblas = workspaces()
    for record, under in chosen:
        context_id = record.context_id
        found = {number: sums[context_id] for number, sums in enumerate(walk.sums) if context_id in sums}
        explained = [walk.row(number, record, under, sites) for number in found]
        workspace_bytes = of_openblas.get(context_id, 0)
        if workspace_bytes:
            where = sites.words(context_id, workspace_bytes, {})
            explained.append(_row(record, under, _WORKSPACE, workspace_bytes, where))
        rows += sorted(explained, key=lambda row: -row.held_bytes)
        unexplained = record.self_live_bytes - sum(row.held_bytes for row in explained)
        consistent &= unexplained >= 0
        if unexplained:  # less than nothing, if other threads never leave off
            if workspace_bytes:  # of sites that are not known
                where = sites.words(context_id, unexplained, {})
            else:
                where = sites.words_of_rest(context_id, unexplained, found.values())
            rows.append(_row(record, under, UNEXPLAINED, unexplained, where))
    return tuple(rows), consistent


def _row(
    record: ContextRecord,
    under: str,
    holder: Holder,
    held_bytes: int,
    allocated_at: str,
    released_by: str = "",
    shared_with: tuple[str, ...] = (),
    alone_bytes: int = 0,
) -> Held:
    return Held(
        record.context_id,
        record.name,
        holder.name,
        holder.kind,
        held_bytes,
        released_by,
        shared_with,
        alone_bytes,
        under,
        allocated_at,
    )


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
    """Visits everything once. `sums` has for each of `holders` the bytes by context and number of a site."""

    def __init__(self, user: Namespace, progress: Progress | None) -> None:
        self._asked = Asked()
        self._walk = _native.Walk(kinds.known(), self._asked.types)
        self._walk.include(gc.get_objects())  # what is made from now on is the walk's own
        self.holders: list[Holder] = []
        self.sums: list[dict[int, dict[int, int]]] = []
        self._user = user
        self._progress = progress
        self._modules = Modules(user.names)
        self._caches: list[tuple[Any, int]] = []
        self._enters_caches = False
        self._left_alone: list[tuple[Any, int]] = []
        self._package: str | None = "__main__"  # whose classes are passed through; None for all
        self._groups: list[Group] = []
        self._detours: list[Group] = []
        self._passing = user.in_passing()
        self._own = [user.names, sys.modules, progress, self._modules.dicts, *self._modules.dicts.values()]
        self._own += [self._asked, *self._asked.own_objects()]
        self._own += user.own_objects()  # kept: in a trial, what has one reference only is not looked up
        self._walk.exclude([self, *self._own, self._own])
        try:
            self._go()
        finally:
            # Whoever interrupts this keeps its frames, but not what the user lets go of.
            for kept in (
                self._groups,
                self._detours,
                self._passing,
                self._caches,
                self._left_alone,
                self._own,
                self._asked,
            ):
                kept.clear()

    def row(self, number: int, record: ContextRecord, under: str, sites: _Sites) -> Held:
        """What is told of a holder and a context."""
        context_id = record.context_id
        by_site = self.sums[number][context_id]
        held_bytes = sum(by_site.values())
        return _row(
            record,
            under,
            self.holders[number],
            held_bytes,
            sites.words(context_id, held_bytes, by_site),
            self._release.line(number, context_id, held_bytes),
            self._release.sharing(number, context_id, held_bytes),
            self._release.alone_bytes(number, context_id),
        )

    def _go(self) -> None:
        self._follow_names()
        self._follow_modules()
        self._follow_caches()
        self._follow_left_alone()
        self._follow(_GARBAGE, self._follow_rest(), GroupKind.GARBAGE)
        self._follow_asked()
        self._try()

    def _follow_names(self) -> None:
        shell = self._user.shell
        if shell is not None:
            self._walk.exclude([shell])
        for holder, objects in self._user.roots():
            if not self._is_of_library(objects):
                self._follow(holder, objects)
        if shell is not None:
            self._walk.include([shell])

    def _is_of_library(self, objects: list[Any]) -> bool:
        """Imported names: their modules hold what they name."""
        if len(objects) != 1:
            return False
        kind = type(objects[0])
        if issubclass(kind, type):
            return type_package(objects[0]) not in ("__main__", dict.get(self._user.names, "__name__"))
        return issubclass(kind, ModuleType) and self._modules.is_loaded(objects[0])

    def _follow_modules(self) -> None:
        for name in self._modules.users:
            self._follow_module(name)
        of_users = {type_package(thing) for thing, _ in self._left_alone if issubclass(type(thing), type)}
        for package in self._modules.packages(of_users):
            self._package = package
            dicts = [self._modules.dicts[name] for name in self._modules.libraries[package]]
            if package == "sys":  # has the last exception, which is a holder of its own
                kept = [value for variable, value in dicts[0].items() if variable not in ERRORS]
                self._follow(Holder(package, "module"), kept, GroupKind.LIBRARY)
                self._follow_names_of(dicts[0])
            else:
                self._walk.include(dicts)
                self._follow(Holder(package, "module"), dicts, GroupKind.LIBRARY)

    def _follow_module(self, name: str) -> None:
        """A module of the user's: its variables, then what Python itself put there."""
        self._package = package_of(name)
        names = self._modules.dicts[name]
        kept = []
        for variable, value in list(names.items()):
            if type(variable) is str and not is_dunder(variable):
                line = self._user.notebook.module_variable(name, variable)
                self._follow(Holder(f"{name}.{variable}", "module", line), [value])
            else:
                kept.append(value)
        self._follow(Holder(name, "module"), kept)
        self._follow_names_of(names)

    def _follow_names_of(self, names: dict[str, Any]) -> None:
        """A module's dict itself, on behalf of the last holder, as what is in it was followed one by one."""
        self._walk.include([names])
        self._follow_more(len(self.holders) - 1, [names])
        self._walk.exclude([names])

    def _follow_caches(self) -> None:
        self._enters_caches = True
        caches = Caches(self._user.names, _LRU_CACHE)
        for wrapper, number in self._caches:
            self._walk.include([wrapper])
            holder = self._cache_holder(wrapper, number, caches)
            kind = GroupKind.PASSING if holder.line is None else GroupKind.CACHE
            self._follow(holder, [wrapper], kind)
        self._caches.clear()

    def _cache_holder(self, wrapper: Any, number: int, caches: Caches) -> Holder:
        """A cache by the name of its function, if there is a way to it by that."""
        function = _wrapped(wrapper)
        found_by = self.holders[number]
        if type(function) is not FunctionType:
            return Holder(f"{found_by.name}.cache", "cache")
        line = caches.find(wrapper, function, self._user.notebook)
        if line is None:
            return Holder(f"{found_by.name}.cache", "cache")
        name = function.__code__.co_qualname.rpartition("<locals>.")[2]
        if "<" in name:
            name = line.calls[0].removesuffix(".cache_clear()")
        elif function.__globals__ is not self._user.names:
            name = f"{dict.get(function.__globals__, '__name__')}.{name}"
        return Holder(name, "cache", line)

    def _follow_left_alone(self) -> None:
        """What no module and no name turned out to have, such as a class whose module was loaded again."""
        self._package = None
        for number, _, (_, *found) in self._detours:  # more may be added meanwhile
            self._follow_more(number, found)
        for thing, number in self._left_alone:  # here, too
            if self._walk.unvisited([thing]):
                self._follow_more(number, [], [thing])
        self._left_alone.clear()

    def _follow(self, holder: Holder, objects: list[Any], kind: GroupKind = GroupKind.NAMES) -> None:
        number = len(self.holders)
        self.holders.append(holder)
        self.sums.append({})
        self._groups.append((number, kind, objects))
        self._follow_more(number, objects)

    def _follow_more(self, number: int, objects: list[Any], passed: list[Any] | None = None) -> None:
        sums = self.sums[number]
        pending = [] if passed is None else passed
        while objects or pending:
            held, special = self._walk.follow(number, objects, pending)
            for (context_id, site), held_bytes in held.items():
                by_site = sums.setdefault(context_id, {})
                by_site[site] = by_site.get(site, 0) + held_bytes
            objects = []
            pending += [thing for thing in special if self._is_passed(thing, number, objects)]
            if self._progress is not None:
                self._progress(self._walk.seen_count)

    def _is_passed(self, thing: Any, number: int, objects: list[Any]) -> bool:
        """Whether to go on from something special. To `objects` is added what to go on from instead."""
        kind = type(thing)
        if self._asked.add(thing, number, self.holders[number]):
            return True
        if kind is FunctionType:
            # An imported function is held by its module, but not one of its making, which holds what it was given.
            imported = id(thing.__globals__) in self._modules.addresses and "<locals>" not in thing.__code__.co_qualname
            passed = self._package != "__main__" or not imported or thing.__closure__ is not None
        elif issubclass(kind, type):
            passed = self._package is None or type_package(thing) == self._package
        elif kind is FrameType:
            return self._is_frame_passed(thing, number)
        elif kind is _LRU_CACHE:
            return self._is_cache_passed(thing, number, objects)
        elif issubclass(kind, ModuleType):
            return not self._modules.is_loaded(thing)
        else:
            return kind is TracebackType
        if not passed and not _is_library(self.holders[number]):
            self._left_alone.append((thing, number))
        return passed

    def _is_frame_passed(self, frame: FrameType, number: int) -> bool:
        """Those of IPython, which ran the cell, lead everywhere; but it has the result of the cell and its errors."""
        if is_of_shell(frame):
            return False
        found = behind(frame)
        if found:
            self._detours.append((number, GroupKind.DETOUR, [frame, *found]))
        return True

    def _is_cache_passed(self, wrapper: Any, number: int, objects: list[Any]) -> bool:
        if not self._enters_caches:
            self._walk.exclude([wrapper])
            self._caches.append((wrapper, number))
            function = _wrapped(wrapper)
            if function is not None:
                objects.append(function)
        return self._enters_caches

    def _follow_rest(self) -> list[Any]:
        """Objects that no name leads to, but something unknown refers to. The others are returned: garbage."""
        rest = self._walk.unvisited(gc.get_objects())
        by_type: dict[int, list[Any]] = {}
        for thing in self._walk.divide(rest):
            by_type.setdefault(id(type(thing)), []).append(thing)
        for things in by_type.values():
            self._follow(Holder(f"({with_article(type_name(type(things[0])))})", "object"), things, GroupKind.PASSING)
        return self._walk.unvisited(rest)

    def _follow_asked(self) -> None:
        """What libraries tell of their objects, after all else: what they were lent is the lender's."""
        for number, buffers in self._asked.ask(self._walk):
            self._follow_more(number, buffers)
        self._follow(Holder(UNKNOWN, "object"), list(self._asked.unseen))

    def _try(self) -> None:
        groups = [group for group in self._groups if group[1] is not GroupKind.PASSING]
        self._groups.clear()
        groups.append((0, GroupKind.PASSING, self._passing))
        groups += self._detours
        self._detours.clear()
        self._release = Release(self._walk.release(groups, _LIMIT_MS), self.holders, self._user.notebook)


def _is_library(holder: Holder) -> bool:
    return holder.kind == "module" and holder.line is None


def _wrapped(wrapper: Any) -> Any:
    """The function behind an lru_cache. The wrapper's class is C's own, so nothing of the user's runs."""
    try:
        return object.__getattribute__(wrapper, "__wrapped__")
    except AttributeError:
        return None
