"""Pillow's images, as its core has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thag_nb import _native
from thag_nb.holders.foreign.library import Library, answer
from thag_nb.holders.modules import names_of

_WORD_BYTES = 8


def pillow() -> Library | None:
    """An image tells where its struct is."""
    core = names_of("PIL._imaging")
    kind = answer(lambda: type(core["new"]("L", (0, 0)))) if "new" in core else None
    return None if kind is None else Library({kind: _of_image})


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
