"""The dispatcher as a person sees it: start, stop, reset, status, read."""

from __future__ import annotations

import sys

from thag_nb import _native
from thag_nb.recordings.model import ContextRecord, LinesOf, Recording, Site, SiteFigures, Status
from thag_nb.runtime import call_sites, hooks, marks, native_memory, numpy_hook, own_memory, propagation, rss
from thag_nb.runtime.contexts import Allocator, cleaned_names, push_allocator_context, unrecorded
from thag_nb.units import format_bytes


def start(*, threads: bool = True, native: bool | None = None) -> None:
    """Hook CPython's allocators and NumPy's, and record. Twice is once.

    Contexts also follow work that is handed to threads, thread pools and executors: until `stop`, ``Thread.start``,
    ``ThreadPoolExecutor.submit`` and their like are wrapped. With ``threads=False`` they are left alone, for programs
    that must not have them wrapped. What was said last also holds where opening a task starts the recording, in a
    library for example; until something was said, that is as `start` by itself.

    With ``native=True``, what loaded libraries ask of the C library (malloc, mmap and their like) is recorded as well:
    what pandas, lxml, Pillow, sqlite3, matplotlib and torch take past Python's allocators; and what Arrow, Polars and
    DuckDB hand out from their own. The bytes are those asked for, which may never all be touched. Linux with glibc
    only; elsewhere `status` says so, and the rest is recorded.
    ``None`` leaves that as it was said last; at first the environment's ``THAG_NB_NATIVE=1`` says it, and in a notebook
    what is configured, which is to do it. With ``THAG_NB_NATIVE=0`` it is never done.

    Raises `DispatcherError` if a domain cannot be hooked, and where the GIL is off.
    """
    native_memory.want(native)
    hooks.accompany(_follow_threads if threads else None)
    if not threads:
        propagation.remove()
    hooks.start()


def _follow_threads() -> None:
    with unrecorded():
        propagation.install()


hooks.accompany(_follow_threads)


def stop() -> None:
    """Stop recording and put the allocators back as they were found. Twice is once.

    Where somebody has wrapped us meanwhile, the hook stays as a pass-through, and `status` says so. What was recorded
    can still be read.
    """
    propagation.remove()
    hooks.stop()
    call_sites.release_code()


def reset() -> None:
    """Forget the contexts that have ended and the marks, and count from now on for the others.

    What forgotten contexts still hold goes to the nearest context above them that is open, at last the root.
    """
    _native.reset()
    call_sites.forget()
    marks.forget()
    rss.forget()
    call_sites.release_code()


def read() -> Recording:
    """All contexts and their timelines as of now, and the marks. Reading is charged to nobody.

    In a notebook also the process's RSS over time, with a sample of now.
    """
    return _read()


def read_without_lines() -> Recording:
    """The same but for what is known of lines: where many were recorded, most of a reading's time goes into them."""
    return _native.read(Recording, ContextRecord, marks.snapshot(), rss.snapshot(), ())


def read_numbered() -> tuple[Recording, list[int]]:
    """As `read`, and for each of its sites the number that a walk has it by."""
    numbers: list[int] = []
    return _read(numbers), numbers


def _read(*numbers: list[int]) -> Recording:
    types = Site, SiteFigures, LinesOf
    recording = _native.read(Recording, ContextRecord, marks.snapshot(), rss.snapshot(), types, *numbers)
    return call_sites.completed(recording)


def status() -> Status:
    """How the dispatcher stands, and anything that makes its figures less than complete."""
    with push_allocator_context(Allocator.SYSTEM):
        return _status()


def _status() -> Status:
    reached = _native.hooks()
    recording = _native.is_recording()
    inside = any(hook != "absent" for hook in reached.values())
    health = _native.health()
    now = read_without_lines()
    return Status(
        state="recording" if recording else "pass-through" if inside else "off",
        hooks=reached,
        threads=propagation.is_installed() or (recording and _python_follows_threads()),
        open_contexts=sum(record.state == "open" for record in now.contexts),
        live_bytes=sum(record.self_live_bytes for record in now.contexts),
        overhead_bytes=now.overhead_bytes,
        forgotten_bytes=hooks.forgotten_bytes(),
        cleaned_names=cleaned_names(),
        seen=_seen(reached, recording, health),
        notes=tuple(_notes(reached, recording, health)),
        **health,
    )


def seen() -> str:
    """Whether everything is seen that could be, and what is not, in a few sentences."""
    with push_allocator_context(Allocator.SYSTEM):
        whether = _seen(_native.hooks(), _native.is_recording(), _native.health())
        return " ".join([whether, *_workspaces(), *(f"{sentence}." for sentence in own_memory.sentences())])


def workspaces() -> dict[int, int]:
    """What OpenBLAS has mapped to work in and keeps for every later call: bytes, by the id of the context charged."""
    found: dict[int, int] = {}
    for context_id, size in _native.workspaces():
        found[context_id] = found.get(context_id, 0) + size
    return found


