"""Contexts follow work that is handed over: to threads, to thread pools, to executors.

asyncio carries contextvars by itself; threads and pools do not. So what hands work over is wrapped: it notes the
context that is current, and the work runs under it. A thread stays with its context for its whole life. A pool's worker
belongs to nobody, and each piece of work brings its own context, be it the root.

Nothing is imported for that: what is there is wrapped at once, and what is imported later as soon as it has come.

Others wrap the same functions (ipykernel 6 does). A wrapper that somebody has wrapped cannot be taken out; it is
switched off, and on again when it is wanted.

What is wrapped takes what it took, and complains of it in its own words: what we do not understand goes through.
"""

from __future__ import annotations

import sys
from types import MethodType

from thag_nb import _native
from thag_nb.light_typing import TYPE_CHECKING, Any
from thag_nb.runtime import imports

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from types import ModuleType

    _Flow = _native.Frame | None

    _Prepared = tuple[tuple[Any, ...], dict[str, Any], Callable[[], object] | None] | None
    """What a function is to be called with instead, and what undoes this if it fails; None for as it was called."""

    _Prepare = Callable[..., _Prepared]
    _Carry = Callable[[Any, _Flow], Any]
    _Method = tuple[str, str, _Prepare] | tuple[str, str, _Prepare, _Carry]

_NOBODY: _Flow = None
_MISSING = object()

# Since 3.14 a thread may be born with a copy of its starter's Context, a pool's worker with the first submitter's.
_INHERITS = bool(getattr(sys.flags, "thread_inherit_context", 0))


class _Wrapping:
    """One function of a class, wrapped while `on`."""

    def __init__(self, owner: type, name: str, prepare: _Prepare, carry: _Carry | None = None) -> None:
        self._owner = owner
        self._name = name
        self._prepare = prepare
        self._carry = carry  # the function itself, to somebody else than who calls it
        self._own_entry: Any = _MISSING
        self._wrapper: Callable[..., Any] | None = None
        self.on = False

    def install(self) -> None:
        self.on = True
        if self._wrapper is not None:
            return  # still there, under somebody else's
        self._own_entry = self._owner.__dict__.get(self._name, _MISSING)
        function = getattr(self._owner, self._name)
        carried = function if self._carry is None else self._carry(function, _NOBODY)
        wrapper = _native.handover(carried, self._prepare_while_on)
        try:
            setattr(self._owner, self._name, wrapper)
        except TypeError:
            return  # somebody has compiled the class; whoever imports it must not fail for that
        self._wrapper = wrapper

    def _prepare_while_on(self, /, *args: Any, **kwargs: Any) -> _Prepared:
        return self._prepare(*args, **kwargs) if self.on else None

    def remove(self) -> None:
        self.on = False
        if self._wrapper is None or self._owner.__dict__.get(self._name) is not self._wrapper:
            return
        if self._own_entry is _MISSING:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._own_entry)
        self._wrapper = None

    def is_out(self) -> bool:
        """Whether nothing of it is left."""
        return self._wrapper is None


def _carry(function: Any, flow: _Flow) -> Any:
    return _native.carrier(function, flow) if callable(function) else function


def _carry_sized(iterable: Any, flow: _Flow) -> Any:
    # The others are made into a list before they are handed over.
    return _native.carried_items(iterable, flow) if hasattr(type(iterable), "__len__") else iterable


def _handing_over(**parameters: tuple[int, _Carry]) -> _Prepare:
    """For methods that hand over what they are given: the parameters' positions, `self` being 0, and how to carry."""

    def prepare(*args: Any, **kwargs: Any) -> _Prepared:
        flow, arguments = _native.flow(), list(args)
        for name, (position, carry) in parameters.items():
            if position < len(arguments):
                arguments[position] = carry(arguments[position], flow)
            elif name in kwargs:
                kwargs[name] = carry(kwargs[name], flow)
        return tuple(arguments), kwargs, None

    return prepare


def _prepare_nothing(*_args: Any, **_kwargs: Any) -> _Prepared:
    return None


_prepare_call = _handing_over(fn=(1, _carry))


def _prepare_submit(*args: Any, **kwargs: Any) -> _Prepared:
    return None if args and _leaves_the_interpreter(args[0]) else _prepare_call(*args, **kwargs)


def _leaves_the_interpreter(pool: object) -> bool:
    """Whether it pickles its work for other interpreters, as a thread pool's subclass does since 3.14."""
    module = sys.modules.get("concurrent.futures.interpreter")
    return module is not None and isinstance(pool, module.InterpreterPoolExecutor)


