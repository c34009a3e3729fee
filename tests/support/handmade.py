"""Hand-made recordings."""

from __future__ import annotations

import struct
from typing import Any

from thag_nb.recordings.model import SMALLER, ContextRecord, LinesOf, Mark, Recording, ResidentSize, Site, SiteFigures

MS = 1_000_000
SECOND = 1_000_000_000
KIB = 1 << 10
MIB = 1 << 20

_ZEROS = ContextRecord(0, "", "task", 1, "task_aware", "ended", *[0] * 14)


def context(context_id: int, name: str, **fields: Any) -> ContextRecord:
    """An ended task under the root, with figures of 0, but for the fields given."""
    return _ZEROS._replace(context_id=context_id, name=name, **fields)


def root(**fields: Any) -> ContextRecord:
    return context(1, "root", **{"kind": "root", "parent_id": 0, "state": "open", **fields})


def pack(*buckets: tuple[int, int, int, int, int]) -> bytes:
    """Buckets as the native core packs them: start_ns, low, high, live, self_live."""
    return b"".join(struct.pack("=5q", *bucket) for bucket in buckets)


def recording(
    *pairs: tuple[ContextRecord, bytes],
    taken_ns: int = 0,
    marks: tuple[Mark, ...] = (),
    resident: tuple[ResidentSize, ...] = (),
) -> Recording:
    return Recording(
        contexts=tuple(record for record, _ in pairs),
        timelines={record.context_id: timeline for record, timeline in pairs},
        taken_ns=taken_ns,
        overhead_bytes=0,
        dropped=0,
        marks=marks,
        resident=resident,
    )


def busy() -> Recording:
    """A root with two tasks called ``load`` and, under the newer one, a task ``parse``; 2 seconds in all.

    The newer ``load`` runs from 0.5 s to 1.5 s, reaches its peak of 13 MiB at 0.7 s for less than a bucket, and retains
    2 MiB.
    """
    older = context(3, "load", peak_bytes=MIB, duration_ns=100 * MS)
    newer = context(
        4,
        "load",
        live_bytes=2 * MIB,
        peak_bytes=13 * MIB,
        retained_bytes=2 * MIB,
        started_ns=500 * MS,
        duration_ns=SECOND,
    )
    inner = context(5, "parse", parent_id=4, peak_bytes=3 * MIB, started_ns=800 * MS, duration_ns=200 * MS)
    return recording(
        (
            root(live_bytes=2 * MIB, peak_bytes=14 * MIB, duration_ns=2 * SECOND),
            pack((0, 0, MIB, MIB, 0), (500 * MS, MIB, 5 * MIB, 5 * MIB, 0), (700 * MS, 5 * MIB, 14 * MIB, 2 * MIB, 0)),
        ),
        (older, pack((0, 0, MIB, 0, 0))),
        (
            newer,
            pack((500 * MS, 0, 4 * MIB, 4 * MIB, 4 * MIB), (700 * MS, 2 * MIB, 13 * MIB, 2 * MIB, 2 * MIB)),
        ),
        (inner, pack((800 * MS, 0, 3 * MIB, 0, 0))),
        taken_ns=2 * SECOND,
    )


def marked() -> Recording:
    """`busy` with a mark ``joined`` in the newer ``load``, a collection of 5 ms in ``parse``, and three samples."""
    return busy()._replace(
        marks=(Mark(700 * MS, 4, "joined", "mark", 0), Mark(900 * MS, 5, "gc 2", "collection", 5 * MS)),
        resident=(ResidentSize(0, 80 * MIB), ResidentSize(SECOND, 95 * MIB), ResidentSize(2 * SECOND, 90 * MIB)),
    )


Frames = tuple[tuple[str, int, str], ...]  # files, lines and functions, outermost first


def charged(source: Recording, *charges: tuple[int, Frames | int, int, dict[int, int]], **fields: Any) -> Recording:
    """A recording with call sites: each of a context, a stack or what there is instead, its bytes, and those at peaks.

    All of the bytes are live, and were one allocation. `fields` go to the lines of each context that is charged.
    """
    sites: dict[tuple[int, tuple[str, int, str]], int] = {}
    figures = []
    for context_id, stack, size_bytes, at_peaks in charges:
        place = stack if isinstance(stack, int) else -1
        for frame in () if isinstance(stack, int) else stack:
            place = sites.setdefault((place, frame), len(sites))
        figures.append(SiteFigures(context_id, place, size_bytes, size_bytes, 1, 0, tuple(at_peaks.items())))
    ids = dict.fromkeys(context_id for context_id, *_ in charges)
    every = {"least_bytes": 0, "peak_site": 0, "is_explained": True, "cells": (), **fields}
    return source._replace(
        sites=tuple(Site(parent, *frame) for parent, frame in sites),
        site_figures=tuple(figures),
        lines=tuple(LinesOf(context_id, **every) for context_id in ids),
    )


CELL = "/tmp/ipykernel_5/1234.py"
PANDAS = "/usr/lib/python3.13/site-packages/pandas/"
READ = ((PANDAS + "io/parsers.py", 1026, "read_csv"), (PANDAS + "io/parsers.py", 620, "_read"))


def lined() -> Recording:
    """A task ``load`` of cell In[3] and, under it, ``parse``, whose lines are known but for what is below 4 KiB.

    Of the peak of 13 MiB, line 2 has 8 MiB through ``read_csv``, line 6 of ``parse`` 4 MiB, small ones have 300 KiB,
    and what is left was there before. What is live is of line 2. At the peak of ``parse``, line 6 has 3 MiB.
    """
    at_cell = (CELL, 2, "<module>")
    parsing = ((CELL, 9, "<module>"), ("/home/me/parse.py", 6, "parse"))
    in_cell = charged(
        busy(),
        (4, (at_cell, *READ), 2 * MIB, {4: 8 * MIB, 1: 8 * MIB}),
        (4, SMALLER, 0, {4: 300 * KIB, 1: 0}),
        (5, parsing, 0, {5: 3 * MIB, 4: 4 * MIB, 1: 4 * MIB}),
        least_bytes=4096,
        peak_site=2,
        cells=((CELL, "In[3]"),),
    )
    figures = {4: {"total_bytes": 20 * MIB, "allocations": 70, "frees": 60}, 5: {"allocations": 1}}
    return in_cell._replace(
        contexts=tuple(record._replace(**figures.get(record.context_id, {})) for record in in_cell.contexts)
    )


EMPTY = recording()
