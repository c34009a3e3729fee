"""Objects of libraries whose memory only the library can tell of: where it lies.

Types are looked up where their module is loaded already: what is not loaded has no objects. Their objects are asked by
the library's own functions, which copy and compute nothing; what they would have to copy for is not asked for.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from thag_nb import _native
from thag_nb.holders import behind

Reader: TypeAlias = Callable[[Any], Iterable[int]]
_WORD_BYTES = 8


class Library(NamedTuple):
    """What is known of a library's objects, by their exact types.

    `readers` give addresses in the blocks that an object holds. An object of one of the `hoarders` may hold any memory
    of this library, and nobody can see what. `hidden` gives, of the objects that were asked, addresses in blocks that
    something else holds as well. With `only_of_names`, objects that no name leads to are not asked: it may be the
    library that keeps them, for others of its objects.
    """

    readers: dict[type, Reader]
    hoarders: tuple[type, ...] = ()
    hidden: Callable[[Sequence[Any]], Iterable[int]] | None = None
    only_of_names: bool = False


class Asked:
    """The objects of libraries that a walk comes across, and what their libraries tell of them."""

    def __init__(self) -> None:
        self._libraries = _libraries()
        self._library_of = {
            kind: library for library in self._libraries for kind in (*library.readers, *library.hoarders)
        }
        self.types = tuple(self._library_of)
        self._things: list[tuple[Any, int]] = []
        self._unknown: list[Any] = []  # stands for whatever else holds a block

    def add(self, thing: Any, holder: int, is_named: bool) -> bool:
        """Remember an object that a holder led to, by a name or not. False if no library here can be asked about it."""
        library = self._library_of.get(type(thing))
        if library is not None and (is_named or not library.only_of_names):
            self._things.append((thing, holder))
        return library is not None

    def ask(self, walk: _native.Walk) -> Iterator[tuple[int, list[Any]]]:
        """Let the walk know what each object holds: the numbers of the holders, and what is to be followed for them."""
        for library in self._libraries:
            yield from self._ask(library, walk)
        self._things.clear()

    def _ask(self, library: Library, walk: _native.Walk) -> Iterator[tuple[int, list[Any]]]:
        things = [(thing, holder) for thing, holder in self._things if self._library_of[type(thing)] is library]
        told: dict[int, None] = {}
        for thing, holder in things:
            if type(thing) in library.readers:
                found = _blocks(library.readers[type(thing)], thing)
                told |= dict.fromkeys(found)
                yield holder, walk.hold(thing, found)
        for thing, _ in things:
            if type(thing) in library.hoarders:
                walk.hold(thing, tuple(told))
        if library.hidden is not None:
            self._unknown.append([])
            walk.hold(self._unknown[-1], _blocks(library.hidden, [thing for thing, _ in things]))

    def own_objects(self) -> list[Any]:
        """What refers to the objects, but not on behalf of anybody."""
        return [vars(self), self._libraries, self._library_of, self._things, self._unknown, self.types]

    def clear(self) -> None:
        """Let go of the objects."""
        self._things.clear()


def _libraries() -> list[Library]:
    """Those that are loaded."""
    known = (_arrow(), _polars(), _torch(), _pillow(), _numpy(), _buffers(), Library(behind.readers()))
    return [library for library in known if library is not None]


def _blocks(reader: Callable[[Any], Iterable[int]], thing: Any) -> tuple[int, ...]:
    """Where the recorded blocks begin that a reader gives addresses in, each once.

    Of an object that its library refuses to tell of, there are none: what it holds stays unexplained.
    """
    try:
        return _starts(reader(thing))
    except _refusals():
        return ()


def _starts(addresses: Iterable[int]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    start = end = 0
    for address in addresses:
        if not start <= address < end:  # most are in the same block as the one before
            start, size = _native.block_around(address) or (0, 0)
            end = start + size
            if size:
                found[start] = None
    return tuple(found)


def _refusals() -> tuple[type[Exception], ...]:
    refusals = (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)
    exceptions = sys.modules.get("polars.exceptions")
    return refusals if exceptions is None else (*refusals, exceptions.PolarsError)


def _module(name: str, *needed: str) -> Any:
    """A module, if it is loaded, and has these names: while it is being imported, it may not."""
    module = sys.modules.get(name)
    return module if all(hasattr(module, own) for own in needed) else None


# ---- Arrow ----


def _arrow() -> Library | None:
    arrow = _module("pyarrow.lib", "Table", "RecordBatchReader")
    if arrow is None:
        return None
    readers: dict[type, Reader] = dict.fromkeys((arrow.Array, *_below(arrow.Array)), _of_array)
    readers |= dict.fromkeys((arrow.Buffer, *_below(arrow.Buffer)), _if_made(_of_buffer))
    readers |= {arrow.ChunkedArray: _if_made(_of_chunks), arrow.Table: _of_table, arrow.RecordBatch: _of_batch}
    dataset = sys.modules.get("pyarrow._dataset")
    names = ("InMemoryDataset", "Scanner")
    hoarders = [getattr(dataset, name) for name in names if hasattr(dataset, name)]
    return Library(readers, (arrow.RecordBatchReader, *hoarders))


def _below(kind: type) -> Iterator[type]:
    below: type
    for below in type.__subclasses__(kind):
        if below.__module__.startswith("pyarrow."):  # and not somebody's own
            yield below
            yield from _below(below)


def _if_made(reader: Reader) -> Reader:
    """Leaves alone what `__new__` alone has made: of that, Arrow goes on to tell by way of a null pointer."""

    def of_made(thing: Any) -> Iterable[int]:
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


def _of_array(array: Any) -> Iterator[int]:
    if array.type is None:  # nothing was made of it yet
        return
    yield from chain.from_iterable(_of_buffer(buffer) for buffer in array.buffers() if buffer is not None)
    if not _is_of_users(array.type):
        yield from chain.from_iterable(map(_of_array, _dictionaries(array)))


def _dictionaries(array: Any) -> Iterator[Any]:
    """Those of an array, and of the arrays in it."""
    if hasattr(array, "dictionary"):
        yield array.dictionary
    elif hasattr(array, "field"):
        for i in range(array.type.num_fields):
            yield from _dictionaries(array.field(i))
    elif hasattr(array, "values"):
        yield from _dictionaries(array.values)


def _is_of_users(kind: Any) -> bool:
    """Whether somebody's own class would be asked to make an array of this type, or of one in it."""
    if isinstance(kind, sys.modules["pyarrow.lib"].ExtensionType):
        return type(kind).__module__.partition(".")[0] not in ("pyarrow", "pandas")
    return any(_is_of_users(kind.field(i).type) for i in range(kind.num_fields))