def _loaded(*places: tuple[str, str]) -> tuple[type, ...]:
    """The classes that are there, of those that may be imported one day."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in places)
    return tuple(kind for kind in found if isinstance(kind, type))


_THREAD = ("threading", "Thread")
_EXECUTOR = ("concurrent.futures.thread", "ThreadPoolExecutor")
_POOL = ("multiprocessing.pool", "Pool")
# Workers of the pools of other libraries, which bring the submitter's contextvars themselves.
_WORKERS = (("anyio._backends._asyncio", "WorkerThread"), ("trio._core._thread_cache", "WorkerThread"))


def _has_fixed_run(thread: threading.Thread) -> bool:
    """Whether the class answers for `run` whatever the instance has, as it does with a property."""
    run = next(vars(kind)["run"] for kind in type(thread).__mro__ if "run" in vars(kind))
    return hasattr(type(run), "__set__")


def _is_one_of(target: object, owner: object, *names: str) -> bool:
    # By identity: the targets of others may answer any question, or raise.
    return any(target is getattr(owner, name, _MISSING) for name in names)


def _has_a_context_of_its_own(thread: threading.Thread) -> bool:
    """Whether it was given one, which 3.14 began with: then that says what it is part of."""
    return sys.version_info >= (3, 14) and vars(thread).get("_context") is not None


def _arguments_of(thread: threading.Thread) -> Sequence[object]:
    """What its target will be given, as far as that can be looked at: an iterator would be used up by it."""
    arguments: Any = vars(thread).get("_args")
    return arguments if type(arguments) in (tuple, list) else ()


def _serves_threads(thread: threading.Thread) -> bool:
    """Whether it is part of a pool of threads. What a pool of processes sends back is charged to who made the pool."""
    target, arguments = vars(thread).get("_target"), _arguments_of(thread)
    if _is_one_of(target, sys.modules.get("concurrent.futures.thread"), "_worker"):
        return True
    if _is_one_of(target, sys.modules.get("multiprocessing.pool"), "worker"):
        return True
    executors = [each for each in arguments if issubclass(type(each), _loaded(_EXECUTOR))]
    if any(thread in getattr(each, "_threads", ()) for each in executors):
        return True  # of an executor with workers of its own kind, as Dask's
    workers = _loaded(*_WORKERS)
    if isinstance(thread, workers) or (isinstance(target, MethodType) and isinstance(target.__self__, workers)):
        return True
    if not any(_is_one_of(target, pool, "_handle_tasks", "_handle_results") for pool in _loaded(_POOL)):
        return False
    return not any(hasattr(argument, "_reader") for argument in arguments)  # a pipe, to a process


def _prepare_thread(*args: Any, **kwargs: Any) -> _Prepared:
    thread = args[0] if args else None
    threads: tuple[type[threading.Thread], ...] = _loaded(_THREAD)
    if not isinstance(thread, threads) or _has_fixed_run(thread) or _has_a_context_of_its_own(thread):
        return None
    imports.look()
    flow = _NOBODY if _serves_threads(thread) else _native.flow()
    if flow == _NOBODY and not _INHERITS:
        return None
    return args, kwargs, _native.carry_run(thread, flow).give_up


_prepare_imap = _handing_over(func=(1, _carry), iterable=(2, _native.carried_items))
_prepare_apply = _handing_over(func=(1, _carry), callback=(4, _carry), error_callback=(5, _carry))
_prepare_map = _handing_over(
    func=(1, _carry), iterable=(2, _carry_sized), callback=(5, _carry), error_callback=(6, _carry)
)

_METHODS: dict[str, tuple[_Method, ...]] = {
    "threading": (("Thread", "start", _prepare_thread),),
    "concurrent.futures._base": (("Future", "add_done_callback", _prepare_call),),
    "concurrent.futures.thread": (("ThreadPoolExecutor", "submit", _prepare_submit),),
    "multiprocessing.pool": (
        ("ThreadPool", "apply_async", _prepare_apply),
        ("ThreadPool", "_map_async", _prepare_map),
        ("ThreadPool", "imap", _prepare_imap),
        ("ThreadPool", "imap_unordered", _prepare_imap),
    ),
    # What Dask's workers do is nobody's: they are asked by messages, so who made them is not who wants it.
    "distributed.worker": (("Worker", "handle_stimulus", _prepare_nothing, _carry),),
}
"""What is wrapped: by the module that it is in, each class and the name of its method."""


class _State:
    """What this module did to the process, and has to undo."""

    following = False
    wrappings: dict[tuple[type, str], _Wrapping] = {}  # noqa: RUF012 - the state itself


def _wrap(module_name: str, module: ModuleType) -> None:
    for class_name, name, *how in _METHODS[module_name]:
        owner = getattr(module, class_name, None)
        if isinstance(owner, type) and callable(getattr(owner, name, None)):  # else it is another module of that name
            wrapping = _State.wrappings.setdefault((owner, name), _Wrapping(owner, name, *how))
            wrapping.install()
            if not _State.following:  # another thread has stopped meanwhile, and may have found nothing to remove yet
                wrapping.remove()


def install() -> None:
    """Let contexts follow threads, `ThreadPoolExecutor` and `multiprocessing.pool.ThreadPool`. Twice is once."""
    _State.following = True
    for wrapping in tuple(_State.wrappings.values()):
        wrapping.install()
    imports.wait_for(_METHODS, _wrap)


def is_installed() -> bool:
    """Whether contexts follow threads now."""
    return _State.following


def remove() -> None:
    """Undo `install`, as far as nobody has wrapped it meanwhile; what remains passes calls through."""
    _State.following = False
    imports.stop_waiting_for(_METHODS)
    for place, wrapping in tuple(_State.wrappings.items()):
        wrapping.remove()
        if wrapping.is_out():
            _State.wrappings.pop(place, None)
