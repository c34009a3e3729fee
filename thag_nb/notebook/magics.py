"""The magics: what a person writes in a cell, and what is shown for it."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display
from IPython.utils.process import arg_split  # type: ignore[attr-defined] # public, but not marked as such
from IPython.utils.text import DollarFormatter
from traitlets import Bool, Float, Int, TraitError, Unicode, Union, observe, validate

from thag_nb.comparison import differences
from thag_nb.comparison.report import comparison_bundle
from thag_nb.costs import beside
from thag_nb.costs.report import LINE_LETTERS, costs_bundle, is_worth_a_picture, summary_line, task_bundle
from thag_nb.errors import (
    LinesError,
    NoCellError,
    NoLinesError,
    NothingToCompareError,
    RecordingFileError,
    UnknownContextError,
)
from thag_nb.holders import walk
from thag_nb.holders.report import retained_bundle
from thag_nb.mimebundle import Bundle, stacked
from thag_nb.notebook.cells import Cells
from thag_nb.notebook.progress import Progress
from thag_nb.recordings.model import Recording
from thag_nb.runtime import call_sites, dispatcher, marks, native_memory
from thag_nb.runtime.contexts import AllocatorContext
from thag_nb.runtime.tasks import task, untracked
from thag_nb.sites import changes
from thag_nb.sites.held import AllocatedAt
from thag_nb.sites.peak import lines_of, peak_lines, peak_words
from thag_nb.sites.report import lines_bundle
from thag_nb.units import cut, visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import ExecutionInfo, InteractiveShell

    from thag_nb.notebook import live

_REPORTS = 10  # tasks of one cell that are shown, the last ones
_REPORTS_WITH_PICTURES = 4
_LONG_NS = 500_000_000
_SHOWS_LIVE = re.compile(r"%thag_live\b|%thag_task\b.*\s--live\b")
_SAYS_NOTHING = re.compile(r"\s*(#|$)")  # a line of a cell
Names = dict[str, Any] | None  # the names around a magic

_CHANGED_LINES = 5  # that a comparison tells of
_NAME_TWO = "name two, as in %thag_compare In[3] In[7]"


@magics_class
class ThagNb(Magics):
    """``%%thag_task`` and its companions. Their defaults are set by ``%config ThagNb.quiet = True`` and the like."""

    plots = Bool(True, help="Show a timeline of each task that is large enough for one.").tag(config=True)
    quiet = Bool(False, help="Show nothing below the cells of tasks.").tag(config=True)
    live = Bool(False, help="Show a live view of every cell while it runs.").tag(config=True)
    collections = Bool(False, help="Mark runs of the garbage collector on the timeline.").tag(config=True)
    native = Bool(True, help="Record as well what libraries ask of the C library.").tag(config=True)
    lines = Union(
        [Bool(), Int(), Unicode()],
        default_value=False,
        help="Record the lines that allocate, of each cell and task of %%thag_task: True, or a least size in bytes.",
    ).tag(config=True)
    live_interval = Float(0.125, min=0.02, help="Seconds between two pictures of a live view.").tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell=shell, parent=shell)
        self._shell = shell
        self.cells = Cells(shell, self.report, lambda: call_sites.least_bytes(self.lines))
        self._plots: dict[int, bool] = {}
        self._unasked: set[int] = set()  # cells with a live view because all have one
        self._lives: dict[int, live.LiveDisplay] = {}

    @magic_arguments()
    @argument("name", nargs="*", help="what to call the task; quotes are optional")
    @argument("-q", "--quiet", action="store_true", help="show nothing below the cell")
    @argument("--no-plot", action="store_true", help="show the summary line without the timeline")
    @argument("--live", action="store_true", help="show the timeline while the cell runs as well")
    @argument("--lines", action="store_true", help="show what each line allocated, beside the source of the cell")
    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def thag_task(self, line: str, cell: str | None = None, local_ns: Names = None) -> Any:
        """Charge the rest of this cell to a task, and show below the cell what it cost.

        As ``%%thag_task NAME`` on top of a cell, or ``%thag_task NAME`` anywhere in it; a second one ends the first.
        Below the cell: peak, what was still live at its end (kept), allocations and time; and live bytes over time, if
        the peak was 1 MiB or tasks were opened below it. With ``--lines``, the source of the cell as well, with what
        each line had live at the peak, kept and allocated.
        ``{expression}`` and ``$variable`` in the name stand for their values, as in IPython's own magics.
        """
        options = self._options(self.thag_task, line)
        if not options.name:
            raise UsageError("%thag_task needs a name for the task: %thag_task load")
        lines = self.lines or options.lines
        scope = task(self._expanded(" ".join(options.name), local_ns), lines=lines)
        is_last = self._is_last("thag_task", f"with thag_nb.task({scope.name!r}):")
        if options.live and self._shows_pictures():
            with untracked():
                from thag_nb.notebook import live  # noqa: F401 - where it was not foreseen, it is not the task's time
        quiet = options.quiet or self.quiet
        report = not is_last and (options.live or not quiet)
        guard = self.cells.open_until_end(scope.guard, report=report)
        if report:
            self._plots[guard.context.id] = self.plots and not options.no_plot
        if options.live and not is_last:
            self._show_live(guard.context, asked=True)
        return None if cell is None else self._run_body(cell)

    @no_var_expand
    @line_cell_magic
    def thag_system(self, line: str, cell: str | None = None) -> Any:
        """Record nothing of the rest of this cell: ``%%thag_system`` on top, or ``%thag_system`` anywhere in it."""
        self._refuse_arguments("thag_system", line)
        self._is_last("thag_system", "with thag_nb.untracked():")
        self.cells.open_until_end(untracked().guard, report=False)
        return None if cell is None else self._run_body(cell)

    @line_magic
    def thag(self, line: str) -> None:
        """Show what each cell and task cost, as a table and over time."""
        self._refuse_arguments("thag", line)
        with untracked():
            recording = dispatcher.read()
            peaks = peak_lines(recording)
            now = beside.as_of_now()
            display(costs_bundle(recording, figure=self._shows_pictures(), beside=now, peaks=peaks), raw=True)

    @magic_arguments()
    @argument("name", nargs="*", help="whose lines; quotes are optional. Without it, of what recorded lines last")
    @no_var_expand
    @needs_local_scope
    @line_magic
    def thag_lines(self, line: str, local_ns: Names = None) -> None:
        """Show what each line of a task or cell allocated that recorded its lines, beside its source."""
        name = self._expanded(" ".join(self._options(self.thag_lines, line).name), local_ns)
        with untracked():
            recording = dispatcher.read()
            record = recording.find(name or _newest_with_lines(recording))
            if lines_of(recording, record.context_id) is None:
                raise NoLinesError(record.name, is_task=record.kind == "task")
            display(self._with_lines(recording, record.context_id, figure=False), raw=True)

    @magic_arguments()
    @argument("name", nargs="*", help="whose memory; quotes are optional. Without it, of everything that has ended")
    @argument("--collect", action="store_true", help="run the garbage collector first")
    @argument("--self", dest="self_only", action="store_true", help="without what was started under it")
    @no_var_expand
    @needs_local_scope
    @line_magic
    def thag_retained(self, line: str, local_ns: Names = None) -> None:
        """Show who still holds what a task or cell allocated, and the line that would let go.

        Where lines were recorded, it also says in which of them most of it was allocated.
        """
        options = self._options(self.thag_retained, line)
        name = self._expanded(" ".join(options.name), local_ns)
        user_ns = self._shell.user_ns
        with untracked(), Progress(notebook=self._shows_pictures()) as progress:
            held = walk.find(
                name or None,
                collect=options.collect,
                namespace=user_ns,
                self_only=options.self_only,
                progress=progress,
                where=AllocatedAt,
            )
            progress.replace(retained_bundle(held))

    @magic_arguments()
    @argument("name", nargs="*", help="what to call the moment; quotes are optional")
    @no_var_expand
    @needs_local_scope
    @line_magic
    def thag_mark(self, line: str, local_ns: Names = None) -> None:
        """Name this moment on the timeline: ``%thag_mark NAME``, as `thag_nb.mark` does."""
        words = self._options(self.thag_mark, line).name
        if not words:
            raise UsageError("%thag_mark takes the name of the moment, as in: %thag_mark after the join")
        marks.mark(self._expanded(" ".join(words), local_ns))

    @magic_arguments()
    @argument("name", nargs="*", help="one name or two; those with blanks in quotes")
    @argument("--with", dest="saved", metavar="FILE", help="compare a recording in a file with now")
    @no_var_expand
    @needs_local_scope
    @line_magic
    def thag_compare(self, line: str, local_ns: Names = None) -> None:
        """Show what became better or worse: two tasks or cells, two runs of one, or a saved recording and now.

        ``%thag_compare``: the last two runs of the cell that was run again last. ``%thag_compare In[7]``: that run of a
        cell, and the one before it. ``%thag_compare load``: the two newest of that name. ``%thag_compare slow fast``:
        the newest of each. With a FILE, the same names in it and now; without names, all of them.
        """
        options = self._options(self.thag_compare, line)
        names = [self._expanded(name, local_ns) for name in options.name]
        if len(names) > 2:
            raise UsageError(f"%thag_compare takes at most two names, not {len(names)}; put one with blanks in quotes")
        with untracked():
            sides = self._sides(
                names, None if options.saved is None else _load(self._expanded(options.saved, local_ns))
            )
            rows = differences.compare(*sides)
            # Of all names, the one whose peak differs most is drawn: the first. If its peak does not, there is none.
            has_picture = sides[2] is not None or (bool(rows) and differences.verdict(rows[0]) in ("better", "worse"))
            aligned = differences.aligned(*sides) if has_picture and self._shows_pictures() else None
            display(comparison_bundle(rows, aligned, _changed_lines(*sides) if has_picture else ()), raw=True)

    def _sides(
        self, names: list[str], saved: Recording | None
    ) -> tuple[Recording, Recording, str | int | None, str | int | None]:
        """Where each side of a comparison is looked for, and what for; nothing for all there is."""
        now = dispatcher.read()
        if saved is not None or len(names) == 2:
            which_before, which_after = [*names, None, None][:2]
            return now if saved is None else saved, now, which_before, which_after
        if names and now.find(names[0]).kind != "cell":
            return now, now, names[0], None
        return now, now, *self._two_runs(now, *names)

    def _two_runs(self, now: Recording, name: str | None = None) -> tuple[int, int]:
        """The run of a cell of this name and the one before it, or the last two of the cell that was run again last."""
        if name is None:
            pair = self.cells.last_rerun(now)
            if pair is None:
                raise NothingToCompareError(f"no cell is known to have run twice; {_NAME_TWO}")
            return pair
        after = now.find(name).context_id
        before = self.cells.run_before(now, after)
        if before is None:
            raise NothingToCompareError(f"no earlier run of the cell of {name!r} is known; {_NAME_TWO}")
        return before, after

    @magic_arguments()
    @argument("file", help="the name of the page, such as session.html")
    @argument("--overwrite", action="store_true", help="replace a file that is something else")
    @no_var_expand
    @needs_local_scope
    @line_magic
    def thag_report(self, line: str, local_ns: Names = None) -> None:
        """Write this session as a page: costs, who still holds what, and the status, to be opened anywhere."""
        options = self._options(self.thag_report, line)
        file = self._expanded(options.file, local_ns)
        with untracked():
            from thag_nb.costs import page  # loads matplotlib, which %load_ext does without

            with Progress(notebook=self._shows_pictures()) as progress:
                path = Path(file).expanduser()
                try:
                    page.write(path, recording=None, overwrite=options.overwrite, progress=progress)
                except RecordingFileError as error:
                    raise UsageError(f"%thag_report: {error}".replace("overwrite=True", "--overwrite")) from None
                progress.replace({"text/plain": f"wrote {visible(file)}"})

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

    @magic_arguments()
    @argument("switch", nargs="?", help="on: below every cell from now on; off: no longer")
    @no_var_expand
    @line_magic
    def thag_live(self, line: str) -> None:
        """Show what this cell allocates while it runs; when it ends, what it cost takes the place of the view."""
        switch = self._options(self.thag_live, line).switch
        if switch not in (None, "on", "off"):
            raise UsageError(f"%thag_live takes `on`, `off` or nothing, not {switch!r}")
        if switch is not None:
            self.live = switch == "on"
        if switch != "off":
            self._show_cell_live(asked=True)

    @observe("collections")
    def _show_collections(self, _change: object) -> None:
        with untracked():
            marks.show_collections(self.collections)

    @validate("lines")
    def _refuse_other_lines(self, proposal: Any) -> Any:
        try:
            call_sites.least_bytes(proposal["value"])
        except LinesError as error:
            raise TraitError(f"ThagNb.{error}.") from None
        return proposal["value"]

    @observe("native")
    def _record_native(self, _change: object) -> None:
        with untracked():
            native_memory.want(self.native)
            native_memory.follow()

    def load_live(self, execution: ExecutionInfo) -> None:
        """pre_run_cell, before the cell has its context: loading what a live view needs is not the cell's time."""
        if self._shows_pictures() and (self.live or _SHOWS_LIVE.search(execution.raw_cell or "")):
            with untracked():
                from thag_nb.notebook import live  # noqa: F401 - ipywidgets and more, which %load_ext does without

    def begin_live(self, _execution: object) -> None:
        """pre_run_cell, once the cell has its context."""
        if self.live:
            self._unasked.add(self._show_cell_live())

    def _show_cell_live(self, *, asked: bool = False) -> int:
        context = self.cells.report_running()
        if context is None:
            raise NoCellError
        self._show_live(context, asked=asked)
        return context.id

    def _show_live(self, context: AllocatorContext, *, asked: bool) -> None:
        """A live view in a notebook; a terminal has none, shows the line at the end, and says so if it was asked."""
        if not self._shows_pictures():
            if asked:
                print("A live view needs a notebook; here, the line of figures comes at the end.")
            return
        if context.id in self._lives:
            return
        with untracked():
            from thag_nb.notebook import live

            view = self._lives[context.id] = live.LiveDisplay(context.id, self.live_interval)
            try:
                view.start()
            except RuntimeError as error:  # there are too many threads
                self._lives.pop(context.id).replace({"text/plain": f"no live view: {error}"})

    def report(self, ended: list[AllocatorContext]) -> None:
        """Show the line of each task that ended with a cell, and its timeline if there are few."""
        if not ended:
            return
        lives = {context.id: self._lives.pop(context.id) for context in ended if context.id in self._lives}
        for view in lives.values():
            view.stop()  # all of them, before anything else can go wrong
        pictures = {context.id: self._plots.pop(context.id, self.plots) for context in ended}
        few = len(ended) <= _REPORTS_WITH_PICTURES and self._shows_pictures()
        unasked, self._unasked = self._unasked, set()
        recording = dispatcher.read()
        shown = [context for context in ended if context in ended[-_REPORTS:] or context.id in lives]
        # All lines before the first picture, which takes a hundred times as long.
        places = [_show(self._task_bundle(recording, context), lives.get(context.id)) for context in shown]
        for context, show_more in zip(shown, places, strict=True):
            wanted = pictures[context.id] and few
            if wanted and _has_picture(recording, context, asked=context.id not in unasked):
                show_more(self._task_bundle(recording, context, figure=True))
        if len(ended) > _REPORTS:
            print(f"... and {len(ended) - _REPORTS:,} tasks before these; %thag and thag_nb.contexts() have them all")

    def _task_bundle(self, recording: Recording, context: AllocatorContext, *, figure: bool = False) -> Bundle:
        """What is shown of a task. A report must come, whatever somebody has done to matplotlib's settings or to us."""
        try:
            return self._with_lines(recording, context.id, figure=figure)
        except UnknownContextError:
            return {"text/plain": f"{cut(context.name, LINE_LETTERS)} · its figures were forgotten by a reset"}
        except (Exception, KeyboardInterrupt) as error:  # whoever presses Stop now means the cell, which has ended
            if not figure:
                raise
            line = summary_line(recording.find(context.id), peak_words(recording, context.id))
            return {"text/plain": f"{line}\nThe picture could not be drawn: {type(error).__name__} {error}".rstrip()}

    def _with_lines(self, recording: Recording, context_id: int, *, figure: bool) -> Bundle:
        """What one task cost, and below it the source of its cell with its lines if they are known."""
        if lines_of(recording, context_id) is None:
            return task_bundle(recording, context_id, figure=figure)
        above = task_bundle(recording, context_id, figure=figure, peak_at=peak_words(recording, context_id))
        return stacked(above, lines_bundle(recording, context_id, self.cells.sources(recording)))

    def _is_last(self, magic: str, instead: str) -> bool:
        """Whether nothing in the running cell follows the magic that is running; then it is told what to do."""
        lines = [line for line in self.cells.running_source().splitlines() if not _SAYS_NOTHING.match(line)]
        is_last = bool(lines) and re.match(rf"%{{0,2}}{magic}\b", lines[-1]) is not None
        if is_last:
            print(f"Nothing follows %{magic} in this cell: put the code below it, or write `{instead}` above the code.")
        return is_last

    def _expanded(self, text: str, local_ns: Names) -> str:
        """What was written with the values of ``{expressions}`` and ``$variables``, once it is known to be a name.

        So a value is never taken for an option, nor its quotes for those around an argument.
        """
        if "{" not in text and "$" not in text:
            return text
        try:
            return DollarFormatter().vformat(text, (), {**self._shell.user_ns, **(local_ns or {})})
        except Exception:  # as IPython does: what cannot be evaluated is meant as it stands
            return text

    @staticmethod
    def _options(magic: Any, line: str) -> Any:
        try:
            # IPython hands a comment behind a magic over as if it were arguments.
            words = itertools.takewhile(lambda word: not word.startswith("#"), arg_split(line))
            return magic.parser.parse_args([_unquoted(word) for word in words])
        except (UsageError, ValueError) as error:  # an unknown option, a quotation that does not end
            raise UsageError(f"%{magic.__name__}: {error}; see %{magic.__name__}?") from None

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


