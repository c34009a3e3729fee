"""Marks: moments on the timeline that somebody named, and runs of the garbage collector.

They are charged to nobody, kept while allocations are recorded, and bounded: the oldest of each kind go first.
"""

from __future__ import annotations

import gc
import os
from collections import deque
from operator import attrgetter

from thag_nb import _native
from thag_nb.errors import MarkNameError
from thag_nb.recordings.model import Mark
from thag_nb.runtime.contexts import name_from, unrecorded

_MOST = 10_000

# Apart, so that many collections push out no mark. Other threads see appending and copying as one step each.
_named: deque[Mark] = deque(maxlen=_MOST)
_collections: deque[Mark] = deque(maxlen=_MOST)


def mark(name: str) -> None:
    """Keep this moment under a name. While nothing is recorded there is no timeline to put it on, and nothing is kept.

    Raises `MarkNameError` for a name that is no text.
    """
    time_ns, context_id = _native.now(), _native.current_id()
    with unrecorded():
        own_name = name_from(name, MarkNameError)
        if _native.is_recording():
            # A copy: the name itself belongs to the context that made it, which would hold it as long as the mark.
            copy = own_name.encode().decode()
            _named.append(Mark(time_ns, context_id, copy, "mark", 0))


def snapshot() -> tuple[Mark, ...]:
    """What is kept, oldest first."""
    if not _named and not _collections:
        return ()
    with unrecorded():
        return tuple(sorted([*_named, *_collections], key=attrgetter("time_ns")))


def forget() -> None:
    """Keep nothing of what there is."""
    _named.clear()
    _collections.clear()


def show_collections(on: bool) -> None:
    """Keep a mark for each run of the collector on the oldest generation, or of more than a millisecond, or do not.

    Turned off, `gc.callbacks` is as it was found. While it is on, as with any callback there, CPython makes two dicts
    for each collection and gives them back: 650 bytes in the ``total_bytes`` of the context in which it collects, and
    at most one block of 184 bytes, on a free list of CPython's, in what it keeps.
    """
    if _watcher in gc.callbacks:  # else it was not on, or somebody has cleared the list
        gc.callbacks.remove(_watcher)
    if on:
        gc.callbacks.append(_watcher)


_watcher = _native.collection_watcher(Mark, _collections)

os.register_at_fork(after_in_child=forget)  # the child's recording begins with it
