"""Libraries that keep their own memory: an allocator was linked into them, and thag_nb cannot ask it for its blocks.

What such a library maps is known, but libraries that only need some pages map as well. An allocator is told
by its texts.
"""

from __future__ import annotations

import os
from functools import cache
from io import FileIO

from thag_nb import _native
from thag_nb.units import format_bytes, visible

# What the messages of jemalloc and mimalloc begin with, as these texts stand in a file: behind the end of another one.
_MARKS = (b"\0<jemalloc>: ", b"\0mimalloc: error: \0")
_LONGEST_MARK = max(map(len, _MARKS))
_READ_AT_ONCE_BYTES = 1 << 20
_READ_AT_MOST_BYTES = 256 << 20


def sentences() -> list[str]:
    """What is to be said of each of them, without the period."""
    return [_sentence(path, size) for path, size in _native.address_space() if _brings_an_allocator(path)]


def is_kept(address: int) -> bool:
    """Whether what lies there was mapped by one of them, and so for all that it will ever hand out from there."""
    path = _native.mapper_of(address)
    return path is not None and _brings_an_allocator(path)


def _sentence(path: str, size_bytes: int) -> str:
    if size_bytes == 0:  # it may have mapped all that it needed when it was loaded, or not need any
        return f"{_name(path)} brings an allocator along, and what that keeps is not seen"
    mapped = f"{format_bytes(size_bytes)} of address space that it was seen to map"
    return f"{_name(path)} keeps its own memory: {mapped}; what is in it is not seen"


def _name(path: str) -> str:
    """``package/module`` for what was installed into Python, else the name of the file; without what follows a dot."""
    _, packages, inside = os.path.normpath(path).rpartition("-packages/")
    folder, slash, file = inside.rpartition("/")
    return visible((folder + slash if packages else "") + file.partition(".")[0])


@cache
def _brings_an_allocator(path: str) -> bool:
    """Whether an allocator's texts are in a library; False for a file that is not there any more."""
    before = b""
    try:
        with FileIO(path) as file:
            while file.tell() < _READ_AT_MOST_BYTES and (part := file.read(_READ_AT_ONCE_BYTES)):
                text = before + part
                if any(mark in text for mark in _MARKS):
                    return True
                before = text[-_LONGEST_MARK:]
    except OSError:
        return False
    return False
