"""Blocks of known sizes, straight from CPython's allocator domains."""

import ctypes
from collections.abc import Callable

DOMAINS = ("PyMem_Raw", "PyMem_", "PyObject_")
SIZE = 123_457

_address = ctypes.c_void_p
_size = ctypes.c_size_t


class Domain:
    """One domain's functions. `library` is ctypes.pythonapi (with the GIL) or a CDLL (without)."""

    def __init__(self, prefix: str, library: ctypes.CDLL = ctypes.pythonapi) -> None:
        self.malloc = self._function(library, f"{prefix}Malloc", [_size], _address)
        self.calloc = self._function(library, f"{prefix}Calloc", [_size, _size], _address)
        self.realloc = self._function(library, f"{prefix}Realloc", [_address, _size], _address)
        self.free = self._function(library, f"{prefix}Free", [_address], None)

    @staticmethod
    def _function(library: ctypes.CDLL, name: str, arguments: list[type], result: type | None) -> Callable[..., int]:
        prototype = ctypes.PYFUNCTYPE if library is ctypes.pythonapi else ctypes.CFUNCTYPE
        return prototype(result, *arguments)((name, library))


RAW, MEM, OBJ = (Domain(prefix) for prefix in DOMAINS)
ALL = (RAW, MEM, OBJ)
RAW_WITHOUT_GIL = Domain("PyMem_Raw", ctypes.CDLL(None))
