"""The native core: hooks, contexts, owners, timelines. This stub is the manual of the C side.

Contexts are named by their ids, which grow and are never reused. Sizes are bytes. Times are nanoseconds since the first
`start`. All functions want the GIL; none of them is called from an allocation, and what they allocate is charged to
nobody.
"""

from typing import TypeAlias, final

ROOT_ID: int  # what no other context is charged for
SYSTEM_ID: int  # the shared context of untracked work
SOURCE_HASH: str  # of the C sources that this module was built from

@final
class Frame:
    """A context made current, and what was current before it. Opaque."""

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

def open_context(parent_id: int, records: bool, /) -> int:
    """A new context's id.

    Raises ValueError for an unknown id, MemoryError without memory.
    """

def enter(context_id: int, detach: bool, /) -> Frame:
    """Make a context current in this flow and hold it open; with `detach` nothing of what was current is kept.

    Raises ValueError for an unknown id, MemoryError without memory; then nothing has changed.
    """

def adopt(context_id: int, /) -> Frame:
    """Make a context current for work that was handed over, without keeping it open; its heir, if a reset dropped it.

    Raises ValueError for an unknown id, MemoryError without memory.
    """

def leave(frame: Frame, orphan: bool, /) -> bool:
    """Undo `enter`, once. True if the frame was current here (or had been left before).

    If it was not: with `orphan`, later restores pass over it and it is counted; without, nothing more happens.
    """

def hold(context_id: int, /) -> None:
    """Keep a context open though nobody is inside it, until `release`."""

def release(context_id: int, /) -> None: ...
def current_id() -> int:
    """The context that an allocation here would be charged to."""

def parent_id() -> int:
    """The context that a new one would be started under: the innermost one here that records."""

def current_frame() -> Frame | None:
    """The innermost frame of this flow, or None where nothing was ever entered."""

def set_foreground(context_id: int, /) -> None:
    """Who is charged for threads that no Python flow reaches."""

def reset() -> list[int]:
    """Drop the ended contexts and start the figures of the others anew. The ids dropped.

    What dropped contexts still hold passes to the nearest context above them that stays.
    """

def forget() -> int:
    """Forget all blocks, as if they had been allocated before the start; how many bytes those were.

    Only while no domain is hooked.
    """

Row: TypeAlias = tuple[int, int, bool, int, int, int, int, int, int, int, int, int, int, int, int, int, bytes]

def snapshot() -> list[Row]:
    """All contexts as of one moment, in the order of their ids.

    Each is (id, parent id or 0, ended, live, peak, total, self live, self peak, self total, allocations, frees, foreign
    frees, retained, started, ended at or -1, buckets dropped, buckets). The buckets are rows of five native 64-bit
    integers: start, low, high, live, self live.
    """

def after_fork() -> None:
    """In a forked child: blocks keep their owners, and every context's figures and timeline start from what is live."""

def audit() -> dict[int, tuple[int, int]]:
    """Each context's own live bytes, as counted and as added up from the owner table; those that are 0 are left out.

    The two are equal unless a thread without the GIL is in the middle of an event. Slow: it reads the whole table.
    """

def owner_of(address: int, /) -> tuple[int, int] | None:
    """The owner of the block at an address and the block's size, or None for a block that is not recorded."""

def health() -> dict[str, int]:
    """Counts of what went less than perfectly, and overhead_bytes: memory of the tables and records."""

def now_ns() -> int: ...
