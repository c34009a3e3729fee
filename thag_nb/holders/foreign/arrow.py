"""Arrow's objects, as pyarrow has them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from typing import Any

from thag_nb.holders.foreign.arrow_data import Capsule, Stream, addresses_of_array
from thag_nb.holders.foreign.library import UNTOLD, Library, Reader, below, each
from thag_nb.holders.modules import find_type, is_static, package_of, static_name

_WORD_BYTES = 8
_PACKAGE = "pyarrow"
_EXTENSIONS = (b"arrow.", b"pandas.")  # types that are no class of the user's


def arrow() -> Library | None:
    """Arrays, tables, batches and buffers tell what they hold; all else that is not plain may hold anything."""
    found = [find_type("pyarrow.lib", name) for name in ("Array", "Buffer", "ChunkedArray", "Table", "RecordBatch")]
    array, buffer, chunked, table, batch = found
    if array is None or buffer is None or chunked is None or table is None or batch is None:
        return None
    of_array = _array_reader(array)
    readers: dict[type, Reader] = dict.fromkeys((array, *below(array)), of_array)
    readers |= dict.fromkeys((buffer, *filter(_is_own, below(buffer))), _if_made(_of_buffer))
    readers |= {chunked: _if_made(_of_chunks), table: _of_table, batch: _of_batch}
    hoarders = frozenset(kind for kind in below(object) if _may_hoard(kind))
    return Library(readers, hoarders - readers.keys(), packages=(_PACKAGE,))


def _is_own(kind: type) -> bool:
    return is_static(kind) and package_of(static_name(kind)) == _PACKAGE


# ---- what tells ----


def _array_reader(array_type: Any) -> Reader:
    def of_array(array: Any) -> Iterable[int]:
        """By Arrow's own functions, even if the array is of a class of the user's."""
        if array_type.type.__get__(array) is None:  # nothing was made of it yet
            return ()
        return addresses_of_array(lambda address: array_type._export_to_c(array, address))

    return of_array


def _if_made(reader: Reader) -> Reader:
    """Leaves alone what `__new__` alone has made: of that, Arrow goes on to tell by way of a null pointer."""

    def of_made(thing: Any) -> Iterable[int | None]:
        kind: Any = type(thing)
        return () if _content(thing) == _content(kind.__new__(kind)) else reader(thing)

    return of_made


def _content(thing: Any) -> bytes:
    """The bytes of an object, but for its head, and for what refers to it weakly."""
    kind = type(thing)
    whole = ctypes.string_at(id(thing), kind.__basicsize__)
    weak = kind.__weakrefoffset__ or kind.__basicsize__
    return whole[object.__basicsize__ : weak] + whole[weak + _WORD_BYTES :]


def _of_buffer(buffer: Any) -> Iterator[int]:
    if buffer.is_cpu:
        yield buffer.address


def _of_chunks(chunked: Any) -> Iterator[int]:
    return Capsule(chunked.__arrow_c_stream__()).addresses()


def _of_table(table: Any) -> Iterator[int | None]:
    """Column by column, but not if a class of the user's were asked for the type of one: then by a reader, as a whole.

    A reader leaves out what is empty, which may hold something all the same.
    """
    if not table._is_initialized():
        return
    with Stream(table.to_reader()._export_to_c) as stream:
        is_of_users = not all(name.startswith(_EXTENSIONS) for name in stream.extensions())
        if is_of_users:
            yield from stream.addresses()
            yield UNTOLD
    if not is_of_users:
        yield from each(_of_chunks, table.columns)


def _of_batch(batch: Any) -> Iterable[int]:
    return addresses_of_array(batch._export_to_c) if batch._is_initialized() else ()


# ---- what does not ----

_NESTED = ("List", "LargeList", "ListView", "LargeListView", "FixedSizeList", "Map", "Struct", "Union", "Dictionary")
_NESTED_SCALARS = {f"pyarrow.lib.{name}Scalar" for name in (*_NESTED, "RunEndEncoded", "Extension")}
# Of these, and of what derives from them, no object holds an array.
_PLAIN = {
    *("DataType", "Schema", "Field", "KeyValueMetadata", "Scalar", "MemoryPool", "Device", "MemoryManager", "Codec"),
    *("StopToken", "IpcReadOptions", "IpcWriteOptions", "CacheOptions", "Function", "FunctionRegistry", "Kernel"),
    *("FileSystem", "FileInfo", "FileSelector", "ReadOptions", "ParseOptions", "ConvertOptions", "WriteOptions"),
    *("FileMetaData", "RowGroupMetaData", "ColumnChunkMetaData", "ColumnSchema", "ParquetSchema", "Statistics"),
    *("ParquetLogicalType", "SortingColumn"),
}


def _may_hoard(kind: type) -> bool:
    """Whether an object of this class has something in C that only Arrow knows of."""
    bases = [static_name(base) for base in type.mro(kind) if is_static(base)]
    if package_of(bases[0]) != _PACKAGE:
        return False
    is_plain = any(package_of(base) == _PACKAGE and base.rpartition(".")[2] in _PLAIN for base in bases)
    return not is_plain or not _NESTED_SCALARS.isdisjoint(bases)
