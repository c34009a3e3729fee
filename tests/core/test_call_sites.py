"""What lines allocated, next to the same worked out by hand, and to what `tracemalloc` and `sys._getframe` say."""

from __future__ import annotations

import contextvars
import ctypes
import gc
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scripted import numpy_handler

import thag_nb
from thag_nb import _native
from thag_nb.recordings.model import Recording

pytestmark = pytest.mark.usefixtures("dispatcher")

TRACES = int(os.environ.get("THAG_COMPOSITION_TRACES", "300"))
BEARS_NATIVE = "san.so" not in os.environ.get("LD_PRELOAD", "")
UNIT = 1 << 13  # several fit into a batch of events
NOISE = UNIT // 2  # what Python itself takes meanwhile is less
SLOTS = 24
SITES = 5
NEEDS_GIL = 1  # places of slots, among four
NATIVE = 2


class Step(ctypes.Structure):
    """As support/turns.c has it: the block at a slot is given a size; 0 frees it."""

    _fields_ = (("who", ctypes.c_int64), ("slot", ctypes.c_int64), ("size", ctypes.c_int64))


@dataclass(frozen=True)
class Move:
    """In a context, at a site, with the GIL or without, the block at a slot is given a size."""

    context: int
    site: int
    attached: bool
    slot: int
    size: int


@dataclass
class Trace:
    """Contexts, each under one before it, of which some ask for their lines, and parts after each of which somebody reads."""

    parents: list[int]
    asking: set[int]
    parts: list[list[Move]]

    @classmethod
    def of_seed(cls, seed: int) -> Trace:
        choose = random.Random(seed)
        contexts = choose.randint(2, 8)
        parents = [choose.randrange(number) if choose.random() < 0.6 else number - 1 for number in range(1, contexts)]
        asking = {number for number in range(1, contexts) if choose.random() < 0.4} | {choose.randrange(1, contexts)}
        rarely_detached = choose.choice([0, 0.1, 0.5])
        parts = []
        for _ in range(choose.randint(1, 4)):
            moves, context = [], choose.randrange(contexts)
            for _ in range(choose.randint(1, 80)):
                context = choose.randrange(contexts) if choose.random() < 0.3 else context
                attached = choose.random() >= rarely_detached
                places = {0, NATIVE, 3} | ({NEEDS_GIL} if attached else set())
                places -= set() if BEARS_NATIVE else {NATIVE}
                slot = choose.choice([slot for slot in range(SLOTS) if slot % 4 in places])
                units = choose.choice([0, choose.randint(1, 6), choose.randint(1, 30)])
                moves.append(Move(context, choose.randrange(SITES), attached, slot, units * UNIT))
            parts.append(moves)
        return cls([-1, *parents], asking, parts)

    def is_explained(self, number: int) -> bool:
        return number >= 0 and (number in self.asking or self.is_explained(self.parents[number]))


Charged = tuple[int, int | None]  # a context, and a site if that is known


@dataclass
class Model:
    """What is live of whom. A peak's composition is written down whole, whenever there is a new one."""

    trace: Trace
    live: Counter[Charged] = field(default_factory=Counter)
    total: Counter[Charged] = field(default_factory=Counter)
    peaks: Counter[int] = field(default_factory=Counter)
    at_peak: dict[int, Counter[Charged]] = field(default_factory=dict)
    peak_sites: dict[int, int | None] = field(default_factory=dict)
    ties: set[int] = field(default_factory=set)  # those that were as high again: the noise decides when it was
    blocks: dict[int, tuple[Charged, int]] = field(default_factory=dict)

    def under(self, number: int) -> set[int]:
        found = {number}
        for context, parent in enumerate(self.trace.parents):
            if parent in found:
                found.add(context)
        return found

    def apply(self, move: Move) -> None:
        owner, size = self.blocks.pop(move.slot, (None, 0))
        grows = move.size > size
        charged = move.context, move.site if move.attached and self.trace.is_explained(move.context) else None
        if owner is not None:
            self.live[owner] -= size if grows or not move.size else size - move.size
        if grows:
            self.live[charged] += move.size
            self.total[charged] += move.size
        if move.size:
            self.blocks[move.slot] = (charged if grows or owner is None else owner), move.size
        for number in range(len(self.trace.parents)):
            below = self.under(number)
            now = sum(bytes_ for (context, _), bytes_ in self.live.items() if context in below)
            if now == self.peaks[number] and {move.context, owner and owner[0]} & below:
                self.ties.add(number)
            if now > self.peaks[number]:
                self.ties.discard(number)
                self.peaks[number] = now
                self.at_peak[number] = Counter({key: n for key, n in self.live.items() if key[0] in below and n})
                self.peak_sites[number] = charged[1]


