"""Tasks: named contexts that a person opens around work, and work that is not to be recorded."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from functools import partial, wraps
from types import coroutine

from thag_nb import _native
from thag_nb.errors import DecorationError
from thag_nb.light_typing import TYPE_CHECKING, Any, cast, overload
from thag_nb.runtime import call_sites, hooks
from thag_nb.runtime.contexts import AllocatorContext, ContextGuard, name_from, prepare_guard, unrecorded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from typing import ParamSpec, TypeVar

    from thag_nb.runtime.call_sites import Lines

    Parameters = ParamSpec("Parameters")
    Result = TypeVar("Result")
    Function = TypeVar("Function", bound=Callable[..., Any])

TaskGuard = _native.TaskGuard

_CO_ITERABLE_COROUTINE = 0x100  # as in `inspect`


class TaskMemoryContext:
    """One task that may be entered any number of times, also from several flows at once."""

    __slots__ = ("_least_bytes", "_unentered", "context")

    def __init__(self, name: str, *, lines: Lines = False) -> None:
        """Open the task's context under the current one; `lines` is as in `task`.

        Raises `ContextNameError` and `LinesError`.
        """
        self._least_bytes = call_sites.least_bytes(lines)
        self._open(name)

    def _open(self, name: str) -> None:
        guard = prepare_guard(TaskGuard, name, "task")
        if self._least_bytes is not None:
            with unrecorded():
                call_sites.record(guard.context.id, self._least_bytes)
        self._unentered = [guard]  # the first to be entered; if none ever is, the task ends with this object
        self.context: AllocatorContext = guard.context

    def enter(self) -> TaskGuard:
        """Make the task current here, and start the dispatcher if it is off."""
        hooks.ensure_started()
        while True:
            try:
                guard = self._unentered.pop()
            except IndexError:
                guard = TaskGuard(self.context)
            try:
                guard.enter()
            except ValueError:
                # A reset has dropped it: what follows is a task of its own.
                self._open(self.context.name)
            else:
                return guard


class Scope(ABC):
    """What `task` and `untracked` have in common: with, async with, and decorating any kind of function.

    One scope may be used many times and by several flows at once.
    """

    __slots__ = ()

    @abstractmethod
    def guard(self) -> ContextGuard:
        """A guard for one use, not yet entered."""

    @abstractmethod
    def entered(self) -> ContextGuard:
        """A guard for one use, entered."""

    def __call__(self, function: Function) -> Function:
        """Decorate a function, coroutine function, generator or async generator; each call is one use.

        A generator is inside only while it runs, not while it waits for its caller. Methods of any kind, partials and
        objects with a ``__call__`` are decorated likewise. What a function merely returns, such as a coroutine that it
        has not awaited, runs outside. Raises `DecorationError` for a class and for what cannot be called.
        """
        if isinstance(function, staticmethod | classmethod):
            return cast("Function", type(function)(self(function.__func__)))
        if isinstance(function, type) or not callable(function):
            raise DecorationError(function)
        return cast("Function", self._around(function))

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import inspect  # it brings half of the standard library, and who decorates nothing needs none of it

        bodies = _bodies(function)
        if any(map(inspect.isasyncgenfunction, bodies)):
            return self._around_async_generator(function)
        if any(map(inspect.isgeneratorfunction, bodies)):
            around = self._around_generator(function)
            return coroutine(around) if any(map(_can_be_awaited, bodies)) else around
        if any(map(inspect.iscoroutinefunction, bodies)):
            return self._around_coroutine(function)
        return self._around_function(function)

    def _around_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            guard = self.entered()
            try:
                return function(*args, **kwargs)
            finally:
                guard.close()

        return call

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            guard = self.entered()
            try:
                return await function(*args, **kwargs)
            finally:
                guard.close()

        return call

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inside = _native.resumes(self.guard(), function, *args, **kwargs)
            del args, kwargs  # a wrapper must not make them live longer
            while True:
                try:
                    return (yield from inside)
                except BaseException as error:  # from the generator, or thrown in by who has it
                    if not inside.raise_next(error):
                        raise

        return call

    def _around_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            guard = self.guard()
            with _held(guard):
                guard.enter()
                with guard:
                    generator = function(*args, **kwargs)
                del args, kwargs
                # Values and errors are kept in no variable: the wrapper must not make them live longer.
                resume, result = [_first_asend(generator)], []
                while True:
                    guard.enter()
                    with guard:
                        try:
                            result.append(await resume.pop())
                        except StopAsyncIteration:
                            return
                    try:
                        resume.append(generator.asend((yield result.pop())))
                    except BaseException as error:
                        resume.append(generator.athrow(error))

        return call


def _bodies(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Where the work of a call may be written: the function behind a partial, the ``__call__`` of an object."""
    while isinstance(function, partial):
        function = function.func
    return function, type(function).__call__


