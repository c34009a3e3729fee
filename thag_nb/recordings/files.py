"""Recordings in files: JSON that says what it is, written whole or not at all.

A file holds one object, ASCII, on one line; gzip around it if the name ends in ``.gz``. ``format`` comes first, and is
what a recording is known by. This is version 3::

    {"format": "thag_nb recording", "version": 3,
     "taken_ns": 2000000000, "overhead_bytes": 1048576, "dropped": 0,
     "contexts": {"context_id": [1, 3], "name": ["root", "load"], ...},
     "marks": {"time_ns": [700000000], "context_id": [3], "name": ["joined"], "kind": ["mark"], "duration_ns": [0]},
     "resident": {"time_ns": [0, 100000000], "resident_bytes": [83886080, 92274688]},
     "timelines": {"context_id": [1, 3], "buckets": ["AAAA...", "AGXN..."]}}

``contexts`` has a list for each field of `ContextRecord`, all of one length, contexts in their order; ``marks`` and
``resident`` have the same for `Mark` and `ResidentSize`. ``timelines`` has for each context, by its id, the base64 of
its buckets: rows of five little-endian 64-bit integers in the order of `TimelineBucket`. All numbers are integers of 64
bits, with the meanings and units of `Recording`. Whatever adds, drops or changes a field makes a new version.

Ids of contexts ascend, and a ``parent_id`` is 0 or lower than the context's own; it need not be among them. Times of
marks and samples ascend, and so does ``start_ns`` in each timeline, of which no two are equal. Names are
written as contexts and marks have them, not empty and of one line, and what else a file has is cleaned in the same way
when it is read. Neither ``resident_bytes`` nor ``duration_ns`` of a mark is below 0.

A recording that knows lines has ``call_sites`` as well; any other has no such part::

    {"texts": ["/home/me/load.py", "load", "main"],
     "sites": {"parent": [-1, 0], "file": [0, 0], "line": [12, 7], "function": [2, 1]},
     "site_figures": {"context_id": [3], "site": [1], ..., "at_peaks": [[[3, 4096], [1, 0]]]},
     "lines": {"context_id": [3], ..., "cells": [[["/tmp/ipykernel_5/1.py", "In[3]"]]]},
     "source_lines": {"file": [0], "line": [7], "text": ["    rows = list(read())"]},
     "cell_files": {"file": [0], "name": ["In[2]"]}}

Its tables have a list for each field of `Site`, `SiteFigures`, `LinesOf`, `SourceLine` and `CellFile`; a ``file``, and
the ``function`` of a site, is the place of a text among ``texts``. ``source_lines`` has rows only if somebody asked for
the text of lines to be saved. ``cell_files`` has each file once, and is left out if it has none; ``is_hidden`` is left
out if it is true of no site. A ``parent`` comes before its site; ``site`` and ``peak_site`` are places among the sites,
or -1 to -3. A context has its lines once, and figures once at a site; ``at_peaks`` names the context itself and older
ones, each once. No ``line`` and no ``least_bytes`` is below 0.

Version 1 had neither ``marks`` nor ``resident``: it is read as a recording that has none. Those before 3 do not
tell what peaks were made up of, nor where bytes were asked for: the last six fields of a context are 0 then.
"""

from __future__ import annotations

import base64
import json
import os
import re
import reprlib
import stat
import struct
import sys
import zlib
from array import array
from collections.abc import Callable
from operator import le, lt
from pathlib import Path
from typing import Any, TypeVar

from thag_nb.errors import RecordingFileError
from thag_nb.recordings import call_sites, tables
from thag_nb.recordings.tables import Rows, is_integer

FORMAT = "thag_nb recording"
VERSION = 3

_RecordingType = TypeVar("_RecordingType")

_TOTALS = ("taken_ns", "overhead_bytes", "dropped")
_TIMELINE_COLUMNS = ("context_id", "buckets")
_CALL_SITES = "call_sites"  # the part that not every file has
_BUCKET = struct.Struct("<q32x")  # in a file; of its five integers, start_ns
_SINCE = {"contexts": 1, "marks": 2, "resident": 2}  # the version that had these rows first
_FIELDS_SINCE = {
    "at_session_peak_bytes": 3,
    "at_parent_peak_bytes": 3,
    "self_live_numpy_bytes": 3,
    "self_live_native_bytes": 3,
    "at_session_peak_numpy_bytes": 3,
    "at_session_peak_native_bytes": 3,
}  # which rows had from the beginning on, if not here
_WORDS = {
    ("contexts", "kind"): ("root", "cell", "task", "system"),
    ("contexts", "allocator"): ("task_aware", "system"),
    ("contexts", "state"): ("open", "ended"),
    ("marks", "kind"): ("mark", "collection"),
}
_NEVER_NEGATIVE = {("marks", "duration_ns"), ("resident", "resident_bytes")}
_SWAPS_BYTES = sys.byteorder == "big"

