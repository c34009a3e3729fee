"""The types that fields and arguments of `model` are made of, apart as they need `typing` (see light_typing.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

Kind = Literal["root", "cell", "task", "system"]
State = Literal["open", "ended"]
HolderKind = Literal[
    "variable", "closure", "output", "traceback", "registry", "module", "cache", "object", "cycle", "unexplained"
]


class HasId(Protocol):
    """An `AllocatorContext`, or whatever else has the id of a context."""

    @property
    def id(self) -> int:
        """The context's id."""


class HasContextId(Protocol):
    """A `ContextRecord`, or whatever else has the id of a context under this name."""

    @property
    def context_id(self) -> int:
        """The context's id."""


Wanted = str | int | HasContextId | HasId
"""What stands for a context: its name, for the newest of it; its id; a context itself."""

SeveralWanted = Wanted | Sequence[Wanted] | None
"""What stands for contexts: one, or a list; None for all there are."""
