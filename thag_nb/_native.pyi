"""The native core: hooks, contexts, owners, timelines. This stub is the manual of the C side.

Contexts are named by their ids, which grow and are never reused. Sizes are bytes. Times are nanoseconds since the first
`start`. All functions want the GIL; none of them is called from an allocation, and what they allocate is charged to
nobody.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from typing import Any, Generic, Literal, TypeAlias, TypeVar, final

from thag_nb.runtime.contexts import AllocatorContext

ROOT_ID: int  # what no other context is charged for
SYSTEM_ID: int  # the shared context of untracked work
SOURCE_HASH: str  # of the C sources that this module was built from

GuardType = TypeVar("GuardType", bound="ContextGuard")
RecordingType = TypeVar("RecordingType")
Item = TypeVar("Item")
Carried = TypeVar("Carried", bound=Callable[..., Any])

Description: TypeAlias = tuple[int, int, bool, tuple[str, str]]
"""A context: id, parent id or 0, whether it records, and its name and kind."""

@final
class Frame:
    """A flow's current context, for work that is handed over. Nothing can be asked of it."""

@final
class Entering:
    """What undoes the entering of a context. Dropping it does so as well, whatever interrupts the one who entered."""

    def leave(self, orphan: bool, /) -> bool:
        """Restore what was current before, once. True if the context was current here, or had been left already.

        If it was not: with `orphan`, every flow passes over it from now on, and it is counted; else nothing is done.
        Never raises.
        """

def start() -> int:
    """Hook every domain of CPython that does not reach us, and record. How many domains were hooked.

    Those that were while it recorded already are counted as reattached: somebody had removed us.

    Raises RuntimeError if a domain has been wrapped and re-hooked too often.
    """

def stop() -> int:
    """Stop recording and unhook where we are on top, NumPy included. How many domains of CPython still reach us."""

def now() -> int:
    """Nanoseconds since the first start, and 0 before it: the clock and the origin of all times in a recording."""

def is_recording() -> bool: ...
def hooks() -> dict[str, str]:
    """For raw, mem, obj, numpy and native: "on top", "wrapped" or "absent". Probes each domain with an allocation."""

def allocators() -> tuple[tuple[int, int, int, int, int], ...]:
    """For raw, mem and obj the addresses of the installed allocator: context word, malloc, calloc, realloc, free."""

def attach_numpy(api: object, /) -> bool:
    """Hook NumPy's default data handler, found through its C API capsule. False if that is done already.

    Raises ValueError if the handler is not what we know.
    """

def attach_native() -> bool:
    """Hook what loaded objects ask of the C library. False where that cannot be; nothing is changed then."""

def detach_native() -> None:
    """Let loaded objects call the C library again, as before `attach_native`. Twice is once."""

def slots() -> dict[str, int]:
    """How many slots were redirected, foreign, and how many objects unwritable, when they were last looked at."""

def unwritable() -> str:
    """The file name of the first object whose slots could not be written, maybe cut; empty for none, or the program."""

def address_space() -> list[tuple[str, int]]:
    """The loaded libraries that can be seen to map memory, and what they still have of it, touched or not.

    Paths, empty for the program, and bytes of whole pages. What a library mapped before it could be seen, as when it
    was loaded, is left out; so are files, what OpenBLAS works in, and Arrow, Polars and DuckDB where they are seen from
    within.
    """

def mapper_of(address: int, /) -> str | None:
    """The path of the one of these libraries that has mapped what lies at an address, or None."""

def show_polars(capsule: object, /) -> None:
    """Let Polars' allocator be followed, which it shows in this capsule, whenever the native domain is hooked.

    None: it shows none. Raises ValueError for another capsule, or something else.
    """

def pools() -> dict[str, str]:
    """For Arrow, Polars and DuckDB: "seen", "absent" (not loaded, or not shown), or "unfit" (not as we know it)."""

def describe_as(
    context_type: type[tuple[object, ...]], recorded_allocator: object, system_allocator: object, /
) -> None:
    """Let what people see of a context be a `context_type` of id, allocator, name, kind and parent's id."""

def open_context(records: bool, name: str, kind: str, parent_id: int | None, /) -> AllocatorContext:
    """A new context, under the innermost here that records unless a parent is given; described as was told.

    It is open until somebody who entered it has left it. When there have been 2**25 contexts the parent takes the place
    of any more (the system context of one that does not record), and that is counted as dropped. Raises ValueError for
    an unknown parent or one that does not record, MemoryError without memory.
    """

def open_guard(guard_type: type[GuardType], records: bool, name: str, kind: str, parent_id: int | None, /) -> GuardType:
    """A guard for a new context, opened as `open_context` does, that keeps it open from the beginning.

    No Python code runs and no finalizer.
    """