def _of_chunks(chunked: Any) -> Iterator[int]:
    if not _is_of_users(chunked.type):
        yield from chain.from_iterable(map(_of_array, chunked.chunks))


def _of_table(table: Any) -> Iterator[int]:
    if table._is_initialized():
        yield from chain.from_iterable(map(_of_chunks, table.columns))


def _of_batch(batch: Any) -> Iterator[int]:
    if batch._is_initialized() and not any(map(_is_of_users, batch.schema.types)):
        yield from chain.from_iterable(map(_of_array, batch.columns))


# ---- Polars ----


# Of these, and of what they are made of, the Arrow form is the memory itself.
_WIDTHS = (8, 16, 32, 64)
_PLAIN = {
    *(f"{kind}{width}" for kind in ("Int", "UInt") for width in _WIDTHS),
    *("Float32", "Float64", "Boolean", "Date", "Datetime", "Duration", "Time", "String", "Binary", "Decimal"),
}
_MADE_OF = ("List", "Array", "Struct", "Categorical", "Enum")


def _polars() -> Library | None:
    polars = _module("polars", "DataFrame", "Series", "LazyFrame", "CompatLevel")
    if polars is None or "pyarrow.lib" not in sys.modules:
        return None
    newest = polars.CompatLevel.newest()

    def of_series(series: Any) -> Iterator[int]:
        name = str(series.dtype.base_type())
        plain = series.to_physical() if name in _MADE_OF else series
        if name in _PLAIN or name in _MADE_OF:
            for chunk in plain.get_chunks():
                yield from _of_array(chunk.to_arrow(compat_level=newest))

    def of_frame(frame: Any) -> Iterable[int]:
        return chain.from_iterable(map(of_series, frame.get_columns()))

    return Library({polars.DataFrame: of_frame, polars.Series: of_series}, (polars.LazyFrame,))


