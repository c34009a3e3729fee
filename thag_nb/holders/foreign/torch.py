"""torch's tensors and storages, of which C++ code may hold as much as Python's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from thag_nb.holders.foreign.library import UNTOLD, Library, Reader, answer
from thag_nb.holders.modules import find_type, names_of


def torch() -> Library | None:
    """Tensors tell where they are, and count who refers to them in C++."""
    tensor, storage = find_type("torch", "Tensor"), find_type("torch", "UntypedStorage")
    parameter = find_type("torch.nn", "Parameter")
    strided = names_of("torch").get("strided")
    if tensor is None or storage is None or parameter is None or strided is None:
        return None
    tensors = _Tensors((tensor, parameter), strided)
    readers: dict[type, Reader] = dict.fromkeys(tensors.kinds, tensors.addresses)
    return Library(readers | {storage: tensors.address_of_storage}, hidden=tensors.hidden, only_of_names=True)


class _Counts(NamedTuple):
    """The references in C++ to a tensor, and to its storage."""

    of_tensor: int
    of_storage: int


class _Known(NamedTuple):
    tensor: Any
    parts: list[Any]
    storage: int
    counts: _Counts


class _Tensors:
    def __init__(self, kinds: tuple[type, ...], strided: object) -> None:
        self.kinds = kinds
        self._strided = strided
        self._torch = names_of("torch")
        self._core = names_of("torch._C")
        # Where it is, but not for writing: that would make a copy of what is copied when it is written to.
        self._address: Callable[[Any], int] = self._core.get("_data_address", lambda tensor: tensor.data_ptr())

    def addresses(self, tensor: Any) -> Iterator[int | None]:
        """Where a tensor is, and what else it holds: what it is a view of, and its gradient."""
        for part in (tensor, *self._parts(tensor)):
            yield from self._address_of(part)

    def address_of_storage(self, storage: Any) -> Iterator[int | None]:
        """Where a storage is."""
        if self._is_open() and storage.device.type == "cpu":
            yield self._address(self._torch["empty"](0, dtype=self._torch["uint8"]).set_(storage))
        else:
            yield UNTOLD

    def hidden(self, things: Sequence[Any]) -> Iterator[int]:
        """Where those are that something in C++ refers to as well: saved to compute a gradient, for example."""
        known = self._known([thing for thing in things if type(thing) in self.kinds])
        inner = Counter(part._cdata for one in known.values() for part in one.parts)
        sharing = Counter(one.storage for one in known.values())
        alone = answer(lambda: self._counts(self._torch["empty"](0, device="cpu"))) if known else None
        for number, one in known.items():
            if alone is None or self._has_more(one.counts, alone, inner[number], sharing[one.storage] - 1):
                yield self._address(one.tensor)

    @staticmethod
    def _has_more(counts: _Counts, alone: _Counts, inner: int, sharing: int) -> bool:
        """Than a tensor has of which nothing else knows, and those that were found."""
        return counts.of_tensor > alone.of_tensor + inner or counts.of_storage > alone.of_storage + sharing

    def _known(self, tensors: list[Any]) -> dict[int, _Known]:
        """By their numbers, those that can be told of, and their parts."""
        known: dict[int, _Known] = {}
        pending = list(tensors)
        while pending:
            tensor = pending.pop()
            one = answer(self._look, tensor)
            if one is not None and tensor._cdata not in known:
                known[tensor._cdata] = one
                pending += one.parts
        return known

    def _look(self, tensor: Any) -> _Known | None:
        if not self._is_told(tensor):
            return None
        parts = [part for part in self._parts(tensor) if self._is_told(part)]
        return _Known(tensor, parts, tensor.untyped_storage()._cdata, self._counts(tensor))

    def _is_open(self) -> bool:
        """Whether nothing of the user's would be called for what torch is asked."""
        modes: int = self._core["_len_torch_function_stack"]() + self._core["_len_torch_dispatch_stack"]()
        return modes == 0

    def _is_told(self, tensor: Any) -> bool:
        """Not those of a class of the user's, nor what is made of other tensors, as sparse ones are."""
        if type(tensor) not in self.kinds or not self._is_open():
            return False
        on_cpu: bool = tensor.device.type == "cpu"
        return on_cpu and tensor.layout is self._strided

    def _parts(self, tensor: Any) -> list[Any]:
        if type(tensor) not in self.kinds or not self._is_open():
            return []
        found = [tensor._base, tensor.grad if tensor.is_leaf else None]
        return [part for part in found if part is not None]

    def _address_of(self, tensor: Any) -> Iterator[int | None]:
        yield self._address(tensor) if self._is_told(tensor) else UNTOLD

    def _counts(self, tensor: Any) -> _Counts:
        return _Counts(tensor._use_count(), self._core["_storage_Use_Count"](tensor.untyped_storage()._cdata))
