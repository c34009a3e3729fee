"""What lines allocated, next to the same worked out by hand, and to what `tracemalloc` and `sys._getframe` say."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import functools
import gc
import os
import random
import re
import sys
import threading
import tracemalloc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import coverage
import pytest
from blocks import ALL, Domain
from processes import python
from scripted import Scripted, numpy_handler
from stacks import both, frames_of_python

import thag_nb
from thag_nb import _native
from thag_nb.recordings.model import SMALLER, Recording, Site, SiteFigures

pytestmark = pytest.mark.usefixtures("dispatcher")

TRACES = int(os.environ.get("THAG_COMPOSITION_TRACES", "300"))
BEARS_NATIVE = "san.so" not in os.environ.get("LD_PRELOAD", "")
UNIT = 1 << 12  # many fit into a batch of events
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
    """Contexts, each under one before it, of which some ask for their lines; and what happens in them, in parts."""

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
            attached, site = True, 0
            for _ in range(choose.randint(1, 80)):
                context = choose.randrange(contexts) if choose.random() < 0.3 else context
                if choose.random() < 0.4:  # the others are one call
                    attached, site = choose.random() >= rarely_detached, choose.randrange(SITES)
                places = {0, NATIVE, 3} | ({NEEDS_GIL} if attached else set())
                places -= set() if BEARS_NATIVE else {NATIVE}
                slot = choose.choice([slot for slot in range(SLOTS) if slot % 4 in places])
                units = choose.choice([0, choose.randint(1, 6), choose.randint(1, 30)])
                moves.append(Move(context, site, attached, slot, units * UNIT))
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
        is_known = move.attached or BEARS_NATIVE  # of who gives up the GIL in a library, where it does
        charged = move.context, move.site if is_known and self.trace.is_explained(move.context) else None
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
    text = "\n".join(f"def at_{number}(take, steps, slots): take(steps, len(steps), slots)" for number in range(SITES))
    found: dict[str, Any] = {}
    exec(compile(text, "<sites>", "exec"), found)
    return [found[f"at_{number}"] for number in range(SITES)]


AT = site_functions()


def calls(moves: list[Move], turns: tuple[Any, Any]) -> Iterator[tuple[int, list[tuple[Any, Any, ctypes.Array[Step]]]]]:
    """What to call in which context: as few calls as there may be, as Python takes memory itself for each."""
    attached, detached = (library.take_all for library in turns)
    for context, run in groupby(moves, key=lambda move: move.context):
        found = []
        for (is_attached, site), same in groupby(run, key=lambda move: (move.attached, move.site)):
            steps = [Step(0, move.slot, move.size) for move in same]
            found.append((AT[site], attached if is_attached else detached, (Step * len(steps))(*steps)))
        yield context, found


def call_all(found: list[tuple[Any, Any, ctypes.Array[Step]]], slots: Any) -> None:
    for at, take, steps in found:
        at(take, steps, slots)


def run(trace: Trace, turns: tuple[Any, Any]) -> tuple[Recording, list[int]]:
    """What is recorded of the trace, and the ids of its contexts."""
    slots = (ctypes.c_void_p * SLOTS)()
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
            for context, found in list(calls(moves, turns)):
                flows[context].run(call_all, found, slots)
            assert all(counted == found for counted, found in _native.audit().values())
        recording = thag_nb.read()
    finally:
        gc.enable()
        for flow, guard in zip(flows[1:], guards, strict=True):
            flow.run(guard.close)
        for slot in range(SLOTS):
            turns[0].take_all((Step * 1)(Step(0, slot, 0)), 1, slots)
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


# ---- which line: next to tracemalloc, right after each allocation ----

STACKS = int(os.environ.get("THAG_STACKS", "1000"))  # to be compared, at least
FRAMES = 25


class Compared:
    """Values whose stacks are compared as soon as they are there."""

    def __init__(self) -> None:
        self.count = 0
        self.different: list[object] = []

    def __call__(self, value: Any) -> Any:
        with thag_nb.untracked():
            theirs = tracemalloc.get_object_traceback(value)
            block, _ = _native.block_around(id(value))
            ours = _native.allocated_at(block)
            assert theirs is not None
            assert ours is not None
            expected = [(frame.filename, frame.lineno) for frame in reversed(theirs)]
            found = [(file, line) for file, line, _ in ours]
            is_handed_over = threading.current_thread() is not threading.main_thread()  # then ours goes on where
            if found[: len(expected)] != expected or (len(found) > len(expected) < FRAMES and not is_handed_over):
                self.different.append((expected, ours))
            self.count += 1
        return value


class Grown:
    """Takes memory wherever Python calls it."""

    def __init__(self, compared: Compared, *_: int, **__: int) -> None:
        self.compared = compared
        self.block = compared(bytearray(77))

    def __eq__(self, other: object) -> bool:
        self.compared(bytearray(78))
        return True

    def __hash__(self) -> int:
        self.compared(bytes(79))
        return 1

    @property
    def size(self) -> int:
        return len(self.compared(bytearray(80)))


def numbers(compared: Compared, count: int) -> Iterator[bytearray]:
    for number in range(count):
        yield compared(bytearray(number + 40))


def deep(compared: Compared, depth: int) -> list[bytearray]:
    if depth:
        return deep(compared, depth - 1)
    return [compared(bytearray(100)) for _ in range(3)]


def called_back(compared: Compared) -> None:
    sorted(range(20), key=lambda value: len(compared(bytearray(value + 50))))
    list(filter(lambda value: compared(bytearray(value + 60)), range(20)))
    assert len({Grown(compared): 1, Grown(compared): 2}) == 1
    re.sub("x", lambda _: str(len(compared(bytearray(70)))), "xxx")
    assert Grown(compared, 1, a=2).size == 80


def executed(compared: Compared) -> None:
    for number in range(20):
        text = (
            "def f(compared):\n"
            + "\n" * (number % 7)
            + "    return [compared(bytearray(33)) for _ in range(2)]\nf(compared)"
        )
        exec(compile(text, f"<made {number}>", "exec"), {"compared": compared})


def raising(compared: Compared) -> None:
    try:
        raise ValueError(compared(bytearray(90)))
    except ValueError:
        compared(bytearray(91))
    finally:
        compared(bytearray(92))


async def waiting(compared: Compared, number: int) -> None:
    await asyncio.sleep(0)
    compared(bytearray(number + 100))
    await asyncio.sleep(0)
    compared(bytearray(number + 101))


async def generated(compared: Compared) -> AsyncIterator[bytearray]:
    for number in range(10):
        await asyncio.sleep(0)
        yield compared(bytearray(number + 110))


async def all_of_asyncio(compared: Compared) -> None:
    await asyncio.gather(*(waiting(compared, number) for number in range(20)))
    async for _ in generated(compared):
        pass
    await asyncio.to_thread(deep, compared, 9)


def in_threads(compared: Compared) -> None:
    threads = [threading.Thread(target=deep, args=(compared, depth), daemon=True) for depth in (0, 5, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def torture(compared: Compared) -> None:
    for _ in numbers(compared, 20):
        pass
    deep(compared, 60)
    called_back(compared)
    executed(compared)
    raising(compared)
    in_threads(compared)
    asyncio.run(all_of_asyncio(compared))


def test_stacks_are_those_that_tracemalloc_finds():
    compared = Compared()
    tracemalloc.start(FRAMES)
    try:
        with thag_nb.task("torture") as task:
            assert _native.lines_begin(task.id, 0)
            while compared.count < STACKS:
                torture(compared)
    finally:
        tracemalloc.stop()
    assert compared.different == []


def in_a_pool(number: int) -> bytearray:
    return bytearray(number + 70_000)


def test_work_that_is_handed_over_goes_on_where_that_was_done():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(len, ()).result(60)  # the worker is there before, and nobody's
        with thag_nb.task("handing") as task:
            assert _native.lines_begin(task.id, 0)
            thread = threading.Thread(target=in_a_pool, args=(1,), daemon=True)
            thread.start()
            thread.join(60)
            pool.submit(in_a_pool, 2).result(60)
            list(pool.map(in_a_pool, [3]))
            asyncio.run(asyncio.to_thread(in_a_pool, 4))
            kept = pool.submit(in_a_pool, 5).result(60)
            seen: list[Any] = []
            # Nobody hands that over.
            pool._work_queue.put(SimpleNamespace(run=lambda *_: seen.append(_native.stack_here())))
            pool.submit(len, ()).result(60)
        assert seen[0][-1][2] == "Thread._bootstrap"
    recording = thag_nb.read()
    large = [row for row in recording.site_figures if row.total_bytes > 70_000]
    stacks = [[site.function for site in stack(recording, row.site)] for row in large]
    stacks = [functions for functions in stacks if functions[:1] == ["in_a_pool"]]
    name = test_work_that_is_handed_over_goes_on_where_that_was_done.__name__
    assert len(stacks) == 5
    for functions in stacks:
        assert functions.index("Thread._bootstrap") < functions.index(name)
    del kept


def shown() -> bytearray:
    return bytearray(10_000)


def hidden() -> bytearray:
    __tracebackhide__ = True
    return bytearray(20_000)


def hidden_when_it_is_asked(is_asked: bool) -> bytearray:
    several, more = 0, 1
    if is_asked:
        __tracebackhide__ = bool(several + more)
    return bytearray(30_000)


def hidden_with_a_cell() -> bytearray:
    __tracebackhide__ = True
    return (lambda: bytearray(40_000 + __tracebackhide__))()


def like_hidden(_tracebackhide_=0, __tracebackhide=0, __tracebackhide___=0, __tracebackhidé__=0):  # noqa: ARG001
    return bytearray(50_000)


def test_functions_that_ask_tools_not_to_show_them_are_marked():
    functions = (shown, hidden, hidden_with_a_cell, like_hidden)
    with thag_nb.task("marked") as task:
        assert _native.lines_begin(task.id, 10_000)
        kept = [function() for function in functions] + [hidden_when_it_is_asked(False)]
    marked = {site.function: site.is_hidden for site in thag_nb.read().sites}
    assert {function.__name__: marked[function.__name__] for function in (*functions, hidden_when_it_is_asked)} == {
        "shown": False,
        "hidden": True,
        "hidden_with_a_cell": True,
        "like_hidden": False,
        "hidden_when_it_is_asked": True,
    }
    assert len(kept) == 5


def test_the_frames_that_run_are_those_of_python():
    ours, theirs = both()
    assert ours == theirs
    assert len(ours) > 5


def lines_that_it_is_in(text: str) -> list[tuple[int, int]]:
    """For each call of `here` in that code, the line by a walk of ours and by Python."""
    pairs: list[tuple[int, int]] = []

    def here(_: object = None) -> None:
        stack = _native.stack_here()
        of_code = next(line for file, line, _ in stack if file == "<lines>")
        pairs.append((of_code, sys._getframe(1).f_lineno))

    exec(compile(text, "<lines>", "exec"), {"here": here})
    return pairs


def code_with_lines_far_apart(seed: int) -> str:
    """Statements, calls over several lines, and loops; some have thousands of blank lines between them."""
    choose = random.Random(seed)
    parts = []
    for _ in range(choose.randint(1, 60)):
        gap = "\n" * choose.choice([0, 1, 2, 30, 63, 64, choose.randrange(5_000)])
        parts.append(
            choose.choice(
                [
                    "here()\n",
                    f"here(\n{gap}here()\n{gap})\n",
                    f"for turn in '123':\n if turn == '2':\n  here()\n{gap} here()\n",
                ]
            )
            + gap
        )
    return "".join(parts)


def test_lines_are_read_as_python_reads_them():
    codes = [code_with_lines_far_apart(seed) for seed in range(100)]
    for code in (*codes, "here()\n" * 3_000):
        pairs = lines_that_it_is_in(code)
        assert [ours for ours, _ in pairs] == [theirs for _, theirs in pairs], code
        assert pairs


def test_a_table_that_tells_of_lines_before_the_first_tells_of_none():
    def f() -> list[tuple[str, int, str]]:
        return _native.stack_here()

    fifty_down, and_on = b"\xef\x65\x01", b"\xef\x00"  # entries of eight instructions each, without columns
    odd = f.__code__.replace(co_firstlineno=10, co_linetable=fifty_down + and_on * 20)
    assert type(f)(odd, f.__globals__)()[0] == (__file__, 0, f.__qualname__)


def test_a_frame_that_goes_on_elsewhere_is_in_the_stack_that_it_is_in_then():
    def generated() -> Iterator[tuple[object, object]]:
        while True:
            yield frames_of_python(), _native.stack_here()

    def further_in(depth: int) -> tuple[object, object]:
        return next(generator) if depth == 0 else further_in(depth - 1)

    generator = generated()
    for depth in (0, 3, 1, 1, 5, 0):
        ours, theirs = further_in(depth)
        assert ours == theirs


def test_a_stack_is_not_taken_for_an_earlier_one_that_ends_as_it_does():
    call_both = functools.partial(both)  # by way of C, so that all are called by the same instruction
    call_both()
    for call in (_native.stack_here, call_both):  # the first one has no frame of its own
        told = call()
    ours, theirs = told
    assert ours == theirs


def test_what_is_read_is_as_any_tuple_but_not_the_collectors():
    with thag_nb.task("read") as task:
        assert _native.lines_begin(task.id, 0)
        kept = [bytearray(10_000) for _ in range(3)]
    recording = thag_nb.read()
    some = recording.sites[-1], next(row for row in recording.site_figures if row.at_peaks)
    for one in (*some, *some[1].at_peaks):
        assert hash(one) == hash((*one,))
        assert one == (*one,)
        assert not gc.is_tracked(one)
    assert type(some[0]) is Site
    assert type(some[1]) is SiteFigures
    assert not gc.is_tracked(recording.sites)
    assert len(kept) == 3


def test_a_function_with_thousands_of_callers_has_a_site_for_each():
    callers = 5000

    def make() -> None:
        bytearray(10_000)

    calls = compile("make()\n" * callers, "<calls>", "exec")
    with thag_nb.task("called") as task:
        assert _native.lines_begin(task.id, 10_000)
        for _ in range(2):
            exec(calls, {"make": make})
    recording = thag_nb.read()
    made: Counter[int] = Counter()
    for row in recording.site_figures:
        if row.context_id == task.id and row.site >= 0:
            caller = recording.sites[recording.sites[row.site].parent]
            made[caller.line] += row.allocations if caller.file == "<calls>" else 0
    assert made == dict.fromkeys(range(1, callers + 1), 2)


# ---- code that dies, and stacks that are too deep or too many ----


def lines_of(name: str) -> Counter[tuple[str, int, str]]:
    """Total bytes by the innermost frame."""
    recording = thag_nb.read()
    context_id = recording.find(name).context_id
    found: Counter[tuple[str, int, str]] = Counter()
    for row in recording.site_figures:
        if row.context_id == context_id and row.site >= 0:
            found[recording.sites[row.site][1:4]] += row.total_bytes
    return found


def test_no_line_takes_what_another_had_whose_address_it_has():
    with thag_nb.task("made") as task:
        assert _native.lines_begin(task.id, 0)
        for number in range(2000):
            text = f"def f():\n    return bytearray({number + 10_000})\nf()"
            exec(compile(text, f"<made {number}>", "exec"), {})
            _native.lines_release()  # before 3.12, nobody tells that code dies
    found = lines_of("made")
    for number in range(2000):
        assert number + 10_000 <= found[f"<made {number}>", 2, "f"] < number + 10_200


@pytest.mark.parametrize("others_go_on", [False, True])
def test_no_line_is_one_that_another_code_had_before_a_reset(others_go_on):
    """The numbers of codes are used again then, and one may lie where that with the same number lay."""
    with contextlib.ExitStack() as stack:
        if others_go_on:
            task = stack.enter_context(thag_nb.task("goes on"))
            assert _native.lines_begin(task.id, 0)
        for number in range(200):
            with thag_nb.task("made") as task:
                assert others_go_on or _native.lines_begin(task.id, 10_000)
                exec(compile("\n" * (number % 7) + "kept = bytearray(20_000)", "<made>", "exec"), names := {})
            told = {line for (file, line, _), total in lines_of("made").items() if file == "<made>" and total > 20_000}
            assert told == {number % 7 + 1}
            del names
            thag_nb.reset()


def test_code_is_not_kept_alive():
    with thag_nb.task("made") as task:
        assert _native.lines_begin(task.id, 0)
        names: dict[str, Any] = {}
        exec(compile("def f(): return bytearray(10_000)\nf()", "<mortal>", "exec"), names)
    code = weakref.ref(names["f"].__code__)
    del names
    gc.collect()
    _native.lines_release()  # before 3.12, nobody tells that it dies
    assert code() is None
    assert lines_of("made")["<mortal>", 1, "f"] >= 10_000


def test_code_that_dies_takes_no_other_lines_along():
    functions: dict[str, Any] = {}
    for number in range(1_000):
        exec(f"def f{number}(): object()", functions)
    names = [name for name in functions if name.startswith("f")]
    with thag_nb.task("some die") as task:
        assert _native.lines_begin(task.id, 0)
        for dying in (names[1::2], []):
            for name in names:
                if name in functions:
                    functions[name]()
            for name in dying:
                del functions[name]
            _native.lines_release()  # before 3.12, nobody tells that it dies
    found = Counter(site.function for site in thag_nb.read().sites)
    assert [found[name] for name in names] == [1] * len(names)


def test_what_runs_when_code_dies_may_make_sites_itself():
    """In a process of its own: it might end."""
    python(
        """
        import weakref
        import thag_nb
        thag_nb.start()
        MAKING = "def make(): return bytearray(100_000)\\nmade = make()"
        kept = []
        def again(_):
            kept.append(thag_nb.TaskMemoryContext("again", lines=True).enter())
            exec(compile(MAKING, "<again>", "exec"), names := {})
            kept.append(names)
        with thag_nb.task("first", lines=True):
            exec(compile(MAKING, "<first>", "exec"), names := {})
        code = weakref.ref(names["make"].__code__, again)
        names.clear()
        thag_nb.reset()
        assert code() is None
        recording = thag_nb.read()
        live = {recording.sites[row.site][1:4]: row.live_bytes for row in recording.site_figures if row.site >= 0}
        assert live["<again>", 1, "make"] >= 100_000, live
        """
    )


def sink(depth: int) -> bytearray:
    return bytearray(50_000) if depth == 0 else sink(depth - 1)


def test_very_deep_stacks_keep_both_ends():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        with thag_nb.task("deep") as task:
            assert _native.lines_begin(task.id, 0)
            kept = sink(5_000)
            block, _ = _native.block_around(id(kept))
            stack = _native.allocated_at(block)
    finally:
        sys.setrecursionlimit(limit)
    assert 500 < len(stack) <= 513  # with what Python does not show
    assert stack[0][2] == "sink"
    assert stack[1:256] == [stack[1]] * 255
    assert stack[256] == ("", 0, "...")
    outer = frames_of_python()
    assert [function for _, _, function in stack[-len(outer) :]] == [function for _, _, function in outer]
    assert {function for _, _, function in stack[257 : -len(outer)]} == {"sink"}


def test_sites_are_bounded_and_what_is_not_told_apart_is_counted():
    """In a process of its own: what is dropped is counted for good."""
    python(
        """
        import thag_nb
        from thag_nb import _native
        from thag_nb.recordings.model import NOT_TOLD_APART
        thag_nb.start()
        def sink(depth):
            return bytearray(100) if depth == 0 else sink(depth - 1)
        def many(count):
            for number in range(count):
                exec("sink(200)", {"sink": sink})  # a stack of its own each
        with thag_nb.task("many") as task:
            assert _native.lines_begin(task.id, 0)
            many(5_400)
            before = _native.overhead()["call_sites"]
            dropped = _native.health()["untold_sites"]
            assert dropped > 0
            many(200)
            assert _native.overhead()["call_sites"] == before < 1 << 28
            kept = sink(3)
        assert _native.health()["untold_sites"] >= dropped + 200
        assert "have no line of their own, as there were too many call sites" in str(thag_nb.status())
        recording = thag_nb.read()
        rest = [row for row in recording.site_figures if row.site == NOT_TOLD_APART]
        assert len(rest) == 1 and rest[0].total_bytes > 20_000
        record = recording.find("many")
        assert sum(row.total_bytes for row in recording.site_figures) == record.total_bytes
        del recording

        # The next one has room again: what the one before has lost are lines of which nothing is live.
        dropped = _native.health()["untold_sites"]
        with thag_nb.task("next") as task:
            assert _native.lines_begin(task.id, 0)
            more = sink(100)
        recording = thag_nb.read()
        assert _native.health()["untold_sites"] == dropped
        live = [row for row in recording.site_figures if row.context_id == record.context_id]
        assert sum(row.live_bytes for row in live) == recording.find("many").live_bytes
        own = [row for row in recording.site_figures if row.context_id == task.id and row.live_bytes > 90]
        assert {recording.sites[row.site].function for row in own} == {"sink"}
        assert all(site.parent < number for number, site in enumerate(recording.sites))
        assert len(recording.sites) < 1_000
        """
    )


def test_a_reset_forgets_lines_that_nothing_is_of_also_while_others_go_on():
    with thag_nb.task("open") as task:
        assert _native.lines_begin(task.id, 0)
        kept = sink(50)
        mapped = []
        for _ in range(3):
            with thag_nb.task("ended"):
                exec("for number in range(1000): exec('sink(20)', {'sink': sink})", {"sink": sink})
            thag_nb.reset()
            mapped.append(_native.overhead()["call_sites"])
        assert mapped[2] - mapped[0] < 10_000  # for what goes on
        recording = thag_nb.read()
        assert len(recording.sites) < 1_000
        more = sink(50)
        stacks = [_native.allocated_at(_native.block_around(id(value))[0]) for value in (kept, more)]
        assert [function for _, _, function in stacks[0]][:51] == ["sink"] * 51
        assert len(stacks[0]) == len(stacks[1])
    assert all(counted == found for counted, found in _native.audit().values())


def test_what_stays_at_a_reset_is_the_same_site_afterwards():
    kept = []
    with thag_nb.task("open") as task:
        assert _native.lines_begin(task.id, 0)
        for _ in range(3):
            kept.append(bytearray(50_000))
            _native.reset()
        recording = thag_nb.read()
    rows = [row for row in recording.site_figures if row.live_bytes > 50_000]
    assert [row.live_bytes // 50_000 for row in rows] == [3]


def test_a_line_is_told_apart_by_each_of_very_many_that_call_it():
    """Of which some have all that is compared before the callers themselves are."""
    calls = 60_000

    def take() -> None:
        object()

    code = compile("take()\n" * calls, "very many", "exec")
    with thag_nb.task("called") as task:
        assert _native.lines_begin(task.id, 0)
        exec(code, {"take": take})
    sites = thag_nb.read().sites
    callers = [sites[site.parent].line for site in sites if site.function == take.__qualname__]
    assert sorted(callers) == list(range(1, calls + 1))


def test_what_could_not_grow_is_still_its_lines():
    with thag_nb.task("grows") as task:
        assert _native.lines_begin(task.id, 4096)
        kept = [None] * 10_000
        with pytest.raises(MemoryError):
            kept *= 1 << 40
    assert thag_nb.read().find("grows").live_bytes >= 80_000
    del kept
    assert thag_nb.read().find("grows").live_bytes < 80_000


def test_small_blocks_are_one_row_if_asked():
    with thag_nb.task("large") as task:
        assert _native.lines_begin(task.id, 4096)
        kept = [bytearray(100), bytearray(4096), bytearray(50_000)]
    recording = thag_nb.read()
    rows = {row.site: row for row in recording.site_figures if row.context_id == task.id}
    small = rows.pop(SMALLER)
    assert {recording.sites[site].function for site in rows} == {test_small_blocks_are_one_row_if_asked.__name__}
    assert sum(row.live_bytes for row in rows.values()) >= 54_096
    assert 100 < small.live_bytes < 4096
    record = recording.find("large")
    assert sum(row.live_bytes for row in recording.site_figures) == record.live_bytes
    assert sum(row.allocations for row in recording.site_figures) == record.allocations
    del kept


@pytest.mark.skipif(not BEARS_NATIVE, reason="needs the native domain")
def test_small_blocks_are_one_row_without_the_gil_as_well(turns):
    _, detached = (library.take_all for library in turns)
    slots = (ctypes.c_void_p * SLOTS)()
    with thag_nb.task("large") as task:
        assert _native.lines_begin(task.id, 4096)
        AT[0](detached, (Step * 2)(Step(0, 0, 50_000), Step(0, 2, 1_000)), slots)
    recording = thag_nb.read()
    rows = {row.site: row for row in recording.site_figures if row.context_id == task.id}
    small = rows.pop(SMALLER)
    (large,) = rows.values()
    assert (large.live_bytes, large.allocations) == (50_000, 1)
    assert 1_000 <= small.live_bytes < 10_000
    record = recording.find("large")
    assert small.allocations + 1 == record.allocations
    assert small.live_bytes + 50_000 == record.live_bytes
    AT[0](detached, (Step * 2)(Step(0, 0, 0), Step(0, 2, 0)), slots)


def test_what_is_freed_without_the_gil_is_taken_back_where_it_was_charged(turns):
    attached, detached = (library.take_all for library in turns)
    slots = (ctypes.c_void_p * SLOTS)()
    with thag_nb.task("kept") as task:
        assert _native.lines_begin(task.id, 0)
        AT[1](attached, (Step * 1)(Step(0, 0, 50_000)), slots)
        AT[2](detached, (Step * 1)(Step(0, 0, 20_000)), slots)
        recording = thag_nb.read()
        live = figures(recording, [task.id], lambda row: row.live_bytes)
        assert 20_000 <= live[0, 1] < 20_000 + NOISE
        AT[2](detached, (Step * 1)(Step(0, 0, 0)), slots)
        recording = thag_nb.read()
        live = figures(recording, [task.id], lambda row: row.live_bytes)
        assert live[0, 1] < NOISE
        frees = figures(recording, [task.id], lambda row: row.frees)
        assert frees[0, 1] >= 1


# ---- what becomes of contexts ----


def sums(recording: Recording, context_id: int) -> tuple[int, int, int]:
    """Live, total, and at its own peak."""
    rows = [row for row in recording.site_figures if row.context_id == context_id]
    at_peak = sum(dict(row.at_peaks).get(context_id, 0) for row in recording.site_figures)
    return sum(row.live_bytes for row in rows), sum(row.total_bytes for row in rows), at_peak


def test_a_reset_begins_anew_and_blocks_stay_where_they_were_charged():
    with thag_nb.task("open") as task:
        assert _native.lines_begin(task.id, 0)
        with thag_nb.task("ended"):
            dropped = bytearray(30_000)
        kept, freed = bytearray(50_000), bytearray(70_000)
        thag_nb.reset()
        del freed
        recording = thag_nb.read()
        live, total, at_peak = sums(recording, task.id)
        record = recording.find("open")
        assert 50_000 <= live < 55_000
        assert total < 5_000
        assert 120_000 <= at_peak < 125_000
        assert 30_000 <= record.peak_bytes - at_peak < 35_000  # what a reset passed on has no line
        del kept, dropped
        recording = thag_nb.read()
        assert sums(recording, task.id)[0] < 5_000
        assert recording.find("open").live_bytes < 10_000
        assert all(counted == found for counted, found in _native.audit().values())


HERE = 0x2000_0000_0000  # where no real block ever lies
SIZES = (1, 8, 16, 17, 100, 512, 513, 65_536, 1 << 28)  # a record of each kind


def taken(domain: Domain, size: int) -> int:
    return domain.malloc(size)


def live_where_taken() -> int:
    return sum(row.live_bytes for row, site in figures_with_sites() if site.function == "taken")


def figures_with_sites() -> list[tuple[SiteFigures, Site]]:
    recording = thag_nb.read()
    return [(row, recording.sites[row.site]) for row in recording.site_figures if row.site >= 0]


@pytest.mark.parametrize("accounts", [0, 9_000], ids=["near", "aside"])
def test_blocks_of_all_sizes_are_charged_to_their_line_and_back(accounts: int) -> None:
    """Also where there are so many accounts that the next one does not fit into the record of a small block."""
    with thag_nb.task("sizes") as task:
        assert _native.lines_begin(task.id, 0)
        others = [eval(f"bytes({100 + number})") for number in range(accounts)]
        blocks = [(domain, size, taken(domain, size)) for domain in ALL for size in SIZES]
        live = live_where_taken()
        assert 0 <= live - len(ALL) * sum(SIZES) < NOISE
        for domain, size, block in blocks:
            assert _native.owner_of(block) == (task.id, size)
            assert _native.allocated_at(block)[0][2] == "taken"
            domain.free(block)
            assert _native.owner_of(block) is None
        assert live - live_where_taken() == len(ALL) * sum(SIZES)
    assert len(others) == accounts
    assert all(counted == found for counted, found in _native.audit().values())


def test_who_frees_what_is_not_his_is_told_of_also_among_lines():
    with thag_nb.task("owner"):
        blocks = [bytearray(10_000) for _ in range(100)]
    before = thag_nb.read().find("owner")
    with thag_nb.task("lines") as task:
        assert _native.lines_begin(task.id, 0)
        own = [blocks.pop() and bytearray(number) for number in range(1_000, 1_100)]
    after = thag_nb.read().find("owner")
    assert after.frees - before.frees >= len(own) == 100
    assert after.foreign_frees - before.foreign_frees == after.frees - before.frees


ENTRY = 16  # bytes


@pytest.mark.parametrize(("size", "entries"), [(10, 1), (100, 2), (5_000, 4), (1 << 28, 6)])
@pytest.mark.parametrize("accounts", [0, 9_000], ids=["near", "aside"])
def test_what_is_in_the_way_of_a_block_with_a_line_is_settled(
    scripted: Scripted, accounts: int, size: int, entries: int
) -> None:
    """Frees that reached no hook: a block before, which began where this one has its record, is its line's no more."""
    with thag_nb.task("lines") as task:
        assert _native.lines_begin(task.id, 0)
        others = [eval(f"bytes({100 + number})") for number in range(accounts)]
        for place in range(6):
            stale = thag_nb.status().stale_records
            scripted.malloc(HERE + ENTRY * place, 10)
            scripted.malloc(HERE, size)
            assert _native.owner_of(HERE) == (task.id, size)
            assert thag_nb.status().stale_records == stale + (place < entries)
            scripted.free(HERE)
            if place >= entries:
                scripted.free(HERE + ENTRY * place)
            assert _native.owner_of(HERE) is _native.owner_of(HERE + ENTRY * place) is None
    assert len(others) == accounts
    assert all(counted == found for counted, found in _native.audit().values())