def _workspaces() -> list[str]:
    """Whom it is charged to: whoever used it first, and may not need it any more."""
    found = workspaces()
    names = {record.context_id: record.name for record in read_without_lines().contexts} if found else {}
    return [
        f"{format_bytes(size)} of {names[context_id]} are OpenBLAS's to work in, which keeps them for every later call."
        for context_id, size in found.items()
    ]


def _seen(reached: dict[str, str], recording: bool, health: dict[str, int]) -> str:
    if not recording:
        return "Not recording. Nothing is seen until thag_nb.start() or the next task."
    missed = health["dropped"] or health["reattached"]
    how_much = "Not everything" if _removed(reached) else "Nearly everything" if missed else "Everything"
    python = "Python" if numpy_hook.problem() else "Python and NumPy"
    arrays = "NumPy's arrays, " if numpy_hook.problem() else ""
    if reached["native"] == "absent":
        return f"Recording. {how_much} of {python} is seen; {arrays}Arrow, Polars and other native code are not."
    pools = "".join(f"{name}'s memory, " for name in native_memory.unseen_pools())
    return (
        f"Recording. {how_much} of {python} is seen, and of what other libraries ask the C library or the system for, "
        f"Arrow, Polars and DuckDB among them; {arrays}{pools}memory on a GPU, and what was there before, are not."
    )


def _removed(reached: dict[str, str]) -> list[str]:
    """The domains of CPython's in which we are not called any more."""
    return [domain for domain, hook in reached.items() if hook == "absent" and domain not in ("numpy", "native")]


def _notes(reached: dict[str, str], recording: bool, health: dict[str, int]) -> list[str]:
    """A sentence for everything a person should know before trusting the figures."""
    notes = []
    wrapped = [domain for domain, hook in reached.items() if hook == "wrapped"]
    absent = _removed(reached)
    if wrapped:
        verb = "still counts everything" if recording else "only passes calls through"
        notes.append(f"{_culprit()} wrapped the hooks of {', '.join(wrapped)}; thag_nb {verb}")
    if recording and absent:
        notes.append(
            f"{_culprit()} removed the hooks of {', '.join(absent)}: allocations there are not seen; "
            "call start() to hook them again"
        )
    if health["reattached"]:
        notes.append(
            f"{health['reattached']} domains were hooked again after somebody had removed us; the gap was not seen"
        )
    if hooks.forgotten_bytes():
        notes.append(f"{hooks.forgotten_bytes():,} bytes from before the last start() are no longer followed")
    if cleaned_names():
        notes.append(
            f"{cleaned_names():,} names were cleaned: they were too long, or not of one line that can be shown"
        )
    if recording and _python_follows_threads() and not propagation.is_installed():
        notes.append(
            "threads are followed because Python hands them their starter's contextvars (thread_inherit_context); "
            "a pool's threads stay where the pool was first used, which start() alone would change"
        )
    notes += [
        problem
        for problem in (numpy_hook.problem(), call_sites.problem(), *native_memory.problems())
        if problem is not None
    ]
    notes += [*own_memory.sentences(), *_sharings()]
    notes += [sentence.format(health[count]) for count, sentence in _IMPERFECTIONS.items() if health[count]]
    return notes


def _sharings() -> list[str]:
    """What threads of a library took for nobody knows which of several that waited for it."""
    worth_telling = [row for row in _native.shared() if row[-1] >= _WORTH_TELLING_BYTES]
    if not worth_telling:
        return []
    names = {record.context_id: repr(record.name) for record in read_without_lines().contexts}
    return [
        f"{format_bytes(taken)} that threads of a library took while both {names.get(one, 'a context')} and "
        f"{names.get(other, 'a context')} waited for it are charged to {names.get(charged, 'the root')}, above both"
        for charged, one, other, taken in worth_telling
    ]


def _python_follows_threads() -> bool:
    """Whether a thread begins with a copy of its starter's Context, as it may since 3.14."""
    return bool(getattr(sys.flags, "thread_inherit_context", 0))


_WORTH_TELLING_BYTES = 100_000

_IMPERFECTIONS = {
    "dropped": "{:,} events could not be recorded for lack of memory or for an unusual address",
    "stale_records": "{:,} blocks were freed without passing us, and repaid when their address was used again",
    "stale_lookups": "{:,} allocations without the GIL were charged to their thread's last known context",
    "orphaned_guards": "{:,} guards were closed while another one was innermost",
    "failed_restores": "{:,} guards could not restore the context before them for lack of memory",
    "untold_sites": "{:,} allocations have no line of their own, as there were too many call sites to tell them apart",
    "coarse_buckets": "{:,} stretches of timelines are drawn coarser for lack of memory; their heights are right",
}


def _culprit() -> str:
    tracemalloc = sys.modules.get("tracemalloc")
    tracing = tracemalloc is not None and tracemalloc.is_tracing()
    return "tracemalloc" if tracing else "another allocator hook"