# ---- torch ----


def _torch() -> Library | None:
    torch = _module("torch", "Tensor", "UntypedStorage", "strided", "nn")
    if torch is None or not hasattr(torch.nn, "Parameter"):
        return None

    def is_told(tensor: Any) -> bool:
        is_plain = torch._C._len_torch_function_stack() == 0  # else a mode of the user's would be called
        return is_plain and tensor.layout is torch.strided and tensor.device.type == "cpu"

    def parts(tensor: Any) -> list[Any]:
        """What a tensor holds as well: what it is a view of, and its gradient."""
        found = [tensor._base, tensor.grad if tensor.is_leaf else None]
        return [part for part in found if part is not None and is_told(part)]

    def of_tensor(tensor: Any) -> Iterator[int]:
        if is_told(tensor):
            yield from (part.data_ptr() for part in (tensor, *parts(tensor)))

    def hidden(things: Sequence[Any]) -> Iterator[int]:
        """What more refers to in C++ than these tensors: what was saved to compute a gradient, for example."""
        tensors = {thing._cdata: thing for thing in things if type(thing) in kinds and is_told(thing)}
        inner: Counter[int] = Counter()
        for tensor in list(tensors.values()):
            for part in parts(tensor):
                inner[part._cdata] += 1
                tensors.setdefault(part._cdata, part)
        sharing = Counter(tensor.untyped_storage()._cdata for tensor in tensors.values())
        alone = counts(torch.empty(0, device="cpu")) if tensors else ()
        for number, tensor in tensors.items():
            others = (inner[number], sharing[tensor.untyped_storage()._cdata] - 1)
            known = (own + others for own, others in zip(alone, others, strict=True))
            if any(count > of_known for count, of_known in zip(counts(tensor), known, strict=True)):
                yield tensor.data_ptr()

    def counts(tensor: Any) -> tuple[int, int]:
        """The references in C++ to a tensor, and to its storage."""
        return tensor._use_count(), torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)

    def of_storage(storage: Any) -> Iterator[int]:
        if storage.device.type == "cpu":
            yield storage.data_ptr()

    kinds = (torch.Tensor, torch.nn.Parameter)
    readers: dict[type, Reader] = dict.fromkeys(kinds, of_tensor)
    return Library(readers | {torch.UntypedStorage: of_storage}, hidden=hidden, only_of_names=True)


# ---- Pillow ----


def _pillow() -> Library | None:
    image = _module("PIL.Image", "core", "Image")
    if image is None or not hasattr(image.core, "new"):
        return None
    return Library({type(image.core.new("L", (0, 0))): _of_image})


def _of_image(image: Any) -> Iterator[int]:
    """Its struct, the blocks that this points to, and those that the rows point to, if there is more than one.

    Where in the struct these are differs from one version to the next.
    """
    parts = _native.words(image.ptr)
    yield from parts
    height_bytes = image.size[1] * _WORD_BYTES
    for part in () if image.isblock() else parts:
        owner = _native.owner_of(part)
        if owner is not None and owner[1] == height_bytes:
            yield from _native.words(part)[1:]


# ---- NumPy ----


def _numpy() -> Library | None:
    """Arrays over memory of something else; see `thag_array_borrows` in native/heap/arrays.h."""
    numpy = _module("numpy", "ndarray")
    return None if numpy is None else Library({numpy.ndarray: lambda array: [array.__array_interface__["data"][0]]})


# ---- what is shown as a buffer ----


def _buffers() -> Library | None:
    """Mapped memory, and what matplotlib draws on."""
    places = (("mmap", "mmap"), ("matplotlib.backends._backend_agg", "RendererAgg"))
    kinds = [getattr(sys.modules.get(module), name, None) for module, name in places]
    return Library({kind: lambda shown: [_native.buffer_address(shown)] for kind in kinds if kind is not None})
