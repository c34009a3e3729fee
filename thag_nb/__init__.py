"""Which of my cells, tasks, coroutines and threads allocated this memory, when, and who still holds it?

Importing this is quiet: no hook is installed, and neither IPython nor pandas nor matplotlib is loaded. The first task
starts the recording::

    with thag_nb.task("load"):
        table = read_everything()

    thag_nb.contexts()  # a frame: what each task cost
    thag_nb.retained("load")  # a frame: who still holds what it allocated

In a notebook, ``%load_ext thag_nb`` makes each cell a context; ``%%thag_task load`` shows below a cell what it cost.
"""

from __future__ import annotations

from thag_nb import native_build
from thag_nb.light_typing import TYPE_CHECKING, Any

native_build.check()

from thag_nb.errors import ChoiceError, ComparisonError, NotARecordingError, ThagError  # noqa: E402
from thag_nb.recordings.model import ContextRecord, Mark, Recording, ResidentSize, Status, TimelineBucket  # noqa: E402
from thag_nb.runtime.contexts import (  # noqa: E402 - only once the native core is known to be there
    Allocator,
    AllocatorContext,
    ContextGuard,
    ContextRegistry,
    current_context,
    push_allocator_context,
)
from thag_nb.runtime.dispatcher import read, reset, start, status, stop  # noqa: E402
from thag_nb.runtime.marks import mark  # noqa: E402
from thag_nb.runtime.tasks import (  # noqa: E402
    TaskGuard,
    TaskMemoryContext,
    task,
    untracked,
    with_system_allocator,
    with_task_allocator,
)

if TYPE_CHECKING:
    from os import PathLike
    from typing import Literal

    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from thag_nb.notebook.widgets import Dashboard
    from thag_nb.recordings.model import SeveralWanted, Wanted
    from thag_nb.sites.figures import Shown
    from thag_nb.sites.flame import Flame
    from thag_nb.sites.rows import By

__all__ = [
    "Allocator",
    "AllocatorContext",
    "ContextGuard",
    "ContextRecord",
    "ContextRegistry",
    "Mark",
    "Recording",
    "ResidentSize",
    "Status",
    "TaskGuard",
    "TaskMemoryContext",
    "ThagError",
    "TimelineBucket",
    "collapsed_stacks",
    "compare",
    "contexts",
    "current_context",
    "dashboard",
    "flame",
    "lines",
    "mark",
    "plot_comparison",
    "plot_stack",
    "plot_timeline",
    "push_allocator_context",
    "read",
    "report",
    "reset",
    "retained",
    "speedscope",
    "start",
    "status",
    "stop",
    "task",
    "timeline",
    "untracked",
    "with_system_allocator",
    "with_task_allocator",
]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    """What is public, for whoever completes a name; the modules and what they import are not."""
    return __all__


def contexts(*, recording: Recording | None = None) -> DataFrame:
    """What each context cost, as of now or in `recording`: one row per context, indexed by ``context_id``.

    Columns: ``name, kind, parent_id, allocator, state``; the bytes ``live_bytes, peak_bytes, total_bytes`` with
    everything started under the context, ``self_live_bytes, self_peak_bytes, self_total_bytes`` without; the counts
    ``allocations, frees, foreign_frees``; ``retained_bytes``, what was live when the context ended; and the nanoseconds
    ``started_ns, duration_ns``; the bytes ``at_session_peak_bytes``, what the context itself had live at the session's
    peak, and ``at_parent_peak_bytes``, what it had at its parent's peak, with everything below it; and by where they
    were asked for, how many of ``self_live_bytes`` and ``at_session_peak_bytes`` are NumPy's and native code's:
    ``self_live_numpy_bytes, self_live_native_bytes, at_session_peak_numpy_bytes, at_session_peak_native_bytes``; the
    rest is Python's. See `ContextRecord`. Live bytes are not RSS; retained is not leaked. Raises `NotARecordingError`
    if `recording` is something else.
    """
    from thag_nb.recordings import frames

    with untracked():
        return frames.contexts_frame(_or_now(recording))


def timeline(wanted: SeveralWanted = None, *, all: bool = False, recording: Recording | None = None) -> DataFrame:
    """Live bytes over time, up to now or in `recording`: one row per context and bucket of time.

    Columns: ``time`` (timedelta since the dispatcher started), ``context_id, name``, and in bytes ``low_bytes,
    high_bytes, live_bytes`` (lowest, highest and last of the bucket, with everything started under the context) and
    ``self_live_bytes`` (last, without). `wanted` is a name, an id or a context, or a list of them: of a name the newest
    context, or, with `all`, every one. Without it, every context. Raises `UnknownContextError`, and
    `NotARecordingError` as `contexts` does.
    """
    from thag_nb.recordings import frames

    with untracked():
        return frames.timeline_frame(_or_now(recording), wanted, all=all)