class ContextGuard:
    """Makes a context current on `enter`, and on `close` restores what it found: in any order, on any thread, without
    raising. A guard that is dropped closes itself. As a context manager it closes at the end of the block.
    """

    def __init__(self, context: AllocatorContext) -> None: ...
    @property
    def context(self) -> AllocatorContext: ...
    def enter(self, *, detach: bool = False) -> None:
        """Make the context current. Twice is once.

        With `detach`, `close` restores what was current before anything was entered so: a cell keeps nothing that was
        left open in the one before it.

        Raises MemoryError without memory, and ValueError if a reset has dropped the context; then nothing has changed.
        """

    def close(self, *, orphan: bool = True) -> None:
        """Leave the context. Twice is once. What was opened for this guard and never entered has ended then.

        A guard that is not innermost here is passed over by every flow from now on; with `orphan` False it is left
        alone, for a flow that has ended elsewhere.
        """

    def is_around(self) -> bool:
        """Whether this flow is inside, however deep."""

    def __enter__(self) -> AllocatorContext: ...
    def __exit__(self, *error: object) -> None: ...

class TaskGuard(ContextGuard):
    """The guard of a task; the task has ended when the last of its guards is closed."""

class TaskScope:
    """A scope of which each use is a new task; it may be used many times at once, by several flows and threads.

    Leaving closes what the same call of a function entered last, or else what this flow is in, or else what was entered
    first. A class of this type has four functions: `_clean(name)` gives the name for one that is not plainly one,
    `_start()` starts the recording, `_least_bytes(lines)` gives the least size, or None, for what is not False, and
    `_record_lines(context_id, least_bytes)` has the lines of a task recorded that nobody has entered yet.
    """

    def __init__(self, name: str, lines: bool | int | str = False) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def least_bytes(self) -> int | None: ...
    def guard(self) -> TaskGuard:
        """A guard for one use, not yet entered."""

    def entered(self) -> TaskGuard:
        """A guard for one use, entered."""

    def __enter__(self) -> AllocatorContext: ...
    def __exit__(self, *error: object) -> None: ...
    def __aenter__(self) -> Awaitable[AllocatorContext]:
        """Enters when it is awaited, and waits for nothing."""

    def __aexit__(self, *error: object) -> Awaitable[None]: ...

class UntrackedScope:
    """A scope of the shared system context, otherwise like `TaskScope`."""

    def guard(self) -> ContextGuard: ...
    def entered(self) -> ContextGuard: ...
    def __enter__(self) -> AllocatorContext: ...
    def __exit__(self, *error: object) -> None: ...
    def __aenter__(self) -> Awaitable[AllocatorContext]: ...
    def __aexit__(self, *error: object) -> Awaitable[None]: ...

def context(context_id: int, /) -> Description | None:
    """What a context is, or None if a reset has dropped it. Raises ValueError for an id that there never was."""

def context_ids() -> list[int]:
    """The contexts that no reset has dropped, oldest first."""

def enter(context_id: int, detach: bool, /) -> Entering:
    """Make a context current in this flow and hold it open.

    With `detach`, leaving it restores what was current before anything was entered so.

    Raises ValueError for an unknown or dropped id, MemoryError without memory; then nothing has changed.
    """

def flow() -> Frame | None:
    """What is current here, for `adopt` to make current elsewhere; None for the root."""

def adopt(flow: Frame | None, /) -> Entering:
    """Make current what was current where `flow` was called; its heir, if a reset dropped it. Does not keep it open.

    Raises MemoryError without memory.
    """

def carrier(function: Carried, flow: Frame | None, /) -> Carried:
    """The function, to be called elsewhere under a flow.

    It stands in for the function, which is its ``__wrapped__``: attributes, class and repr are the function's, and what
    is pickled is the function alone. A call has no frame of its own. Raises TypeError for what cannot be called.
    """

def carried_items(iterable: Iterable[Item], flow: Frame | None, /) -> CarriedItems[Item]:
    """The iterable, to be iterated over elsewhere under a flow."""

@final
class CarriedItems(Generic[Item]):
    """What `carried_items` gives. Its length is the iterable's, or TypeError."""

    def __iter__(self) -> Iterator[Item]: ...
    def __len__(self) -> int: ...

def carry_run(thread: object, flow: Frame | None, /) -> Run:
    """Let what a thread will run, run under a flow: its ``__dict__`` gets a `run`, past its ``__setattr__``."""

@final
class Run:
    """A thread's `run`. When it is called it takes itself off, and calls what the thread has as its `run` then.

    To whoever looks it is the method that it took the place of; the function in that is carried as well.
    """

    __func__: Callable[..., object]
    def __call__(self) -> object: ...
    def give_up(self) -> None:
        """Take itself off, if it is still there: the thread has not begun."""