@pytest.fixture(scope="module")
def turns(build: Callable[..., Path]) -> Iterator[tuple[Any, Any]]:
    """support/turns.c, with the GIL and without; and the native domain is recorded."""
    path = str(build("turns.c"))
    libraries = ctypes.PyDLL(path), ctypes.CDLL(path)
    for library in libraries:
        library.use_numpy(ctypes.c_void_p(numpy_handler()))
    thag_nb.start(native=BEARS_NATIVE)
    thag_nb.stop()
    yield libraries
    thag_nb.start(native=False)
    thag_nb.stop()


def site_functions() -> list[Callable[..., None]]:
    """Each a line of its own."""
    text = "\n".join(f"def at_{number}(take, steps, slots): take(steps, 1, slots)" for number in range(SITES))
    found: dict[str, Any] = {}
    exec(compile(text, "<sites>", "exec"), found)
    return [found[f"at_{number}"] for number in range(SITES)]


AT = site_functions()


def run(trace: Trace, turns: tuple[Any, Any]) -> tuple[Recording, list[int]]:
    """What is recorded of the trace, and the ids of its contexts."""
    slots = (ctypes.c_void_p * SLOTS)()
    attached, detached = (library.take_all for library in turns)
    flows, guards = [contextvars.copy_context()], []
    for number, parent in enumerate(trace.parents[1:], 1):
        flow = flows[parent].run(contextvars.copy_context)
        guards.append(flow.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, str(number)))
        if number in trace.asking:
            assert _native.lines_begin(guards[-1].context.id, 0)
        flows.append(flow)
    gc.disable()
    try:
        thag_nb.reset()
        for moves in trace.parts:
            for move in moves:
                step = (Step * 1)(Step(0, move.slot, move.size))
                take = attached if move.attached else detached
                flows[move.context].run(AT[move.site], take, step, slots)
            assert all(counted == found for counted, found in _native.audit().values())
        recording = thag_nb.read()
    finally:
        gc.enable()
        for flow, guard in zip(flows[1:], guards, strict=True):
            flow.run(guard.close)
        for slot in range(SLOTS):
            attached((Step * 1)(Step(0, slot, 0)), 1, slots)
    return recording, [_native.ROOT_ID, *(guard.context.id for guard in guards)]


def site_of(recording: Recording, number: int) -> int | None:
    """Which of ours the innermost frame is in."""
    site = recording.sites[number] if number >= 0 else None
    return site.line - 1 if site is not None and site.file == "<sites>" else None


def figures(recording: Recording, ids: list[int], value: Callable[[Any], int]) -> Counter[Charged]:
    found: Counter[Charged] = Counter()
    for row in recording.site_figures:
        if row.context_id in ids and site_of(recording, row.site) is not None:
            found[ids.index(row.context_id), site_of(recording, row.site)] += value(row)
    return found


def rounded(counts: Counter[Charged]) -> dict[Charged, int]:
    """In units, as far as a site is known."""
    return {key: units for key, bytes_ in counts.items() if key[1] is not None and (units := round(bytes_ / UNIT))}


@pytest.mark.parametrize("seed", range(TRACES))
def test_lines_are_charged_as_adding_up_gives(seed, turns):
    trace = Trace.of_seed(seed)
    model = Model(trace)
    for moves in trace.parts:
        for move in moves:
            model.apply(move)
    recording, ids = run(trace, turns)
    assert rounded(figures(recording, ids, lambda row: row.live_bytes)) == rounded(model.live)
    total = figures(recording, ids, lambda row: row.total_bytes)
    assert all(bytes_ <= total[key] < bytes_ * 1.1 + NOISE for key, bytes_ in model.total.items() if key[1] is not None)
    lines = {row.context_id: row for row in recording.lines}
    for number, context_id in enumerate(ids):
        assert (context_id in lines) == trace.is_explained(number)
        if not trace.is_explained(number) or number in model.ties or number not in model.at_peak:
            continue
        assert lines[context_id].is_explained
        found = figures(recording, ids, lambda row, of=context_id: dict(row.at_peaks).get(of, 0))
        assert rounded(found) == rounded(model.at_peak[number]), number
        if model.peak_sites[number] is not None:  # else what Python takes next may be a little higher
            assert site_of(recording, lines[context_id].peak_site) == model.peak_sites[number], number