def test_slots_of_what_was_dropped_are_used_again():
    def once() -> None:
        with thag_nb.task("gone") as task:
            assert _native.lines_begin(task.id, 0)
            blocks = [bytearray(size) for size in range(100, 10_000, 100)]
        thag_nb.reset()
        del blocks

    for _ in range(3):
        once()
    before = _native.overhead()["call_sites"]
    for _ in range(50):
        once()
    assert _native.overhead()["call_sites"] == before
    assert all(counted == found for counted, found in _native.audit().values())


ENOUGH = (1 << 14) * 3 // 2  # contexts, that older ones are surely given back


def test_those_that_are_given_back_are_counted_in_the_one_above():
    with thag_nb.task("around") as task:
        assert _native.lines_begin(task.id, 4096)
        with thag_nb.task("forgotten"):
            sink(0)
        for _ in range(ENOUGH):
            with thag_nb.task("newer"):
                pass
    recording = thag_nb.read()
    assert not [record for record in recording.contexts if record.name == "forgotten"]
    rows = [row for row in recording.site_figures if row.context_id == task.id and row.site >= 0]
    (row,) = (row for row in rows if recording.sites[row.site].function == "sink")
    assert row.total_bytes == dict(row.at_peaks)[task.id] > 50_000
    assert sum(row.total_bytes for row in recording.site_figures) == recording.find("around").total_bytes