def handover(
    original: Callable[..., Any],
    prepare: Callable[..., tuple[tuple[Any, ...], dict[str, Any], Callable[[], object] | None] | None],
    /,
) -> Callable[..., Any]:
    """A function of a class, wrapped: it calls `prepare` with its arguments, and then the original with what that gave.

    `prepare` gives arguments, keywords, and what undoes it when the original raises; or None, for the arguments as they
    were. The wrapper stands in for the original, its ``__wrapped__``, in everything but calls, and has no frame.
    """

@final
class Resumes:
    """What `resumes` gives: an iterator whose StopIteration has the value that the generator returned."""

    def __iter__(self) -> Generator[Any, Any, Any]: ...
    def __next__(self) -> Any: ...
    def send(self, value: object, /) -> Any: ...
    def raise_next(self, error: BaseException, /) -> bool:
        """Let the next resume raise this where the generator waits. False if that has ended."""

def resumes(guard: ContextGuard, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Resumes:
    """The generator that a function makes, entering the context of a new guard for that and around every resume of it.

    The context is held open until the generator has ended or is dropped. Raises what the function raises, and
    ValueError for a guard that no context was opened for.
    """

def hold(context_id: int, /) -> None:
    """Keep a context open though nobody is inside it, until `release`."""

def release(context_id: int, /) -> None: ...
def current_id() -> int:
    """The context that an allocation here would be charged to."""

def base_id() -> int:
    """The context that one to be entered with `detach` would be started under."""

def set_foreground(context_id: int, /) -> None:
    """Charge threads that no Python flow reaches to a context that was entered in this flow, until it is left.

    Then it is whatever was made the foreground before and has not been left meanwhile; at last the root, which takes
    the place of all of them if it is given. Raises ValueError for another that was not entered here, or was left.
    """

def reset() -> None:
    """Drop the contexts that have ended and start the figures of the others anew.

    What dropped contexts still hold passes to the nearest context above them that stays.
    """

def forget() -> int:
    """Forget all blocks, as if they had been allocated before the start; how many bytes those were.

    Only while no domain is hooked.
    """

def read(
    recording_type: type[RecordingType],
    record_type: type[tuple[object, ...]],
    marks: tuple[object, ...],
    resident: tuple[object, ...],
    site_types: tuple[type[tuple[object, ...]], type[tuple[object, ...]], type[tuple[object, ...]]] | tuple[()],
    site_numbers: list[int] = ...,
    /,
) -> RecordingType:
    """All contexts as of one moment, in the order of their ids: the fields of `Recording`, of `ContextRecord`.

    Timelines are rows of five native 64-bit integers: start, low, high, live, self live. `marks` and `resident` are
    taken along as they are. The types of sites are `Site`, `SiteFigures` and `LinesOf`, or none, and then none are
    read; to `site_numbers` is added what `Walk.follow` calls each `Site`. No Python code runs.
    """

def lines_begin(context_id: int, least_bytes: int, /) -> bool:
    """Record the call sites of a context, and of all that is started under it, for blocks of at least so many bytes.

    False without memory for it, or where `stack_here` is empty. Raises ValueError for one that is not recorded, for the
    root, and if something was started under it already.
    """

def lines_release() -> None:
    """Let go of code that is kept alive for its lines, and that nobody else has.

    Only where Python tells of no code that dies is there any. Code of anybody's may run.
    """

def stack_here() -> list[tuple[str, int, str]]:
    """The frames that run, as allocations are charged with them: file, line, function; the innermost first.

    Empty if the interpreter says that its frames are not as they were when this was compiled.
    """

def allocated_at(address: int, /) -> list[tuple[str, int, str]] | None:
    """The same of a recorded block, when it was allocated; None if its context records no lines."""

def collection_watcher(
    mark_type: type[tuple[object, ...]], kept: deque[Any], /
) -> Callable[[Literal["start", "stop"], dict[str, int]], None]:
    """A callback for `gc.callbacks` that appends a `Mark` to `kept` for each collection worth one, while recording.

    Worth one are those of the oldest generation, and those of more than a millisecond. No Python code runs, what it
    allocates is charged to nobody, and a mark for which there is no memory is counted as dropped.
    """

def skip_ids(context_id: int) -> None:
    """Let the ids of contexts go on from this one at least: what happens after very many can be tried after few."""

def shared() -> list[tuple[int, int, int, int]]:
    """What threads of a library took while several contexts waited for it: the id of the context that it was charged
    to, which is above them all; the ids of two of them; bytes.
    """

def workspaces() -> list[tuple[int, int]]:
    """What OpenBLAS has mapped to work in, and keeps: the ids of the contexts that it is charged to, and bytes."""

def after_fork() -> None:
    """In a forked child: blocks keep their owners, and every context's figures and timeline start from what is live."""

def audit() -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
    """What each context holds of its own, in bytes and in blocks: as counted, and as added up from the owner table.

    Who holds nothing is left out. The two are equal, unless threads without the GIL never leave off meanwhile. Slow: it
    reads the whole table.
    """

def owner_of(address: int, /) -> tuple[int, int] | None:
    """The owner of the block at an address and the block's size, or None for a block that is not recorded."""

def block_around(address: int, /) -> tuple[int, int] | None:
    """Where the recorded block begins that an address lies in, and its size, or None. Slow inside of a large one."""

def words(place: object, /) -> tuple[int, ...]:
    """An address, or that which a capsule leads to, and then the words of the recorded block that begins there, if any.

    The block must not go meanwhile.
    """

def blocks_behind(thing: object, new: tuple[object, object] = ..., /) -> list[int]:
    """Where the recorded blocks begin that can be reached by pointers from an object of C code, itself apart.

    Any word in the object, or in such a block, that is the address of one counts as a pointer, also one that is left
    over from before. What two `new` objects of its type both point to, from the same place in them or in a block that
    each of them points to, is their library's: what this object has there is not found, and leads nowhere. Linux only;
    elsewhere there are none.
    """

def buffer_address(exporter: object, /) -> int:
    """Where the memory is that an object shows as a buffer. Raises what the object raises."""

@final
class Walk:
    """A walk from holder to holder, and from each to all that it holds. It keeps no object alive.

    Of each object that it came across, it knows on behalf of which holder it was visited, by the holder's number; or
    that it was not visited yet; or that it is excluded.
    """

    def __init__(self, types: tuple[object, ...], foreign: tuple[object, ...], /) -> None:
        """`types` are those of `holders/kinds.py`, None for what is not loaded; others are not known.

        Objects of exactly the `foreign` ones are special: only their library can look into them. See `hold`.
        """

    def follow(
        self, holder: int, roots: list[Any], pending: list[Any], /
    ) -> tuple[dict[tuple[int, int], int], list[Any]]:
        """Visit, on behalf of a holder, its `roots`, what is `pending`, and all that these hold and nobody visited yet.

        One call only visits so many; what is left is then in `pending`, for the next. Returned are the recorded bytes
        that the visited objects are made of, by the id of their context and the number of the call site where they were
        allocated, and special objects that were not gone on from, each once for a holder: classes, functions, modules,
        frames, tracebacks and caches, which may be `pending` next.

        A number is 0 if the context records no lines or nobody could tell, and less for what is no stack, as in
        `SiteFigures`. It means the same as long as the context is known by its id.

        An object is made of the block it lies in and the buffers that are its alone. Beside what `gc.get_referents`
        tells, an array holds its base, its dtype and its elements, a dict its keys that are text, code its parts, and a
        stream what was written to it. No Python code runs.
        """

    def release(
        self, groups: list[tuple[int, int, list[Any]]], limit_ms: int, /
    ) -> tuple[dict[tuple[int, int, bool, bool, int], int], dict[int, tuple[int, ...] | None]] | None:
        """What would go if holders let go: a trial on all that was visited, for all of them at once.

        A group is a holder's number, what the references to some objects are, and a list of these, as often as there
        are such references: 0, names that its line takes away; 1, a library's; 2, caches whose results its line throws
        away; 3, references that go by themselves; 4, garbage, which goes with what it refers to. The groups are in the
        order of their holders, those of libraries in a row, and their lists are all that refers to the objects for the
        sake of this.

        Returned are recorded bytes by the holder that they were visited for, a label, whether something unknown refers
        to them as well, whether they wait for the collector when all let go, and their context; and for each label the
        holders that reach them, or None if these are too many. None if it takes longer than `limit_ms`.
        """

    def exclude(self, objects: list[Any], /) -> None:
        """Let no holder visit these objects."""

    def include(self, objects: list[Any], /) -> None:
        """Know of these objects, and take them for not visited."""

    def hold(self, thing: object, addresses: tuple[int, ...], /) -> list[Any]:
        """Let an object hold the blocks that begin at these addresses, as others may. Returned is what stands for them.

        Without those that are told of as parts of objects that were visited. What stands for the address 0 is no
        block's: it may be let hold blocks itself, for many objects.
        """

    def unvisited(self, objects: list[Any], /) -> list[Any]:
        """Those of the objects that the walk knows of, but did not visit and that are not excluded."""

    def divide(self, objects: list[Any], /) -> list[Any]:
        """Take out of a list, and return, what something refers to that is neither in the list nor the list itself.

        What is left is garbage, unless it hangs on the others.
        """

    @property
    def seen_count(self) -> int:
        """How many objects were gone into."""

def health() -> dict[str, int]:
    """Counts of what went less than perfectly."""

def overhead() -> dict[str, int]:
    """Bytes of our own native memory: the pages in use of the tables of owners and of address space, context records,
    timelines, and logs.
    """
