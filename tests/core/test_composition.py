"""What made up each peak, next to the same worked out by hand from all that happened, one event after the other."""

from __future__ import annotations

import contextvars
import ctypes
import gc
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from blocks import RAW
from figures import of
from scripted import numpy_handler

import thag_nb
from thag_nb import _native
from thag_nb.recordings.model import ContextRecord, Recording

pytestmark = pytest.mark.usefixtures("dispatcher")

TRACES = int(os.environ.get("THAG_COMPOSITION_TRACES", "300"))
UNITS = {
    "attached": 1 << 13,
    "detached": 1 << 13,
    "threads": 1 << 17,
}  # several fit into a batch of events; threads cost
NOISE = (1 << 13) // 2  # what Python itself takes meanwhile is less
ROOT = 0
SLOTS = 24
SOURCES = ("python", "python", "native", "numpy")  # of a slot, by its place among four
NEEDS_GIL, NATIVE = 1, 2  # places
# A sanitizer asks for memory on each new thread, which is then taken for a library's.
BEARS_NATIVE = "san.so" not in os.environ.get("LD_PRELOAD", "")
ENOUGH = (1 << 14) * 3 // 2  # contexts, that older ones are surely given back


class Step(ctypes.Structure):
    """As support/turns.c has it: in a context, the block at a slot is given a size; 0 frees it."""

    _fields_ = (("context", ctypes.c_int64), ("slot", ctypes.c_int64), ("size", ctypes.c_int64))


def usable(way: str) -> list[int]:
    """Slots."""
    places = set(range(4)) - (set() if way == "attached" else {NEEDS_GIL}) - (set() if BEARS_NATIVE else {NATIVE})
    return [slot for slot in range(SLOTS) if slot % 4 in places]


@dataclass
class Trace:
    """Contexts, each under one before it, and what happens in them, in parts after each of which somebody reads."""

    parents: list[int]
    way: str
    unit: int
    parts: list[ctypes.Array[Step]]

    @classmethod
    def of_seed(cls, seed: int) -> Trace:
        choose = random.Random(seed)
        contexts = choose.randint(2, 7)
        parents = [choose.randrange(number) if choose.random() < 0.7 else number - 1 for number in range(1, contexts)]
        way, unit = choose.choice(list(UNITS.items()))
        parts = []
        for _ in range(choose.randint(1, 4)):
            steps, context = [], choose.randrange(contexts)
            for _ in range(choose.randint(1, 60)):
                context = choose.randrange(contexts) if choose.random() < 0.4 else context
                slot = choose.choice(usable(way))
                units = choose.choice([0, choose.randint(1, 6), choose.randint(1, 30)])
                steps.append(Step(context, slot, units * unit))
            parts.append((Step * len(steps))(*steps))
        return cls([-1, *parents], way, unit, parts)


@dataclass
class Model:
    """Levels. A peak's composition is written down whole, whenever there is a new one."""

    parents: list[int]
    selves: list[Counter[str]] = field(default_factory=list)  # by source
    peaks: list[int] = field(default_factory=list)
    children_at_peak: dict[int, dict[int, int]] = field(default_factory=dict)
    selves_at_session_peak: list[Counter[str]] = field(default_factory=list)
    ties: set[int] = field(default_factory=set)  # those that were as high again, so that the noise decides when it was
    blocks: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.selves = [Counter() for _ in self.parents]
        self.peaks = [0] * len(self.parents)
        self.children_at_peak = {number: dict.fromkeys(self.children(number), 0) for number in range(len(self.parents))}
        self.selves_at_session_peak = list(map(Counter, self.selves))

    def children(self, number: int) -> list[int]:
        return [child for child, parent in enumerate(self.parents) if parent == number]

    def live(self, number: int) -> int:
        return self.selves[number].total() + sum(self.live(child) for child in self.children(number))

    def moved(self, *contexts: int) -> set[int]:
        found = set()
        for number in contexts:
            while number >= 0:
                found.add(number)
                number = self.parents[number]
        return found

    def apply(self, step: Step) -> None:
        wanted, source = step.size, SOURCES[step.slot % 4]
        owner, units = self.blocks.pop(step.slot, (step.context, 0))
        grows = wanted > units
        self.selves[owner][source] -= units
        self.selves[step.context if grows else owner][source] += wanted
        if wanted:
            self.blocks[step.slot] = (step.context if grows else owner, wanted)
        for number in self.moved(step.context, owner):
            if self.live(number) == self.peaks[number]:
                self.ties.add(number)
            if self.live(number) > self.peaks[number]:
                self.ties.discard(number)
                self.peaks[number] = self.live(number)
                self.children_at_peak[number] = {child: self.live(child) for child in self.children(number)}
                if number == ROOT:
                    self.selves_at_session_peak = list(map(Counter, self.selves))