def test_what_is_started_below_is_explained_as_well_however_deep():
    with contextlib.ExitStack() as stack:
        task = stack.enter_context(thag_nb.task("0"))
        assert _native.lines_begin(task.id, 0)
        for depth in range(1, 40):
            stack.enter_context(thag_nb.task(str(depth)))
        kept = bytearray(50_000)
        recording = thag_nb.read()
    lines = {recording.find(row.context_id).name: row for row in recording.lines}
    assert len(lines) == 40
    assert [name for name, row in lines.items() if not row.is_explained] == [str(depth) for depth in range(31, 39)]
    for name, row in lines.items():
        if row.is_explained:
            record = recording.find(name)
            at_peak = sum(dict(figures.at_peaks).get(record.context_id, 0) for figures in recording.site_figures)
            assert record.peak_bytes - 5_000 < at_peak <= record.peak_bytes, name
    del kept


def test_lines_are_not_begun_where_figures_would_be_wrong():
    with thag_nb.task("around") as task:
        with thag_nb.task("below"):
            pass
        with pytest.raises(ValueError, match="cannot be recorded from now on"):
            _native.lines_begin(task.id, 0)
    for context_id in (_native.ROOT_ID, _native.SYSTEM_ID):
        with pytest.raises(ValueError, match="cannot be recorded from now on"):
            _native.lines_begin(context_id, 0)


