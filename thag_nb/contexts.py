"""Allocator contexts: what work runs under, and the guards that make one current."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from thag_nb import _native, hooks
from thag_nb.errors import AllocatorError, ContextNameError
from thag_nb.recording import Kind


class Allocator(enum.Enum):
    """How a context treats the allocations made under it."""

    TASK_AWARE = "task_aware"
    """Record each one and charge it to the context."""

    SYSTEM = "system"
    """Pass it straight through and record nothing."""


@dataclass(frozen=True, slots=True)
class AllocatorContext:
    """Something that work runs under. Ids grow and are never reused; the root has id 1 and no parent (0)."""

    id: int
    allocator: Allocator
    name: str
    kind: Kind
    parent_id: int


def check_name(name: object) -> str:
    """The name, if it can be one. Raises `ContextNameError`."""
    if not isinstance(name, str) or not name.strip():
        raise ContextNameError(name)
    return name


class ContextRegistry:
    """Every context by its id. The dispatcher keeps the figures of the same contexts natively."""

    def __init__(self) -> None:
        self._contexts: dict[int, AllocatorContext] = {}
        self._add(AllocatorContext(_native.ROOT_ID, Allocator.TASK_AWARE, "root", "root", 0))
        self._add(AllocatorContext(_native.SYSTEM_ID, Allocator.SYSTEM, "system", "system", _native.ROOT_ID))

    def open(
        self, name: str, kind: Kind, allocator: Allocator = Allocator.TASK_AWARE, parent_id: int | None = None
    ) -> AllocatorContext:
        """A new context, under the current one unless `parent_id` says otherwise. It ends with its last guard.

        Raises `ContextNameError` for a name that is not a non-empty str.
        """
        check_name(name)
        parent = _native.parent_id() if parent_id is None else parent_id
        context_id = _native.open_context(parent, allocator is Allocator.TASK_AWARE)
        return self._add(AllocatorContext(context_id, allocator, name, kind, parent))

    def drop(self, context_ids: list[int]) -> None:
        """Forget contexts whose figures are gone."""
        for context_id in context_ids:
            self._contexts.pop(context_id, None)

    def __contains__(self, context_id: int) -> bool:
        return context_id in self._contexts

    def __getitem__(self, context_id: int) -> AllocatorContext:
        return self._contexts[context_id]

    def __iter__(self) -> Iterator[AllocatorContext]:
        return iter(tuple(self._contexts.values()))

    def __len__(self) -> int:
        return len(self._contexts)

    def _add(self, context: AllocatorContext) -> AllocatorContext:
        self._contexts[context.id] = context
        return context


registry = ContextRegistry()


class ContextGuard:
    """Makes a context current on `enter`, and on `close` restores what it found: in any order, on any thread, without
    raising. A guard that is dropped closes itself. As a context manager it closes at the end of the block.
    """

    __slots__ = ("context", "frame")

    def __init__(self, context: AllocatorContext) -> None:
        self.frame: _native.Frame | None = None
        self.context = context

    def enter(self, *, detach: bool = False) -> None:
        """Make the context current; with `detach`, nothing of what was current here is kept. May raise MemoryError."""
        self.frame = _native.enter(self.context.id, detach)

    def close(self, *, orphan: bool = True) -> None:
        """Leave the context. Twice is once.

        A guard that is not innermost here is passed over by those that are closed later; with `orphan` False it is left
        alone, for a flow that has ended elsewhere.
        """
        frame, self.frame = self.frame, None
        if frame is not None:
            _native.leave(frame, orphan)

    def __enter__(self) -> AllocatorContext:
        return self.context

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


GuardType = TypeVar("GuardType", bound=ContextGuard)


def prepare_guard(
    make_guard: Callable[[AllocatorContext], GuardType],
    name: str,
    kind: Kind,
    allocator: Allocator = Allocator.TASK_AWARE,
    parent_id: int | None = None,
) -> GuardType:
    """A guard for a new context, not yet entered; none of the bookkeeping is charged to anybody.

    Raises `ContextNameError` for a name that is not a non-empty str.
    """
    bookkeeping = _native.enter(_native.SYSTEM_ID, False)
    try:
        return make_guard(registry.open(name, kind, allocator, parent_id))
    finally:
        _native.leave(bookkeeping, True)


def push_allocator_context(allocator: Allocator, name: str | None = None) -> ContextGuard:
    """Make a new context current, and start the dispatcher if it is off and the context records.

    Without a name, `Allocator.SYSTEM` means the shared system context, and `Allocator.TASK_AWARE` a new one called
    ``task``. Raises `ContextNameError` for a name that is not a non-empty str, `AllocatorError` for another allocator.
    """
    if not isinstance(allocator, Allocator):
        raise AllocatorError(allocator)
    if allocator is Allocator.SYSTEM and name is None:
        guard = ContextGuard(registry[_native.SYSTEM_ID])
    elif allocator is Allocator.SYSTEM:
        guard = prepare_guard(ContextGuard, check_name(name), "system", allocator)
    else:
        guard = prepare_guard(ContextGuard, "task" if name is None else name, "task")
        hooks.start()
    guard.enter()
    return guard


def current_context() -> AllocatorContext:
    """The context that an allocation made here would be charged to."""
    return registry[_native.current_id()]
