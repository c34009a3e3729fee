"""Which code is the user's own, and the text of its lines.

Recordings may come from another machine, so that a library is known by where it lies: in ``site-packages``, in a folder
such as ``lib/python3.13``, or where this interpreter's own is.
"""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

_INSTALLED = re.compile(r"/(site|dist)-packages/")
_STANDARD = re.compile(r"/lib(64)?/python3[\d.]*t?(\.zip)?/")
_OF_PYTHON = f"{Path(os.__file__).parent}{os.sep}"
_OURS = f"{Path(__file__).parent.parent}{os.sep}"
_FILES = 4096  # whose answer is remembered: a recording asks of each for every stack it is on
_FROZEN = "<frozen "
# What a person typed has such a name instead of a file. Any other that begins so was made by a program as it ran.
_TYPED = ("<stdin>", "<python-input-", "<ipython-input-", "<console>", "<timed ", "<magic-timeit>", "<doctest ")


@lru_cache(_FILES)
def is_own(file: str) -> bool:
    """Whether code of this file is the user's: neither a library's, nor Python's or ours, nor made by a program."""
    return not is_library(file) and (not file.startswith("<") or file.startswith(_TYPED))


@lru_cache(_FILES)
def is_library(file: str) -> bool:
    """Whether code of this file is an installed package's, Python's own or ours."""
    return file.startswith((_FROZEN, _OF_PYTHON, _OURS)) or is_installed(file) or bool(_STANDARD.search(file))


@lru_cache(_FILES)
def is_installed(file: str) -> bool:
    """Whether code of this file is an installed package's, and not Python's own."""
    return bool(_INSTALLED.search(file))


# Imports go down only: recordings are not known here by their type.


def source_lines(recording: Any) -> Iterator[tuple[str, int, str]]:
    """File, line and text of each line of the user's that allocated or called what did, as far as it is known."""
    source = source_of(recording)
    for file, line in dict.fromkeys((site.file, site.line) for site in recording.sites):
        if text := source(file, line):
            yield file, line, text


def source_of(recording: Any) -> Callable[[str, int], str]:
    """What tells the text of a line, empty if it is not the user's or not known.

    A recording that was saved with its source is asked alone; of any other, files are read as they are by now.
    """
    saved: dict[tuple[str, int], str] = {(line.file, line.line): line.text for line in recording.source_lines}
    cells = {file for pairs in (recording.cell_files, *(one.cells for one in recording.lines)) for file, _ in pairs}
    checked: set[str] = set()

    def text(file: str, line: int) -> str:
        if saved:
            return saved.get((file, line), "")
        if not (is_own(file) or file in cells) or "\0" in file:
            return ""
        if file not in checked:
            checked.add(file)
            linecache.checkcache(file)
        return linecache.getline(file, line).rstrip()

    return text
