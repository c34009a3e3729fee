"""For which contexts lines are asked for, and what their cells are called."""

import asyncio
import pickle
import weakref
from typing import Any

import pytest
from handmade import context, recording, root

import thag_nb
from thag_nb import _native
from thag_nb.recordings.model import LinesOf, Recording, Site
from thag_nb.runtime import call_sites


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What lines are asked for; always before somebody is inside."""
    thag_nb.start()
    thag_nb.reset()
    seen: list[tuple[str, int]] = []

    def lines_begin(context_id: int, least_bytes: int, /) -> bool:
        assert thag_nb.current_context().id != context_id
        seen.append((thag_nb.ContextRegistry()[context_id].name, least_bytes))
        return True

    monkeypatch.setattr(_native, "lines_begin", lines_begin, raising=False)
    return seen


@pytest.mark.parametrize(
    ("lines", "least_bytes"),
    [
        (True, 0),
        (1, 1),
        (4096, 4096),
        ("4096", 4096),
        ("4 KiB", 4096),
        ("4kib", 4096),
        ("1.5 MiB", 3 << 19),
        ("7 B", 7),
    ],
)
def test_lines_are_asked_for_before_a_task_is_entered(asked, lines, least_bytes):
    with thag_nb.task("with", lines=lines):
        assert asked == [("with", least_bytes)]
    with thag_nb.TaskMemoryContext("entered", lines=lines).enter():
        assert asked[1:] == [("entered", least_bytes)]


def test_without_lines_nothing_is_asked_for(asked):
    with thag_nb.task("plain"), thag_nb.task("said", lines=False), thag_nb.TaskMemoryContext("entered").enter():
        assert asked == []


def test_each_use_of_a_scope_asks_for_its_own_lines(asked):
    scope = thag_nb.task("again", lines="4 KiB")
    function = scope(lambda: thag_nb.current_context().name)

    async def awaited() -> None:
        async with scope:
            pass

    assert asked == []
    assert function() == "again"
    asyncio.run(awaited())
    with scope, scope:
        pass
    assert asked == [("again", 4096)] * 4


def test_a_task_that_a_reset_dropped_asks_for_lines_anew(asked):
    kept = thag_nb.TaskMemoryContext("kept", lines=100)
    kept.enter().close()
    thag_nb.reset()
    kept.enter().close()
    assert asked == [("kept", 100)] * 2


@pytest.mark.usefixtures("dispatcher")
def test_asking_for_lines_is_charged_to_nobody(monkeypatch):
    kept = []
    monkeypatch.setattr(_native, "lines_begin", lambda *_: kept.append(bytearray(123_457)), raising=False)
    with thag_nb.task("outer"):
        scope = thag_nb.task("inner", lines=True)
        with scope:
            pass
        thag_nb.TaskMemoryContext("inner", lines=True).enter().close()
    assert len(kept) == 2
    assert thag_nb.read().find("outer").total_bytes < 123_457


@pytest.mark.usefixtures("dispatcher")
def test_a_failure_to_record_lines_leaves_no_task_open(monkeypatch):
    def lines_begin(*_: int) -> None:
        raise MemoryError

    monkeypatch.setattr(_native, "lines_begin", lines_begin, raising=False)
    with pytest.raises(MemoryError), thag_nb.task("failing", lines=True):
        pass
    with pytest.raises(MemoryError):
        thag_nb.task("failing", lines=True).guard()
    assert thag_nb.current_context().name == "root"
    assert thag_nb.read().find("failing").state == "ended"


@pytest.mark.parametrize(
    "lines", [0, -1, 1 << 63, 1.5, None, "", "many", "4 KB", "0 KiB", "-1 KiB", "nan", "inf MiB", [4096], "4 KiB KiB"]
)
@pytest.mark.parametrize("make", [thag_nb.task, thag_nb.TaskMemoryContext])
def test_other_lines_are_refused(make, lines):
    with pytest.raises(thag_nb.ThagError) as refusal:
        make("refused", lines=lines)
    assert str(refusal.value) == (
        "lines must be True, False, or the least size of an allocation to be told apart, such as 4096 or '4 KiB', "
        f"not {lines!r}"
    )


@pytest.mark.parametrize("lines", [False, True, 4096])
def test_a_scope_sent_elsewhere_records_the_same_lines(lines):
    scope = thag_nb.task("sent", lines=lines)
    assert pickle.loads(pickle.dumps(scope)).least_bytes == scope.least_bytes


@pytest.mark.usefixtures("dispatcher")
@pytest.mark.parametrize("let_go", [thag_nb.reset, thag_nb.stop])
def test_code_that_nobody_else_has_is_let_go_outside_of_bookkeeping(let_go):
    around: list[str] = []
    with thag_nb.task("open", lines=True):
        names: dict[str, Any] = {}
        exec("def build(): return bytearray(100_000)\nbuild()", names)
        code = weakref.ref(names["build"].__code__, lambda _: around.append(thag_nb.current_context().name))
        names.clear()
        let_go()
        assert code() is None
    assert around == ["open"]


def _with_lines(*sites: Site, cell: str = "In[3]") -> Recording:
    of_session = recording(
        (root(), b""),
        (context(5, cell, kind="cell"), b""),
        (context(6, "load", parent_id=5), b""),
        (context(7, "x"), b""),
    )
    lines = tuple(LinesOf(context_id, 0, 0, True, ()) for context_id in (5, 6, 7))
    return of_session._replace(sites=sites, lines=lines)


@pytest.fixture
def no_cells() -> None:
    call_sites.forget()


@pytest.mark.usefixtures("no_cells")
def test_contexts_of_a_cell_have_its_files():
    call_sites.name_cells(5, [("<ipython-input>", "In[3]")])
    completed = call_sites.completed(_with_lines())
    assert [one.cells for one in completed.lines] == [(("<ipython-input>", "In[3]"),)] * 2 + [()]


@pytest.mark.usefixtures("no_cells")
def test_the_nearest_cell_is_told():
    call_sites.name_cells(5, [("outer", "In[3]")])
    call_sites.name_cells(6, [("inner", "In[4]")])
    assert [one.cells for one in call_sites.completed(_with_lines()).lines][:2] == [
        (("outer", "In[3]"),),
        (("inner", "In[4]"),),
    ]


@pytest.mark.usefixtures("dispatcher", "no_cells")
def test_a_reset_forgets_what_cells_are_called():
    call_sites.name_cells(5, [("<ipython-input>", "In[3]")])
    thag_nb.reset()
    assert {one.cells for one in call_sites.completed(_with_lines()).lines} == {()}


@pytest.mark.usefixtures("no_cells")
def test_whoever_knows_cells_is_asked_for_the_files_that_have_lines_and_what_was_told_is_kept():
    def name_files(files: set[str]) -> dict[str, str]:
        seen.append(files)
        return {"two": f"In[{len(seen)}]"}

    seen: list[set[str]] = []
    with_lines = _with_lines(Site(-1, "one", 1, "<module>"), Site(0, "two", 2, "f"))
    assert call_sites.completed(with_lines).cell_files == ()
    call_sites.ask_for_names(name_files)
    try:
        told = [call_sites.completed(with_lines).cell_files for _ in range(2)]
    finally:
        call_sites.ask_no_more(name_files)
    assert told == [(("two", "In[1]"),), (("two", "In[2]"),)]
    assert seen == [{"one", "two"}] * 2
    assert call_sites.completed(with_lines).cell_files == (("two", "In[2]"),)
    assert call_sites.completed(_with_lines(Site(-1, "one", 1, "<module>"))).cell_files == ()
    call_sites.forget()
    assert call_sites.completed(with_lines).cell_files == ()


def test_a_recording_without_lines_stays_as_it_is():
    without = recording((root(), b""))
    assert call_sites.completed(without) is without


@pytest.mark.parametrize("file", ["<timed exec>", "<timed eval>", "<magic-timeit>"])
@pytest.mark.parametrize(("magic", "line"), [("run_cell_magic", 2 + 3), ("run_line_magic", 2 + 3 - 1)])
def test_timed_code_stands_in_the_cell_that_times_it(file, magic, line):
    cell = Site(-1, "cell.py", 2, "<module>")
    library = Site(1, "execution.py", 1400, "ExecutionMagics.time")
    sites = (
        cell,
        Site(0, "interactiveshell.py", 2500, f"InteractiveShell.{magic}"),
        library,
        Site(2, file, 3, "<module>"),
        Site(3, "frame.py", 9, "merge"),
    )
    completed = call_sites.completed(_with_lines(*sites))
    assert completed.sites == (*sites[:3], Site(2, "cell.py", line, "<module>"), sites[4])


@pytest.mark.usefixtures("dispatcher")
def test_completing_a_recording_is_charged_to_nobody():
    source = _with_lines(*[Site(-1, "<timed exec>", 1, "<module>")] * 10_000)
    with thag_nb.task("reading"):
        completed = call_sites.completed(source)
    assert len(completed.sites) == 10_000
    assert thag_nb.read().find("reading").total_bytes < 10_000


def test_timed_code_that_no_cell_is_above_stays_where_it_is():
    sites = (Site(-1, "<timed exec>", 1, "<module>"), Site(0, "<timed exec>", 2, "inner"))
    assert call_sites.completed(_with_lines(*sites)).sites == sites


def test_where_ipython_runs_timed_code_is_known():
    """What the above counts on."""
    from IPython.core.interactiveshell import InteractiveShell

    for function in (InteractiveShell.run_cell_magic, InteractiveShell.run_line_magic):
        assert function.__code__.co_qualname in (call_sites._CELL_MAGIC, call_sites._LINE_MAGIC)
