"""Putting the hooks in and taking them out: CPython's domains at once, NumPy when it is there."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, cast

from thag_nb import _native
from thag_nb.errors import DispatcherError

if TYPE_CHECKING:
    # Not at run time: the base classes would bring a third of all that importing this costs.
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_CPYTHON_DOMAINS = 3
_NUMPY_CORES = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")  # since NumPy 2.0, and before
_AFTER_NUMPY_CORE = "numpy.linalg"  # where it is loaded, so is the core, by whatever name


class _NumpyLoader:
    """Loads NumPy's core as its own loader would, and hooks its data handler right after."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        """Whoever looks meanwhile finds what the core's own loader has."""
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if _native.is_recording():
            attach_numpy()


class _NumpyFinder:
    """Waits for NumPy's core to be imported, and steps aside for everything else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _NUMPY_CORES:
            return None
        _stop_waiting(self)
        others = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _NumpyLoader(spec.loader))
        return spec


class _State:
    """What this module did to the process, and has to undo."""

    finder: _NumpyFinder | None = None
    exit_registered = False
    exiting = False
    reattached = 0
    forgotten_bytes = 0
    frees_missed = False
    numpy_problem: str | None = None
    companion: Callable[[], None] | None = None


def start() -> None:
    """Hook and record. Twice is once, unless somebody has removed us meanwhile: then hook again.

    Raises `DispatcherError` if a domain cannot be hooked.
    """
    if _State.exiting:
        return
    was_recording = _native.is_recording()
    if _State.frees_missed:
        _State.forgotten_bytes += _native.forget()
        _State.frees_missed = False
    put = _hook()
    _State.reattached += put if was_recording else 0
    if not _State.exit_registered:
        # Nothing of ours may look at Python objects once the interpreter takes itself apart.
        atexit.register(_exit)
        os.register_at_fork(after_in_child=_native.after_fork)
        _State.exit_registered = True
    attach_numpy()
    if _State.companion is not None:
        _State.companion()


def ensure_started() -> None:
    """`start` for whoever cannot wait: while recording, only what somebody has removed is put back."""
    if _native.is_recording():
        _State.reattached += _hook()
    else:
        start()


def _hook() -> int:
    """How many domains were hooked."""
    try:
        return _native.start()
    except RuntimeError as error:
        raise DispatcherError(f"{error}; restart the interpreter to record again") from None


def accompany(companion: Callable[[], None] | None) -> None:
    """What every start does besides, also one that opening a task brings about."""
    _State.companion = companion


def stop() -> None:
    """Stop recording and take the hooks out where nobody stands on top of them. Twice is once."""
    if _State.finder is not None:
        _stop_waiting(_State.finder)
    was_recording = _native.is_recording()
    reached = _native.stop()
    if was_recording or reached == 0:
        # Blocks freed from here on are not repaid in a domain that no longer reaches us.
        _State.frees_missed = _State.exit_registered and reached < _CPYTHON_DOMAINS
    _State.numpy_problem = None


def _exit() -> None:
    """Stop for good: whoever runs after this may still open tasks, but nothing is recorded any more."""
    _State.exiting = True
    stop()


def repair() -> None:
    """Hook again the domains that somebody took us out of while recording; `reattached` counts them."""
    if _native.is_recording():
        start()


def attach_numpy() -> None:
    """Hook NumPy's data handler if NumPy is loaded; else wait for it to be imported."""
    core = _numpy_core()
    if core is not None:
        _attach_numpy_core(core)
    elif _State.finder is None:
        _State.finder = _NumpyFinder()
        sys.meta_path.insert(0, _State.finder)


def _numpy_core() -> ModuleType | None:
    for name in _NUMPY_CORES:
        core = sys.modules.get(name)
        # Each NumPy has a stand-in by the other name. That of NumPy 2 must not be asked: it raises, and complains.
        if core is not None and "_ARRAY_API" in vars(core):
            return core
    return None


def reattached() -> int:
    """How many times a domain was hooked again after somebody had removed us."""
    return _State.reattached


def forgotten_bytes() -> int:
    """Bytes that were live at a stop and are no longer followed."""
    return _State.forgotten_bytes


def numpy_problem() -> str | None:
    """Why NumPy's array data is not seen, or None."""
    unseen = _native.is_recording() and _AFTER_NUMPY_CORE in sys.modules and _native.hooks()["numpy"] == "absent"
    if _State.numpy_problem is None and unseen:
        return "NumPy's array data is not seen: its core was not found where it is known to be"
    return _State.numpy_problem


def _attach_numpy_core(core: ModuleType) -> None:
    if _State.finder is not None:
        _stop_waiting(_State.finder)
    try:
        _native.attach_numpy(core._ARRAY_API)
        _State.numpy_problem = None
    except ValueError as error:
        _State.numpy_problem = f"NumPy's array data is not seen: {error}"


def _stop_waiting(finder: _NumpyFinder) -> None:
    with contextlib.suppress(ValueError):  # somebody has cleared the path
        sys.meta_path.remove(finder)
    if _State.finder is finder:
        _State.finder = None
