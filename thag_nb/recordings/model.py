"""Recordings: frozen snapshots of all contexts and their timelines, as plain data."""

from __future__ import annotations

from operator import index

from thag_nb.errors import UnknownContextError
from thag_nb.light_typing import TYPE_CHECKING, Any, NamedTuple
from thag_nb.units import clean_name, format_bytes, format_duration

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Literal

    from thag_nb.recordings.vocabulary import HolderKind as HolderKind
    from thag_nb.recordings.vocabulary import Kind as Kind
    from thag_nb.recordings.vocabulary import SeveralWanted as SeveralWanted
    from thag_nb.recordings.vocabulary import State as State
    from thag_nb.recordings.vocabulary import Wanted as Wanted


def __getattr__(name: str) -> Any:
    """The types above, for whoever asks at run time: nothing that thag_nb itself is imported with does."""
    if name not in ("HolderKind", "Kind", "SeveralWanted", "State", "Wanted"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    from thag_nb.recordings import vocabulary

    return getattr(vocabulary, name)


class ContextRecord(NamedTuple):
    """What one context cost. Figures are inclusive unless they start with ``self_``.

    Sizes are bytes; ``started_ns`` counts from the first start of the dispatcher, and ``duration_ns`` of an open
    context goes up to the moment of the recording. ``parent_id`` is 0 for the root. ``retained_bytes`` is what was live
    when the context ended; 0 while it is open.

    ``at_session_peak_bytes`` is what was live of the context's own, and of those below that are not listed any more,
    when the root's live bytes were highest: over all contexts that adds up to the root's ``peak_bytes``.
    ``at_parent_peak_bytes`` is what was live of it, inclusive, when its parent's live bytes were highest; what is left
    of that peak was the parent's own. The root has its own peak there. A reset begins both anew.

    ``self_live_numpy_bytes`` and ``self_live_native_bytes`` are how much of ``self_live_bytes`` NumPy's data allocator
    gave, and how much native code asked for with malloc, mmap or an allocator of its own; the rest is Python's.
    ``at_session_peak_numpy_bytes`` and ``at_session_peak_native_bytes`` are the same of ``at_session_peak_bytes``. In
    files of before these six were kept, they are 0.
    """

    context_id: int
    name: str
    kind: Kind
    parent_id: int
    allocator: str
    state: State
    live_bytes: int
    peak_bytes: int
    total_bytes: int
    self_live_bytes: int
    self_peak_bytes: int
    self_total_bytes: int
    allocations: int
    frees: int
    foreign_frees: int
    retained_bytes: int
    started_ns: int
    duration_ns: int
    at_session_peak_bytes: int = 0
    at_parent_peak_bytes: int = 0
    self_live_numpy_bytes: int = 0
    self_live_native_bytes: int = 0
    at_session_peak_numpy_bytes: int = 0
    at_session_peak_native_bytes: int = 0


class TimelineBucket(NamedTuple):
    """A stretch of time in which a context's live bytes moved: lowest, highest and last, inclusive; last of its own."""

    start_ns: int
    low_bytes: int
    high_bytes: int
    live_bytes: int
    self_live_bytes: int


class Mark(NamedTuple):
    """A moment that somebody named, or a run of the garbage collector.

    ``time_ns`` counts like ``started_ns``; ``context_id`` is the context that was current, and nothing is charged to
    it. A ``mark`` has no duration. A ``collection`` is called by its generation, such as ``gc 2``; its time is when it
    began, and ``duration_ns`` how long it took.
    """

    time_ns: int
    context_id: int
    name: str
    kind: Literal["mark", "collection"]
    duration_ns: int


class ResidentSize(NamedTuple):
    """The process's resident set size (RSS) in bytes, as the system told it at a moment counted like ``started_ns``."""

    time_ns: int
    resident_bytes: int


class Held(NamedTuple):
    """What one holder keeps of one context's own live bytes.

    ``name`` is the context's, ``under`` the same behind the names of the tasks that it is part of. ``released_by`` is
    the line that frees at least nine tenths of ``held_bytes``, empty where none is known, ``shared_with`` are other
    holders that reach into the same bytes, and ``alone_bytes`` are those that nobody else reaches. ``allocated_at``
    tells in words the lines that most of it was allocated in, empty if the lines of the context are not recorded.
    """

    context_id: int
    name: str
    holder: str
    kind: HolderKind
    held_bytes: int
    released_by: str
    shared_with: tuple[str, ...]
    alone_bytes: int
    under: str
    allocated_at: str = ""


class Difference(NamedTuple):
    """One figure of a context, before and after.

    ``name`` is that of both contexts, or ``slow -> fast``. ``figure`` is a field of `ContextRecord`, whose units hold;
    ``retained_bytes`` of a context that is still open is what is live. ``difference`` is after less before, and
    ``ratio`` after by before; None where before is 0. A name that is missing on one side has None there and in both.
    """

    name: str
    figure: str
    before: int | None
    after: int | None
    difference: int | None
    ratio: float | None


class Site(NamedTuple):
    """A line of a function that allocated, or that called what did: with its callers, a call site, which is a stack.

    ``parent`` is the place of its caller among the recording's ``sites``, always before its own; -1 for an outermost
    one. ``file`` and ``function`` are the code's ``co_filename`` and ``co_qualname``. ``is_hidden`` says whether the
    function has a local variable called ``__tracebackhide__``, whatever its value.
    """

    parent: int
    file: str
    line: int
    function: str
    is_hidden: bool = False


class SiteFigures(NamedTuple):
    """What one context was charged for at one call site, itself: its contexts below have figures of their own.

    ``site`` is a place among the recording's ``sites``, or one of `NO_FRAME`, `SMALLER` and `NOT_TOLD_APART`.
    ``at_peaks`` holds, for contexts that this one is or is under, their id and how many of the bytes were live when
    that context's live bytes were highest.
    """

    context_id: int
    site: int
    live_bytes: int
    total_bytes: int
    allocations: int
    frees: int
    at_peaks: tuple[tuple[int, int], ...]


NO_FRAME = -1  # allocated where no line of Python was running
SMALLER = -2  # smaller than what somebody asked for
NOT_TOLD_APART = -3  # there were too many sites


class LinesOf(NamedTuple):
    """What is known of a context whose lines are recorded.

    Allocations of at least ``least_bytes`` are told apart, 0 for all. ``peak_site`` is where its live bytes were
    highest: a place as in `SiteFigures`. ``is_explained`` says whether figures have its peak in ``at_peaks``; not if
    very many contexts around it record their lines too. ``cells`` are pairs of a file and what people know it as, such
    as ``In[3]``, of the cell that the context is or is part of.
    """

    context_id: int
    least_bytes: int
    peak_site: int
    is_explained: bool
    cells: tuple[tuple[str, str], ...]


class SourceLine(NamedTuple):
    """The text of a line of the user's code, without the line break; ``file`` is as a `Site` has it."""

    file: str
    line: int
    text: str


class CellFile(NamedTuple):
    """A file that holds the code of a cell, as a `Site` has it, and what people know it as, such as ``In[3]``."""

    file: str
    name: str


class LineCost(NamedTuple):
    """What a context, with everything below it, was charged for at one line, function, file or stack of the user's.

    ``context_id`` and ``name`` are the context's. ``file`` is a path, or a cell such as ``In[3]``; ``function`` is the
    one that the line is in, and ``source`` its text, empty if it is not known. ``through`` is the function of a library
    that was called from there, ``...`` if it was several, empty if none. What has no line has a row with an empty
    ``file`` whose ``function`` says in words what it is. ``peak_bytes`` is what was live of it when the context's live
    bytes were highest. ``stack`` are files, lines and functions, outermost first, of a row that is of one stack.
    """

    context_id: int
    name: str
    file: str
    line: int
    function: str
    source: str
    through: str
    peak_bytes: int
    live_bytes: int
    total_bytes: int
    allocations: int
    frees: int
    stack: tuple[tuple[str, int, str], ...] = ()


class LineDifference(NamedTuple):
    """One figure of a line, before and after.

    ``name`` is as in `Difference`. ``file``, ``line``, ``function`` and ``source`` are as in `LineCost`, of the line as
    it is after; as it was before if it allocated nothing any more. ``figure`` is a field of `LineCost`. A line that
    allocated nothing on one side has 0 there; ``ratio`` is after by before, None where before is 0.
    """

    name: str
    file: str
    line: int
    function: str
    source: str
    figure: str
    before: int
    after: int
    difference: int
    ratio: float | None


class Recording(NamedTuple):
    """All contexts at one moment, oldest first, the root leading.

    ``timelines`` holds each context's buckets as packed native 64-bit integers, in the order of `TimelineBucket`.
    ``taken_ns`` is the moment, counted like ``started_ns``. ``overhead_bytes`` is the native memory of the bookkeeping
    itself, part of no context; ``dropped`` counts events that could not be recorded, normally 0.

    ``marks`` are the moments that somebody named, ``resident`` is the size of the whole process in memory at some
    moments, both oldest first. The latter is sampled and not exact, unlike everything else here: it misses what happens
    between two samples, and goes up and down with what allocators and the system do, not with what is live.

    ``sites``, ``site_figures`` and ``lines`` are of the contexts whose lines are recorded. What the figures of a
    context and those below it do not sum up to was allocated before, or nobody knows where.
    ``source_lines`` is empty but in a recording that was saved with its source: then it is all that is known of it.
    ``cell_files`` has, of the files of ``sites``, those that are cells: each once, with the last cell that it was.
    """

    contexts: tuple[ContextRecord, ...]
    timelines: Mapping[int, bytes]
    taken_ns: int
    overhead_bytes: int
    dropped: int
    marks: tuple[Mark, ...] = ()
    resident: tuple[ResidentSize, ...] = ()
    sites: tuple[Site, ...] = ()
    site_figures: tuple[SiteFigures, ...] = ()
    lines: tuple[LinesOf, ...] = ()
    source_lines: tuple[SourceLine, ...] = ()
    cell_files: tuple[CellFile, ...] = ()

    def __repr__(self) -> str:
        """One line: how many contexts, when, and what is live."""
        live_bytes = self.contexts[0].live_bytes if self.contexts else 0
        return (
            f"<Recording of {len(self.contexts)} contexts, {format_duration(self.taken_ns)} after the first start: "
            f"{format_bytes(live_bytes)} live>"
        )

    def find(self, wanted: Wanted) -> ContextRecord:
        """The context of this id, or the newest of this name. Raises `UnknownContextError`."""
        return self.find_all(wanted)[-1]

    def find_all(self, wanted: Wanted) -> tuple[ContextRecord, ...]:
        """The contexts of this id or name, oldest first. Raises `UnknownContextError` if there is none."""
        if isinstance(wanted, str):
            names = wanted, clean_name(wanted)  # as it was given, or as it is called
            records = tuple(record for record in self.contexts if record.name in names)
        else:
            context_id = id_from(wanted)
            records = tuple(record for record in self.contexts if record.context_id == context_id)
        if not records:
            raise UnknownContextError(wanted, self._names())
        return records

    def choose(self, wanted: SeveralWanted = None, *, all: bool = False) -> tuple[ContextRecord, ...]:
        """The contexts that one or a list or tuple of names, ids and contexts stand for, oldest first; all for None.

        Of a name the newest, or, with `all`, every one. Raises `UnknownContextError`.
        """
        if wanted is None:
            return self.contexts
        is_context = id_from(wanted) != 0  # which is a tuple too
        several: Any = wanted if isinstance(wanted, list | tuple) and not is_context else (wanted,)
        records = {record for one in several for record in (self.find_all(one) if all else (self.find(one),))}
        return tuple(sorted(records, key=lambda record: record.context_id))

    def _names(self) -> list[str]:
        """All names, tasks first and the newest of them leading."""
        newest_first = sorted(self.contexts, key=lambda record: (record.kind != "task", -record.context_id))
        return list(dict.fromkeys(record.name for record in newest_first))

    def children(self, context_id: int) -> tuple[ContextRecord, ...]:
        """The contexts started directly under this one, oldest first."""
        return tuple(record for record in self.contexts if record.parent_id == context_id)

    def timeline(self, wanted: Wanted) -> tuple[TimelineBucket, ...]:
        """The buckets in order of time of the context of this id, or the newest of this name.

        The last bucket may still be filling. Raises `UnknownContextError`.
        """
        buckets = self.timelines.get(id_from(wanted))
        if buckets is None:
            buckets = self.timelines[self.find(wanted).context_id]
        numbers = iter(memoryview(buckets).cast("q"))
        return tuple(map(TimelineBucket, *[numbers] * len(TimelineBucket._fields)))

    def save(self, path: str | os.PathLike[str], *, source: bool = False, overwrite: bool = False) -> None:
        """Keep the recording in a file, for `load`: JSON, compressed if the name ends in ``.gz``.

        The file is written whole or not at all. One that holds a recording is replaced; anything else only with
        `overwrite`. Of the user's code it holds the names of files and functions and the numbers of lines, where lines
        were recorded; their text only with `source`. The format is told in ``thag_nb/recordings/files.py``.

        Raises `RecordingFileError` if `path` is something else, and OSError where the system refuses.
        """
        from thag_nb.recordings import files, own_code  # only now: importing thag_nb does without JSON

        with _Files.around():
            texts = own_code.source_lines(self) if source else ()
            kept = self._replace(source_lines=tuple(SourceLine(*text) for text in texts))
            files.save(kept, _ROWS, path, overwrite=overwrite)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Recording:
        """The recording that `save` kept in a file, equal to the one that was saved but for the text of lines.

        Nothing needs to be recording.

        Raises `RecordingFileError` if the file is damaged, something else or of a newer version, FileNotFoundError if
        there is none, and OSError where the system refuses.
        """
        from thag_nb.recordings import files

        with _Files.around():
            return files.load(Recording, _ROWS, path)


_ROWS: Mapping[str, type[tuple[Any, ...]]] = {
    "contexts": ContextRecord,
    "marks": Mark,
    "resident": ResidentSize,
    "sites": Site,
    "site_figures": SiteFigures,
    "lines": LinesOf,
    "source_lines": SourceLine,
    "cell_files": CellFile,
}


def descendants(recording: Recording, context_id: int) -> list[ContextRecord]:
    """All contexts that were started under one, however deep, oldest first."""
    above = {context_id}
    below = []
    for record in recording.contexts:  # parents come before children
        if record.parent_id in above and record.kind != "system":
            above.add(record.context_id)
            below.append(record)
    return below


def is_work(record: ContextRecord) -> bool:
    """Whether a context is a cell or a task, and not the root or the system context."""
    return record.kind in ("cell", "task")


def work_names(recording: Recording) -> Iterator[str]:
    """The names of cells and tasks, the oldest first."""
    return (record.name for record in recording.contexts if is_work(record))


def curve_in_words(record: ContextRecord, name: str, left: str, *, when: str = "") -> str:
    """What a picture of a context's live bytes shows, for those who do not see it.

    It says how the context is called there, how high its peak was and `when`, and what of it is `left`.
    """
    peak = f"peak {format_bytes(record.peak_bytes)}{when}"
    return f"Live bytes of {name} over {format_duration(record.duration_ns)}: {peak}, {left}."


class _Files:
    """What saving and loading happens inside of. Who is charged for that work is for the runtime to know."""

    around: Callable[[], AbstractContextManager[object]]


def surround_files(around: Callable[[], AbstractContextManager[object]]) -> None:
    """Save and load recordings inside of what `around` gives, from now on."""
    _Files.around = around


def pack_timeline(buckets: Iterable[TimelineBucket]) -> bytes:
    """Buckets as `Recording.timelines` holds them."""
    from array import array  # who compares no recordings needs none

    return array("q", [number for bucket in buckets for number in bucket]).tobytes()


def id_from(wanted: Any) -> int:
    """The id that an int, an integer of NumPy or a context stands for; 0, which nobody has, for anything else."""
    own: Any
    for own in (wanted, getattr(wanted, "context_id", None), getattr(wanted, "id", None)):
        try:
            return 0 if isinstance(own, bool) else index(own)
        except TypeError:
            continue
    return 0


class Status(NamedTuple):
    """How the dispatcher stands. Counts are since the process started.

    ``seen`` is a sentence: whether everything is seen that could be, and what is not. The rest says why.
    ``state`` is ``recording``, ``off``, or ``pass-through`` (stopped, but whoever wrapped the hooks still calls them).
    ``hooks`` says for each domain ``on top``, ``wrapped`` (somebody is called before us) or ``absent``.
    ``threads`` says whether contexts follow work into threads and pools. ``reattached`` counts domains that were hooked
    again after somebody had removed us: what happened in between was not seen.
    ``forgotten_bytes`` were live when the dispatcher stopped and are no longer followed since it started again.
    ``given_back`` counts contexts that had ended, held nothing and are not kept any more, as there were very many: what
    they cost is still in the figures of those above them.
    ``untold_sites`` counts allocations whose lines could not be told apart, as there were too many call sites.
    ``cleaned_names`` counts names that were given with what cannot be shown in them, or too long, and were mended.
    """

    state: Literal["recording", "off", "pass-through"]
    hooks: Mapping[str, str]
    threads: bool
    open_contexts: int
    live_bytes: int
    overhead_bytes: int
    dropped: int
    stale_records: int
    stale_lookups: int
    orphaned_guards: int
    failed_restores: int
    coarse_buckets: int
    reattached: int
    given_back: int
    untold_sites: int
    forgotten_bytes: int
    cleaned_names: int
    seen: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Whether everything is seen, then a line of details, and one for each thing worth saying."""
        hooks = ", ".join(f"{domain} {hook}" for domain, hook in self.hooks.items())
        followed = "followed" if self.threads else "not followed"
        details = [f"state: {self.state}; hooks: {hooks}; threads: {followed}"]
        if self.given_back:  # which makes no figure less than complete
            details.append(
                f"{self.given_back:,} old contexts that held nothing are only counted in those above them now"
            )
        return "\n".join((self.seen, *details, *self.notes))
