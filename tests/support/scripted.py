"""Allocators below the hooks that do what a test says: where a block lies, whether a call fails, what else happens."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import thag_nb
from thag_nb import _native

_pointer, _size = ctypes.c_void_p, ctypes.c_size_t


class _Handler(ctypes.Structure):
    """PyDataMem_Handler, as NumPy has it."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("word", _pointer),
        ("malloc", _pointer),
        ("calloc", _pointer),
        ("realloc", _pointer),
        ("free", _pointer),
    )


_HANDLER_FUNCTIONS = {
    "malloc": (_pointer, _pointer, _size),
    "calloc": (_pointer, _pointer, _size, _size),
    "realloc": (_pointer, _pointer, _pointer, _size),
    "free": (None, _pointer, _pointer, _size),
}
_WITH_GIL = {name: ctypes.PYFUNCTYPE(*types) for name, types in _HANDLER_FUNCTIONS.items()}
_WITHOUT_GIL = {name: ctypes.CFUNCTYPE(*types) for name, types in _HANDLER_FUNCTIONS.items()}

_DEFAULT_HANDLER = 306  # PyDataMem_DefaultHandler, in NumPy's table
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = _pointer, [ctypes.py_object, ctypes.c_char_p]
_capsule_new = ctypes.pythonapi.PyCapsule_New
_capsule_new.restype, _capsule_new.argtypes = ctypes.py_object, [_pointer, ctypes.c_char_p, _pointer]


def numpy_handler() -> int:
    """Where NumPy's own handler of data is."""
    import numpy as np

    api = _capsule_pointer(np._core._multiarray_umath._ARRAY_API, None)
    table = ctypes.cast(api, ctypes.POINTER(_pointer))
    capsule = ctypes.cast(table[_DEFAULT_HANDLER], ctypes.POINTER(ctypes.py_object)).contents.value
    handler: int = _capsule_pointer(capsule, b"mem_handler")
    return handler


class Scripted:
    """A data handler of NumPy's kind. Its blocks lie where the test says, and nothing is there: None fails.

    `during` is called once, in the middle of the next call. With `gil` false a call is made without the GIL.
    """

    def __init__(self) -> None:
        self.during: Callable[[], object] | None = None
        self.gil = True
        answers = {
            "malloc": lambda word, _size: self._answer(word),
            "calloc": lambda word, _count, _size: self._answer(word),
            "realloc": lambda word, _block, _size: self._answer(word),
            "free": lambda _word, _block, _size: self._answer(None),
        }
        self._kept = [prototype(answers[name]) for name, prototype in _WITHOUT_GIL.items()]
        addresses = [ctypes.cast(function, _pointer) for function in self._kept]
        self.handler = _Handler(b"scripted", 1, None, *addresses)
        self._capsule = ctypes.py_object(_capsule_new(ctypes.addressof(self.handler), b"mem_handler", None))
        self._table = (_pointer * 307)()
        self._table[_DEFAULT_HANDLER] = ctypes.addressof(self._capsule)
        self.api = _capsule_new(ctypes.addressof(self._table), None, None)

    def malloc(self, address: int | None, size: int) -> int | None:
        return self._call("malloc", address, size)

    def calloc(self, address: int | None, count: int, size: int) -> int | None:
        return self._call("calloc", address, count, size)

    def realloc(self, block: int, address: int | None, size: int) -> int | None:
        return self._call("realloc", address, block, size)

    def free(self, block: int) -> None:
        self._call("free", None, block, 0)

    def _call(self, name: str, *arguments: int | None) -> Any:
        """What stands in the handler now: the hook, once it is attached. The word is where the block shall lie."""
        prototypes = _WITH_GIL if self.gil else _WITHOUT_GIL
        return prototypes[name](getattr(self.handler, name))(*arguments)

    def _answer(self, address: int | None) -> int | None:
        during, self.during = self.during, None
        if during is not None:
            during()
        return address


_handlers: list[Scripted] = []  # never freed: the native core remembers the last handler that it was attached to


@contextlib.contextmanager
def scripted_handler() -> Iterator[Scripted]:
    """Recording, with NumPy's hook in front of a scripted handler."""
    if not _handlers:
        _handlers.append(Scripted())
    scripted = _handlers[0]
    thag_nb.start()
    _native.stop()  # NumPy's own handler is let go, should it have been attached
    _native.start()
    assert _native.attach_numpy(scripted.api)
    try:
        yield scripted
    finally:
        scripted.during, scripted.gil = None, True
        thag_nb.stop()


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = (
        ("word", _pointer),
        ("malloc", _pointer),
        ("calloc", _pointer),
        ("realloc", _pointer),
        ("free", _pointer),
    )


_realloc_types = (_pointer, _pointer, _pointer, _size)
_free_types = (None, _pointer, _pointer)
_RAW = 0  # PYMEM_DOMAIN_RAW


class Watched:
    """The raw domain's allocator, with somebody who is told of each realloc and free before it is done."""

    def __init__(self) -> None:
        self.on_realloc: Callable[[int | None], bool] | None = None  # False: the call shall fail
        self.on_free: Callable[[int | None], object] | None = None
        self.found = _Allocator()
        ctypes.pythonapi.PyMem_GetAllocator(_RAW, ctypes.byref(self.found))
        # The callbacks have the GIL, also for who called without it.
        self._found_realloc = ctypes.PYFUNCTYPE(*_realloc_types)(self.found.realloc)
        self._found_free = ctypes.PYFUNCTYPE(*_free_types)(self.found.free)
        self._kept = ctypes.CFUNCTYPE(*_realloc_types)(self._realloc), ctypes.CFUNCTYPE(*_free_types)(self._free)
        realloc, free = (ctypes.cast(function, _pointer).value for function in self._kept)
        self.allocator = _Allocator(self.found.word, self.found.malloc, self.found.calloc, realloc, free)

    def _realloc(self, word: int | None, block: int | None, size: int) -> int | None:
        if self.on_realloc is not None and not self.on_realloc(block):
            return None
        return self._found_realloc(word, block, size)

    def _free(self, word: int | None, block: int | None) -> None:
        if self.on_free is not None:
            self.on_free(block)
        self._found_free(word, block)


_watched: list[Watched] = []  # never freed: a hook's slot remembers what it was put above


@contextlib.contextmanager
def watched_raw_domain() -> Iterator[Watched]:
    """Recording, with the raw domain's hook above a watched allocator."""
    thag_nb.stop()
    if not _watched:
        _watched.append(Watched())
    watched = _watched[0]
    ctypes.pythonapi.PyMem_SetAllocator(_RAW, ctypes.byref(watched.allocator))
    try:
        thag_nb.start()
        yield watched
    finally:
        watched.on_realloc = watched.on_free = None
        thag_nb.stop()
        ctypes.pythonapi.PyMem_SetAllocator(_RAW, ctypes.byref(watched.found))