def plot_timeline(
    wanted: SeveralWanted = None,
    *,
    all: bool = False,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    recording: Recording | None = None,
) -> Axes:
    """Draw live bytes over time, a line for each context, on `ax` or on a new figure of pyplot's; return the axes.

    `wanted`, `all` and `recording` choose what is drawn as in `timeline`; below a single name or id, what was started
    directly under it. As pandas does, a notebook shows a new figure below the cell, and ``plt.show()`` in a script;
    `figsize` is its size in inches. matplotlib's settings stay as they are. Raises `UnknownContextError`, `AxesError`
    if `ax` is something else, and `NotARecordingError` as `contexts` does.
    """
    from thag_nb.plotting import timeline

    with untracked():
        now = _or_now(recording)
        return timeline.plot_timeline(now, wanted, all=all, ax=ax, figsize=figsize, pyplot=True)


def plot_stack(
    wanted: Wanted | None = None,
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    recording: Recording | None = None,
) -> Axes:
    """Draw whose live bytes they were over time, stacked, on `ax` or on a new figure of pyplot's; return the axes.

    `wanted` is a name, an id or a context: of a name the newest, with everything started under it; without it, the
    whole session. An area is what one context holds by itself, so they add up to what all of them hold; the thin line
    above is the highest, also of moments too short for an area, and the dashed one the process's RSS, where it was
    sampled. `ax`, `figsize` and `recording` are as in `plot_timeline`, and so are the errors.
    """
    from thag_nb.plotting import stack

    with untracked():
        return stack.plot_stack(_or_now(recording), wanted, ax=ax, figsize=figsize, pyplot=True)


def compare(
    before: str | int | Recording,
    after: str | int | Recording | None = None,
    *,
    by: Literal["line"] | None = None,
    recording: Recording | None = None,
    against: Recording | None = None,
) -> DataFrame:
    """What differs between two contexts, or two recordings: one row per name and figure.

    - ``compare("slow", "fast")``: the newest contexts of these names, or those of these ids;
    - ``compare("load")``: the newest of this name, and the one of this name before it;
    - ``compare("load", against=monday)``: the newest of this name in the recording `against`, and now;
    - ``compare(monday)``, ``compare(monday, tuesday)``: all tasks and ended cells, the newest of each name, now or
      in the second recording; names that are in both come first, each with the largest difference of peak first.

    `recording` is looked at instead of now; `before` is looked for in `against` if that is given.

    Columns: ``name``, or both as ``slow -> fast``; ``figure``, which is ``peak_bytes``, ``retained_bytes`` (while the
    context is open, what is live), ``total_bytes``, ``allocations``, ``foreign_frees`` or ``duration_ns``; ``before``,
    ``after`` and their ``difference`` in the unit that the figure ends in, missing where a name is on one side only;
    ``ratio``, after by before, missing where before is 0 as well. Bytes and counts are exact, a duration is of one run.

    With `by` ``"line"``, what differs between the lines of two contexts whose lines were recorded; of two recordings,
    those of the name with lines in both whose peak differs most. One row per line and figure, the largest difference at
    the peak first. Columns: ``name``; ``file, line, function, source`` as in `lines`, of the line as it is after;
    ``figure``, which is ``peak_bytes``, ``live_bytes``, ``total_bytes`` or ``allocations``; ``before, after,
    difference, ratio``. Lines are the same whose text is, or else whose number is; one that allocated nothing on a side
    has 0 there.

    Raises `UnknownContextError`; `NothingToCompareError` if there is only one context of the name; `ComparisonError` if
    a name and a recording are compared; `NotARecordingError`; by line `NoLinesError`, and `ChoiceError` if `by` is
    something else.
    """
    from thag_nb.comparison import differences
    from thag_nb.recordings import frames

    with untracked():
        sides = _sides(before, after, recording, against)
        if by is None:
            return frames.comparison_frame(differences.compare(*sides))
        if by != "line":
            raise ChoiceError("by", by, ("line", None))
        from thag_nb.sites import changes

        first, second = differences.chosen_with_lines(*sides)
        return frames.line_comparison_frame(changes.changes(sides[0], first.context_id, sides[1], second.context_id))


