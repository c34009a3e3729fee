"""The IPython extension: magics, their completion, and what they show."""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from thag_nb import dispatcher, holders, hooks, marks, reports
from thag_nb.cells import Cells
from thag_nb.contexts import AllocatorContext
from thag_nb.tasks import task, untracked

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_CELL_MAGIC = re.compile(r"%(%(?:thag_task|thag_system)(?:\s|$))")
_REPORTS = 10  # tasks of one cell that are shown, the last ones
_REPORTS_WITH_PICTURES = 4
_OPTIONS = ("--no-plot", "--quiet")


@magics_class
class ThagNb(Magics):
    """``%%thag_task`` and its companions."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell=shell)
        self._shell = shell
        self.cells = Cells(shell, self.report)
        self._plots: dict[int, bool] = {}

    @magic_arguments()
    @argument("name", nargs="*", help="what to call the task; quotes are optional")
    @argument("-q", "--quiet", action="store_true", help="show nothing below the cell")
    @argument("--no-plot", action="store_true", help="show the summary line without the timeline")
    @no_var_expand
    @line_cell_magic
    def thag_task(self, line: str, cell: str | None = None) -> Any:
        """Charge the rest of this cell to a task, and show below the cell what it cost.

        As ``%%thag_task NAME`` on top of a cell, or ``%thag_task NAME`` anywhere in it; a second one ends the first.
        Below the cell: peak, what was still live at its end (kept), allocations, time, and live bytes over time.
        """
        options = self._options(self.thag_task, line)
        scope = task(" ".join(options.name).strip("\"'"))
        guard = self.cells.open_until_end(scope.guard, report=not options.quiet)
        self._plots[guard.context.id] = not options.no_plot
        return None if cell is None else self._run_body(cell)

    @no_var_expand
    @line_cell_magic
    def thag_system(self, line: str, cell: str | None = None) -> Any:
        """Record nothing of the rest of this cell: ``%%thag_system`` on top, or ``%thag_system`` anywhere in it."""
        self._refuse_arguments("thag_system", line)
        self.cells.open_until_end(untracked().guard, report=False)
        return None if cell is None else self._run_body(cell)

    @line_magic
    def thag(self, line: str) -> None:
        """Show what each cell and task cost, as a table and over time."""
        self._refuse_arguments("thag", line)
        with untracked():
            display(reports.costs_bundle(dispatcher.read(), figure=self._shows_pictures()), raw=True)

    @magic_arguments()
    @argument("name", nargs="*", help="whose memory; quotes are optional. Without it, of everything that has ended")
    @argument("--collect", action="store_true", help="run the garbage collector first")
    @no_var_expand
    @line_magic
    def thag_retained(self, line: str) -> None:
        """Show who still holds what a task or cell allocated, and the line that would let go."""
        options = self._options(self.thag_retained, line)
        name = " ".join(options.name).strip("\"'")
        with untracked():
            held = holders.find(name or None, collect=options.collect, namespace=self._shell.user_ns)
            display(reports.retained_bundle(held), raw=True)

    @magic_arguments()
    @argument("name", nargs="*", help="what to call the moment; quotes are optional")
    @no_var_expand
    @line_magic
    def thag_mark(self, line: str) -> None:
        """Name this moment on the timeline: ``%thag_mark NAME``, as `thag_nb.mark` does."""
        name = " ".join(self._options(self.thag_mark, line).name).strip("\"'")
        if not name:
            raise UsageError("%thag_mark takes the name of the moment, as in: %thag_mark after the join")
        marks.mark(name)

    @line_magic
    def thag_status(self, line: str) -> None:
        """Say whether allocations are recorded, and anything that makes the figures less than complete."""
        self._refuse_arguments("thag_status", line)
        with untracked():
            print(dispatcher.status())

    @line_magic
    def thag_reset(self, line: str) -> None:
        """Forget the cells and tasks that have ended, and count from now on."""
        self._refuse_arguments("thag_reset", line)
        dispatcher.reset()

    def report(self, ended: list[AllocatorContext]) -> None:
        """Show the line of each task that ended with a cell, and its timeline if there are few."""
        if not ended:
            return
        recording = dispatcher.read()
        plots = [self._plots.pop(context.id) for context in ended]
        few = len(ended) <= _REPORTS_WITH_PICTURES and self._shows_pictures()
        for context, plot in zip(ended[-_REPORTS:], plots[-_REPORTS:], strict=True):
            display(reports.task_bundle(recording, context.id, figure=plot and few), raw=True)
        if len(ended) > _REPORTS:
            print(f"... and {len(ended) - _REPORTS:,} tasks before these; %thag and thag_nb.contexts() have them all")

    @staticmethod
    def _options(magic: Any, line: str) -> Any:
        try:
            options = parse_argstring(magic, line)
        except (UsageError, ValueError) as error:  # an unknown option, a quotation that does not end
            raise UsageError(f"%{magic.__name__}: {error}; see %{magic.__name__}?") from None
        # IPython hands a comment behind a magic over as if it were arguments.
        options.name = list(itertools.takewhile(lambda word: not word.startswith("#"), options.name))
        return options

    @staticmethod
    def _refuse_arguments(name: str, line: str) -> None:
        if line.strip():
            raise UsageError(f"%{name} takes no arguments, not {line.strip()!r}")

    def _shows_pictures(self) -> bool:
        """True in a kernel; a terminal gets text, and never loads matplotlib for it."""
        return hasattr(self._shell, "kernel")

    def _run_body(self, cell: str) -> Any:
        """Run a body for callers of ``run_cell_magic``, who bypass the input transformer. Returns the last value."""
        shell = self._shell
        source = shell.transform_cell(cell)
        name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
        body = shell.transform_ast(ast.parse(source, name)).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), name, "exec"), shell.user_ns)
        if last is None:
            return None
        return eval(compile(ast.Expression(last.value), name, "eval"), shell.user_ns)


class CellMagicTransformer:
    """Turns ``%%thag_task NAME`` on line 1 into the line magic, and leaves the rest of the cell as it stands.

    So IPython runs the cell natively: line numbers, ``await``, the last value and a trailing ``;`` stay what they are.
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
        if first < len(lines) and lines[first].startswith("%%"):
            rest = self._shell.transform_cell("".join(lines[first:])).splitlines(keepends=True)
            lines = [*lines[:first], *rest]
        return [lines[0][1:], *lines[1:]]


def _complete_task(_shell: InteractiveShell, _event: Any) -> list[str]:
    """Options, and the names of tasks there have been."""
    names = {record.name for record in dispatcher.read().contexts if record.kind == "task"}
    return [*sorted(names), *_OPTIONS]


def _complete_retained(_shell: InteractiveShell, _event: Any) -> list[str]:
    """The option, and the names of what has ended and holds something."""
    records = dispatcher.read().contexts
    names = {record.name for record in records if record.state == "ended" and record.self_live_bytes}
    return [*sorted(names), "--collect"]


_COMPLETED = {
    "%%thag_task": _complete_task,
    "%thag_task": _complete_task,
    "%thag_retained": _complete_retained,
}


class _Extension:
    """What loading did to a shell, so that unloading can undo it."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.magics = ThagNb(shell)
        self.transformer = CellMagicTransformer(shell)

    def load(self) -> None:
        dispatcher.start(threads=True)
        self.shell.register_magics(self.magics)
        self.shell.input_transformers_cleanup.append(self.transformer)
        self.magics.cells.attach()
        for command, complete in _COMPLETED.items():
            self.shell.set_hook("complete_command", complete, str_key=command)

    def unload(self) -> None:
        self.magics.cells.detach()
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
        hooks.accompany(None)


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
