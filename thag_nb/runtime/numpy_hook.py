"""The hook in NumPy's data allocator: put in at once if NumPy is there, else as soon as it has been imported."""

from __future__ import annotations

import sys

from thag_nb import _native
from thag_nb.light_typing import TYPE_CHECKING
from thag_nb.runtime import imports

if TYPE_CHECKING:
    from types import ModuleType

_CORES = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")  # since NumPy 2.0, and before
_AFTER_CORE = "numpy.linalg"  # where it is loaded, so is the core, by whatever name


class _State:
    """What became of the last attempt."""

    problem: str | None = None


def attach() -> None:
    """Hook NumPy's data handler if NumPy is loaded; else wait for it to be imported."""
    imports.wait_for(_CORES, _attach_core)


def stop_waiting() -> None:
    """Wait for NumPy no longer. The native core takes the hook out itself, with all others."""
    imports.stop_waiting_for(_CORES)
    _State.problem = None


def problem() -> str | None:
    """Why NumPy's array data is not seen, or None."""
    unseen = _native.is_recording() and _AFTER_CORE in sys.modules and _native.hooks()["numpy"] == "absent"
    if _State.problem is None and unseen:
        return "NumPy's array data is not seen: its core was not found where it is known to be"
    return _State.problem


def _attach_core(_name: str, core: ModuleType) -> None:
    # Each NumPy has a stand-in by the other name. That of NumPy 2 must not be asked: it raises, and complains.
    if "_ARRAY_API" not in vars(core) or not _native.is_recording():
        return
    stop_waiting()
    try:
        _native.attach_numpy(core._ARRAY_API)
    except ValueError as error:
        _State.problem = f"NumPy's array data is not seen: {error}"