@pytest.fixture(scope="module")
def turns(build: Callable[..., Path]) -> Iterator[tuple[Any, Any]]:
    """support/turns.c, with the GIL and without; and the native domain is recorded."""
    path = str(build("turns.c"))
    libraries = ctypes.PyDLL(path), ctypes.CDLL(path)
    for library in libraries:
        library.use_numpy(ctypes.c_void_p(numpy_handler()))
        library.take_all.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
        library.take_turns.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
    said_of_native(BEARS_NATIVE)
    yield libraries
    said_of_native(False)


def said_of_native(wanted: bool) -> None:
    """What `start` goes by when nothing is said."""
    thag_nb.start(native=wanted)
    thag_nb.stop()


def take_in_threads(library: Any, steps: ctypes.Array[Step], slots: Any, flows: list[contextvars.Context]) -> None:
    library.begin_turns()
    threads = [
        threading.Thread(
            target=flows[number].run, args=(library.take_turns, steps, len(steps), slots, number), daemon=True
        )
        for number in {step.context for step in steps}
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def take(
    turns: tuple[Any, Any], way: str, steps: ctypes.Array[Step], slots: Any, flows: list[contextvars.Context]
) -> None:
    attached, detached = turns
    if way == "threads":
        take_in_threads(detached, steps, slots, flows)
        return
    take_all = attached.take_all if way == "attached" else detached.take_all
    at = ctypes.addressof(steps)
    for context, run in groupby(step.context for step in steps):
        count = sum(1 for _ in run)
        flows[context].run(take_all, at, count, slots)
        at += count * ctypes.sizeof(Step)


def run(trace: Trace, turns: tuple[Any, Any]) -> tuple[Recording, list[int], ContextRecord]:
    """What is recorded of the trace, the ids of its contexts, and the root as it was before."""
    slots = (ctypes.c_void_p * SLOTS)()
    flows = [contextvars.copy_context()]
    guards: list[Any] = []
    for number, parent in enumerate(trace.parents[1:], 1):
        flow = flows[parent].run(contextvars.copy_context)
        guards.append(flow.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, str(number)))
        flows.append(flow)
    gc.disable()
    try:
        thag_nb.reset()
        before = of("root")
        for steps in trace.parts:
            with thag_nb.untracked():  # threads
                take(turns, trace.way, steps, slots, flows)
            _native.audit()
        recording = thag_nb.read()
    finally:
        gc.enable()
        for flow, guard in zip(flows[1:], guards, strict=True):
            flow.run(guard.close)
        turns[0].take_all((Step * SLOTS)(*(Step(ROOT, slot, 0) for slot in range(SLOTS))), SLOTS, slots)
    return recording, [_native.ROOT_ID, *(guard.context.id for guard in guards)], before


def assert_sources(record: ContextRecord, figure: str, expected: Counter[str], near: Callable[[int], object]) -> None:
    for source in ("numpy", "native"):
        assert getattr(record, f"{figure}_{source}_bytes") == near(expected[source]), source


