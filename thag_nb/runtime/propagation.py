"""Contexts follow work that is handed over: to threads, to thread pools, to executors.

asyncio carries contextvars by itself; threads and pools do not. So what hands work over is wrapped: it notes the
context that is current, and the work runs under it. A thread stays with its context for its whole life. A pool's worker
belongs to nobody, and each piece of work brings its own context, be it the root.

Others wrap the same functions (ipykernel 6 does). A wrapper that somebody has wrapped cannot be taken out; it is
switched off, and on again when it is wanted.

What is wrapped takes what it took, and complains of it in its own words: what we do not understand goes through.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeAlias

from thag_nb import _native

if TYPE_CHECKING:
    import threading

_Flow: TypeAlias = "_native.Frame | None"
_NOBODY: _Flow = None
_MISSING = object()


_here = _native.flow  # what is current, to be entered elsewhere
_enter = _native.adopt


class _Wrapping:
    """One function of a class, wrapped while `on`."""

    def __init__(self, owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._owner = owner
        self._name = name
        self._wrap = wrap
        self._own_entry: Any = _MISSING
        self._wrapper: Callable[..., Any] | None = None
        self.on = False

    def install(self) -> None:
        self.on = True
        if self._wrapper is not None:
            return  # still there, under somebody else's
        self._own_entry = self._owner.__dict__.get(self._name, _MISSING)
        original = getattr(self._owner, self._name)
        carrying = self._wrap(original)

        @wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return (carrying if self.on else original)(*args, **kwargs)

        self._wrapper = wrapper
        setattr(self._owner, self._name, wrapper)

    def remove(self) -> None:
        self.on = False
        if self._wrapper is None or self._owner.__dict__.get(self._name) is not self._wrapper:
            return
        if self._own_entry is _MISSING:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._own_entry)
        self._wrapper = None


class _Carrier:
    """A function that runs under a flow wherever it is called. It waits at its maker's expense, so it is small."""

    __slots__ = ("_flow", "_function")

    def __init__(self, function: Callable[..., Any], flow: _Flow) -> None:
        self._function = function
        self._flow = flow

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        entering = _enter(self._flow)
        try:
            return self._function(*args, **kwargs)
        finally:
            entering.leave(False)


class _Items:
    """What an iterable yields, made under a flow wherever it is asked for."""

    __slots__ = ("_flow", "_iterable")

    def __init__(self, iterable: Iterable[Any], flow: _Flow) -> None:
        self._iterable = iterable
        self._flow = flow

    def __iter__(self) -> Iterator[Any]:
        items = _Carrier(iter, self._flow)(self._iterable)
        return map(_Carrier(next, self._flow), repeat(items))


class _SizedItems(_Items):
    __slots__ = ()

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]


def _carry(function: Any, flow: _Flow) -> Any:
    return _Carrier(function, flow) if callable(function) else function


def _carry_sized(iterable: Any, flow: _Flow) -> Any:
    # The others are made into a list before they are handed over.
    return _SizedItems(iterable, flow) if hasattr(iterable, "__len__") else iterable


def _handing_over(**parameters: tuple[int, Callable[[Any, _Flow], Any]]) -> Callable[..., Callable[..., Any]]:
    """For methods that hand over what they are given: the parameters' positions, `self` being 0, and how to carry."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def carrying(*args: Any, **kwargs: Any) -> Any:
            flow, arguments = _here(), list(args)
            for name, (position, carry) in parameters.items():
                if position < len(arguments):
                    arguments[position] = carry(arguments[position], flow)
                elif name in kwargs:
                    kwargs[name] = carry(kwargs[name], flow)
            return method(*arguments, **kwargs)

        return carrying

    return wrap


def _submit(submit: Callable[..., Any]) -> Callable[..., Any]:
    carrying = _handing_over(fn=(1, _carry))(submit)

    def carrying_within(*args: Any, **kwargs: Any) -> Any:
        return (submit if args and _leaves_the_interpreter(args[0]) else carrying)(*args, **kwargs)

    return carrying_within


def _leaves_the_interpreter(pool: object) -> bool:
    """Whether it pickles its work for other interpreters, as a thread pool's subclass does since 3.14."""
    module = sys.modules.get("concurrent.futures.interpreter")
    return module is not None and isinstance(pool, module.InterpreterPoolExecutor)


