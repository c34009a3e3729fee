"""Allocator contexts: what work runs under, and the guards that make one current."""

from __future__ import annotations

import enum

from thag_nb import _native
from thag_nb.errors import AllocatorError, ContextNameError, MarkNameError, UnknownContextError
from thag_nb.light_typing import TYPE_CHECKING, NamedTuple, cast
from thag_nb.recordings.model import id_from, surround_files
from thag_nb.runtime import hooks
from thag_nb.units import clean_name, is_plain_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import TypeVar

    from thag_nb.recordings.model import Kind

    GuardType = TypeVar("GuardType", bound="ContextGuard")


class Allocator(enum.Enum):
    """How a context treats the allocations made under it."""

    TASK_AWARE = "task_aware"
    """Record each one and charge it to the context."""

    SYSTEM = "system"
    """Pass it straight through and record nothing."""


class AllocatorContext(NamedTuple):
    """Something that work runs under. Ids grow and are never reused; the root has id 1 and no parent (0)."""

    id: int
    allocator: Allocator
    name: str
    kind: Kind
    parent_id: int


_native.describe_as(AllocatorContext, Allocator.TASK_AWARE, Allocator.SYSTEM)


class _Names:
    """What was done to the names that were given."""

    cleaned = 0


def name_from(given: object, error: type[ContextNameError | MarkNameError] = ContextNameError) -> str:
    """A name out of what was given, cleaned and counted if need be; raises `error` if that is no text.

    Names come out of data: whatever text that is, the program goes on.
    """
    if not isinstance(given, str):
        raise error(given)
    if is_plain_name(given):
        return given
    with unrecorded():
        name = clean_name(given)
        _Names.cleaned += str.__ne__(name, given)
    return name


def cleaned_names() -> int:
    """How many names were given that had to be cleaned."""
    return _Names.cleaned


class ContextRegistry:
    """Every context by its id. The dispatcher keeps them; this is how Python sees the same records."""

    def open(
        self, name: str, kind: Kind, allocator: Allocator = Allocator.TASK_AWARE, parent_id: int | None = None
    ) -> AllocatorContext:
        """A new context, under the current one unless `parent_id` says otherwise. It ends with its last guard.

        Raises `ContextNameError` for a name that is no text.
        """
        return _native.open_context(allocator is Allocator.TASK_AWARE, name_from(name), kind, parent_id)

    def __getitem__(self, context_id: int) -> AllocatorContext:
        """Raises `UnknownContextError` for what is not an id, never was one, or is not known any more."""
        description = self._find(context_id)
        if description is None:
            raise UnknownContextError(context_id, [f"{len(self)} ids from {_native.ROOT_ID} on"])
        return describe(description)

    def __contains__(self, context_id: object) -> bool:
        return self._find(context_id) is not None

    def __iter__(self) -> Iterator[AllocatorContext]:
        return (self[context_id] for context_id in _native.context_ids())

    def __len__(self) -> int:
        return len(_native.context_ids())

    @staticmethod
    def _find(context_id: object) -> _native.Description | None:
        try:
            return _native.context(id_from(context_id))
        except (ValueError, OverflowError):
            return None


def describe(description: _native.Description) -> AllocatorContext:
    """The context of a native description."""
    context_id, parent_id, records, (name, kind) = description
    allocator = Allocator.TASK_AWARE if records else Allocator.SYSTEM
    return AllocatorContext(context_id, allocator, name, cast("Kind", kind), parent_id)


registry = ContextRegistry()


ContextGuard = _native.ContextGuard


def prepare_guard(
    guard_type: type[GuardType],
    name: str,
    kind: Kind,
    allocator: Allocator = Allocator.TASK_AWARE,
    parent_id: int | None = None,
) -> GuardType:
    """A guard for a new context, not yet entered; neither is charged to anybody.

    The context ends when the guard is closed or dropped, also if nobody was ever inside. Raises `ContextNameError` for
    a name that is no text.
    """
    return _native.open_guard(guard_type, allocator is Allocator.TASK_AWARE, name_from(name), kind, parent_id)


def push_allocator_context(allocator: Allocator, name: str | None = None) -> ContextGuard:
    """Make a new context current, and start the dispatcher if it is off and the context records.

    Without a name, `Allocator.SYSTEM` means the shared system context, and `Allocator.TASK_AWARE` a new one called
    ``task``. Raises `ContextNameError` for a name that is no text, `AllocatorError` for another allocator.
    """
    if not isinstance(allocator, Allocator):
        raise AllocatorError(allocator)
    if allocator is Allocator.TASK_AWARE:
        task_name = name_from("task" if name is None else name)
        hooks.ensure_started()  # which may refuse, and then there is no context that nobody entered
        guard = prepare_guard(ContextGuard, task_name, "task")
    elif name is None:
        guard = ContextGuard(registry[_native.SYSTEM_ID])
    else:
        guard = prepare_guard(ContextGuard, name, "system", allocator)
    guard.enter()
    return guard


def set_foreground(context: AllocatorContext) -> None:
    """Charge threads that no Python flow reaches to a context that was entered here, until it is left.

    Then to whatever was made the foreground before and has not been left meanwhile, at last to the root. Raises
    ValueError for a context that was not entered here, or was left.
    """
    _native.set_foreground(context.id)


def base_id() -> int:
    """The context that one to be entered with `detach` would be started under."""
    return _native.base_id()


class _Inside:
    """Leaves at the end of a block what was entered before; None for nothing."""

    __slots__ = ("_entering",)

    def __init__(self, entering: _native.Entering | None) -> None:
        self._entering = entering

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        if self._entering is not None:
            self._entering.leave(True)


def unrecorded() -> AbstractContextManager[None]:
    """Record nothing of our own work from here to the end of the ``with`` block that this is called for.

    Unlike `untracked`, it costs the context that it is called in nothing at all: it is made inside already.
    """
    return _Inside(_native.enter(_native.SYSTEM_ID, False))


def for_root() -> AbstractContextManager[None]:
    """Charge the root, whatever is current, to the end of the ``with`` block that this is called for.

    What is not recorded stays so.
    """
    description = _native.context(_native.current_id())
    records = description is None or description[2]
    return _Inside(_native.adopt(None) if records else None)


surround_files(unrecorded)


def current_context() -> AllocatorContext:
    """The context that an allocation made here would be charged to."""
    while True:
        description = _native.context(_native.current_id())
        if description is not None:  # else another thread has just dropped it, and its heir is current
            return describe(description)