def _can_be_awaited(generator_function: Callable[..., Any]) -> bool:
    """Whether `types.coroutine` has marked it."""
    code = getattr(generator_function, "__code__", None)
    return code is not None and bool(code.co_flags & _CO_ITERABLE_COROUTINE)


def _first_asend(generator: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """Starts a wrapped async generator without showing it to the event loop, which would close it beside its wrapper.

    The first awaitable is where the interpreter shows it. The wrapper alone closes it, also when both are collected at
    once: without a finalizer the interpreter would close it there and then, and it could not await anything.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, _left_to_the_wrapper)
    try:
        return generator.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _left_to_the_wrapper(generator: AsyncGenerator[Any, Any]) -> None:
    """The finalizer of a wrapped async generator."""


class _held:  # noqa: N801 - reads as a function where it is used
    """Keeps the context of a guard open while nobody is inside it."""

    __slots__ = ("_context_id",)

    def __init__(self, guard: ContextGuard) -> None:
        self._context_id = guard.context.id

    def __enter__(self) -> None:
        _native.hold(self._context_id)

    def __exit__(self, *error: object) -> None:
        _native.release(self._context_id)


class TaskScope(_native.TaskScope, Scope):
    """What `task` gives: a scope of which each use is a new task."""

    __slots__ = ()

    _clean = staticmethod(name_from)
    _start = staticmethod(hooks.ensure_started)
    _least_bytes = staticmethod(call_sites.least_bytes)
    _record_lines = staticmethod(call_sites.record)

    def __reduce__(self) -> tuple[type[TaskScope], tuple[str, Lines]]:
        """As one that nobody has entered: a decorated function may be sent to another process."""
        return type(self), (self.name, call_sites.lines_from(self.least_bytes))


@overload
def task(name: str, *, lines: Lines = False) -> TaskScope: ...
@overload
def task(function: Function, /) -> Function: ...
def task(name: Any, *, lines: Lines = False) -> Any:
    """Charge what runs inside to a new task called `name`: ``with``, ``async with``, or as a decorator.

    Each use, and each call of a decorated function, is a task of its own, started under the context current then.
    Starts the dispatcher if it is off. ``with task("load") as context`` gives the `AllocatorContext`. A decorator that
    stands bare, as ``@task``, calls the tasks like the function: ``load``, or ``Model.fit`` in a class.

    With ``lines=True``, each allocation is also charged to the line of Python that made it, with the lines that called
    that one. A least size, as ``lines=4096`` bytes or ``lines="4 KiB"``, leaves smaller allocations together and costs
    less.

    A name may come out of data: line breaks and what else cannot be shown are replaced, what is longer than 200 letters
    is cut, and `status` counts such names. Raises `ContextNameError` for a name that is no text, `LinesError` for other
    `lines`, and `DecorationError` for a class.
    """
    is_bare = not isinstance(name, str) and (callable(name) or isinstance(name, classmethod))
    return TaskScope(_name_of(name), lines)(name) if is_bare else TaskScope(name, lines)


def _name_of(function: Any) -> str:
    """What a person calls a function: with its class, but not with the function that it is local to."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return (name if isinstance(name, str) else type(function).__qualname__).rpartition("<locals>.")[2]


class UntrackedScope(_native.UntrackedScope, Scope):
    """What `untracked` gives: a scope of the shared system context."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[UntrackedScope], tuple[()]]:
        """As one that nobody has entered."""
        return type(self), ()


@overload
def untracked() -> UntrackedScope: ...
@overload
def untracked(function: Function, /) -> Function: ...
def untracked(*functions: Any) -> Any:
    """Record nothing of what runs inside (`Allocator.SYSTEM`): ``with``, ``async with``, or as a decorator.

    A decorator may be written with parentheses or without. Raises `DecorationError` for what is not a function.
    """
    scope = UntrackedScope()
    return scope(*functions) if functions else scope


def with_task_allocator(
    name: str, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call `function` inside a new task. Raises `ContextNameError`, and whatever the function raises."""
    with TaskScope(name):
        return function(*args, **kwargs)


def with_system_allocator(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call `function` and record nothing of what it allocates."""
    with untracked():
        return function(*args, **kwargs)
