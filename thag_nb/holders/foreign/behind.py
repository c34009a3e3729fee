"""Objects of libraries that tell nobody where their memory is: it is found by pointers alone.

Known are those of which pointers to the beginning of each block lead to the next: lxml's documents, and the trees that
scikit-learn grows. Not those of sqlite3, which points to somewhere within its pages.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from thag_nb import _native
from thag_nb.holders.foreign.library import Library, answer
from thag_nb.holders.modules import find_type, names_of


def documents() -> Library | None:
    """What each of lxml's elements refers to, and what has all of their memory. It has no public name.

    All documents of a thread share a dictionary of names, in which there are pointers left over from before.
    """
    make = names_of("lxml.etree").get("Element")
    if make is None:
        return None
    new = [document for _ in range(2) for document in answer(_documents_of, make) or ()]
    if len(new) != 2:
        return None
    first, second = new
    return Library({type(first): lambda document: _native.blocks_behind(document, (first, second))})


def _documents_of(make: Callable[[str], Any]) -> list[Any]:
    referents = gc.get_referents(make("element"))
    return [it for it in referents if (type(it).__module__, type(it).__name__) == ("lxml.etree", "_Document")]


def trees() -> Library | None:
    """Those of scikit-learn."""
    kind = find_type("sklearn.tree._tree", "Tree")
    return None if kind is None else Library({kind: _native.blocks_behind})