def test_a_child_process_goes_on():
    with thag_nb.task("forked") as task:
        assert _native.lines_begin(task.id, 0)
        kept = bytearray(50_000)
        pid = os.fork()
        if pid == 0:
            more = sink(0)
            recording = thag_nb.read()
            live, total, at_peak = sums(recording, task.id)
            right = 100_000 <= live < 120_000 and 50_000 <= total < 70_000 and at_peak >= live
            os._exit(0 if right and len(more) + len(kept) == 100_000 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_greenlets_have_their_own_stacks():
    greenlet = pytest.importorskip("greenlet")
    compared = Compared()

    def work(depth: int) -> None:
        if depth:
            work(depth - 1)
            return
        for _ in range(20):
            compared(bytearray(100))
            greenlet.getcurrent().parent.switch()

    tracemalloc.start(FRAMES)
    try:
        with thag_nb.task("green") as task:
            assert _native.lines_begin(task.id, 0)
            workers = [greenlet.greenlet(work) for _ in range(5)]
            for worker in workers:
                worker.gr_context = contextvars.copy_context()
            for turn in range(20):
                for depth, worker in enumerate(workers):
                    _ = worker.switch(depth * 3) if turn == 0 else worker.switch()
    finally:
        tracemalloc.stop()
    assert compared.count == 100
    assert compared.different == []


def test_a_debugger_does_not_change_lines():
    """In a process of its own: what was traced once is not again as it was, and takes memory at its next call."""
    places = [str(Path(__file__).parent), *sys.path]
    python(f"import sys; sys.path[:0] = {places!r}; import test_call_sites as here; here.compare_while_tracing()")


def compare_while_tracing() -> None:
    compared = Compared()
    thag_nb.start()
    tracemalloc.start(FRAMES)
    with thag_nb.task("traced") as task:
        assert _native.lines_begin(task.id, 0)
        sys.settrace(tracing)
        torture(compared)
        sys.settrace(None)
    assert compared.different == []
    assert compared.count > 100


@pytest.mark.parametrize("core", ["ctrace", "sysmon"] if sys.version_info >= (3, 12) else ["ctrace"])
def test_coverage_does_not_change_lines(core: str) -> None:
    """In a process of its own, as above: it traces, or has instructions replaced while they run."""
    places = [str(Path(__file__).parent), *sys.path]
    code = f"import sys; sys.path[:0] = {places!r}; import test_call_sites as here; here.compare_while_covered()"
    python(code, COVERAGE_CORE=core)


def compare_while_covered() -> None:
    covered = coverage.Coverage(data_file=None, include=[__file__])
    compared = Compared()
    thag_nb.start()
    tracemalloc.start(FRAMES)
    with thag_nb.task("covered") as task:
        assert _native.lines_begin(task.id, 0)
        covered.start()
        torture(compared)
        covered.stop()
    assert compared.different == []
    assert compared.count > 100
    assert covered.get_data().lines(__file__)


def tracing(frame: FrameType, _event: str, _argument: object) -> Any:
    frame.f_trace_opcodes = True
    return tracing


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.skipif(not BEARS_NATIVE, reason="not here"))]
)
def test_the_line_of_a_peak_without_the_gil_is_where_that_was_given_up_if_that_is_seen(turns, native):
    attached, detached = (library.take_all for library in turns)
    slots = (ctypes.c_void_p * SLOTS)()
    thag_nb.stop()
    thag_nb.start(native=native)
    with thag_nb.task("peaking") as task:
        assert _native.lines_begin(task.id, 0)
        AT[1](attached, (Step * 1)(Step(0, 0, 50_000)), slots)
        AT[2](detached, (Step * 2)(Step(0, 4, 500_000), Step(0, 4, 0)), slots)
        recording = thag_nb.read()
    (lines,) = recording.lines
    peak = [(site.file, site.line) for site in stack(recording, lines.peak_site)]
    assert (("<sites>", 3) in peak) == native
    assert bool(peak) == native
    at_peak = figures(recording, [task.id], lambda row: dict(row.at_peaks).get(task.id, 0))
    assert 50_000 <= at_peak[0, 1] < 50_000 + NOISE
    shown = sum(dict(row.at_peaks).get(task.id, 0) for row in recording.site_figures)
    record = recording.find("peaking")
    assert record.peak_bytes - (NOISE if native else 500_000 + NOISE) <= shown <= record.peak_bytes
    assert 550_000 <= record.peak_bytes < 600_000
    AT[1](attached, (Step * 1)(Step(0, 0, 0)), slots)
    thag_nb.stop()
    thag_nb.start(native=BEARS_NATIVE)