def plot_comparison(
    before: str | int | Recording,
    after: str | int | Recording | None = None,
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    recording: Recording | None = None,
    against: Recording | None = None,
) -> Axes:
    """Draw live bytes of two contexts over time, both from their start, on `ax` or a new figure; return the axes.

    What is compared is chosen as in `compare`, and the same errors are raised; of two recordings, the name whose peak
    differs most is drawn. `ax` and `figsize` are as in `plot_timeline`.
    """
    from thag_nb.comparison import differences
    from thag_nb.plotting import timeline

    with untracked():
        aligned = differences.aligned(*_sides(before, after, recording, against))
        return timeline.plot_comparison(aligned, ax=ax, figsize=figsize, pyplot=True)


_Sides = tuple[Recording, Recording, str | int | None, str | int | None]


def _sides(before: Any, after: Any, recording: Recording | None, against: Recording | None) -> _Sides:
    """Where each side of a comparison is looked for, and what for; nothing for all there is."""
    if isinstance(before, Recording) and isinstance(after, Recording | None) and recording is against is None:
        return before, _or_now(after), None, None
    if before is None or isinstance(before, Recording) or isinstance(after, Recording):
        raise ComparisonError(before, after)
    now = _or_now(recording)
    return now if against is None else _or_now(against, "against"), now, before, after


def _or_now(recording: Recording | None, argument: str = "recording") -> Recording:
    if recording is None:
        return read()
    if not isinstance(recording, Recording):
        raise NotARecordingError(recording, argument)
    return recording


def retained(
    wanted: Wanted | None = None,
    *,
    collect: bool = False,
    namespace: dict[str, Any] | None = None,
    self_only: bool = False,
) -> DataFrame:
    """Who still holds what a context allocated: one row per context and holder, the largest of a context first.

    Columns: ``context_id, name`` of the context; ``holder`` and its ``kind``, see below; ``held_bytes``, how many of
    the context's self live bytes hang on it; ``released_by``, a line that frees at least nine tenths of ``held_bytes``
    when it is executed, empty where none is known; ``shared_with``, other holders of more than a hundredth of the same
    bytes, which stay until those let go as well (not looked for where a holder has less than 1 KiB); ``alone_bytes``,
    those of ``held_bytes`` that nobody else reaches; ``under``, the names of the tasks down to this context;
    ``allocated_at``, in words the one to three lines that most of ``held_bytes`` were allocated in, as `lines` has
    them, and how much in each where it is not one alone; empty if the context's lines were not recorded. Each block
    counts once, for the first who holds it in the order of the kinds, and the rows of a context add up to its self live
    bytes:

    - ``variable``, ``closure``: a name of the user's, and one of a function that closes over something;
    - ``output``: ``Out[n]``, ``_`` and its like;
    - ``traceback``: the last exception, with the variables of the functions it went through;
    - ``registry``: what is kept until somebody says otherwise: pyplot's open figures, IPython's copies of outputs;
    - ``module``: a variable in one of the user's modules, or a library as a whole;
    - ``cache``: what a function under ``functools.cache`` or ``lru_cache`` has returned;
    - ``object``: an object that no name leads to, but something does that runs or is not Python, and OpenBLAS's memory;
    - ``cycle``: garbage, which waits for the collector;
    - ``unexplained``: what no object was found to hold: locals of running functions, memory of libraries. What
      objects of Arrow, Polars (where pyarrow is loaded as well), torch and Pillow tell to be theirs is theirs.

    What a line frees is found as the garbage collector finds garbage: from the counts of references that CPython keeps,
    so that those of C code count as well. A line that needs the names of several holders takes all of them away.

    `wanted` is a name, an id or a context: of a name the newest, and with it all that was started under it unless
    `self_only`. Without it, every context that has ended and holds something. With `collect`, the garbage collector
    runs first. `namespace` has the user's names; without it, those of the notebook or of ``__main__``. Raises
    `UnknownContextError`, `NamespaceError`.
    """
    from thag_nb.holders import walk
    from thag_nb.recordings import frames
    from thag_nb.sites.held import AllocatedAt

    with untracked():
        held = walk.find(wanted, collect=collect, namespace=namespace, self_only=self_only, where=AllocatedAt)
        return frames.retained_frame(held)


