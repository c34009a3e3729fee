"""Where what a holder keeps was allocated: of real objects, in files whose lines are known."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from figures import of
from processes import python

import thag_nb
from thag_nb import _native
from thag_nb.errors import UnknownContextError
from thag_nb.holders import kinds, walk
from thag_nb.recordings.model import NO_FRAME, SMALLER, Held, Recording
from thag_nb.runtime import dispatcher
from thag_nb.sites.held import AllocatedAt
from thag_nb.units import format_bytes

pytestmark = pytest.mark.usefixtures("dispatcher")

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Executes code as that of a file, whose variables are returned."""

    def run(code: str, file: str = "work.py", **names: Any) -> dict[str, Any]:
        path = tmp_path / file
        path.write_text(textwrap.dedent(code).strip())
        names |= {"thag_nb": thag_nb, "np": numpy}
        exec(compile(path.read_text(), str(path), "exec"), names)
        return names

    return run


def told(name: str, names: dict[str, Any], **options: Any) -> dict[str, str]:
    """Where it was allocated, by holder, of the context of this name and those under it."""
    return {row.holder: row.allocated_at for row in find(name, names, **options)}


def find(name: str, names: dict[str, Any], **options: Any) -> tuple[Held, ...]:
    with thag_nb.untracked():
        return walk.find(name, namespace=names, where=AllocatedAt, **options)


def test_a_table_that_one_line_made_is_told_with_what_the_line_called(run: Run) -> None:
    names = run("""
        import pandas as pd
        from thag_nb import task
        with task("load", lines=True):
            small = np.arange(1000)
            df = pd.DataFrame({"a": np.arange(90_000) % 7, "b": np.arange(90_000.0)})
            total = df.groupby("a").sum()
    """)
    frame = thag_nb.retained("load", namespace=names).set_index("holder")
    assert frame.loc["df", "held_bytes"] > 90_000 * 16
    assert frame.loc["df", "allocated_at"].startswith("work.py line 5")
    assert "(" not in frame.loc["df", "allocated_at"]
    assert frame.loc["small", "allocated_at"] == "work.py line 4"
    assert frame.loc["total", "allocated_at"].startswith("work.py line 6 through ")


def test_a_list_that_two_lines_filled_is_told_with_the_bytes_of_each(run: Run) -> None:
    names = run("""
        with thag_nb.task("load", lines=True):
            rows = []
            for _ in range(100):
                rows.append(bytes(3000))
                rows.append(bytes(1000))
    """)
    live = thag_nb.lines("load").set_index("line")["live_bytes"]
    assert told("load", names)["rows"] == (
        f"work.py line 4 ({format_bytes(live[4])}), work.py line 5 ({format_bytes(live[5])})"
    )
    assert live[4] > 300_000 > live[5] > 100_000


def test_arrays_in_one_container_are_told_apart_by_where_they_were_made(run: Run) -> None:
    names = run("""
        with thag_nb.task("load", lines=True):
            arrays = {}
            arrays["a"] = np.zeros(1 << 17)
            arrays["b"] = np.zeros(1 << 18)
            arrays["c"] = np.zeros(1 << 16)
            arrays["d"] = np.zeros(1 << 15)
            view = arrays["a"][:10]
    """)
    pattern = r"work.py line 4 \((.*)\), work.py line 3 \((.*)\), work.py line 5 \((.*)\), elsewhere \((.*)\)"
    found = re.fullmatch(pattern, told("load", names)["arrays"])
    assert found is not None
    assert [size[:3] for size in found.groups()] == ["2.0", "1.0", "512", "256"]


def test_what_a_function_of_another_file_allocated_is_told_as_of_that_file(run: Run) -> None:
    helper = run("def build(size):\n    made = bytearray(size)\n    return made", "helper.py")
    names = run('with thag_nb.task("load", lines=True):\n    kept = build(300_000)', build=helper["build"])
    assert told("load", names)["kept"] == "helper.py line 2"


def test_a_task_under_one_that_records_its_lines_is_told_as_well(run: Run) -> None:
    names = run("""
        with thag_nb.task("load", lines=True):
            with thag_nb.task("parse"):
                parsed = bytearray(100_000)
            kept = bytearray(200_000)
    """)
    assert {holder: told("load", names)[holder] for holder in ("parsed", "kept")} == {
        "parsed": "work.py line 3",
        "kept": "work.py line 4",
    }


