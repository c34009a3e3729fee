"""The hook in NumPy's data allocator: put in at once if NumPy is there, else as soon as it has been imported."""

from __future__ import annotations

import sys

from thag_nb import _native
from thag_nb.light_typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    # Not at run time: the base classes would bring a third of all that importing this costs.
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_CORES = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")  # since NumPy 2.0, and before
_AFTER_CORE = "numpy.linalg"  # where it is loaded, so is the core, by whatever name


class _Loader:
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
            attach()


class _Finder:
    """Waits for NumPy's core to be imported, and steps aside for everything else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _CORES:
            return None
        _take_out(self)
        others = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Loader(spec.loader))
        return spec


class _State:
    """What this module did to the process, and has to undo."""

    finder: _Finder | None = None
    problem: str | None = None


def attach() -> None:
    """Hook NumPy's data handler if NumPy is loaded; else wait for it to be imported."""
    core = _loaded_core()
    if core is not None:
        _attach_core(core)
    elif _State.finder is None:
        _State.finder = _Finder()
        sys.meta_path.insert(0, _State.finder)


def stop_waiting() -> None:
    """Wait for NumPy no longer. The native core takes the hook out itself, with all others."""
    if _State.finder is not None:
        _take_out(_State.finder)
    _State.problem = None


def problem() -> str | None:
    """Why NumPy's array data is not seen, or None."""
    unseen = _native.is_recording() and _AFTER_CORE in sys.modules and _native.hooks()["numpy"] == "absent"
    if _State.problem is None and unseen:
        return "NumPy's array data is not seen: its core was not found where it is known to be"
    return _State.problem


def _loaded_core() -> ModuleType | None:
    for name in _CORES:
        core = sys.modules.get(name)
        # Each NumPy has a stand-in by the other name. That of NumPy 2 must not be asked: it raises, and complains.
        if core is not None and "_ARRAY_API" in vars(core):
            return core
    return None


def _attach_core(core: ModuleType) -> None:
    stop_waiting()
    try:
        _native.attach_numpy(core._ARRAY_API)
    except ValueError as error:
        _State.problem = f"NumPy's array data is not seen: {error}"


def _take_out(finder: _Finder) -> None:
    if finder in sys.meta_path:  # else somebody has cleared it
        sys.meta_path.remove(finder)
    if _State.finder is finder:
        _State.finder = None
