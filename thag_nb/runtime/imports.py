"""Waits for modules to be imported: who waits is told of a module that has come before anybody can use it.

A finder that is asked first lets those behind it find the module, and has its spec watched. The last thing that the
import system does with a module before it is given away is to say in its spec that it is not initializing any more;
until then other threads wait for it. All else of the import is as without us: spec, loader and module are the finders'
own, and who only asks where a module would come from is not noticed.
"""

from __future__ import annotations

import _frozen_importlib as import_system
import _thread
import sys

from thag_nb import _native
from thag_nb.light_typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import TypeVar, TypeVarTuple

    from _typeshed.importlib import MetaPathFinderProtocol as Finder

    _Found = Callable[[str, ModuleType], None]
    _Arguments = TypeVarTuple("_Arguments")
    _Result = TypeVar("_Result")


class _State:
    """What is waited for, and what this module did to the process."""

    awaited: dict[str, _Found] = {}  # noqa: RUF012 - replaced, never changed: other threads may be looking through it
    told: dict[str, ModuleType] = {}  # noqa: RUF012 - the last of each name
    finders_before: list[Finder] | None = None


def _unrecorded(function: Callable[[*_Arguments], _Result]) -> Callable[[*_Arguments], _Result]:
    """Let what the function allocates be charged to nobody."""

    def call(*arguments: *_Arguments) -> _Result:
        inside = _native.enter(_native.SYSTEM_ID, False)
        try:
            return function(*arguments)
        finally:
            inside.leave(True)

    return call


@_unrecorded
def wait_for(names: Iterable[str], found: _Found) -> None:
    """Call `found` with name and module for those that are imported, and for each that will be, each time.

    It is called in whatever thread imports the module, and what it allocates is charged to nobody.
    """
    names = tuple(names)
    _State.awaited = {**_State.awaited, **dict.fromkeys(names, found)}
    for name in names:
        _State.told.pop(name, None)
    _enter_path()
    look()


@_unrecorded
def stop_waiting_for(names: Iterable[str]) -> None:
    """Wait for these no longer; a `found` that another thread is in the middle of goes on to its end."""
    ended = set(names)
    _State.awaited = {name: found for name, found in _State.awaited.items() if name not in ended}
    for name in ended:
        _State.told.pop(name, None)
    if not _State.awaited:
        _leave_path()


@_unrecorded
def look() -> None:
    """Tell of the modules that have come without the finder being asked: loaded by hand, or by a finder before it."""
    for name, found in _State.awaited.items():
        module = sys.modules.get(name)
        if module is not None and module is not _State.told.get(name) and not _will_be_told(module):
            _State.told[name] = module
            found(name, module)


def _will_be_told(module: ModuleType) -> bool:
    """Have a module watched that is in the middle of its import, if it still is."""
    spec: Any = getattr(module, "__spec__", None)
    if not getattr(spec, "_initializing", False):
        return False
    _watch(spec)
    return bool(spec._initializing)


class _Finder:
    """Has the specs of modules that are waited for watched, and steps aside for everything else."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _State.awaited:
            return None
        for finder in _finders_to_ask(fullname):
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                _watch(spec)
                return spec
        return None


@_unrecorded
def _finders_to_ask(name: str) -> Iterator[Finder]:
    """Those behind ours, in the middle of an import; nobody for a mere question, which the others answer themselves."""
    finders = sys.meta_path if _is_being_imported(name) else []
    ours = next((place for place, finder in enumerate(finders) if finder is _Finder), -1)
    return iter([finder for finder in finders[ours + 1 :] if hasattr(finder, "find_spec")])


def _is_being_imported(name: str) -> bool:
    """Whether this thread imports it: then it has the module's lock; who only asks has not, nor who reloads it."""
    reference = vars(import_system).get("_module_locks", {}).get(name)
    lock = reference() if reference is not None else None
    return lock is not None and lock.owner == _thread.get_ident()


class _WatchedSpec(import_system.ModuleSpec):
    """A spec until its module is there."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        try:
            if name == "_initializing" and not value:
                _has_come(self)
        finally:
            object.__setattr__(self, name, value)


_WatchedSpec.__name__ = _WatchedSpec.__qualname__ = import_system.ModuleSpec.__name__  # it is shown as one


@_unrecorded
def _watch(spec: object) -> None:
    if type(spec) is import_system.ModuleSpec:  # else it is of a kind of its own, and its module is found by looking
        spec.__class__ = _WatchedSpec


@_unrecorded
def _has_come(spec: ModuleSpec) -> None:
    spec.__class__ = import_system.ModuleSpec
    found, module = _State.awaited.get(spec.name), sys.modules.get(spec.name)
    if found is not None and module is not None:  # else nobody waits any more, or it failed
        _State.told[spec.name] = module
        found(spec.name, module)


def _enter_path() -> None:
    if not any(finder is _Finder for finder in sys.meta_path):
        _State.finders_before = sys.meta_path
        sys.meta_path = [_Finder, *sys.meta_path]


def _leave_path() -> None:
    """By another list: a thread that goes through the one that there is would miss a finder if ours were taken out."""
    finders, before = sys.meta_path or [], _State.finders_before
    others = [finder for finder in finders if finder is not _Finder]
    if len(others) < len(finders):
        sys.meta_path = before if before == others else others
    _State.finders_before = None