@pytest.mark.parametrize("seed", range(TRACES))
def test_it_is_what_adding_up_gives(seed, turns):
    trace = Trace.of_seed(seed)
    model = Model(trace.parents)
    for steps in trace.parts:
        for step in steps:
            model.apply(step)
    recording, ids, before = run(trace, turns)
    records = [recording.find(number) for number in ids]
    near = partial(pytest.approx, abs=trace.unit // 2, rel=0)
    for number, record in enumerate(records[1:], 1):
        parent = trace.parents[number]
        assert record.peak_bytes == near(model.peaks[number])
        assert_sources(record, "self_live", model.selves[number], near)
        if ROOT not in model.ties:
            assert record.at_session_peak_bytes == near(model.selves_at_session_peak[number].total())
            assert_sources(record, "at_session_peak", model.selves_at_session_peak[number], near)
        if parent not in model.ties:
            assert record.at_parent_peak_bytes == near(model.children_at_peak[parent][number])
    assert records[0].peak_bytes - before.live_bytes == near(model.peaks[ROOT])
    assert sum(record.at_session_peak_bytes for record in recording.contexts) == records[0].peak_bytes


def at_session_peak() -> dict[str, int]:
    """By name; all adds up to what the root's peak was."""
    recording = thag_nb.read()
    found = {record.name: record.at_session_peak_bytes for record in recording.contexts}
    assert sum(record.at_session_peak_bytes for record in recording.contexts) == recording.contexts[0].peak_bytes
    return found


SIZE = 50_000_000  # more than anything else here


@pytest.mark.skipif(not BEARS_NATIVE, reason="needs the native domain")
def test_what_was_freed_for_another_before_the_peak_is_no_part_of_it(turns):
    """All in one batch of events."""
    raw, native, numpy, first = 0, 2, 3, 4
    slots = (ctypes.c_void_p * SLOTS)()
    sizes = {native: 3_000, numpy: 2_000}
    with thag_nb.task("owner"):
        thag_nb.reset()
        turns[0].take_all((Step * 2)(*(Step(ROOT, slot, size) for slot, size in sizes.items())), 2, slots)
    with thag_nb.task("peaking"):
        steps = [(first, 1), (native, 0), (raw, 40_000), (numpy, 0), (raw, 0), (first, 0)]
        turns[0].take_all((Step * len(steps))(*(Step(ROOT, *step) for step in steps)), len(steps), slots)
    owner, peaking = of("owner"), of("peaking")
    assert owner.at_session_peak_native_bytes == 0
    assert owner.at_session_peak_numpy_bytes == 2_000
    assert peaking.at_session_peak_bytes > 40_000
    assert peaking.at_session_peak_native_bytes == peaking.at_session_peak_numpy_bytes == 0


def test_a_stop_does_not_change_it():
    with thag_nb.task("first"):
        first = RAW.malloc(SIZE)
        with thag_nb.task("second"):
            RAW.free(RAW.malloc(2 * SIZE))
        RAW.free(first)
    with thag_nb.task("later"):
        kept = bytearray(SIZE)
        thag_nb.stop()
        thag_nb.start()
    found = at_session_peak()
    assert abs(found["first"] - SIZE) < NOISE
    assert abs(found["second"] - 2 * SIZE) < NOISE
    assert abs(found["later"]) < NOISE
    del kept


def test_what_a_stop_let_go_of_was_there():
    with thag_nb.task("kept"):
        block = RAW.malloc(SIZE)
    with thag_nb.task("spike"):
        RAW.free(RAW.malloc(SIZE))
    thag_nb.stop()
    thag_nb.start()
    assert abs(at_session_peak()["kept"] - SIZE) < NOISE
    assert abs(of("kept").at_parent_peak_bytes - SIZE) < NOISE
    RAW.free(block)


def test_those_that_are_given_back_are_counted_in_the_one_above():
    with thag_nb.task("around"):
        with thag_nb.task("forgotten"):
            RAW.free(RAW.malloc(SIZE))
        for _ in range(ENOUGH):
            with thag_nb.task("newer"):
                pass
    found = at_session_peak()
    assert "forgotten" not in found
    assert abs(found["around"] - SIZE) < 100 * NOISE  # and what the new ones are made of


def test_a_reset_begins_anew():
    with thag_nb.task("open"):
        RAW.free(RAW.malloc(SIZE))
        kept = bytearray(SIZE // 2)
        _native.reset()
        del kept  # at once: nothing is as high again
        assert abs(at_session_peak()["open"] - SIZE // 2) < NOISE
        assert abs(of("open").at_parent_peak_bytes - SIZE // 2) < NOISE
