"""Types whose objects the walk knows to be laid out in C, beside those that CPython's headers describe.

A type is looked up where its module is loaded already: what is not loaded has no objects.
"""

from __future__ import annotations

import sys
from typing import Any

from thag_nb.holders.modules import as_type, names_of

_PANDAS_TABLE = "PyObjectHashTable"
# In the order of `thag_kind` in native/heap/visitor.h; their layouts are in layouts.c beside it.
_PLACES = (
    ("array", "array"),
    ("_io", "BufferedReader"),
    ("_io", "BufferedWriter"),
    ("_io", "BufferedRandom"),
    ("_io", "BytesIO"),
    ("_ctypes", "_SimpleCData.__base__"),
    ("_collections", "deque"),
    ("_elementtree", "Element"),
    ("_thread", "LockType"),
    ("_functools", "_lru_cache_wrapper"),
    ("numba.core.runtime._nrt_python", "_MemInfo"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.dtypes", "StringDType"),
    ("numpy", "void"),
    ("pandas._libs.hashtable", _PANDAS_TABLE),
    ("builtins", "range"),
    ("_thread", "RLock"),
    ("_queue", "SimpleQueue"),
    ("_io", "StringIO"),
    ("_struct", "Struct"),
)


def known() -> tuple[object, ...]:
    """Each of them, or None."""
    return tuple(_find(module, name) for module, name in _PLACES)


def _find(module: str, name: str) -> object:
    first, *others = name.split(".")
    found: object = names_of(module).get(first)
    for part in others:
        found = getattr(found, part, None)
    return found if name != _PANDAS_TABLE or _has_references(as_type(found)) else None


def _has_references(table: Any) -> bool:
    """Whether this type of pandas has a reference to each label: before pandas 3, it only knows where they are."""
    array = names_of("numpy").get("array")
    if table is None or array is None:
        return False
    labels = array([object()], dtype=object)
    before = sys.getrefcount(labels[0])
    a_table = table()
    a_table.map_locations(labels)
    return sys.getrefcount(labels[0]) > before
