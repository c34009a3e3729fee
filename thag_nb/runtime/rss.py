"""The process's resident set size (RSS) over time: sampled, to be seen beside live bytes.

Samples are bounded: when there are too many, every other one goes, and from then on there is twice the time between
them. Without a lock: whoever adds a sample puts a longer tuple in place, and if two threads do so at the same moment,
one of the two samples is lost.
"""

from __future__ import annotations

import os

from thag_nb import _native
from thag_nb.light_typing import TYPE_CHECKING
from thag_nb.recordings.model import ResidentSize
from thag_nb.runtime.contexts import unrecorded

if TYPE_CHECKING:
    import threading  # only here: importing thag_nb must not bring threading along

_MOST_SAMPLES = 4096
_INTERVAL_S = 0.1  # between two samples, at first


def read() -> int | None:
    """The resident set size in bytes, or None where neither the system nor psutil tells it."""
    try:
        return _read_statm()[1]
    except OSError:
        return _read_psutil()


def read_anonymous() -> int | None:
    """How much of the resident set size is no file's and not shared, in bytes; None where the system does not tell."""
    try:
        _, resident_bytes, shared_bytes, *_ = _read_statm()
    except OSError:
        return None
    return resident_bytes - shared_bytes


def _read_statm() -> list[int]:
    """Bytes: of the address space, of what is resident, of what of that is a file's or shared, and others."""
    with open("/proc/self/statm", "rb", buffering=0) as statm:  # noqa: PTH123 - a Path costs as much as the reading
        return [int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in statm.read().split()]


def _read_psutil() -> int | None:
    import importlib

    try:
        return int(importlib.import_module("psutil").Process().memory_info().rss)
    except (ImportError, OSError):
        return None


class _Series:
    """Samples over time, oldest first; of more than two that are equal, the first and the last."""

    def __init__(self) -> None:
        self.samples: tuple[ResidentSize, ...] = ()
        self.interval_s = _INTERVAL_S

    def add(self, sample: ResidentSize) -> None:
        samples = self.samples
        if samples and sample.time_ns <= samples[-1].time_ns:
            return  # another thread was quicker
        if [newest.resident_bytes for newest in samples[-2:]] == [sample.resident_bytes] * 2:
            samples = samples[:-1]
        samples = (*samples, sample)
        if len(samples) > _MOST_SAMPLES:
            samples = samples[::2]
            self.interval_s *= 2
        self.samples = samples


class _State:
    """What this process has taken, and who takes it."""

    series = _Series()
    samplers: tuple[Sampler, ...] = ()


def snapshot() -> tuple[ResidentSize, ...]:
    """What there is, oldest first; where there is a sampler, with a sample as of now."""
    samples = _State.series.samples  # before the one of now, which is later
    if not _State.samplers:
        return samples
    with unrecorded():
        sample = _take()
        return samples if sample is None else (*samples, sample)


def forget() -> None:
    """Keep nothing of what there is."""
    _State.series = _Series()  # whoever adds to the one before does so in vain


def _take() -> ResidentSize | None:
    """A sample as of now; None while nothing is recorded, as there is no timeline then."""
    resident_bytes = read() if _native.is_recording() else None
    return None if resident_bytes is None else ResidentSize(_native.now(), resident_bytes)


class Sampler:
    """A thread that takes samples while it is awake, from `start` to `stop`.

    What the thread does is charged to nobody. `wake` and `rest` take a sample themselves, and are for untracked work.
    In a forked child, and where nobody tells the size or no thread can be had, there is none, and nothing happens.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, at rest. Twice is once."""
        if self._thread is not None:
            return
        with unrecorded():  # contexts follow into threads
            if read() is not None:
                self._start()

    def _start(self) -> None:
        import threading

        self._awake, self._stopping = threading.Event(), threading.Event()
        thread = threading.Thread(target=self._run, name="thag_nb resident size", daemon=True)
        try:
            thread.start()
            self._thread = thread
            _State.samplers += (self,)
        except RuntimeError:
            pass  # there are too many

    def wake(self) -> None:
        """Take a sample, and more from now on."""
        if self._thread is not None:
            self._add()
            self._awake.set()

    def rest(self) -> None:
        """Take a sample, and no more until `wake`."""
        if self._thread is not None:
            self._awake.clear()
            self._add()

    def stop(self) -> None:
        """End the thread and wait for its end. Twice is once."""
        thread, self._thread = self._thread, None
        if thread is not None:
            _State.samplers = tuple(sampler for sampler in _State.samplers if sampler is not self)
            self._stopping.set()
            self._awake.set()
            thread.join()

    def _run(self) -> None:
        with unrecorded():
            while self._awake.wait() and not self._stopping.wait(_State.series.interval_s):
                if self._awake.is_set():
                    self._add()

    @staticmethod
    def _add() -> None:
        try:
            sample = _take()
            if sample is not None:
                _State.series.add(sample)
        except MemoryError:
            pass  # the next one may find some

    def lose_thread(self) -> None:
        """In a forked child there is none."""
        self._thread = None


def _begin_in_child() -> None:
    """The child's recording begins with it. What its parent's thread may have locked is not touched."""
    forget()
    for sampler in _State.samplers:
        sampler.lose_thread()
    _State.samplers = ()


os.register_at_fork(after_in_child=_begin_in_child)
