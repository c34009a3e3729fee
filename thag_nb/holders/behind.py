"""Objects of libraries that tell nobody where their memory is: it is found by pointers alone.

Known are those of which pointers to the beginning of each block lead to the next: lxml's documents, and the trees that
scikit-learn grows. Not those of sqlite3, which points to somewhere within its pages.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from thag_nb import _native


def readers() -> dict[type, Callable[[Any], Iterable[int]]]:
    """By the exact type of an object, what gives the addresses of the blocks that can be reached from it."""
    found = (_document(), _named("sklearn.tree._tree", "Tree"))
    return {kind: _native.blocks_behind for kind in found if kind is not None}


def _document() -> type | None:
    """What each of lxml's elements refers to, and what has all of their memory. It has no public name."""
    make = vars(sys.modules["lxml.etree"]).get("Element") if _named("lxml.etree", "_Element") is not None else None
    if make is None:
        return None
    kinds = (type(referent) for referent in gc.get_referents(make("element")))
    return next((kind for kind in kinds if (kind.__module__, kind.__name__) == ("lxml.etree", "_Document")), None)


def _named(module: str, name: str) -> type | None:
    """A class of a module, if that is loaded."""
    loaded = sys.modules.get(module)
    found = vars(loaded).get(name) if type(loaded) is ModuleType else None
    return found if isinstance(found, type) else None