def stack(recording: Recording, number: int) -> Iterator[Site]:
    while number >= 0:
        yield recording.sites[number]
        number = recording.sites[number].parent


def test_contexts_and_accounts_have_places_of_their_own_however_many_there_are():
    blocks, open_ones = [], []
    with thag_nb.task("lines") as task:
        assert _native.lines_begin(task.id, 0)
        many = [eval(f"bytearray({number})") for number in range(1000, 3000)]
    for number in range(25_000):
        flow = contextvars.copy_context()
        guard = flow.run(thag_nb.push_allocator_context, thag_nb.Allocator.TASK_AWARE, str(number))
        open_ones.append((flow, guard))
        if number % 500 == 0:
            blocks.append((guard.context.id, flow.run(bytearray, 5_000)))
    try:
        for context_id, block in blocks:
            assert _native.owner_of(_native.block_around(id(block))[0])[0] == context_id
        assert {_native.owner_of(_native.block_around(id(one))[0])[0] for one in many} == {task.id}
        assert all(counted == found for counted, found in _native.audit().values())
    finally:
        for flow, guard in open_ones:
            flow.run(guard.close)


def test_a_block_that_grows_in_other_hands_was_not_there_at_their_peak_before():
    with thag_nb.task("one") as task:
        assert _native.lines_begin(task.id, 0)
        grown = [0] * 10_000
    with thag_nb.task("other") as task:
        assert _native.lines_begin(task.id, 0)
        spike = bytearray(500_000)
        del spike
        grown.append(0)
    recording = thag_nb.read()
    own = [row for row in recording.site_figures if row.context_id == task.id]
    (row,) = (row for row in own if row.live_bytes > 80_000)
    assert dict(row.at_peaks).get(task.id, 0) == 0
    record = recording.find("other")
    assert record.peak_bytes - NOISE < sum(dict(one.at_peaks).get(task.id, 0) for one in own) <= record.peak_bytes
    del grown