def lines(wanted: Wanted, by: By = "line", *, recording: Recording | None = None) -> DataFrame:
    """Which line a context's memory was allocated in, as of now or in `recording`: one row per line of your own code.

    Columns: ``context_id, name`` of the context; ``file``, a path or a cell such as ``In[3]``, ``line, function`` and
    ``source``, the text of the line, empty if it is not known; ``through``, the function of a library that was called
    from there, ``...`` if it was several, empty if none; ``peak_bytes``, what was live of it when the context's live
    bytes were highest, ``live_bytes, total_bytes, allocations, frees``. All of them include what was started under the
    context. Rows of most bytes at the peak come first, then in all. They add up to the context's own figures: what has
    no line has a row with an empty ``file`` and line 0, whose ``function`` says what it is. `by` is

    - ``"line"``: the innermost line of your own code: in no installed package, nor Python's own or thag_nb's;
    - ``"cell"``: the outermost line in the context's own cell, or of your own code where that is not on the stack;
    - ``"function"``, ``"file"``: all such innermost lines of one, and ``line`` is 0;
    - ``"stack"``: the whole stack, as one more column: a tuple of (file, line, function), outermost first. It begins
      at the cell, or at what asyncio's event loop calls.

    Where none of your own code is on a stack, that is the outermost line of an installed package, or the innermost one.
    A function of yours that has a local variable called ``__tracebackhide__``, whatever its value, counts as one of a
    library: what it allocates is told of the line that called it, and it stands in ``through``.
    `wanted` is a name, an id or a context: of a name the newest. Lines are recorded of tasks that ask for it, as
    ``task("load", lines=True)`` does. Raises `UnknownContextError`, `NoLinesError`, `ChoiceError` if `by` is something
    else, and `NotARecordingError`.
    """
    from thag_nb.recordings import frames
    from thag_nb.sites import rows

    with untracked():
        return frames.lines_frame(rows.lines(_or_now(recording), wanted, by), stacks=by == "stack")


def flame(wanted: Wanted, figure: Shown = "peak", *, recording: Recording | None = None) -> Flame:
    """Who called whom to allocate a context's memory, as a picture: below each function those that it called.

    The wider, the more bytes, with everything started under the context: ``"peak"`` are those live at its peak,
    ``"kept"`` those that are still live, ``"total"`` all that were allocated. A notebook shows the picture with a table
    of the largest lines; its ``svg`` can be written to a file. `wanted`, `recording` and the errors are as in `lines`;
    `ChoiceError` if `figure` is something else.
    """
    from thag_nb.sites import flame

    with untracked():
        return flame.flame(_or_now(recording), wanted, figure)


def speedscope(
    wanted: Wanted, path: str | PathLike[str], *, recording: Recording | None = None, overwrite: bool = False
) -> None:
    """Write the stacks of a context for https://www.speedscope.app: JSON with three profiles, in bytes.

    They are what was live at the context's peak, what is still live, and what was allocated in all. A file that thag_nb
    wrote for speedscope is replaced; anything else only with `overwrite`. `wanted`, `recording` and the errors are as
    in `lines`; `RecordingFileError` if `path` is something else, and OSError where the system refuses.
    """
    from thag_nb.sites import exports

    with untracked():
        exports.write_speedscope(_or_now(recording), wanted, path, overwrite=overwrite)


def collapsed_stacks(wanted: Wanted, figure: Shown = "peak", *, recording: Recording | None = None) -> str:
    """The stacks of a context as text that flamegraph.pl and its like read: a line for each, and its bytes at the end.

    Frames are divided by semicolons, the outermost first. Arguments and errors are as in `flame`.
    """
    from thag_nb.sites import exports

    with untracked():
        return exports.collapsed(_or_now(recording), wanted, figure)


def dashboard(recording: Recording | None = None) -> Dashboard:
    """What each cell and task cost, over time and as a table, as a widget: of `recording`, or as of now.

    Displayed by itself it can be zoomed and sorted without a kernel, and stays readable in the saved notebook. Its
    method ``refresh`` shows what is true by then. Raises `NotARecordingError` as `contexts` does.
    """
    from thag_nb.notebook import widgets

    with untracked():
        return widgets.Dashboard(None if recording is None else _or_now(recording))


def report(path: str | PathLike[str], *, recording: Recording | None = None, overwrite: bool = False) -> None:
    """Write a page of `recording`, or of this process as of now: one HTML file that needs neither kernel nor network.

    It has the dashboard, and, as of now, who still holds what and the status. A file that is such a page is replaced;
    anything else only with `overwrite`. Raises `RecordingFileError` if `path` is something else, `NotARecordingError`
    as `contexts` does, and OSError where the system refuses.
    """
    from thag_nb.costs import page

    with untracked():
        page.write(path, recording=None if recording is None else _or_now(recording), overwrite=overwrite)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext thag_nb``: record from now on, each executed cell in a context of its own."""
    from thag_nb.notebook import extension

    extension.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """``%unload_ext thag_nb``: leave hooks, magics, events and transformers as they were found."""
    from thag_nb.notebook import extension

    extension.unload(shell)
