"""The benchmarks' arithmetic on hand-made measurements, and one child under each tool. No timing is asserted."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import time
import tracemalloc
from importlib.metadata import version
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

import pytest
from processes import python

import thag_nb
from benchmarks import __main__ as command
from benchmarks import child, contexts, coverage, environment, instructions, lines, machine, pairs, picture, table
from benchmarks.child import RECORDERS
from benchmarks.environment import Environment, children_variables
from benchmarks.instructions import Count
from benchmarks.measure import (
    STARTS,
    Child,
    ChildError,
    Measurement,
    check_origin,
    check_result,
    measure,
    measure_all,
    plan,
    read_csv,
    record,
    write_csv,
)
from benchmarks.tools import BARE, FULL, TOOLS, Tool
from benchmarks.workloads import QUICK, START, WORKLOADS, Workload
from thag_nb.recordings.model import SMALLER


def made(workload: str, tool: str, repetition: int, cpu: float, rss: int, result: str = "1") -> Measurement:
    """A measurement with a quarter of its CPU time in the system."""
    return Measurement(workload, tool, repetition, cpu * 0.75, cpu * 0.25, rss, result)


MEASUREMENTS = [
    made("lists", BARE, 0, 1.0, 10_000_000),
    made("lists", "thag_nb", 0, 2.0, 15_000_000),
    made("lists", BARE, 1, 4.0, 10_000_000),
    made("lists", "thag_nb", 1, 4.0, 20_000_000),
    made("lists", BARE, 2, 2.0, 10_000_000),
    made("lists", "thag_nb", 2, 3.0, 40_000_000),
    made("arrays", BARE, 0, 8.0, 30_000_000),
    made("arrays", "thag_nb", 0, 48.0, 15_000_000),
]
FAILED = Measurement("lists", "fil", 0, 0.0, 0.0, 0, "", "lists under fil failed: out of luck")


def test_cpu_time_is_user_and_system_time() -> None:
    assert made("lists", BARE, 0, 4.0, 1).cpu_seconds == 4.0


def test_ratio_is_paired_within_each_repetition() -> None:
    assert table.ratio(MEASUREMENTS, "lists", "thag_nb", table.cpu_seconds) == (1.5, 1.0, 2.0)


def test_peak_rss_has_a_ratio_too() -> None:
    assert table.ratio(MEASUREMENTS, "lists", "thag_nb", table.peak_rss_bytes) == (2.0, 1.5, 4.0)


def test_bare_to_itself_is_one() -> None:
    assert table.ratio(MEASUREMENTS, "lists", BARE, table.cpu_seconds) == (1.0, 1.0, 1.0)


def test_tables_have_a_row_per_workload_and_one_per_tool_over_all_of_them() -> None:
    assert table.markdown(MEASUREMENTS).splitlines() == [
        "| workload | bare CPU s | bare peak MB | thag_nb CPU | thag_nb RSS |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| lists | 2.00 | 10 | 1.50 (1.00-2.00) | 2.00 |",
        "| arrays | 8.00 | 30 | 6.00 (6.00-6.00) | 0.50 |",
        "",
        "| over these workloads | CPU geometric mean | CPU worst | RSS median | RSS worst |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| thag_nb | 3.00 (3.46-3.46) | 6.00 arrays | 1.25 (1.00-1.00) | 2.00 lists |",
    ]


def test_a_start_stands_apart_in_milliseconds_and_mebibytes() -> None:
    mebibyte = 1 << 20
    starts = [
        made(START, BARE, 0, 0.020, 10 * mebibyte),
        made(START, "thag_nb", 0, 0.030, 13 * mebibyte),
        made(START, BARE, 1, 0.022, 10 * mebibyte),
        made(START, "thag_nb", 1, 0.036, 13 * mebibyte),
    ]
    assert table.markdown([*starts, *MEASUREMENTS]).splitlines() == [
        *table.markdown(MEASUREMENTS).splitlines(),
        "",
        "| a start | CPU ms | more than bare, ms | peak RSS MiB | more than bare, MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| bare | 21.0 |  | 10.0 |  |",
        "| thag_nb | 33.0 | 12.0 (10.0-14.0) | 13.0 | 3.0 (3.0-3.0) |",
    ]
    assert table.markdown(starts).splitlines()[0].startswith("| a start |")


def test_tools_take_turns_in_every_repetition_forwards_and_backwards() -> None:
    first, second = plan(["lists"], ["bare", "thag_nb"], 2)[:2], plan(["lists"], ["bare", "thag_nb"], 2)[2:]
    assert first == [Child("lists", "bare", 0), Child("lists", "thag_nb", 0)]
    assert second == [Child("lists", "thag_nb", 1), Child("lists", "bare", 1)]


def test_a_start_is_measured_more_often() -> None:
    repetitions = [child.repetition for child in plan([START, "lists"], ["bare"], 2) if child.workload == START]
    assert repetitions == list(range(2 * STARTS))


def test_csv_holds_every_measurement_as_it_is(tmp_path: Path) -> None:
    write_csv(tmp_path / "raw.csv", MEASUREMENTS)
    heading, *rows = csv.reader((tmp_path / "raw.csv").open())
    assert heading == list(Measurement._fields)
    assert rows == [[str(value) for value in measurement] for measurement in MEASUREMENTS]


def test_csv_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_csv(tmp_path / "raw.csv", [*MEASUREMENTS, FAILED])
    assert read_csv(tmp_path / "raw.csv") == [*MEASUREMENTS, FAILED]
    assert read_csv(tmp_path / "none.csv") == []


def test_what_is_measured_is_in_the_file_before_the_next_is_measured(tmp_path: Path) -> None:
    written = [len(read_csv(tmp_path / "raw.csv")) for _ in record(tmp_path / "raw.csv", MEASUREMENTS)]
    assert written == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_peer_that_fails_is_named_and_leaves_the_others_alone() -> None:
    measurements = [*MEASUREMENTS, FAILED, made("arrays", "fil", 0, 16.0, 30_000_000)]
    _, _, lists, arrays, *_, fil = table.markdown(measurements).splitlines()
    assert lists.endswith("| 1.50 (1.00-2.00) | 2.00 | failed | failed |")
    assert arrays.endswith("| 6.00 (6.00-6.00) | 0.50 | 2.00 (2.00-2.00) | 1.00 |")
    assert fil == "| Fil | 2.00 (2.00-2.00) | 2.00 arrays | 1.00 (1.00-1.00) | 1.00 arrays |"
    assert table.failures(measurements) == ["Failed in repetition 1: lists under fil failed: out of luck"]


@pytest.fixture(scope="module")
def lent() -> Environment:
    return environment.lent()


def test_a_failing_peer_does_not_stop_the_rest(lent: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOLS, "broken", Tool("bare", ("-m", "no_such_module"), requirement="no_such_module"))
    broken, bare = measure_all([Child("small_objs", "broken"), Child(START, "bare")], lent)
    assert broken.failure.startswith("small_objs under broken failed: ")
    assert "No module named no_such_module" in broken.failure
    assert (bare.failure, bare.workload) == ("", START)


def test_ours_that_fails_stops_everything(lent: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOLS, "thag_nb", Tool("thag_nb", ("-m", "no_such_module")))
    with pytest.raises(ChildError, match="No module named no_such_module"):
        list(measure_all([Child("small_objs", "thag_nb")], lent))


def test_a_tool_that_recorded_nothing_has_failed(lent: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOLS, "idle", Tool(recorded=lambda folder: any(folder.iterdir())))
    with pytest.raises(ChildError, match="idle recorded nothing"):
        measure("small_objs", "idle", environment=lent, size=1)


def test_resuming_measures_only_what_is_missing_or_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Child] = []

    def measured(*child: Any, **_: object) -> Measurement:
        asked.append(Child(*child))
        return made(*child, 1.0, 1)

    monkeypatch.setattr("benchmarks.measure.measure", measured)
    write_csv(
        tmp_path / "measurements.csv", [made("small_objs", BARE, 0, 7.0, 1), FAILED._replace(workload="small_objs")]
    )
    command.main(
        ["--workloads", "small_objs", "--tools", "thag_nb", "--repetitions", "1", "--resume", "--out", str(tmp_path)]
    )
    assert asked == [Child("small_objs", "thag_nb")]
    assert [m.cpu_seconds for m in read_csv(tmp_path / "measurements.csv")] == [7.0, 1.0]
    assert "| small_objs | 7.00 |" in (tmp_path / "table.md").read_text()


def test_repetitions_are_those_of_programs() -> None:
    starts = [made(START, BARE, repetition, 1.0, 1) for repetition in range(3 * STARTS)]
    assert table.repetitions_of([*starts, *MEASUREMENTS]) == [0, 1, 2]
    assert "median of 3 in whole processes" in picture._legend([*starts, *MEASUREMENTS])


def test_picture_is_drawn_of_whatever_was_measured(tmp_path: Path) -> None:
    picture.draw([*MEASUREMENTS, FAILED], "a machine", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_description_names_versions_and_what_is_missing() -> None:
    description = machine.describe(packages=["no_such_tool"])
    assert f"numpy {version('numpy')}" in description
    assert "no_such_tool not installed" in description


def test_a_different_result_under_a_tool_is_an_error() -> None:
    with pytest.raises(ChildError, match="lists returned 2 under thag_nb, but 1 under bare"):
        check_result(made("lists", BARE, 0, 1.0, 1), made("lists", "thag_nb", 0, 1.0, 1, result="2"))


def test_every_tool_has_its_recorder() -> None:
    assert {tool.recorder for tool in TOOLS.values()} <= RECORDERS.keys()


def test_another_tool_may_stand_in_front_of_the_child() -> None:
    tool = Tool("bare", ("-m", "other", "run", "-m", "benchmarks.child"))
    assert tool.arguments("mdp", None) == ["-m", "other", "run", "-m", "benchmarks.child", "mdp", "bare"]


def test_quick_is_a_part_of_all() -> None:
    assert set(QUICK) < WORKLOADS.keys()
    assert set(FULL) < TOOLS.keys()


@pytest.mark.parametrize("name", [name for name, workload in WORKLOADS.items() if not workload.missing()])
def test_a_workload_returns_what_tells_that_it_has_run(name: str) -> None:
    result = WORKLOADS[name].run(100 if name == "pprint" else 1)
    assert (result is None) == (name == START)


def test_children_import_the_wheel_and_not_the_checkout(lent: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(environment.__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.chdir(root)
    measure(START, "thag_nb", environment=lent)  # which raises if it is another one
    assert not any((folder / "thag_nb").exists() for folder in (lent.program, lent.folder))
    assert (lent.packages / "thag_nb").is_dir()
    with pytest.raises(ChildError, match=r"thag_nb was imported from .*, not from "):
        check_origin(root / "thag_nb" / "__init__.py", lent, time.time())


def test_children_compile_nothing(lent: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    watched = subprocess.run(
        [lent.python, "-v", "-m", "benchmarks.child", "small_objs", "thag_nb", "1"],
        cwd=lent.program,
        env=children_variables(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = [Path(path) for path in re.findall(r"^# code object from '(.*)'$", watched.stderr, re.MULTILINE)]
    ours = [path for path in loaded if path.is_relative_to(lent.folder)]
    assert {path.name.partition(".")[0] for path in ours} > {"__init__", "workloads", "tasks"}
    assert {path.suffix for path in ours} == {".pyc"}


def test_what_children_run_is_compiled_before_them(lent: Environment, tmp_path: Path) -> None:
    environment._copy_program([Path(environment.__file__).with_name("child.py")], tmp_path)
    sources = [*tmp_path.rglob("*.py"), *(lent.packages / "thag_nb").rglob("*.py")]
    assert len(sources) > 50
    assert [source for source in sources if not Path(cache_from_source(str(source))).exists()] == []


def test_bytecode_that_is_newer_than_the_child_was_compiled_in_it(lent: Environment) -> None:
    origin = lent.packages / "thag_nb" / "__init__.py"
    check_origin(origin, lent, time.time())
    with pytest.raises(ChildError, match="was compiled while it was measured"):
        check_origin(origin, lent, began=0.0)


def test_what_is_current_is_not_built_again(lent: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(environment, "_pip")
    assert environment.lent() == lent


def test_what_was_made_of_something_else_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for name in ("table", "table", "tools"):
        source = Path(environment.__file__).with_name(f"{name}.py")
        environment._unless_made(tmp_path / "mark", [source], lambda name=name: made.append(name))
    monkeypatch.setenv("THAG_CFLAGS", "-UNDEBUG")
    environment._unless_made(tmp_path / "mark", [source], lambda: made.append("with asserts"))
    assert made == ["table", "tools", "with asserts"]


def test_a_missing_package_leaves_out_only_what_needs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(WORKLOADS, "mdp", Workload(print, 1, ("no_such_package",)))
    assert command._installed(["small_objs", "mdp"]) == ["small_objs"]
    assert capsys.readouterr().err == "Left out: mdp; pip install '.[bench]' is needed for no_such_package.\n"


def test_an_unknown_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--workloads", "small_objs,small_obj"])
    assert "no workload small_obj; there are nothing, async_tree_none, " in capsys.readouterr().err


def test_a_failing_child_shows_its_error(lent: Environment) -> None:
    with pytest.raises(ChildError, match=r"(?s)no_such_workload under bare failed:.*KeyError"):
        measure("no_such_workload", BARE, environment=lent)


def test_a_child_runs_under_every_tool_with_the_same_result(lent: Environment) -> None:
    found = machine.versions()
    tools = [name for name, tool in TOOLS.items() if not tool.package or tool.package in found]
    measurements = [measure("small_objs", tool, environment=lent, size=1) for tool in tools]
    assert {"thag_nb", "thag_nb_no_task", "thag_nb_stopped", "tracemalloc"} < set(tools)
    assert {"thag_nb_lines", "thag_nb_lines_4096", "tracemalloc_25"} < set(tools)
    assert all(measurement.cpu_seconds > 0 for measurement in measurements)
    assert all(measurement.peak_rss_bytes > 0 for measurement in measurements)
    assert len({measurement.result for measurement in measurements}) == 1


def test_peak_rss_of_a_child_is_not_that_of_a_large_parent(lent: Environment) -> None:
    ballast = b"1" * 200_000_000
    assert measure("small_objs", BARE, environment=lent, size=1).peak_rss_bytes < len(ballast)


@pytest.mark.skipif(pairs.compiler() is None, reason="the loop is C, and there is no compiler")
def test_pairs_are_timed_in_every_state() -> None:
    figures = pairs.measure(1, count=100)
    assert set(figures) == {(case, state) for case in pairs.CASES for state in pairs.STATES}
    heading = "| domain | bytes | off | forwarding | recording | lines | lines, 4096 | untracked |"
    assert pairs.markdown(figures).splitlines()[0] == heading


@pytest.mark.skipif(pairs.compiler() is None, reason="the loop is C, and there is no compiler")
def test_every_pair_is_recorded_once() -> None:
    module = pairs.load()
    for case in pairs.CASES:
        thag_nb.reset()
        pairs.run(module, case, 1000, thag_nb.task)
        # The blocks that settle the heap are allocations as well.
        assert 1000 <= thag_nb.read().find("pairs").allocations < 2100


@pytest.mark.skipif(pairs.compiler() is None, reason="the loop is C, and there is no compiler")
@pytest.mark.parametrize(("state", "least_bytes"), [("lines", 0), ("lines, 4096", 4096)])
def test_pairs_of_a_task_with_lines_have_one(state: str, least_bytes: int) -> None:
    for size in (64, 65536):
        thag_nb.reset()
        pairs.run(pairs.load(), pairs.Case("obj", size), 1000, pairs.STATES[state].task)
        recording = thag_nb.read()
        most = max(recording.site_figures, key=lambda figures: figures.allocations)
        assert [one.least_bytes for one in recording.lines] == [least_bytes]
        assert most.allocations >= 1000
        assert (most.site == SMALLER) == (size < least_bytes)
        assert most.site == SMALLER or recording.sites[most.site].function == pairs.run.__name__


@pytest.mark.skipif(pairs.compiler() is None, reason="the loop is C, and there is no compiler")
def test_foreign_pairs_free_what_another_task_allocated() -> None:
    pairs.run(pairs.load(), pairs.Case(pairs.FOREIGN, 64), 1000, thag_nb.task)
    owner, freeing = (thag_nb.read().find(name) for name in ("owner", "pairs"))
    assert owner.total_bytes >= 2000 * 64
    assert owner.foreign_frees >= 1000
    assert freeing.foreign_frees < 10


def test_instructions_are_recorded_for_every_pair_and_state() -> None:
    conditions, recorded = instructions.read()
    assert conditions.startswith("CPython")
    assert [count[:3] for count in recorded] == [(*case, state) for state in pairs.STATES for case in pairs.CASES]


def test_only_instructions_that_differ_are_told() -> None:
    recorded = [Count("raw", 16, "off", 100.0), Count("raw", 16, "recording", 200.0)]
    assert instructions.differences(recorded, recorded) == "All counts are as recorded."
    now = [recorded[0]._replace(instructions=102.0), recorded[1]._replace(instructions=190.0)]
    assert instructions.differences(recorded, now).splitlines()[2:] == [
        "| raw | 16 | recording | 200.0 | 190.0 | -10.0 |"
    ]


def test_contexts_are_measured_in_whole_tables() -> None:
    tables = [
        contexts.opening((1, 3), 1),
        contexts.gathering(5, 1),
        contexts.viewing(2),
        contexts.lasting(1000),
        contexts.starting(1),
    ]
    assert [table.splitlines()[0].split(" | ")[0] for table in tables] == [
        "| ns, median (best)",
        "| 5 gathered asyncio tasks",
        "| 2 contexts",
        "| events in one task",
        "| ",
    ]
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)


@pytest.mark.skipif(sys.platform != "linux" or find_spec("memray") is None, reason="needs Linux and memray")
def test_what_a_library_asks_for_is_seen_as_memray_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    coverage.main(["sqlite3"])
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| sqlite3")]
    python, native, memray, share = line.strip("| ").split(" | ")[1:]
    assert float(python) < 1 < float(native)
    assert float(native) == pytest.approx(float(memray), rel=0.01)
    assert 99 <= float(share.rstrip("%")) <= 101


def test_a_cell_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        coverage.main(["numpi"])
    assert "'numpi'; name some of" in capsys.readouterr().err


def test_what_takes_too_long_is_ended(lent: Environment) -> None:
    with pytest.raises(ChildError, match="took too long"):
        measure("small_objs", BARE, environment=lent, size=1_000_000, limit_seconds=1)


@pytest.mark.parametrize("recorder", ["thag_nb_lines", "thag_nb_lines_4096"])
def test_a_recording_without_lines_is_no_measurement_of_them(recorder: str) -> None:
    """In a process of its own, as in a benchmark: events that another test had dropped would be counted, too."""
    told = python(f"""
        import thag_nb
        from benchmarks.child import RECORDERS

        measured = RECORDERS[{recorder!r}]
        print(measured(lambda: len(bytearray(10_000))))
        thag_nb.reset()
        task = thag_nb.task
        thag_nb.task = lambda name, **_: task(name)
        try:
            measured(lambda: len(bytearray(10_000)))
        except RuntimeError as error:
            print(error)
    """)
    assert re.fullmatch(r"10000\na bad recording: lines from .*, \d+ of them\n", told), told


def test_tracemalloc_keeps_as_many_frames_as_its_recorder_says() -> None:
    for recorder, frames in ((child.tracemalloc, 1), (child.tracemalloc_25, 25)):
        try:
            assert recorder(lambda: (bytearray(1000), tracemalloc.get_traceback_limit())[1]) == frames
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("failure", ["out of luck", ""])
def test_a_tool_that_failed_in_a_program_or_is_very_slow_does_not_run_it_again(
    failure: str, lent: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Child] = []

    def measured(*wanted: Any, limit_seconds: int, **_: object) -> Measurement:
        asked.append(Child(*wanted))
        assert limit_seconds == lines.LIMIT_SECONDS
        if asked[-1] != ("mdp", "tracemalloc", 1):
            return made(*wanted, lines.ONCE_SECONDS, 1)
        if failure:
            raise ChildError(failure)
        return made(*wanted, lines.ONCE_SECONDS * 2, 1)

    monkeypatch.setattr("benchmarks.measure.measure", measured)
    measurements = list(lines.measured("mdp", [BARE, "tracemalloc"], 3, lent))
    tools = [[one.tool for one in asked if one.repetition == repetition] for repetition in range(3)]
    assert tools == [[BARE, "tracemalloc"], ["tracemalloc", BARE], [BARE]]
    assert [m[:3] for m in measurements] == asked
    assert [m.failure for m in measurements if m.tool == "tracemalloc"] == ["", failure]


def test_lines_have_a_row_per_program_and_two_over_all_of_them() -> None:
    measurements = [*MEASUREMENTS, FAILED]
    assert lines.markdown(measurements).splitlines() == [
        "| CPU, to bare | bare, s | thag_nb | Fil |",
        "| --- | ---: | ---: | ---: |",
        "| lists | 2.00 | 1.50 (1.00-2.00) | failed |",
        "| arrays | 8.00 | 6.00 (6.00-6.00) | failed |",
        "| geometric mean |  | 3.00 (3.46-3.46) | failed |",
        "| peak RSS, median of all |  | 1.25 (1.00-1.00) | failed |",
    ]
    assert lines.explanation(3, measurements).splitlines()[-1].endswith("lists under fil failed: out of luck")


def test_programs_of_lines_and_tools_exist() -> None:
    assert set(lines.PROGRAMS) < WORKLOADS.keys()
    assert set(lines.COMPARED) < TOOLS.keys()


@pytest.mark.usefixtures("lent")
def test_a_cell_without_lines_has_no_call_sites_and_all_lines_have_most() -> None:
    rows = [row.strip("| ").replace(",", "").split(" | ") for row in lines.memory(1).splitlines()[2:]]
    for none, everything, large in (rows[:3], rows[3:]):
        assert none[1:4] == ["0", "0", "0"]
        for place in (1, 2, 3):
            assert 0 < int(large[place]) < int(everything[place])


def test_an_unknown_program_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lines.main(["mpd"])
    assert "'mpd'; name some of async_tree_none, " in capsys.readouterr().err
