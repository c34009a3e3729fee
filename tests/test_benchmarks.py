"""The benchmarks' arithmetic on hand-made measurements, and one child under each tool. No timing is asserted."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import table
from benchmarks.child import RECORDERS
from benchmarks.measure import ChildError, Measurement, check_result, measure, write_csv
from benchmarks.tools import BARE, TOOLS, Tool
from benchmarks.workloads import QUICK, WORKLOADS, Workload


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


def test_cpu_time_is_user_and_system_time() -> None:
    assert made("lists", BARE, 0, 4.0, 1).cpu_seconds == 4.0


def test_ratio_is_paired_within_each_repetition() -> None:
    assert table.ratio(MEASUREMENTS, "lists", "thag_nb", table.cpu_seconds) == (1.5, 1.0, 2.0)


def test_peak_rss_has_a_ratio_too() -> None:
    assert table.ratio(MEASUREMENTS, "lists", "thag_nb", table.peak_rss_bytes) == (2.0, 1.5, 4.0)


def test_bare_to_itself_is_one() -> None:
    assert table.ratio(MEASUREMENTS, "lists", BARE, table.cpu_seconds) == (1.0, 1.0, 1.0)


def test_table_has_a_row_per_workload_and_the_geometric_mean() -> None:
    assert table.markdown(MEASUREMENTS).splitlines() == [
        "| workload | bare CPU s | bare peak MB | thag_nb CPU | thag_nb RSS |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| lists | 2.00 | 10 | 1.50 (1.00-2.00) | 2.00 |",
        "| arrays | 8.00 | 30 | 6.00 (6.00-6.00) | 0.50 |",
        "| **geometric mean** |  |  | **3.00** | **1.00** |",
    ]


def test_csv_holds_every_measurement_as_it_is(tmp_path: Path) -> None:
    write_csv(tmp_path / "raw.csv", MEASUREMENTS)
    heading, *rows = csv.reader((tmp_path / "raw.csv").open())
    assert heading == list(Measurement._fields)
    assert rows == [[str(value) for value in measurement] for measurement in MEASUREMENTS]


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
    assert len(WORKLOADS) == 12


def test_a_missing_package_leaves_out_only_what_needs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(WORKLOADS, "mdp", Workload(print, 1, ("no_such_package",)))
    assert command._installed(["small_objs", "mdp"]) == ["small_objs"]
    assert capsys.readouterr().err == "Left out: mdp; pip install '.[bench]' is needed for no_such_package.\n"


def test_an_unknown_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--workloads", "small_objs,small_obj"])
    assert "no workload small_obj; there are async_tree_none, " in capsys.readouterr().err


def test_a_failing_child_shows_its_error() -> None:
    with pytest.raises(ChildError, match=r"(?s)no_such_workload under bare failed:.*KeyError"):
        measure("no_such_workload", BARE)


def test_a_child_runs_under_every_tool_with_the_same_result() -> None:
    measurements = [measure("small_objs", tool, size=1) for tool in TOOLS]
    assert all(measurement.cpu_seconds > 0 for measurement in measurements)
    assert all(measurement.peak_rss_bytes > 0 for measurement in measurements)
    assert len({measurement.result for measurement in measurements}) == 1


def test_peak_rss_of_a_child_is_not_that_of_a_large_parent() -> None:
    ballast = b"1" * 200_000_000
    assert measure("small_objs", BARE, size=1).peak_rss_bytes < len(ballast)