@pytest.mark.skipif(not BEARS_NATIVE, reason="needs the native domain")
def test_a_block_of_before_that_grows_without_the_gil_is_the_lines_from_then_on(turns):
    _, detached = (library.take_all for library in turns)
    slots = (ctypes.c_void_p * SLOTS)()
    with thag_nb.task("outer") as task:
        assert _native.lines_begin(task.id, 0)
        with thag_nb.task("inner"):
            AT[0](detached, (Step * 1)(Step(0, 2, 100_000)), slots)
        thag_nb.reset()
        AT[1](detached, (Step * 2)(Step(0, 2, 300_000), Step(0, 2, 0)), slots)
    recording = thag_nb.read()
    found = figures(recording, [task.id], lambda row: row.total_bytes)
    assert 300_000 <= found[0, 1] < 300_000 + NOISE
    assert all(row.live_bytes >= 0 for row in recording.site_figures)
    assert all(counted == found for counted, found in _native.audit().values())


@pytest.mark.skipif(not BEARS_NATIVE, reason="needs the native domain")
def test_after_a_call_back_the_line_is_the_outer_one_again(turns):
    """A call back that gives up the GIL itself, in a call that has."""
    _, detached = turns
    detached.take_after.restype = ctypes.c_void_p
    call_back = ctypes.CFUNCTYPE(None)(lambda: ctypes.CDLL(None).usleep(0))
    with thag_nb.task("calling") as task:
        assert _native.lines_begin(task.id, 0)
        block = detached.take_after(call_back, ctypes.c_size_t(200_000))
        stack_of_block = _native.allocated_at(block)
    assert stack_of_block is not None
    assert stack_of_block[0][2] == test_after_a_call_back_the_line_is_the_outer_one_again.__name__
    ctypes.CDLL(None).free(ctypes.c_void_p(block))


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="it copies stacks, red zones and all")
def test_greenlets_do_not_take_over_where_anothers_work_came_from():
    greenlet = pytest.importorskip("greenlet")

    def switch_within(_: object) -> None:
        greenlet.getcurrent().parent.switch()

    with thag_nb.task("green") as task:
        assert _native.lines_begin(task.id, 0)
        ones: list[tuple[Any, Future[None]]] = []
        for _ in range(2):
            pending: Future[None] = Future()
            pending.add_done_callback(switch_within)
            ones.append((greenlet.greenlet(pending.set_result), pending))
        for one, _ in ones:
            one.gr_context = contextvars.copy_context()
            one.switch(None)
        assert _native.stack_here() == frames_of_python_at(_native.stack_here)
        for one, _ in ones:
            one.switch()
        assert _native.stack_here() == frames_of_python_at(_native.stack_here)


def frames_of_python_at(_: object) -> list[tuple[str, int, str]]:
    """Those of who calls."""
    return frames_of_python()[1:]


def test_work_that_is_done_at_once_has_one_stack():
    done: Future[None] = Future()
    done.set_result(None)
    seen: list[Any] = []
    with thag_nb.task("at once") as task:
        assert _native.lines_begin(task.id, 0)
        done.add_done_callback(lambda _: seen.append((_native.stack_here(), frames_of_python())))
    ((ours, pythons),) = seen
    assert ours == pythons


def test_work_that_hands_over_its_successor_has_a_stack_that_ends():
    depths: list[int] = []
    over = threading.Event()

    def step(left: int) -> None:
        depths.append(len(_native.stack_here()))
        if left:
            pool.submit(step, left - 1)
        else:
            over.set()

    with ThreadPoolExecutor(1) as pool, thag_nb.task("chain") as task:
        assert _native.lines_begin(task.id, 0)
        pool.submit(step, 100)
        assert over.wait(60)
    assert len(depths) == 101
    assert max(depths[50:]) <= max(depths[:50])
