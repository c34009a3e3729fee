"""The IPython extension: what loading it does to a shell, and unloading takes back."""

from __future__ import annotations

import atexit
import re
import sys
from typing import TYPE_CHECKING, Any

from traitlets import TraitError

from thag_nb.notebook.magics import ThagNb
from thag_nb.recordings.model import work_names
from thag_nb.runtime import dispatcher, hooks, marks, native_memory
from thag_nb.runtime.tasks import untracked

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_CELL_MAGIC = re.compile(r"%(%(?:thag_task|thag_system)(?:\s|$))")
_OPTIONS = ("--lines", "--live", "--no-plot", "--quiet")


class CellMagicTransformer:
    """Turns ``%%thag_task NAME`` on line 1 into the line magic, and leaves the rest of the cell as it stands.

    So IPython runs the cell natively: line numbers, ``await``, the last value and a trailing ``;`` stay what they are.
    Only what IPython would do to the rest if it were a cell by itself, and not to a part of one, is done here: run a
    ``%%`` magic, and take a single line such as ``ls`` for a magic.
    """

    # Without this, a terminal would take the first line for a complete input.
    has_side_effects = True

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    def __call__(self, lines: list[str]) -> list[str]:
        """The lines of a cell, transformed."""
        if not lines or not _CELL_MAGIC.match(lines[0]):
            return lines
        first = next((number for number, line in enumerate(lines[1:], 1) if line.strip()), len(lines))
        if len(lines) - first == 1 or (first < len(lines) and lines[first].startswith("%%")):
            rest = self._shell.transform_cell("".join(lines[first:])).splitlines(keepends=True)
            lines = [*lines[:first], *rest]
        return [lines[0][1:], *lines[1:]]


def _complete_task(_shell: InteractiveShell, _event: Any) -> list[str]:
    """Options, and the names of tasks there have been."""
    names = {record.name for record in dispatcher.read_without_lines().contexts if record.kind == "task"}
    return [*sorted(names), *_OPTIONS]


def _complete_retained(_shell: InteractiveShell, _event: Any) -> list[str]:
    """The option, and the names of what has ended and holds something."""
    records = dispatcher.read_without_lines().contexts
    names = {record.name for record in records if record.state == "ended" and record.self_live_bytes}
    return [*sorted(names), "--collect"]


def _complete_lines(_shell: InteractiveShell, _event: Any) -> list[str]:
    """The names of what has recorded its lines."""
    recording = dispatcher.read()
    return sorted({recording.find(lines.context_id).name for lines in recording.lines})


def _complete_compare(_shell: InteractiveShell, _event: Any) -> list[str]:
    """The option, and the names of cells and tasks, those with blanks in quotes."""
    names = set(work_names(dispatcher.read_without_lines()))
    return [*sorted(f'"{name}"' if " " in name else name for name in names), "--with"]


_COMPLETED = {
    "%%thag_task": _complete_task,
    "%thag_task": _complete_task,
    "%thag_compare": _complete_compare,
    "%thag_lines": _complete_lines,
    "%thag_retained": _complete_retained,
}


class _Extension:
    """What loading did to a shell, so that unloading can undo it."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.magics = _magics(shell)
        self.transformer = CellMagicTransformer(shell)

    def load(self) -> None:
        self.companion = hooks.companion()
        dispatcher.start(native=self.magics.native)
        if self.shell.display_formatter is not None:
            # What IPython makes for the first value that it shows, and keeps, is not the cell's that has this value.
            self.shell.display_formatter.format(0)
        self.shell.register_magics(self.magics)
        self.shell.input_transformers_cleanup.append(self.transformer)
        self.shell.events.register("pre_run_cell", self.magics.load_live)
        self.magics.cells.attach()
        self.shell.events.register("pre_run_cell", self.magics.begin_live)
        for command, complete in _COMPLETED.items():
            self.shell.set_hook("complete_command", complete, str_key=command)
        atexit.register(self._report_outside)

    def _report_outside(self) -> None:
        """At the end of ``ipython file.py``, whose tasks end with no cell. What a kernel shows then, nobody sees."""
        if not hasattr(self.shell, "kernel"):
            to_report = self.magics.cells.end_outside()
            with untracked():
                self.magics.report(to_report)

    def unload(self) -> None:
        atexit.unregister(self._report_outside)
        self.shell.events.unregister("pre_run_cell", self.magics.load_live)
        self.shell.events.unregister("pre_run_cell", self.magics.begin_live)
        to_report = self.magics.cells.detach()
        self.shell.input_transformers_cleanup.remove(self.transformer)
        manager = self.shell.magics_manager
        for kind, names in self.magics.magics.items():
            for name in names:
                manager.magics[kind].pop(name, None)
        manager.registry.pop(type(self.magics).__name__, None)
        configurables: list[Any] = self.shell.configurables
        configurables.remove(self.magics)
        for command in _COMPLETED:
            self.shell.strdispatchers["complete_command"].strs.pop(command, None)
        marks.show_collections(False)
        dispatcher.stop()
        native_memory.forget()
        hooks.accompany(self.companion)
        with untracked():
            self.magics.report(to_report)  # last: whatever goes wrong with it, nothing of ours is left


def _magics(shell: InteractiveShell) -> ThagNb:
    """The magics with what is configured, or, if that cannot be, without it."""
    try:
        return ThagNb(shell)
    except TraitError as error:
        print(f"thag_nb: {error} The configuration of ThagNb is left out.", file=sys.stderr)
        del shell.config["ThagNb"]
        return ThagNb(shell)


_loaded: dict[int, _Extension] = {}


def load(shell: InteractiveShell) -> None:
    """Start the dispatcher and register magics, events and completion with `shell`. Twice is once."""
    if id(shell) not in _loaded:
        with untracked():
            extension = _loaded[id(shell)] = _Extension(shell)
            extension.load()


def unload(shell: InteractiveShell) -> None:
    """Undo `load`."""
    extension = _loaded.pop(id(shell), None)
    if extension is not None:
        extension.unload()
