"""Contexts follow work that is handed over: to threads, to thread pools, to executors.

asyncio carries contextvars by itself; threads and pools do not. So what hands work over is wrapped: it notes the
context that is current, and the work runs under it. A thread stays with its context for its whole life. A pool's worker
belongs to nobody, and each piece of work brings its own context.

Others wrap the same functions (ipykernel 6 does). A wrapper that somebody has wrapped cannot be taken out; it is
switched off, and on again when it is wanted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from thag_nb import _native

if TYPE_CHECKING:
    import threading

_MISSING = object()
_POOL_WORKERS = {("concurrent.futures.thread", "_worker"), ("multiprocessing.pool", "worker")}


class _Wrapping:
    """One function of a class, wrapped while `on`."""

    def __init__(self, owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._owner = owner
        self._name = name
        self._wrap = wrap
        self._found: Any = _MISSING
        self._wrapper: Callable[..., Any] | None = None
        self.on = False

    def install(self) -> None:
        self.on = True
        if self._wrapper is not None:
            return  # still there, under somebody else's
        self._found = self._owner.__dict__.get(self._name, _MISSING)
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
        if self._found is _MISSING:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._found)
        self._wrapper = None


def carry(function: Callable[..., Any], flow: _native.Frame | None) -> Callable[..., Any]:
    """`function`, to be called under a context wherever that happens. A pool's worker is in the root by itself."""
    if flow is None:
        return function

    @wraps(function, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        entering = _native.adopt(flow)
        try:
            return function(*args, **kwargs)
        finally:
            entering.leave(False)

    return call


def _is_pool_worker(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    return (getattr(target, "__module__", None), getattr(target, "__name__", None)) in _POOL_WORKERS


def _thread_start(start: Callable[..., Any]) -> Callable[..., Any]:
    # Since 3.14 a thread may be born with a copy of its starter's Context, a pool's worker with the first submitter's.
    inherits = bool(getattr(sys.flags, "thread_inherit_context", 0))

    def carrying(thread: threading.Thread) -> Any:
        flow = None if _is_pool_worker(thread) else _native.flow()
        if flow is None and not inherits:
            return start(thread)
        run = thread.run  # whatever a subclass made of it

        def run_once() -> None:
            # Taken off again, so that the thread does not keep itself alive.
            del thread.run
            entering = _native.adopt(flow)
            try:
                run()
            finally:
                entering.leave(False)

        thread.run = run_once  # type: ignore[method-assign]
        try:
            return start(thread)
        except RuntimeError:
            thread.__dict__.pop("run", None)
            raise

    return carrying


def _with_function(submit: Callable[..., Any]) -> Callable[..., Any]:
    """For methods whose first argument is the function to run elsewhere."""

    def carrying(pool: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(pool, carry(function, _native.flow()), *args, **kwargs)

    return carrying


def _wrappings() -> list[_Wrapping]:
    # Here, because importing thag_nb must not bring threading along.
    import threading
    from concurrent.futures import Future, ThreadPoolExecutor
    from multiprocessing.pool import ThreadPool

    pools = ("apply_async", "_map_async", "imap", "imap_unordered")
    return [
        _Wrapping(threading.Thread, "start", _thread_start),
        _Wrapping(ThreadPoolExecutor, "submit", _with_function),
        _Wrapping(Future, "add_done_callback", _with_function),
        *(_Wrapping(ThreadPool, name, _with_function) for name in pools),
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
