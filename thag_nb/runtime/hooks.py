"""The hooks in Python's allocators: put in, taken out, and put in again where somebody has removed them."""

from __future__ import annotations

import atexit
import os
import sys

from thag_nb import _native
from thag_nb.errors import DispatcherError
from thag_nb.light_typing import TYPE_CHECKING
from thag_nb.runtime import native_memory, numpy_hook

if TYPE_CHECKING:
    from collections.abc import Callable

_CPYTHON_DOMAINS = 3


class _State:
    """What this module did to the process, and has to undo."""

    exit_registered = False
    exiting = False
    forgotten_bytes = 0
    frees_missed = False
    companion: Callable[[], None] | None = None


def start() -> None:
    """Hook and record. Twice is once, unless somebody has removed us meanwhile: then hook again.

    Raises `DispatcherError` if a domain cannot be hooked, and where the GIL is off.
    """
    if _State.exiting:
        return
    if not _gil_is_on():
        raise DispatcherError(
            "nothing can be recorded while the GIL is off; start Python without -X gil=0 and PYTHON_GIL=0, "
            "then importing thag_nb turns the GIL on"
        )
    if _State.frees_missed:
        _State.forgotten_bytes += _native.forget()
        _State.frees_missed = False
    _hook()
    if not _State.exit_registered:
        # Nothing of ours may look at Python objects once the interpreter takes itself apart.
        atexit.register(_exit)
        os.register_at_fork(after_in_child=_native.after_fork)
        _State.exit_registered = True
    numpy_hook.attach()
    native_memory.attach()
    if _State.companion is not None:
        _State.companion()


def _gil_is_on() -> bool:
    """False on a free-threaded build that was told to keep the GIL off whatever is imported: the core relies on it."""
    is_enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)  # since 3.13
    return is_enabled is None or is_enabled()


def ensure_started() -> None:
    """`start` for whoever cannot wait: while recording, only what somebody has removed is put back."""
    if _native.is_recording():
        _hook()
    else:
        start()


def _hook() -> None:
    try:
        _native.start()
    except RuntimeError as error:
        raise DispatcherError(f"{error}; restart the interpreter to record again") from None


def accompany(companion: Callable[[], None] | None) -> None:
    """What every start does besides, also one that opening a task brings about."""
    _State.companion = companion


def companion() -> Callable[[], None] | None:
    """What every start does besides."""
    return _State.companion


def stop() -> None:
    """Stop recording and take the hooks out where nobody stands on top of them. Twice is once."""
    numpy_hook.stop_waiting()
    native_memory.stop_waiting()
    was_recording = _native.is_recording()
    reached = _native.stop()
    if was_recording or reached == 0:
        # Blocks freed from here on are not repaid in a domain that no longer reaches us.
        _State.frees_missed = _State.exit_registered and reached < _CPYTHON_DOMAINS


def _exit() -> None:
    """Stop for good: whoever runs after this may still open tasks, but nothing is recorded any more."""
    _State.exiting = True
    stop()


def repair() -> None:
    """Hook again the domains that somebody took us out of while recording."""
    if _native.is_recording():
        start()


def forgotten_bytes() -> int:
    """Bytes that were live at a stop and are no longer followed."""
    return _State.forgotten_bytes
