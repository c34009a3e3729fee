"""Hand-made recordings."""

from __future__ import annotations

import struct
from typing import Any

from thag_nb.recordings.model import ContextRecord, Mark, Recording, ResidentSize

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


EMPTY = recording()
