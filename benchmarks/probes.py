"""What a process of its own measures about contexts: ``python -m benchmarks.probes NAME [NUMBER...]`` prints JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from itertools import repeat
from pathlib import Path

import thag_nb
from thag_nb import _native

BATCH, BATCHES = 100, 10
Times = list[float]


def open_and_close(existing: int) -> dict[str, Times]:
    """Nanoseconds of one open and close, in batches, while about so many contexts exist; and bytes of all of them."""
    _exist(1)
    first_bytes = thag_nb.read().overhead_bytes
    _exist(existing - 1)
    more_bytes = thag_nb.read().overhead_bytes - first_bytes
    again = thag_nb.TaskMemoryContext("again")
    times: dict[str, Times] = {}
    for _ in range(BATCHES):
        for name, batch in _STATEMENTS.items():
            if existing < BATCH * BATCHES:
                thag_nb.reset()
                _exist(existing)
            times.setdefault(name, []).append(batch(again) / BATCH)
    return {**times, "bytes": [more_bytes]}


def _exist(contexts: int) -> None:
    for _ in range(contexts):
        with thag_nb.task("existing"):
            pass


def _nullcontext(_: thag_nb.TaskMemoryContext) -> int:
    began = time.perf_counter_ns()
    for __ in repeat(None, BATCH):
        with nullcontext():
            pass
    return time.perf_counter_ns() - began


def _with_task(_: thag_nb.TaskMemoryContext) -> int:
    began = time.perf_counter_ns()
    for __ in repeat(None, BATCH):
        with thag_nb.task("task"):
            pass
    return time.perf_counter_ns() - began


def _new_memory_context(_: thag_nb.TaskMemoryContext) -> int:
    began = time.perf_counter_ns()
    for __ in repeat(None, BATCH):
        thag_nb.TaskMemoryContext("task").enter().close()
    return time.perf_counter_ns() - began


def _same_memory_context(again: thag_nb.TaskMemoryContext) -> int:
    began = time.perf_counter_ns()
    for _ in repeat(None, BATCH):
        again.enter().close()
    return time.perf_counter_ns() - began


_STATEMENTS: dict[str, Callable[[thag_nb.TaskMemoryContext], int]] = {
    "with nullcontext()": _nullcontext,
    "with task(...)": _with_task,
    "TaskMemoryContext(...).enter().close()": _new_memory_context,
    "the same one, enter().close()": _same_memory_context,
}


def gather(tasks: int, own_contexts: int) -> dict[str, Times]:
    """Milliseconds of so many asyncio tasks at once, each in a context of its own or none of them."""

    async def work() -> int:
        kept = [bytes(100)]
        await asyncio.sleep(0)
        return len(kept)

    async def alone() -> int:
        async with thag_nb.task("one of many"):
            return await work()

    async def everything() -> float:
        coroutine = alone if own_contexts else work
        began = time.perf_counter()
        await asyncio.gather(*(coroutine() for _ in range(tasks)))
        return (time.perf_counter() - began) * 1e3

    return {"gather": [asyncio.run(everything())]}


def views(contexts: int) -> dict[str, Times]:
    """Milliseconds of everything that reads, with so many contexts that allocated something."""
    for number in range(contexts):
        with thag_nb.task(f"task {number}"):
            bytearray(100_000 + number)
    return {
        name: [_milliseconds(view) for _ in range(5)]
        for name, view in (("read()", thag_nb.read), ("contexts()", thag_nb.contexts), ("timeline()", thag_nb.timeline))
    }


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def long_task(events: int) -> dict[str, Times]:
    """Bytes of one context's timeline, and of all our tables, after so many allocations and frees; and seconds."""
    began = time.perf_counter()
    with thag_nb.task("long") as context:
        for _ in map(bytes, repeat(1000, events // 2)):
            pass
    seconds = time.perf_counter() - began
    recording = thag_nb.read()
    seen = recording.find(context.id).allocations + recording.find(context.id).frees
    return {
        "events": [seen],
        "timeline": [len(recording.timelines[context.id])],
        "tables": [recording.overhead_bytes],
        "seconds": [seconds],
    }


def pandas_import(least_bytes: int) -> dict[str, Times]:
    """What is kept of the lines of ``import pandas``, as `_lines_of` says."""
    return _lines_of(lambda: import_module("pandas"), least_bytes)


def pandas_cell(least_bytes: int) -> dict[str, Times]:
    """What is kept of the lines of a cell of pandas, as `_lines_of` says."""
    import numpy
    import pandas

    def cell() -> object:
        rows = numpy.arange(400_000)
        orders = pandas.DataFrame({"key": rows % 50_000, "price": rows / 7, "name": [f"order {row}" for row in rows]})
        others = pandas.DataFrame({"key": rows[::-1] % 50_000, "weight": rows * 2, "group": rows % 977})
        merged = orders.merge(others.drop_duplicates("key"), on="key")
        totals = merged.groupby("group").agg({"price": ["sum", "mean"], "weight": "max"})
        shouted = merged["name"].str.upper().str.replace("ORDER", "no.")
        return orders, others, merged, totals, shouted

    return _lines_of(cell, least_bytes)


def _lines_of(work: Callable[[], object], least_bytes: int) -> dict[str, Times]:
    """How many call sites and accounts work makes whose lines are recorded, from so many bytes on.

    They are not if that is negative. And bytes: of the tables of lines, and of the process that still has the result.
    """
    with thag_nb.task("work", lines=least_bytes >= 0 and (least_bytes or True)):
        result = work()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    tables = _native.overhead()["call_sites"]
    recording = thag_nb.read()
    del result
    return {
        "sites": [len(recording.sites)],
        "accounts": [len(recording.site_figures)],
        "tables": [tables],
        "rss": [resident],
    }


def load_extension() -> dict[str, Times]:
    """Milliseconds of ``%load_ext thag_nb`` in a plain shell, which must load neither pandas nor matplotlib."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    milliseconds = _milliseconds(lambda: shell.run_line_magic("load_ext", "thag_nb"))
    heavy = {"pandas", "matplotlib"} & sys.modules.keys()
    assert not heavy, f"{heavy} loaded"
    return {"load": [milliseconds]}


PROBES: dict[str, Callable[..., dict[str, Times]]] = {
    probe.__name__: probe
    for probe in (open_and_close, gather, views, long_task, pandas_import, pandas_cell, load_extension)
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](*map(int, sys.argv[2:]))))
