"""The native core: hooks, contexts, owners, timelines. This stub is the manual of the C side.

Contexts are named by their ids, which grow and are never reused. Sizes are bytes. Times are nanoseconds since the first
`start`. All functions want the GIL; none of them is called from an allocation, and what they allocate is charged to
nobody.
"""

from collections.abc import Callable
from typing import TypeAlias, TypeVar, final

Result = TypeVar("Result")

ROOT_ID: int  # what no other context is charged for
SYSTEM_ID: int  # the shared context of untracked work
SOURCE_HASH: str  # of the C sources that this module was built from

Description: TypeAlias = tuple[int, int, bool, object]
"""A context: id, parent id or 0, whether it records, and the label it was opened with."""

@final
class Entering:
    """What undoes the entering of a context. Dropping it does so as well, whatever interrupts the one who entered."""

    def leave(self, orphan: bool, /) -> bool:
        """Restore what was current before, once. True if the context was current here, or had been left already.

        If it was not: with `orphan`, every flow passes over it from now on, and it is counted; else nothing is done.
        Never raises.
        """

    def is_current(self) -> bool:
        """Whether this is the innermost entering of this flow."""

    def is_around(self) -> bool:
        """Whether this flow is inside, however deep."""

def start() -> int:
    """Hook every domain of CPython that does not reach us, and record. How many domains were hooked.

    Raises RuntimeError if a domain has been wrapped and re-hooked too often.
    """

def stop() -> int:
    """Stop recording and unhook where we are on top, NumPy included. How many domains of CPython still reach us."""

def is_recording() -> bool: ...
def hooks() -> dict[str, str]:
    """For raw, mem, obj and numpy: "on top", "wrapped" or "absent". Probes each domain with an allocation."""

def allocators() -> tuple[tuple[int, int, int, int, int], ...]:
    """For raw, mem and obj the addresses of the installed allocator: context word, malloc, calloc, realloc, free."""

def attach_numpy(api: object, /) -> bool:
    """Hook NumPy's default data handler, found through its C API capsule. False if that is done already.

    Raises ValueError if the handler is not what we know.
    """

def open_context(parent_id: int | None, records: bool, label: object, /) -> tuple[int, int]:
    """A new context's id, and its parent's: without one given, the innermost context here that records.

    Raises ValueError for an unknown id or one that does not record, MemoryError without memory.
    """

def context(context_id: int, /) -> Description | None:
    """What a context is, or None if a reset has dropped it. Raises ValueError for an id that there never was."""

def context_ids() -> list[int]:
    """The contexts that no reset has dropped, oldest first."""

def enter(context_id: int, detach: bool, /) -> Entering:
    """Make a context current in this flow and hold it open; with `detach` nothing of what was current is kept.

    Raises ValueError for an unknown or dropped id, MemoryError without memory; then nothing has changed.
    """

def adopt(context_id: int, /) -> Entering:
    """Make a context current for work that was handed over, without keeping it open; its heir, if a reset dropped it.

    Raises ValueError for an unknown id, MemoryError without memory.
    """

def unrecorded(function: Callable[..., Result], /, *arguments: object) -> Result:
    """Call a function, and charge nobody for what it allocates. The collector is off: no finalizer runs meanwhile."""

def hold(context_id: int, /) -> None:
    """Keep a context open though nobody is inside it, until `release`."""

def release(context_id: int, /) -> None: ...
def current_id() -> int:
    """The context that an allocation here would be charged to."""

def set_foreground(context_id: int, /) -> None:
    """Who is charged for threads that no Python flow reaches."""

def reset() -> None:
    """Drop the contexts that have ended and start the figures of the others anew.

    What dropped contexts still hold passes to the nearest context above them that stays.
    """

def forget() -> int:
    """Forget all blocks, as if they had been allocated before the start; how many bytes those were.

    Only while no domain is hooked.
    """

Row: TypeAlias = tuple[Description, bool, int, int, int, int, int, int, int, int, int, int, int, int, int, bytes]

def snapshot() -> list[Row]:
    """All contexts as of one moment, in the order of their ids.

    Each is (description, ended, live, peak, total, self live, self peak, self total, allocations, frees, foreign frees,
    retained, started, ended at or -1, buckets dropped, buckets). The buckets are rows of five native 64-bit integers:
    start, low, high, live, self live.
    """

def after_fork() -> None:
    """In a forked child: blocks keep their owners, and every context's figures and timeline start from what is live."""

def audit() -> dict[int, tuple[int, int]]:
    """Each context's own live bytes, as counted and as added up from the owner table; those that are 0 are left out.

    The two are equal, unless threads without the GIL never leave off meanwhile. Slow: it reads the whole table.
    """

def owner_of(address: int, /) -> tuple[int, int] | None:
    """The owner of the block at an address and the block's size, or None for a block that is not recorded."""

def health() -> dict[str, int]:
    """Counts of what went less than perfectly."""

def overhead() -> dict[str, int]:
    """Bytes of our own native memory: the pages in use of the table of owners, context records, and timelines."""

def now_ns() -> int: ...