class _Run:
    """A thread's `run`, once: what it would have run, under a flow.

    It is put past the thread's own `__setattr__`, and takes itself off, so that the thread does not keep itself alive.
    """

    __slots__ = ("_flow", "_own_entry", "_thread")

    def __init__(self, thread: threading.Thread, flow: _Flow) -> None:
        self._thread = thread
        self._flow = flow
        self._own_entry = vars(thread).get("run", _MISSING)
        vars(thread)["run"] = self

    def __call__(self) -> None:
        self._take_off()
        _Carrier(self._thread.run, self._flow)()

    def give_up(self) -> None:
        if vars(self._thread).get("run") is self:
            self._take_off()

    def _take_off(self) -> None:
        if self._own_entry is _MISSING:
            vars(self._thread).pop("run", None)
        else:
            vars(self._thread)["run"] = self._own_entry


def _has_fixed_run(thread: threading.Thread) -> bool:
    """Whether the class answers for `run` whatever the instance has, as it does with a property."""
    run = next(vars(kind)["run"] for kind in type(thread).__mro__ if "run" in vars(kind))
    return hasattr(type(run), "__set__")


def _is_one_of(target: object, owner: object, *names: str) -> bool:
    # By identity: the targets of others may answer any question, or raise.
    return any(target is getattr(owner, name, _MISSING) for name in names)


def _serves_threads(thread: threading.Thread) -> bool:
    """Whether it is part of a pool of threads. What a pool of processes sends back is charged to who made the pool."""
    from concurrent.futures import thread as executor
    from multiprocessing import pool

    target = vars(thread).get("_target")
    if _is_one_of(target, executor, "_worker") or _is_one_of(target, pool, "worker"):
        return True
    if not _is_one_of(target, pool.Pool, "_handle_tasks", "_handle_results"):
        return False
    return not any(hasattr(argument, "_reader") for argument in vars(thread).get("_args", ()))  # a pipe, to a process


def _thread_start(start: Callable[..., Any]) -> Callable[..., Any]:
    from threading import Thread

    # Since 3.14 a thread may be born with a copy of its starter's Context, a pool's worker with the first submitter's.
    inherits = bool(getattr(sys.flags, "thread_inherit_context", 0))

    def carrying(*args: Any, **kwargs: Any) -> Any:
        thread = args[0] if args else None
        if not isinstance(thread, Thread) or _has_fixed_run(thread):
            return start(*args, **kwargs)
        flow = _NOBODY if _serves_threads(thread) else _here()
        if flow == _NOBODY and not inherits:
            return start(*args, **kwargs)
        run = _Run(thread, flow)
        try:
            return start(*args, **kwargs)
        except Exception:
            run.give_up()
            raise

    return carrying


def _wrappings() -> list[_Wrapping]:
    # Here, because importing thag_nb must not bring threading along.
    import threading
    from concurrent.futures import Future, ThreadPoolExecutor
    from multiprocessing.pool import ThreadPool

    imap = _handing_over(func=(1, _carry), iterable=(2, _Items))
    apply = _handing_over(func=(1, _carry), callback=(4, _carry), error_callback=(5, _carry))
    map_ = _handing_over(func=(1, _carry), iterable=(2, _carry_sized), callback=(5, _carry), error_callback=(6, _carry))
    return [
        _Wrapping(threading.Thread, "start", _thread_start),
        _Wrapping(ThreadPoolExecutor, "submit", _submit),
        _Wrapping(Future, "add_done_callback", _handing_over(fn=(1, _carry))),
        _Wrapping(ThreadPool, "apply_async", apply),
        _Wrapping(ThreadPool, "_map_async", map_),
        _Wrapping(ThreadPool, "imap", imap),
        _Wrapping(ThreadPool, "imap_unordered", imap),
    ]


_installed: list[_Wrapping] = []


def install() -> None:
    """Let contexts follow threads, `ThreadPoolExecutor` and `multiprocessing.pool.ThreadPool`. Twice is once."""
    if not _installed:
        _installed.extend(_wrappings())
    for wrapping in _installed:
        wrapping.install()


def is_installed() -> bool:
    """Whether contexts follow threads now."""
    return any(wrapping.on for wrapping in _installed)


def remove() -> None:
    """Undo `install`, as far as nobody has wrapped it meanwhile; what remains passes calls through."""
    for wrapping in _installed:
        wrapping.remove()