_MARK = re.compile(rf'\s*\{{\s*"format"\s*:\s*"{FORMAT}"'.encode())
_HEAD_BYTES = 4096  # the mark is well within, also when it is compressed
_GZIP = b"\x1f\x8b"
_GZIP_WBITS = 31  # zlib's word for gzip
_GZIP_LEVEL = 6

_TAKE_ANOTHER = "give a file that Recording.save wrote"
_SAVE_AGAIN = "save it again, or take another copy"


# Imports go down only: the types of recordings and rows are handed in, as they are to the native core.


def save(recording: Any, rows: Rows, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a `Recording` of these rows. Raises `RecordingFileError`, and OSError where the system refuses."""
    name = os.fsdecode(path)
    content = _content(recording, rows)
    flaw = _flaw(content, rows)
    if flaw is not None:
        raise RecordingFileError(name, f"cannot hold this recording: {flaw}; save it as thag_nb.read() gave it")
    data = json.dumps(content, separators=(",", ":")).encode("ascii")
    if name.lower().endswith(".gz"):
        data = zlib.compress(data, _GZIP_LEVEL, _GZIP_WBITS)
    write(name, data, what="recording", is_one=_is_marked, overwrite=overwrite)


def write(name: str, data: bytes, *, what: str, is_one: Callable[[bytes], bool], overwrite: bool) -> None:
    """Write a whole file, or nothing. One whose first bytes `is_one` knows is replaced, others only with `overwrite`.

    `what` is what such a file is called. Raises `RecordingFileError` if the name stands for something else, or if there
    is no such folder, and OSError where the system refuses.
    """
    # A link is followed: what it leads to is replaced, not the link.
    target = Path(os.path.realpath(name))
    mode = _mode(name, target) if target.exists() else None
    if mode is not None and not overwrite and not is_one(_head(target)):
        raise RecordingFileError(
            name, f"exists and is no {what} of thag_nb; choose another name, or replace it with overwrite=True"
        )
    if not target.parent.is_dir():
        raise RecordingFileError(name, f"is in no folder that exists; make {str(target.parent)!r} first")
    try:
        _replace(target, data, mode)
    except OSError as error:
        # With the name that was given, and not that of the temporary file, which nobody has heard of.
        raise OSError(error.errno, error.strerror, name) from None


def load(recording_type: Callable[..., _RecordingType], rows: Rows, path: str | os.PathLike[str]) -> _RecordingType:
    """The recording in a file, as a `Recording` of these rows.

    Raises `RecordingFileError`, and OSError where the system refuses: FileNotFoundError if there is no such file.
    """
    name = os.fsdecode(path)
    content = _parsed(name, _text(name))
    _check_version(name, content.get("version"))
    flaw = _flaw(content, rows)
    if flaw is not None:
        raise _damaged(name, flaw)
    timelines = content["timelines"]
    return recording_type(
        timelines=dict(zip(timelines["context_id"], map(_unpacked, timelines["buckets"]), strict=True)),
        **{table: tables.rows(content[table], rows[table]) for table in _tables(content["version"])},
        **{total: content[total] for total in _TOTALS},
        **(call_sites.parts(content[_CALL_SITES], rows) if _CALL_SITES in content else {}),
    )


# Bytes


def _mode(name: str, path: Path) -> int:
    """The permissions of a regular file; a device or a pipe can neither be replaced nor read to its end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise RecordingFileError(name, "is a directory; give the name of a file in it")
    if not stat.S_ISREG(mode):
        raise RecordingFileError(name, "is no regular file; give the name of one")
    return stat.S_IMODE(mode)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _is_marked(head: bytes) -> bool:
    """Whether a file that begins so is a recording, of whatever version and however it goes on."""
    if head.startswith(_GZIP):
        try:
            head = zlib.decompressobj(_GZIP_WBITS).decompress(head, _HEAD_BYTES)
        except zlib.error:
            return False
    return _MARK.match(head) is not None


def _text(name: str) -> bytes:
    """The JSON in a file. Nothing but a recording is read further than its head."""
    path = Path(name)
    _mode(name, path)
    head = _head(path)
    if not head:
        raise RecordingFileError(name, f"is empty; {_TAKE_ANOTHER}")
    if not _is_marked(head):
        raise RecordingFileError(name, f"is no recording of thag_nb, or only the first bytes of one; {_TAKE_ANOTHER}")
    data = path.read_bytes()
    return _inflated(name, data) if data.startswith(_GZIP) else data


def _inflated(name: str, data: bytes) -> bytes:
    inflater = zlib.decompressobj(_GZIP_WBITS)
    try:
        text = inflater.decompress(data)
    except zlib.error:
        raise _damaged(name, "its gzip data are changed") from None
    if not inflater.eof or inflater.unused_data:
        raise _damaged(name, "its gzip data are cut short or something follows them")
    return text


def _replace(target: Path, data: bytes, mode: int | None) -> None:
    """Put a whole file in place, with these permissions if any; whatever fails, what was there stays as it was."""
    temporary = target.with_name(f".thag_nb-{os.urandom(8).hex()}.tmp")
    with temporary.open("xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else the name might reach the disk before what it names
            if mode is not None:
                temporary.chmod(mode)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)  # an interrupt may come after the replacing
            raise


# Content


def _tables(version: int) -> list[str]:
    """What a file of this version holds in rows."""
    return [table for table, since in _SINCE.items() if since <= version]


def _fields(row_type: Any, version: int) -> tuple[str, ...]:
    """What such rows hold in a file of this version. New fields are the last ones, and have defaults."""
    return tuple(field for field in row_type._fields if _FIELDS_SINCE.get(field, 1) <= version)


def _content(recording: Any, rows: Rows) -> dict[str, Any]:
    """A recording as a file holds it. What it is comes first: it is known by that."""
    section = call_sites.content(recording, rows)
    return {
        "format": FORMAT,
        "version": VERSION,
        **{total: getattr(recording, total) for total in _TOTALS},
        **{table: tables.columns(getattr(recording, table), rows[table]) for table in _tables(VERSION)},
        "timelines": {
            "context_id": list(recording.timelines),
            "buckets": [_packed(buckets) for buckets in recording.timelines.values()],
        },
        **({} if section is None else {_CALL_SITES: section}),
    }


def _packed(buckets: bytes) -> str:
    return base64.b64encode(_little_endian(buckets)).decode("ascii")


def _unpacked(text: str) -> bytes:
    return _little_endian(base64.b64decode(text, validate=True))


def _little_endian(buckets: bytes) -> bytes:
    """Native 64-bit integers with their lowest byte first, or back: it is the same."""
    if not _SWAPS_BYTES:
        return buckets
    integers = array("q", buckets)
    integers.byteswap()
    return integers.tobytes()


def _parsed(name: str, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(name, "it is cut short or changed") from None
    assert isinstance(content, dict), "the mark begins with a brace"
    return content


def _check_version(name: str, version: Any) -> None:
    if not is_integer(version) or version < 1:
        raise _damaged(name, f"its version is {reprlib.repr(version)}")
    if version > VERSION:
        problem = f"is a recording of version {version}, and this thag_nb reads versions up to {VERSION}"
        raise RecordingFileError(name, f"{problem}; upgrade thag_nb to read it")


def _damaged(name: str, flaw: str) -> RecordingFileError:
    return RecordingFileError(name, f"is a damaged recording: {flaw}; {_SAVE_AGAIN}")


# What can be wrong with content


def _flaw(content: dict[str, Any], rows: Rows) -> str | None:
    """What keeps content from being a recording of its version, or None."""
    for total in _TOTALS:
        if not is_integer(content.get(total)):
            return f"its {total} is {reprlib.repr(content.get(total))}"
    version = content["version"]
    fields = {table: _fields(rows[table], version) for table in _tables(version)} | {"timelines": _TIMELINE_COLUMNS}
    for table in fields:
        flaw = tables.flaw(table, content.get(table), fields[table], version, _fits)
        if flaw is not None:
            return flaw
    return (
        _ids_flaw(content["contexts"], content["timelines"]["context_id"])
        or _times_flaw(content)
        or (call_sites.flaw(content[_CALL_SITES], rows, version) if _CALL_SITES in content else None)
    )


def _ids_flaw(contexts: dict[str, list[Any]], timelines: list[int]) -> str | None:
    own = contexts["context_id"]
    for ids in (own, timelines):
        if len(set(ids)) != len(ids):
            return "an id occurs twice"
    without = set(own).difference(timelines)
    if without:
        return f"context {min(without)} has no timeline"
    if not all(map(lt, own, own[1:])):
        return "context_id in its contexts is not ascending"
    for context_id, parent_id in zip(own, contexts["parent_id"], strict=True):
        if not 0 <= parent_id < context_id:
            return f"parent_id of context {context_id} is {parent_id}, and not the id of an older one"
    return None


def _times_flaw(content: dict[str, Any]) -> str | None:
    for table in ("marks", "resident"):
        times = content[table]["time_ns"] if content["version"] >= _SINCE[table] else []
        if not all(map(le, times, times[1:])):
            return f"time_ns in its {table} is not ascending"
    timelines = content["timelines"]
    for context_id, text in zip(timelines["context_id"], timelines["buckets"], strict=True):
        starts = [start_ns for (start_ns,) in _BUCKET.iter_unpack(base64.b64decode(text))]
        if not all(map(lt, starts, starts[1:])):
            return f"start_ns in the timeline of context {context_id} is not ascending"
    return None


def _fits(table: str, field: str, value: object) -> bool:
    if (table, field) in _WORDS:
        return value in _WORDS[table, field]
    if field == "name":
        return isinstance(value, str)
    if field == "buckets":
        return _is_timeline(value)
    return is_integer(value) and ((table, field) not in _NEVER_NEGATIVE or value >= 0)


def _is_timeline(text: Any) -> bool:
    try:
        return len(_unpacked(text)) % _BUCKET.size == 0
    except (TypeError, ValueError):
        return False
