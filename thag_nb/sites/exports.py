"""Call sites for other tools: speedscope's JSON, and the collapsed stacks of flame graphs."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

from thag_nb.recordings import files
from thag_nb.recordings.model import LineCost, Recording, Wanted
from thag_nb.sites.figures import FIGURES, Shown, frames_of, in_words, shown
from thag_nb.sites.rows import lines
from thag_nb.sites.stacks import Frame
from thag_nb.units import visible

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_EXPORTER = "thag_nb"
_MARK = f'{{"$schema":"{_SCHEMA}","exporter":"{_EXPORTER}"'


def write_speedscope(
    recording: Recording, wanted: Wanted, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write what `speedscope` gives. See `thag_nb.speedscope`."""
    data = json.dumps(speedscope(recording, wanted), separators=(",", ":")).encode("ascii")
    files.write(os.fsdecode(path), data, what="speedscope file", is_one=_is_speedscope, overwrite=overwrite)


def speedscope(recording: Recording, wanted: Wanted) -> dict[str, Any]:
    """The stacks of a context in speedscope's file format, with a profile for each of `FIGURES`; weights are bytes.

    Raises `UnknownContextError` and `NoLinesError`.
    """
    rows = lines(recording, wanted, "stack")
    name = recording.find(wanted).name
    numbers: dict[Frame, int] = {}
    samples = [[numbers.setdefault(frame, len(numbers)) for frame in frames_of(row)] for row in rows]
    return {  # what it is comes first: it is known by that
        "$schema": _SCHEMA,
        "exporter": _EXPORTER,
        "name": name,
        "activeProfileIndex": 0,
        "shared": {"frames": list(map(_frame, numbers))},
        "profiles": [_profile(f"{name}: {FIGURES[figure].words}", figure, rows, samples) for figure in FIGURES],
    }


def _frame(frame: Frame) -> dict[str, Any]:
    place = {"file": frame.file, "line": frame.line}
    return {"name": in_words(frame), **{key: value for key, value in place.items() if value}}


def _profile(name: str, figure: str, rows: tuple[LineCost, ...], samples: list[list[int]]) -> dict[str, Any]:
    sizes = [FIGURES[figure].of(row) for row in rows]
    weighed = [(sample, size) for sample, size in zip(samples, sizes, strict=True) if size > 0]
    return {
        "type": "sampled",
        "name": name,
        "unit": "bytes",
        "startValue": 0,
        "endValue": sum(size for _, size in weighed),
        "samples": [sample for sample, _ in weighed],
        "weights": [size for _, size in weighed],
    }


def _is_speedscope(head: bytes) -> bool:
    return head.startswith(_MARK.encode())


def collapsed(recording: Recording, wanted: Wanted, figure: Shown = "peak") -> str:
    """A line for each stack: its frames, outermost first, divided by semicolons; a space; its bytes.

    Raises `UnknownContextError`, `NoLinesError` and `ChoiceError`.
    """
    size_of = shown(figure).of
    sizes: Counter[str] = Counter()
    for row in lines(recording, wanted, "stack"):
        sizes[";".join(map(_collapsed, frames_of(row)))] += max(size_of(row), 0)
    return "".join(f"{stack} {size_bytes}\n" for stack, size_bytes in sizes.items() if size_bytes)


def _collapsed(frame: Frame) -> str:
    return visible(in_words(frame)).replace(";", ":")