def _has_picture(recording: Recording, context: AllocatorContext, *, asked: bool) -> bool:
    """Whether there is anything to see; if nobody has asked for it, the cell must have taken long as well."""
    try:
        is_long = recording.find(context.id).duration_ns >= _LONG_NS
        return is_worth_a_picture(recording, context.id) and (asked or is_long)
    except UnknownContextError:  # forgotten by a reset
        return False


def _newest_with_lines(recording: Recording) -> int:
    """The newest task or cell that recorded its lines, but for the cell that asks."""
    records = map(recording.find, (lines.context_id for lines in recording.lines))
    asked = (record for record in records if record.kind == "task" or record.state == "ended")
    newest = max(asked, key=lambda record: record.context_id, default=None)
    if newest is None:
        raise UsageError("%thag_lines: no lines have been recorded yet; ask for them with %%thag_task load --lines")
    return newest.context_id


def _changed_lines(
    before: Recording, after: Recording, which_before: str | int | None, which_after: str | int | None
) -> list[str]:
    """What changed most in the lines of two contexts, if both have recorded theirs."""
    first, second = differences.chosen(before, after, which_before, which_after)
    if lines_of(before, first.context_id) is None or lines_of(after, second.context_id) is None:
        return []
    sentences = changes.in_words(changes.changes(before, first.context_id, after, second.context_id))
    more = len(sentences) - _CHANGED_LINES
    if more <= 0:
        return list(sentences)
    return [*sentences[:_CHANGED_LINES], f"... and {more:,} line{'' if more == 1 else 's'} more"]


def _show(bundle: Bundle, view: live.LiveDisplay | None) -> Callable[[Bundle], None]:
    """Show what is there at once, in the place of a live view if there was one. What shows more of it there later."""
    if view is not None:
        view.replace(bundle)
        return view.replace
    handle = display(bundle, raw=True, display_id=True)
    return lambda more: handle.update(more, raw=True)


def _unquoted(word: str) -> str:
    """IPython leaves the quotes on that held an argument together; others are part of the name."""
    quoted = len(word) > 1 and word[0] == word[-1] and word[0] in "\"'"
    return word[1:-1] if quoted else word


def _load(path: str) -> Recording:
    try:
        return Recording.load(Path(path).expanduser())
    except OSError as error:
        raise UsageError(f"%thag_compare cannot read {path!r}: {error.strerror}") from None
