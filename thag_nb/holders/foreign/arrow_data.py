"""Where the memory of arrays is that a library shows by Arrow's C data interface. No type is made for it.

The interface is described at https://arrow.apache.org/docs/format/CDataInterface.html. Whoever is shown an array shares
its memory until it calls `release`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any


class _Array(ctypes.Structure):
    pass


class _Schema(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("get_schema", "get_next", "get_last_error", "release", "private")]


_Array._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "buffers_count", "children_count")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.POINTER(_Array)),
    ("release", ctypes.c_void_p),
    ("private", ctypes.c_void_p),
]
_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("children_count", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.POINTER(_Schema)),
    ("release", ctypes.c_void_p),
    ("private", ctypes.c_void_p),
]
_LENGTH = ctypes.c_int32
# None of them gives up the GIL: nothing else runs while they are called.
_RELEASE = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_NEXT = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_POINTER_OF = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class Stream:
    """Arrays that a library shows one after the other; given back at the end of a `with` block."""

    def __init__(self, write: Callable[[int], object]) -> None:
        """`write` is a function of the library that writes a stream to an address."""
        self._stream = _Stream()
        write(ctypes.addressof(self._stream))

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        _release(self._stream)

    def addresses(self) -> Iterator[int]:
        """Where the buffers are of all arrays. Raises ValueError if the library fails."""
        yield from _addresses_of_stream(self._stream)

    def extensions(self) -> set[bytes]:
        """What their extension types are called, and those of the arrays in them. Raises ValueError."""
        return set(_of_schema(self._stream, _extension)) - {b""}


class Capsule:
    """The same in a capsule, which gives it back."""

    def __init__(self, capsule: object) -> None:
        self._capsule = capsule  # which lets go of the stream when it goes
        self._stream = _Stream.from_address(_POINTER_OF(capsule, b"arrow_array_stream"))

    def addresses(self) -> Iterator[int]:
        """Where the buffers are of all arrays. Raises ValueError if the library fails."""
        yield from _addresses_of_stream(self._stream)

    def formats(self) -> set[bytes]:
        """How they are laid out, and the arrays in them; b"D" if there are dictionaries. Raises ValueError."""
        return set(_of_schema(self._stream, lambda schema: b"D" if schema.dictionary else schema.format))


def addresses_of_array(write: Callable[[int], object]) -> list[int]:
    """Where the buffers are of an array that a function of the library writes to an address."""
    array = _Array()
    write(ctypes.addressof(array))
    try:
        return list(_addresses(array))
    finally:
        _release(array)


def _addresses_of_stream(stream: _Stream) -> Iterator[int]:
    while True:
        array = _Array()
        _get(stream.get_next, stream, array)
        if not array.release:
            return
        try:
            yield from _addresses(array)
        finally:
            _release(array)


def _of_schema(stream: _Stream, look: Callable[[Any], bytes]) -> list[bytes]:
    schema = _Schema()
    _get(stream.get_schema, stream, schema)
    try:
        return [look(one) for one in _all(schema)]
    finally:
        _release(schema)


def _extension(schema: Any) -> bytes:
    """What the extension type is called that metadata tells of: pairs of texts, each behind its length."""
    place = schema.metadata
    if not place:
        return b""
    texts = []
    count, place = _LENGTH.from_address(place).value, place + ctypes.sizeof(_LENGTH)
    for _ in range(2 * count):
        length, place = _LENGTH.from_address(place).value, place + ctypes.sizeof(_LENGTH)
        texts.append(ctypes.string_at(place, length))
        place += length
    return dict(zip(texts[::2], texts[1::2], strict=True)).get(b"ARROW:extension:name", b"")


def _get(function: int, stream: _Stream, into: ctypes.Structure) -> None:
    error = _NEXT(function)(ctypes.addressof(stream), ctypes.addressof(into))
    if error:
        raise ValueError(f"error {error}")


def _release(shown: Any) -> None:
    if shown.release:
        _RELEASE(shown.release)(ctypes.addressof(shown))


def _all(shown: Any) -> Iterator[Any]:
    """An array or a schema, and those in it, as deep as they lie."""
    pending = [shown]
    while pending:
        one = pending.pop()
        yield one
        pending += [one.children[i].contents for i in range(one.children_count)]
        if one.dictionary:
            pending.append(one.dictionary.contents)


def _addresses(array: Any) -> Iterator[int]:
    for one in _all(array):
        yield from (address for address in one.buffers[: one.buffers_count] if address)