def test_without_lines_nothing_is_told(run: Run) -> None:
    names = run("""
        with thag_nb.task("plain"):
            kept = bytearray(100_000)
        with thag_nb.task("load", lines=True):
            other = bytearray(100_000)
    """)
    frame = thag_nb.retained(namespace=names)
    assert set(frame.allocated_at[frame.name == "plain"]) == {""}
    assert list(frame.allocated_at[frame.holder == "other"]) == ["work.py line 4"]
    assert {row.allocated_at for row in walk.find("load", namespace=names)} == {""}  # nobody says how


def test_what_a_context_took_over_at_a_reset_is_not_known_where(run: Run) -> None:
    names = run("""
        with thag_nb.task("load", lines=True):
            own = bytearray(100_000)
            with thag_nb.task("parse"):
                parsed = bytearray(100_000)
            thag_nb.reset()
            found = thag_nb.retained("load", namespace=globals())
    """)
    where = dict(zip(names["found"].holder, names["found"].allocated_at, strict=True))
    assert (where["own"], where["parsed"]) == ("work.py line 2", "not known where")


def test_smaller_blocks_than_were_asked_for_are_told_as_such(run: Run) -> None:
    names = run("""
        with thag_nb.task("load", lines=4096):
            rows = [bytes(1000) for _ in range(100)]
            large = bytearray(100_000)
    """)
    where = told("load", names)
    assert where["rows"] == "smaller than 4.0 KiB"
    assert where["large"] == "work.py line 3"


def test_what_nobody_holds_is_told_where_it_was_allocated(run: Run) -> None:
    malloc = ctypes.pythonapi.PyMem_Malloc
    malloc.restype = ctypes.c_void_p
    free = ctypes.pythonapi.PyMem_Free
    free.argtypes = [ctypes.c_void_p]
    names = run(
        """
        with thag_nb.task("load", lines=True):
            kept = bytearray(200_000)
            address = malloc(300_000)
        """,
        malloc=malloc,
    )
    where = told("load", names)
    free(names["address"])
    assert where["(unexplained)"] == "work.py line 3"
    assert where["kept"] == "work.py line 2"


