"""Objects of libraries whose memory only the library can tell of: where it lies.

Types are looked up where their module is loaded already: what is not loaded has no objects. Their objects are asked by
the library's own functions, which copy and compute nothing; what they would have to copy for is not asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Reader: TypeAlias = Callable[[Any], Iterable[int]]


def readers() -> dict[type, Reader]:
    """For each such type, what gives the addresses of the blocks that an object of it holds, each once.

    Of an object that its library refuses to tell of, there are none: what it holds stays unexplained.
    """
    found = _readers_of_arrow() | _readers_of_polars() | _readers_of_torch()
    return {kind: _without_refusals(reader) for kind, reader in found.items()}


def _without_refusals(reader: Reader) -> Reader:
    refusals: tuple[type[Exception], ...] = (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)
    exceptions = sys.modules.get("polars.exceptions")
    if exceptions is not None:
        refusals += (exceptions.PolarsError,)

    def read(thing: Any) -> Iterable[int]:
        try:
            return reader(thing)
        except refusals:
            return ()

    return read


# ---- Arrow ----


def _readers_of_arrow() -> dict[type, Reader]:
    arrow = sys.modules.get("pyarrow.lib")
    if arrow is None or not hasattr(arrow, "Table"):  # while it is being imported
        return {}
    found: dict[type, Reader] = dict.fromkeys((arrow.Array, *_below(arrow.Array)), _of_array)
    found |= dict.fromkeys((arrow.Buffer, *_below(arrow.Buffer)), _of_buffer)
    return found | {arrow.ChunkedArray: _of_chunks, arrow.Table: _of_table, arrow.RecordBatch: _of_table}


def _below(kind: type) -> Iterator[type]:
    below: type
    for below in type.__subclasses__(kind):
        if below.__module__.startswith("pyarrow."):  # and not somebody's own
            yield below
            yield from _below(below)


def _of_buffer(buffer: Any) -> list[int]:
    """A slice is of the buffer that it was cut from."""
    while buffer.parent is not None:
        buffer = buffer.parent
    return [buffer.address] if buffer.is_cpu else []


def _addresses(arrays: Iterable[Any]) -> Iterable[int]:
    found: dict[int, None] = {}
    for array in arrays:
        for buffer in array.buffers():
            if buffer is not None:
                found |= dict.fromkeys(_of_buffer(buffer))
        if hasattr(array, "dictionary"):
            found |= dict.fromkeys(_of_array(array.dictionary))
    return found


def _of_array(array: Any) -> Iterable[int]:
    return _addresses([array])


def _of_chunks(chunked: Any) -> Iterable[int]:
    return _addresses(chunked.chunks)


def _of_table(table: Any) -> Iterable[int]:
    columns = table.columns
    return _addresses(array for column in columns for array in getattr(column, "chunks", [column]))


# ---- Polars ----

# Of these, the Arrow form is the memory itself.
_WIDTHS = (8, 16, 32, 64)
_PLAIN = {
    *(f"{kind}{width}" for kind in ("Int", "UInt") for width in _WIDTHS),
    *("Float32", "Float64", "Boolean", "Date", "Datetime", "Duration", "Time", "String", "Binary"),
}


def _readers_of_polars() -> dict[type, Reader]:
    polars = sys.modules.get("polars")
    names = ("DataFrame", "Series", "CompatLevel")
    if polars is None or "pyarrow.lib" not in sys.modules or not all(hasattr(polars, name) for name in names):
        return {}
    newest = polars.CompatLevel.newest()

    def of_series(series: Any) -> Iterable[int]:
        if str(series.dtype.base_type()) not in _PLAIN:
            return []
        return _addresses(chunk.to_arrow(compat_level=newest) for chunk in series.get_chunks())

    def of_frame(frame: Any) -> Iterable[int]:
        return dict.fromkeys(address for column in frame.get_columns() for address in of_series(column))

    return {polars.DataFrame: of_frame, polars.Series: of_series}


# ---- torch ----


def _readers_of_torch() -> dict[type, Reader]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "Tensor") or not hasattr(torch, "nn"):
        return {}
    strided = torch.strided

    def of_tensor(tensor: Any) -> list[int]:
        if tensor.layout is not strided or tensor.device.type != "cpu":
            return []
        return [tensor.untyped_storage().data_ptr()]

    return {torch.Tensor: of_tensor, torch.nn.Parameter: of_tensor}
