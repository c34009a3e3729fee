"""Whose code a file has, and what its lines say."""

from __future__ import annotations

import json
import linecache
from pathlib import Path

import pytest
from handmade import CELL, busy, charged

import thag_nb
from thag_nb.recordings.own_code import is_installed, is_library, is_own, source_of

OWN = [
    CELL,
    "/home/me/work/load.py",
    "/home/me/lib/load.py",
    "/home/me/python3.13/load.py",
    "<stdin>",
    "<ipython-input-3-ab12cd>",
    "<timed exec>",
    "",
]
LIBRARIES = [
    "/home/me/project/.venv/lib/python3.12/site-packages/pandas/core/frame.py",
    "/usr/lib/python3/dist-packages/numpy/__init__.py",
    "/usr/lib64/python3.14/asyncio/events.py",
    "/opt/lib/python3.14t/queue.py",
    "/usr/lib/python311.zip/json/decoder.py",
    "<frozen importlib._bootstrap>",
    json.__file__,
    thag_nb.__file__,
]


@pytest.mark.parametrize("file", OWN)
def test_what_the_user_wrote_is_own(file: str) -> None:
    assert is_own(file)
    assert not is_library(file)


@pytest.mark.parametrize("file", LIBRARIES)
def test_what_was_installed_is_not(file: str) -> None:
    assert is_library(file)
    assert not is_own(file)


@pytest.mark.parametrize("file", ["<string>", "<attrs generated init Point>", "<__array_function__ internals>"])
def test_what_a_program_made_is_neither(file: str) -> None:
    assert not is_own(file)
    assert not is_library(file)


def test_packages_are_installed_and_pythons_own_modules_are_not() -> None:
    assert list(map(is_installed, LIBRARIES)) == [True, True, *[False] * 6]


def test_a_line_is_read_as_its_file_is_by_now(tmp_path: Path) -> None:
    file = tmp_path / "load.py"
    file.write_text("first()\n    second()  \n")
    assert source_of(busy())(str(file), 2) == "    second()"
    file.write_text("first()\n    other()\n    more()\n")
    assert source_of(busy())(str(file), 2) == "    other()"
    assert [source_of(busy())(str(file), line) for line in (0, 99)] == ["", ""]


def test_a_cell_is_read_where_the_notebook_put_it() -> None:
    cell = "<a cell>"
    linecache.cache[cell] = (6, None, ["one()\n", "two()\n"], cell)
    try:
        assert source_of(busy())(cell, 2) == ""
        assert source_of(charged(busy(), (4, (), 1, {}), cells=((cell, "In[3]"),)))(cell, 2) == "two()"
    finally:
        del linecache.cache[cell]


def test_lines_of_libraries_and_names_that_no_file_can_have_say_nothing() -> None:
    text = source_of(busy())
    assert text(json.__file__, 1) == ""
    assert text("/home/me/load.py\0", 1) == ""
