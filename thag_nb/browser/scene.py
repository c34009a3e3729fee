"""What a browser draws: a stack of curves as a header for JSON and rows of float32, small enough to be sent often."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thag_nb.palette import OTHERS, ROOT, Styles, styles
from thag_nb.recordings.model import ContextRecord, Recording, curve_in_words, is_work, work_names
from thag_nb.recordings.resampling import MOST_LAYERS, OTHERS_ID, Layer, Stack, Window, stack, window_of
from thag_nb.units import format_bytes, short

_MOST_MOMENTS = 400

Header = dict[str, Any]


class Scene(NamedTuple):
    """A picture of live bytes over time.

    ``values`` has a row for each of the header's ``layers`` (self live bytes at the end of each column, to be stacked)
    and then one for each of its ``curves``: ``high``, the highest inclusive live bytes in each column, and, where it is
    known, ``resident``, the process's RSS. Shape (layers + curves, columns), in bytes. The header is ready for JSON.
    """

    header: Header
    values: NDArray[np.float32]


def stack_scene(
    recording: Recording, top: ContextRecord, *, most: int = MOST_LAYERS, window: Window | None = None
) -> Scene:
    """A context, divided among itself and what was started under it, and RSS beside it."""
    curves = stack(recording, top, most=most, window=window)
    resident = _resident(recording, curves.window)
    return _scene(recording, top, curves, {} if resident is None else {"resident": resident})


def detail_scene(recording: Recording, record: ContextRecord, *, columns: int = 200) -> Scene:
    """The same of one context among many: of as many columns as fit beside a table, and without RSS."""
    window = window_of(recording, record)._replace(columns=columns)
    return _scene(recording, record, stack(recording, record, window=window), {})


def _scene(recording: Recording, top: ContextRecord, curves: Stack, others: dict[str, NDArray[np.float32]]) -> Scene:
    looks = styles(work_names(recording))
    rows = {"high": curves.high_bytes.astype(np.float32), **others}
    layers = [_layer_header(layer, looks) for layer in curves.layers]
    header = _header(curves.window, layers, list(rows), _description(top))
    header["moments"] = _moments(recording, top, curves.window)
    return Scene(header, np.stack([*(layer.live_bytes.astype(np.float32) for layer in curves.layers), *rows.values()]))


def _description(record: ContextRecord) -> str:
    return curve_in_words(record, short(record.name), f"{format_bytes(record.live_bytes)} live")


def _header(window: Window, layers: list[Header], curves: list[str], description: str) -> Header:
    return {
        "start_ns": window.start_ns,
        "end_ns": window.end_ns,
        "columns": window.columns,
        "layers": layers,
        "curves": curves,
        "description": description,
    }


def _layer_header(layer: Layer, looks: Styles) -> Header:
    style = OTHERS if layer.context_id == OTHERS_ID else looks.get(layer.name, ROOT)
    return {"id": layer.context_id, "name": short(layer.name), "colour": style.colour, "dash": style.dash}


def _moments(recording: Recording, top: ContextRecord, window: Window) -> list[Header]:
    """Where the contexts directly under `top` began, and the marks, in order of time."""
    starts = [
        (record.started_ns, "cell", record.name) for record in recording.children(top.context_id) if is_work(record)
    ]
    marks = [(mark.time_ns, mark.kind, mark.name) for mark in recording.marks]
    moments = sorted(moment for moment in starts + marks if window.start_ns <= moment[0] <= window.end_ns)
    return [{"time_ns": time_ns, "kind": kind, "name": short(name)} for time_ns, kind, name in moments[-_MOST_MOMENTS:]]


def _resident(recording: Recording, window: Window) -> NDArray[np.float32] | None:
    """The RSS that was read last by the end of each column; not a number before the first reading."""
    if not recording.resident:
        return None
    readings = np.array(recording.resident, dtype=np.int64)
    sizes = np.concatenate([[np.nan], readings[:, 1]])
    return sizes[np.searchsorted(readings[:, 0], window.edges_ns[1:], side="right")].astype(np.float32)


def packed(scenes: Iterable[Scene]) -> str:
    """The values of scenes, one behind the other: little-endian float32, deflated, in base64."""
    values = b"".join(scene.values.astype("<f4").tobytes() for scene in scenes)
    return base64.b64encode(zlib.compress(values)).decode("ascii")
