"""Tasks: named contexts that a person opens around work, and work that is not to be recorded."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from thag_nb import _native, hooks
from thag_nb.contexts import AllocatorContext, ContextGuard, check_name, prepare_guard, registry

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])


class TaskGuard(ContextGuard):
    """The guard of a task; the task has ended when the last of its guards is closed."""

    __slots__ = ()


class TaskMemoryContext:
    """One task that may be entered any number of times, also from several flows at once."""

    __slots__ = ("context",)

    def __init__(self, name: str) -> None:
        """Open the task's context under the current one. Raises `ContextNameError`."""
        self.context: AllocatorContext = prepare_guard(TaskGuard, name, "task").context

    def enter(self) -> TaskGuard:
        """Make the task current here, and start the dispatcher if it is off."""
        hooks.start()
        if self.context.id not in registry:
            # A reset has dropped it: what follows is a task of its own.
            self.context = prepare_guard(TaskGuard, self.context.name, "task").context
        guard = TaskGuard(self.context)
        guard.enter()
        return guard


class Scope(ABC):
    """What `task` and `untracked` have in common: with, async with, and decorating any kind of function.

    One scope may be used many times and by several flows at once.
    """

    __slots__ = ("_guards",)

    def __init__(self) -> None:
        self._guards: list[ContextGuard] = []

    @abstractmethod
    def guard(self) -> ContextGuard:
        """A guard for one use, not yet entered."""

    def __enter__(self) -> AllocatorContext:
        guard = self.guard()
        # Remembered first, so that the list does not grow inside the task.
        self._guards.append(guard)
        guard.enter()
        return guard.context

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Nothing is allocated before the guard is closed: it would be charged to the task.
        guard = self._guards[-1]
        if guard.frame is not _native.current_frame():
            guard = self._innermost()
        guard.close()
        self._guards.remove(guard)

    def _innermost(self) -> ContextGuard:
        """The guard that this flow entered last; of several flows, each finds its own."""
        current = _native.current_frame()
        return next((guard for guard in reversed(self._guards) if guard.frame is current), self._guards[-1])

    async def __aenter__(self) -> AllocatorContext:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Function) -> Function:
        """Decorate a function, coroutine function, generator or async generator; each call is one use.

        A generator is inside only while it runs, not while it waits for its caller.
        """
        if inspect.isasyncgenfunction(function):
            return cast(Function, self._around_async_generator(function))
        if inspect.isgeneratorfunction(function):
            return cast(Function, self._around_generator(function))
        if inspect.iscoroutinefunction(function):
            return cast(Function, self._around_coroutine(function))
        return cast(Function, self._around_function(function))

    def _around_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            guard = self.guard()
            guard.enter()
            with guard:
                return function(*args, **kwargs)

        return call

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            guard = self.guard()
            guard.enter()
            with guard:
                return await function(*args, **kwargs)

        return call

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with _Resumes(self.guard()) as inside:
                generator = inside(function, *args, **kwargs)
                resume, value = generator.send, None
                while True:
                    try:
                        item = inside(resume, value)
                    except StopIteration as stop:
                        return stop.value
                    try:
                        resume, value = generator.send, (yield item)
                    except GeneratorExit:
                        inside(generator.close)
                        raise
                    except BaseException as error:
                        resume, value = generator.throw, error

        return call

    def _around_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            with _Resumes(self.guard()) as inside:
                generator = inside(function, *args, **kwargs)
                resume, value = generator.asend, None
                while True:
                    try:
                        item = await inside.wait_for(resume, value)
                    except StopAsyncIteration:
                        return
                    try:
                        resume, value = generator.asend, (yield item)
                    except GeneratorExit:
                        await inside.wait_for(generator.aclose)
                        raise
                    except BaseException as error:
                        resume, value = generator.athrow, error

        return call


class _Resumes:
    """Enters a guard around every resume of a generator, and keeps its context open in between."""

    __slots__ = ("_guard",)

    def __init__(self, guard: ContextGuard) -> None:
        self._guard = guard

    def __enter__(self) -> _Resumes:
        _native.hold(self._guard.context.id)
        return self

    def __exit__(self, *error: object) -> None:
        _native.release(self._guard.context.id)

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._guard.enter()
        with self._guard:
            return function(*args, **kwargs)

    async def wait_for(self, function: Callable[..., Any], *args: Any) -> Any:
        self._guard.enter()
        with self._guard:
            return await function(*args)


class task(Scope):  # noqa: N801 - reads as a function where it is used
    """Charge what runs inside to a new task called `name`: ``with``, ``async with``, or as a decorator.

    Each use, and each call of a decorated function, is a task of its own, started under the context current then.
    Starts the dispatcher if it is off. ``with task("load") as context`` gives the `AllocatorContext`.
    Raises `ContextNameError` for a name that is not a non-empty str.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = check_name(name)
        super().__init__()

    def guard(self) -> TaskGuard:
        """A guard for a new task, not yet entered."""
        guard = prepare_guard(TaskGuard, self.name, "task")
        hooks.start()
        return guard


class untracked(Scope):  # noqa: N801 - reads as a function where it is used
    """Record nothing of what runs inside (`Allocator.SYSTEM`): ``with``, ``async with``, or as a decorator."""

    __slots__ = ()

    def guard(self) -> ContextGuard:
        """A guard for the shared system context, not yet entered."""
        return ContextGuard(registry[_native.SYSTEM_ID])


def with_task_allocator(
    name: str, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call `function` inside a new task. Raises `ContextNameError`, and whatever the function raises."""
    with task(name):
        return function(*args, **kwargs)


def with_system_allocator(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call `function` and record nothing of what it allocates."""
    with untracked():
        return function(*args, **kwargs)
