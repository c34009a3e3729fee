"""Objects of libraries that tell nobody where their memory is: it is found by pointers alone.

Known are those of which pointers to the beginning of each block lead to the next: lxml's documents, and the trees that
scikit-learn grows. Not those of sqlite3, which points to somewhere within its pages.
"""

from __future__ import annotations

import gc

from thag_nb import _native
from thag_nb.holders.foreign.library import Library, answer
from thag_nb.holders.modules import find_type, names_of


def documents() -> Library | None:
    """What each of lxml's elements refers to, and what has all of their memory. It has no public name."""
    make = names_of("lxml.etree").get("Element")
    referents = answer(lambda: gc.get_referents(make("element"))) if make is not None else None
    kinds = (type(referent) for referent in referents or ())
    kind = next((kind for kind in kinds if (kind.__module__, kind.__name__) == ("lxml.etree", "_Document")), None)
    return None if kind is None else Library({kind: _native.blocks_behind})


def trees() -> Library | None:
    """Those of scikit-learn."""
    kind = find_type("sklearn.tree._tree", "Tree")
    return None if kind is None else Library({kind: _native.blocks_behind})
