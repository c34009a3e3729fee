"""What is known of a library's objects, and how they are asked so that nothing of the user's runs, or fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

Reader: TypeAlias = Callable[[Any], Iterable[int | None]]
_T = TypeVar("_T")

UNTOLD = None  # among the addresses that a reader gives: the object holds something that nobody can see


class Library(NamedTuple):
    """What is known of a library's objects, by their exact types.

    `readers` give addresses in the blocks that an object holds, and `UNTOLD`. An object of one of the `hoarders` may
    hold any memory that was told of, and nobody can see what, unless `may_hoard` says that it cannot; what the
    library's own modules have, those of `packages`, is its own. `hidden` gives, of the objects that were asked,
    addresses in blocks that something else holds as well. With `only_of_names`, objects that no name leads to are not
    asked: it may be the library that keeps them, for others of its objects.
    """

    readers: Mapping[type, Reader]
    hoarders: frozenset[type] = frozenset()
    may_hoard: Callable[[Any], bool] = lambda _: True
    packages: tuple[str, ...] = ()
    hidden: Callable[[Sequence[Any]], Iterable[int]] | None = None
    only_of_names: bool = False


def answer(ask: Callable[..., _T], *about: Any) -> _T | None:
    """What a library answers; None if it fails, in whatever way: a panic of Rust is no `Exception`, for example."""
    try:
        return ask(*about)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return None


def each(reader: Reader, parts: Iterable[Any]) -> Iterator[int | None]:
    """What a reader tells of parts of an object. What one fails for says nothing of the others."""
    for part in parts:
        yield from told_by(reader, part)


def told_by(reader: Reader, thing: Any) -> list[int | None]:
    """What a reader tells, up to where it fails."""
    told: list[int | None] = []

    def listen() -> bool:
        told.extend(reader(thing))
        return True

    return told if answer(listen) else [*told, UNTOLD]


def below(kind: type) -> Iterator[type]:
    """The classes that derive from it, some of them several times."""
    derived: type
    for derived in type.__subclasses__(kind):
        yield derived
        yield from below(derived)
