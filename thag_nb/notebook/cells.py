"""Cells: one context for each executed cell, and the tasks that magics open in it until it ends.

IPython tells when a cell begins and ends, but not always in pairs: an empty cell only ends, a cell that awaits ends in
another contextvars Context than it began in, and cells may nest (``%run``, ``%%capture``), run at the same time in
subshells, or be run by an asyncio task while another one awaits. So cells are paired by their execution, on a stack for
each thread, and whatever was left open above a cell that ends is closed with it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.interactiveshell import InteractiveShell

from thag_nb.errors import NoCellError
from thag_nb.notebook.cell_files import NESTED, CellFiles
from thag_nb.notebook.sending import Sending
from thag_nb.runtime import call_sites, dispatcher, hooks
from thag_nb.runtime.contexts import (
    AllocatorContext,
    ContextGuard,
    base_id,
    prepare_guard,
    set_foreground,
)
from thag_nb.runtime.rss import Sampler
from thag_nb.runtime.tasks import untracked

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from types import FrameType

    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult

    from thag_nb.recordings.model import Recording
    from thag_nb.sites.annotated import Sources

_RUN_CELL = InteractiveShell.run_cell_async.__code__
_RUNS = 4096  # that are remembered, the last ones


@dataclass(slots=True)
class _Cell:
    """A cell that runs: its guard (None for a task opened outside of any cell) and what was opened in it.

    `runner` is the asyncio task that runs it, None outside of any.
    """

    execution: ExecutionInfo | None
    guard: ContextGuard | None
    runner: asyncio.Task[Any] | None
    asked: int = 0  # how often lines had been asked for when it began
    opened: list[ContextGuard] = field(default_factory=list)
    to_report: list[AllocatorContext] = field(default_factory=list)

    def awaits(self) -> bool:
        """Whether it waits while another asyncio task runs: then it is not on the stack, and still to end."""
        return self.runner is not None and self.runner is not _runner() and not self.runner.done()

    def close_opened(self) -> None:
        while self.opened:
            self.opened.pop().close(orphan=False)

    def close(self) -> None:
        # Its flow may have ended already, in a Context of its own: nobody will restore through these guards.
        self.close_opened()
        if self.guard is not None:
            self.guard.close(orphan=False)


class _Run(NamedTuple):
    """A context, and which cell of the notebook it was, edited or not."""

    context_id: int
    cell_id: str


class Cells:
    """Opens and closes cell contexts at IPython's events, and says which tasks of a cell have ended.

    While any cell runs, the process's RSS is sampled.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        report: Callable[[list[AllocatorContext]], None],
        least_bytes: Callable[[], int | None],
    ) -> None:
        """`report` is given the tasks of each cell that ends; `least_bytes` says which lines cells record, if any."""
        self._shell = shell
        self._report = report
        self._least_bytes = least_bytes
        self._running: dict[int, list[_Cell]] = {}
        self._sampler = Sampler()
        self._sending = Sending(shell)
        self._runs: deque[_Run] = deque(maxlen=_RUNS)
        self._files = CellFiles(shell)

    def attach(self) -> None:
        """Listen to IPython's events."""
        self._sampler.start()
        self._sending.attach()
        call_sites.ask_for_names(self._name_files)
        self._shell.events.register("pre_run_cell", self.begin)
        self._shell.events.register("post_run_cell", self.end)

    def detach(self) -> list[AllocatorContext]:
        """Stop listening, and close whatever is open. The tasks that are still to be reported."""
        self._shell.events.unregister("pre_run_cell", self.begin)
        self._shell.events.unregister("post_run_cell", self.end)
        to_report: list[AllocatorContext] = []
        for running in list(self._running.values()):  # another thread may begin a cell meanwhile
            while running:
                cell = running.pop()
                cell.close()
                to_report += cell.to_report
        self._sampler.stop()
        self._sending.detach()
        call_sites.ask_no_more(self._name_files)
        return to_report

    def begin(self, execution: ExecutionInfo) -> None:
        """pre_run_cell: from here on, work is charged to the cell."""
        running = self._of_this_thread()
        # What is not being run any more has missed its end, and so has a task opened outside of any cell.
        outer = _cells_on_this_stack() - 1
        to_report: list[AllocatorContext] = []
        while running and (len(running) > outer or running[-1].guard is None) and not running[-1].awaits():
            missed = running.pop()
            missed.close()
            to_report += missed.to_report
        with untracked():
            hooks.repair()
            parent_id = None if running else base_id()
            name = self._name(execution, running[-1].guard if running else None)
            guard = prepare_guard(ContextGuard, name, "cell", parent_id=parent_id)
            self._running[threading.get_ident()] = running
            running.append(_Cell(execution, guard, _runner(), call_sites.asked(), to_report=to_report))
            least_bytes = self._least_bytes()
            if least_bytes is not None:
                call_sites.record(guard.context.id, least_bytes)
            self._sampler.wake()
        guard.enter(detach=len(running) == 1)
        set_foreground(guard.context)

    def end(self, result: ExecutionResult | None) -> None:
        """post_run_cell: close the cell and report the tasks that ended with it."""
        with untracked():
            running = self._of_this_thread()
            execution = self._ended(running, result)
            if not self._is_running(running, execution):
                return
        try:
            with untracked():
                self._remember(running, result)
                self._name_nested(running, execution)
                if _have_asked(running):
                    dispatcher.read()  # the last moment to name the files of what has ended
                self._sending.flush()
        finally:  # a stream may fail, and somebody may interrupt the waiting for it
            self._finish(running, execution)
        call_sites.release_code()

    def _finish(self, running: list[_Cell], execution: ExecutionInfo | None) -> None:
        to_report = self._close_down_to(running, execution)
        with untracked():
            if not running:
                self._running.pop(threading.get_ident(), None)
            if not any(self._running.values()):
                self._sampler.rest()
            self._report(to_report)

    @staticmethod
    def _ended(running: list[_Cell], result: ExecutionResult | None) -> ExecutionInfo | None:
        """The execution that has ended, as it began. Where IPython itself fails in a cell, it tells of a new one."""
        told = None if result is None else result.info
        if told is None or any(cell.execution is told for cell in running):
            return told
        above = [cell.execution for cell in running[_cells_on_this_stack() :] if not cell.awaits()]
        return next((began for began in above if began is not None and began.raw_cell == told.raw_cell), told)

    def _remember(self, running: list[_Cell], result: ExecutionResult | None) -> None:
        """Keep which cell of the notebook this was, if its front end tells and it did not fail half-way."""
        execution = None if result is None or not result.success else result.info
        if execution is None or execution.cell_id is None:
            return
        guards = (cell.guard for cell in running if cell.execution is execution)
        self._runs.extend(_Run(guard.context.id, execution.cell_id) for guard in guards if guard is not None)

    def _name_nested(self, running: list[_Cell], execution: ExecutionInfo | None) -> None:
        """Keep what a cell is called that another one ran in turn, for functions that it has left."""
        for cell in running:
            if cell.execution is execution and execution is not None and cell.guard is not None:
                name = cell.guard.context.name
                if name.endswith(NESTED):
                    self._files.remember(execution.raw_cell or "", name)

    def _name_files(self, files: set[str]) -> dict[str, str]:
        """What people know those of the files as that are cells; those of the cells that run here are theirs as well.

        Which these are is looked for if lines were asked for in them.
        """
        running = self._of_this_thread()
        if _have_asked(running):
            for cell in running:
                if cell.guard is not None and cell.execution is not None:
                    context = cell.guard.context
                    own = self._files.own(cell.execution.raw_cell or "", context.name, files)
                    call_sites.name_cells(context.id, [(file, context.name) for file in own])
        return self._files.names(files)

    def sources(self, recording: Recording) -> Sources:
        """What was typed in the cells of a recording, as far as it is known."""
        return self._files.sources(recording)

    def run_before(self, recording: Recording, context_id: int) -> int | None:
        """The context of the last run of the same cell before this one, if both are recorded and known to be the same.

        A run that failed counts for nothing, and a front end without ids of cells, such as a terminal, has no runs.
        """
        return {after: before for before, after in self._reruns(recording)}.get(context_id)

    def last_rerun(self, recording: Recording) -> tuple[int, int] | None:
        """The last two runs of the cell that was run again last, but for the one that runs now."""
        ids = {cell.execution.cell_id for cell in self._of_this_thread() if cell.execution is not None}
        reruns = self._reruns(recording, without=ids)
        return reruns[-1] if reruns else None

    def _reruns(self, recording: Recording, *, without: Container[str | None] = ()) -> list[tuple[int, int]]:
        """Each recorded run that was not its cell's first, after the one before it, in order of time."""
        recorded = {record.context_id for record in recording.contexts}
        newest: dict[str, int] = {}
        reruns = []
        for run in self._runs.copy():  # another thread may run a cell meanwhile
            if run.context_id in recorded and run.cell_id not in without:
                if run.cell_id in newest:
                    reruns.append((newest[run.cell_id], run.context_id))
                newest[run.cell_id] = run.context_id
        return reruns

    @staticmethod
    def _close_down_to(running: list[_Cell], execution: ExecutionInfo | None) -> list[AllocatorContext]:
        """Close the cell of this execution and what runs above it, but not what awaits there; their tasks to report."""
        to_report: list[AllocatorContext] = []
        for cell in reversed(running[:]):
            matches = execution is None or cell.execution is execution
            if matches or not cell.awaits():
                running.remove(cell)
                cell.close()
                to_report = cell.to_report + to_report
            if matches:
                break
        return to_report

    def open_until_end(self, make_guard: Callable[[], ContextGuard], *, report: bool) -> ContextGuard:
        """Enter a guard for the rest of the running cell, in place of the one before; report it when it ends.

        Raises `NoCellError` in a thread that runs no cell: there, it would never end.
        """
        running = self._of_this_thread()
        if not running and threading.current_thread() is not threading.main_thread():
            raise NoCellError
        if running:
            # First, and while its guard is innermost: the new context must not be started under this one.
            running[-1].close_opened()
        with untracked():
            if not running:
                self._running[threading.get_ident()] = running
                running.append(_Cell(None, None, _runner()))
            guard = make_guard()
            running[-1].opened.append(guard)
            if report:
                running[-1].to_report.append(guard.context)
        guard.enter()
        set_foreground(guard.context)
        return guard

    def running_source(self) -> str:
        """What was typed into the cell that runs; nothing where none does."""
        running = (cell.execution for cell in reversed(self._of_this_thread()) if cell.execution is not None)
        execution = next(running, None)
        return "" if execution is None else execution.raw_cell or ""

    def end_outside(self) -> list[AllocatorContext]:
        """Close what was opened outside of any cell, as in a file that IPython runs; the tasks to be reported."""
        running = self._of_this_thread()
        if not running or running[-1].guard is not None:
            return []
        outside = running.pop()
        outside.close()
        return outside.to_report

    def report_running(self) -> AllocatorContext | None:
        """Have the running cell itself reported when it ends; None where no cell runs."""
        running = self._of_this_thread()
        cell = next((cell for cell in reversed(running) if cell.guard is not None), None)
        if cell is None or cell.guard is None:
            return None
        context = cell.guard.context
        if context not in cell.to_report:
            cell.to_report.append(context)
        return context

    def _name(self, execution: ExecutionInfo | None, outer: ContextGuard | None) -> str:
        """``In[n]`` as in the notebook; what a cell runs in turn has no number of its own there."""
        if outer is not None and execution is not None and not execution.store_history:
            return outer.context.name if outer.context.name.endswith(NESTED) else f"{outer.context.name}{NESTED}"
        number = _execution_count()
        return f"In[{self._shell.execution_count if number is None else number}]"

    def _of_this_thread(self) -> list[_Cell]:
        """A new list where none runs, which is kept once one begins."""
        return self._running.get(threading.get_ident(), [])

    @staticmethod
    def _is_running(running: list[_Cell], execution: ExecutionInfo | None) -> bool:
        """False for the end of an empty cell, which never began."""
        if execution is None:
            return bool(running)
        return any(cell.execution is execution or cell.guard is None for cell in running)


def _have_asked(running: list[_Cell]) -> bool:
    """Whether lines were asked for since the outermost of these cells began."""
    return bool(running) and running[0].asked != call_sites.asked()


def _runner() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _cells_on_this_stack() -> int:
    """How many cells this thread is inside of. IPython runs each in a coroutine, whether it awaits or not."""
    return sum(1 for _ in _cell_frames())


def _execution_count() -> int | None:
    """The number of the innermost cell. IPython 9 has raised its own count by now, IPython 8 has not."""
    frame = next(_cell_frames(), None)
    return None if frame is None else getattr(frame.f_locals.get("result"), "execution_count", None)


def _cell_frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is _RUN_CELL:
            yield frame
        frame = frame.f_back
