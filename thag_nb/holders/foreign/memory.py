"""What says itself where its memory is, whatever library that is from: arrays, buffers, and what is handed over."""

from __future__ import annotations

import ctypes
from datetime import datetime_CAPI

from thag_nb import _native
from thag_nb.holders.foreign.library import Library
from thag_nb.holders.modules import find_type


def arrays() -> Library | None:
    """NumPy's arrays over memory of something else; see `thag_array_borrows` in native/heap/arrays.h."""
    kind = find_type("numpy", "ndarray")
    return None if kind is None else Library({kind: lambda array: [array.__array_interface__["data"][0]]})


def buffers() -> Library:
    """Mapped memory, and what matplotlib draws on."""
    places = (("mmap", "mmap"), ("matplotlib.backends._backend_agg", "RendererAgg"))
    kinds = [find_type(module, name) for module, name in places]
    return Library({kind: lambda shown: [_native.buffer_address(shown)] for kind in kinds if kind is not None})


# What Arrow's and DLPack's interfaces hand over, until somebody has taken it.
_HANDED_OVER = {b"arrow_array", b"arrow_array_stream", b"arrow_device_array", b"arrow_device_array_stream"}
_HANDED_OVER |= {b"dltensor", b"dltensor_versioned"}
_NAME_OF = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))


def capsules() -> Library:
    """Capsules in which one library hands memory to another. There are others, which have no memory."""
    return Library({}, frozenset({type(datetime_CAPI)}), may_hoard=lambda capsule: _NAME_OF(capsule) in _HANDED_OVER)
