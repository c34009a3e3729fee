"""The files that IPython gives to the code of cells: what people know each as, and what was typed there."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from IPython.core.interactiveshell import InteractiveShell

    from thag_nb.recordings.model import Recording
    from thag_nb.sites.annotated import Sources

NESTED = " nested"  # ends the name of what a cell runs in turn

_NUMBERED = re.compile(r"In\[(\d+)\]")
_ANSWERS = 256  # that are remembered: each reading of a recording asks again


class CellFiles:
    """Says of files which cell of a shell they hold the code of.

    IPython calls a file by the newest cell that ran its text; what a cell ran in turn, with %%capture or %run, it calls
    by the number of another one.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._nested: dict[str, str] = {}  # files of what cells ran in turn
        self._is_code_of = lru_cache(_ANSWERS)(self._would_be_called)

    def own(self, source: str, name: str, files: Iterable[str]) -> list[str]:
        """Those of the files that hold the code of a cell of this source and name, which runs."""
        called = self._shell.compile.format_code_name
        if not name.endswith(NESTED):
            return sorted(file for file in files if called(file) == ("Cell", name) and self._is_code_of(source, file))
        self.remember(source, name)
        return sorted(file for file in files if called(file) is not None and self._is_code_of(source, file))

    def remember(self, source: str, name: str) -> None:
        """Keep what a cell is called that another one runs in turn, as long as that one runs."""
        file = self._file_of(source, self._shell.execution_count)
        if file is not None:
            self._nested[file] = name

    def names(self, files: Iterable[str]) -> dict[str, str]:
        """What people know those of the files as that are known to be cells, such as ``In[3]``."""
        raw = self._typed()
        return {file: name for file in files if (name := self._name(file, raw))}

    def sources(self, recording: Recording) -> Sources:
        """What was typed in the cells of a recording, as far as it is known."""
        raw = self._typed()
        names = {name for pairs in (recording.cell_files, *(one.cells for one in recording.lines)) for _, name in pairs}
        numbers = {name: number for name in names if 0 < (number := _number(name)) < len(raw)}
        return {name: _counted_lines(raw[number]) for name, number in numbers.items()}

    def _typed(self) -> list[str]:
        """What was typed in each cell, by its number."""
        history = self._shell.history_manager
        return [] if history is None else history.input_hist_raw

    def _name(self, file: str, raw: list[str]) -> str:
        called = self._shell.compile.format_code_name(file)
        number = 0 if called is None else _number(called[1])
        is_known = 0 < number < len(raw) and self._is_code_of(raw[number], file)
        return called[1] if called is not None and is_known else self._nested.get(file, "")

    def _would_be_called(self, source: str, file: str) -> bool:
        """Whether IPython would call the code of a cell so that has this source."""
        called = self._shell.compile.format_code_name(file)
        return called is not None and self._file_of(source, _number(called[1])) == file

    def _file_of(self, source: str, number: int) -> str | None:
        """What IPython calls the code of a cell of this source and number; None if it could not run."""
        try:
            code = self._shell.transform_cell(source)
        except SyntaxError:
            return None
        return self._shell.compile.get_code_name(source, code, number)


def _number(name: str) -> int:
    """That of a cell, such as 3 of ``In[3]``; 0 of what a cell ran in turn."""
    found = _NUMBERED.fullmatch(name)
    return int(found[1]) if found else 0


def _counted_lines(source: str) -> list[str]:
    """The lines of a cell from the first that is not blank, from which IPython counts, to the last that is not."""
    lines = source.rstrip().splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    return lines[first:]