def test_figures_of_sites_that_do_not_fit_what_was_found_are_not_told() -> None:
    """Other threads may free something between the walk and the reading."""
    with thag_nb.task("load", lines=True):
        block = bytearray(100_000)
        other = bytearray(50_000)
    assert other
    recording, numbers = dispatcher.read_numbered()
    given: list[dict[int, int]] = []

    def where(_: Recording) -> Callable[..., str]:
        return lambda _context_id, _held_bytes, by_site: given.append(dict(by_site)) or "told"  # type: ignore[func-returns-value]

    sites = walk._Sites(recording, numbers, where)
    number, place = next((n, p) for p, n in enumerate(numbers) if _live(recording, p) > len(block))
    live_bytes = _live(recording, place)
    context_id = of("load").context_id
    assert sites.words_of_rest(context_id, 10 * live_bytes, [{number: live_bytes + 1}]) == "told"
    assert sites.words_of_rest(context_id, live_bytes // 2, []) == "told"
    assert given == [{}, {}]
    sites.words_of_rest(context_id, 10 * live_bytes, [{number: live_bytes - 1}])
    assert given[-1][place] == 1


def _live(recording: Recording, place: int) -> int:
    return sum(row.live_bytes for row in recording.site_figures if row.site == place)


def test_the_workspace_of_a_library_is_not_told_apart_from_what_nobody_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with thag_nb.task("load", lines=True):
        block = bytearray(100_000)
        with thag_nb.task("parse"):
            larger = bytearray(200_000)
        thag_nb.reset()  # from now on it is not known where the larger one was allocated
        monkeypatch.setattr(walk, "workspaces", lambda: {of("load").context_id: 1000})
        where = told("load", {})
    assert len(block) < len(larger)
    assert where["(OpenBLAS, to work in)"] == where["(unexplained)"] == "not known where"


# What the walk tells


def _walked(*roots: Any) -> dict[tuple[int, int], int]:
    """Bytes by context and number of a site of all that these hold."""
    with thag_nb.untracked():
        one = _native.Walk(kinds.known(), ())
        one.include(gc.get_objects())
        found, pending = dict[tuple[int, int], int](), list[Any]()
        roots_left = list(roots)
        while roots_left or pending:
            held, _ = one.follow(0, roots_left, pending)
            roots_left = []
            for key, size in held.items():
                found[key] = found.get(key, 0) + size
    return found


def test_a_walk_tells_for_each_site_what_the_recording_has_of_it() -> None:
    with thag_nb.task("load", lines=True):
        kept = [[bytes(100 + n) for n in range(200)] for _ in range(3)]
        kept += [[bytearray(500 + n) for n in range(200)]]
        for size in range(100):
            kept.append([size * 1000.5])
    found = _walked(kept)
    with thag_nb.untracked():
        recording, numbers = dispatcher.read_numbered()
    context_id = of("load").context_id
    assert {key[0] for key in found} == {context_id}
    assert len(numbers) == len(recording.sites) == len(set(numbers))
    places = {number: place for place, number in enumerate(numbers)}
    live = {row.site: row.live_bytes for row in recording.site_figures if row.context_id == context_id}
    assert len(found) >= 3
    for (_, number), size in found.items():
        assert 0 < size <= live[places[number]]
    lines_told = {recording.sites[places[number]].line for _, number in found}
    first = sys._getframe().f_code.co_firstlineno
    assert {first + 2, first + 3, first + 5} <= lines_told
    assert sum(found.values()) > 0.99 * sum(live.values())


def test_more_sites_than_are_summed_up_at_a_time_lose_no_byte() -> None:
    body = "\n".join(f"    kept.append(bytes({1000 + number}))" for number in range(200))
    names: dict[str, Any] = {"thag_nb": thag_nb}
    with thag_nb.untracked():
        code = compile(f"kept = []\nwith thag_nb.task('load', lines=True):\n{body}", "many.py", "exec")
    exec(code, names)
    found = _walked(names["kept"])
    head = sys.getsizeof(b"")
    wanted = {1000 + number + head for number in range(200)}
    assert len(wanted - set(found.values())) <= 1  # the line that made the list longer last has that as well
    assert sum(found.values()) >= sum(wanted)


def test_numbers_of_what_is_no_stack_are_those_of_recordings() -> None:
    with thag_nb.task("load", lines=100_000):
        small = bytearray(1000)
    with thag_nb.task("plain"):
        other = bytearray(1000)
    numbers = {number for (_, number) in _walked([small])}
    assert SMALLER in numbers
    assert {number for (_, number) in _walked(other)} == {0}
    assert NO_FRAME == -1


def test_a_reading_takes_a_list_for_the_numbers_and_nothing_else() -> None:
    types = dispatcher.Site, dispatcher.SiteFigures, dispatcher.LinesOf
    with pytest.raises(TypeError, match="and may take a list"):
        _native.read(Recording, dispatcher.ContextRecord, (), (), types, ())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="and may take a list"):
        _native.read(Recording, dispatcher.ContextRecord, (), (), types, [], [])  # type: ignore[call-arg]


def test_an_unknown_context_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(UnknownContextError):
        walk.find("nosuch", where=lambda _: pytest.fail("asked"))


def test_lines_stay_known_while_other_threads_allocate() -> None:
    code = """
        import threading, thag_nb
        from thag_nb.holders import walk
        from thag_nb.sites.held import AllocatedAt
        ended = threading.Event()
        def churn():
            with thag_nb.task("churn", lines=True):
                while not ended.is_set():
                    [bytes(1000) for _ in range(100)]
        names = {"thag_nb": thag_nb}
        exec(compile("with thag_nb.task('load', lines=True):\\n    kept = bytearray(1 << 20)", "own.py", "exec"), names)
        thread = threading.Thread(target=churn, daemon=True)
        thread.start()
        said = set()
        for _ in range(3):
            with thag_nb.untracked():
                rows = walk.find("load", namespace=names, where=AllocatedAt)
            said |= {row.allocated_at for row in rows if row.holder == "kept"}
        ended.set()
        thread.join(60)
        print(said)
    """
    assert python(code).strip() == "{'own.py line 2'}"
