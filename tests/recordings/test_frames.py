from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from handmade import EMPTY, MIB, MS, SECOND, busy, context, pack, recording

from thag_nb.comparison.differences import compare
from thag_nb.errors import UnknownContextError
from thag_nb.recordings.frames import (
    COMPARISON_COLUMNS,
    CONTEXT_COLUMNS,
    LINES_COLUMNS,
    TIMELINE_COLUMNS,
    comparison_frame,
    contexts_frame,
    lines_frame,
    retained_frame,
    timeline_frame,
)
from thag_nb.recordings.model import Difference, Held, LineCost

TEXTS = ["name", "kind", "allocator", "state"]


def test_context_columns_are_the_contract() -> None:
    columns = (
        "name, kind, parent_id, allocator, state, live_bytes, peak_bytes, total_bytes, self_live_bytes, "
        "self_peak_bytes, self_total_bytes, allocations, frees, foreign_frees, retained_bytes, started_ns, "
        "duration_ns, at_session_peak_bytes, at_parent_peak_bytes, self_live_numpy_bytes, self_live_native_bytes, "
        "at_session_peak_numpy_bytes, at_session_peak_native_bytes"
    )
    assert list(CONTEXT_COLUMNS) == columns.split(", ")
    assert list(contexts_frame(busy()).columns) == columns.split(", ")


def test_timeline_columns_are_the_contract() -> None:
    columns = ["time", "context_id", "name", "low_bytes", "high_bytes", "live_bytes", "self_live_bytes"]
    assert list(TIMELINE_COLUMNS) == columns
    assert list(timeline_frame(busy()).columns) == columns


def test_contexts_are_indexed_by_id_oldest_first() -> None:
    frame = contexts_frame(busy())
    assert frame.index.name == "context_id"
    assert frame.index.dtype == np.int64
    assert frame.index.to_list() == [1, 3, 4, 5]


def test_contexts_hold_every_field_of_the_record() -> None:
    record = context(7, "load", **{field: 100 + i for i, field in enumerate(CONTEXT_COLUMNS) if field not in TEXTS})
    row = contexts_frame(recording((record, pack()))).loc[7]
    assert {"context_id": 7, **row.to_dict()} == record._asdict()


@pytest.mark.parametrize("source", [busy(), EMPTY], ids=["busy", "empty"])
def test_context_figures_are_int64_also_when_empty(source) -> None:  # type: ignore[no-untyped-def]
    frame = contexts_frame(source)
    assert set(frame.drop(columns=TEXTS).dtypes) == {np.dtype("int64")}
    assert set(frame[TEXTS].dtypes) == {pd.Series(["text"], dtype=str).dtype}


@pytest.mark.parametrize("source", [busy(), EMPTY], ids=["busy", "empty"])
def test_timeline_types_are_the_same_when_empty(source) -> None:  # type: ignore[no-untyped-def]
    types = timeline_frame(source).dtypes
    assert types.pop("time") == np.dtype("timedelta64[ns]")
    assert types.pop("name") == pd.Series(["text"], dtype=str).dtype
    assert set(types) == {np.dtype("int64")}


def test_timeline_without_a_name_has_every_context() -> None:
    frame = timeline_frame(busy())
    assert frame["context_id"].to_list() == [1, 1, 1, 3, 4, 4, 5]
    assert frame["name"].to_list() == ["root", "root", "root", "load", "load", "load", "parse"]
    assert frame.index.to_list() == list(range(7))


def test_timeline_by_name_takes_the_newest() -> None:
    expected = pd.DataFrame(
        {
            "time": pd.to_timedelta([500, 700], unit="ms").as_unit("ns"),
            "context_id": [4, 4],
            "name": ["load", "load"],
            "low_bytes": [0, 2 * MIB],
            "high_bytes": [4 * MIB, 13 * MIB],
            "live_bytes": [4 * MIB, 2 * MIB],
            "self_live_bytes": [4 * MIB, 2 * MIB],
        }
    )
    pd.testing.assert_frame_equal(timeline_frame(busy(), "load"), expected)


def test_timeline_by_name_can_be_asked_for_all() -> None:
    assert timeline_frame(busy(), "load", all=True)["context_id"].to_list() == [3, 4, 4]


def test_timeline_of_several_names_has_the_newest_of_each() -> None:
    assert timeline_frame(busy(), ["parse", "load"])["context_id"].to_list() == [4, 4, 5]


def test_timeline_by_id_takes_that_context() -> None:
    assert timeline_frame(busy(), 3)["context_id"].to_list() == [3]


def test_timeline_of_unknown_context_is_an_error() -> None:
    with pytest.raises(UnknownContextError):
        timeline_frame(busy(), "lode")
    with pytest.raises(UnknownContextError):
        timeline_frame(EMPTY, "load", all=True)


def test_highest_of_the_timeline_is_the_peak() -> None:
    highest = timeline_frame(busy()).groupby("context_id")["high_bytes"].max()
    assert highest.to_dict() == contexts_frame(busy())["peak_bytes"].to_dict()


def test_context_without_buckets_has_no_rows() -> None:
    source = recording((context(3, "none"), pack()), (context(4, "one"), pack((SECOND, 1, 2, 3, 4))))
    assert timeline_frame(source)["name"].to_list() == ["one"]
    assert timeline_frame(source, "none").empty


def test_times_keep_their_nanoseconds() -> None:
    source = recording((context(3, "load"), pack((MS + 1, 0, 0, 0, 0))))
    assert timeline_frame(source)["time"].to_list() == [pd.Timedelta(MS + 1, unit="ns")]


def test_frames_can_be_written_to_without_changing_the_recording() -> None:
    source = busy()
    frame = timeline_frame(source)
    frame.loc[0, "high_bytes"] = 0
    assert source == busy()


def test_large_figures_keep_every_bit() -> None:
    largest = 2**63 - 1
    source = recording((context(3, "load", total_bytes=largest), pack((0, 0, largest, 0, 0))))
    assert contexts_frame(source).loc[3, "total_bytes"] == largest
    assert timeline_frame(source)["high_bytes"].to_list() == [largest]


def test_comparison_columns_are_the_contract() -> None:
    columns = ["name", "figure", "before", "after", "difference", "ratio"]
    assert list(COMPARISON_COLUMNS) == list(Difference._fields) == columns
    assert list(comparison_frame(()).columns) == columns


def test_comparison_has_a_row_for_each_difference() -> None:
    rows = compare(busy(), busy(), "load", "parse")
    frame = comparison_frame(rows)
    assert [tuple(row) for row in frame.itertuples(index=False)][:2] == list(rows)[:2]
    assert frame["figure"].to_list() == [row.figure for row in rows]


@pytest.mark.parametrize("rows", [(), compare(busy(), EMPTY)], ids=["empty", "missing"])
def test_comparison_types_are_the_same_when_figures_are_missing(rows) -> None:  # type: ignore[no-untyped-def]
    types = comparison_frame(rows).dtypes
    assert [str(types[column]) for column in ("before", "after", "difference", "ratio")] == ["Int64"] * 3 + ["float64"]
    assert {types.pop("name"), types.pop("figure")} == {pd.Series(["text"], dtype=str).dtype}


def test_comparison_keeps_every_bit_beside_missing_figures() -> None:
    row = Difference("load", "total_bytes", 2**63 - 1, None, None, None)
    frame = comparison_frame((row, row._replace(before=None, after=2**53 + 1)))
    assert frame["before"].to_list() == [2**63 - 1, pd.NA]
    assert frame["after"].to_list() == [pd.NA, 2**53 + 1]
    assert frame["difference"].isna().all()
    assert frame["ratio"].isna().all()


def test_a_name_that_cannot_be_encoded_is_written_so_that_it_can() -> None:
    where = "caf\udce9.py line 2"
    rows = (Held(3, "load", "caf\udce9", "variable", 5, "", ("half \ud83d", "x"), 0, "load", where),)
    frame = retained_frame(rows)
    assert frame.loc[0, "allocated_at"] == r"caf\udce9.py line 2"
    assert frame.loc[0, "holder"] == r"caf\udce9"
    assert frame.loc[0, "shared_with"] == r"half \ud83d, x"


LINE = LineCost(4, "load", "In[3]", 2, "<module>", "pd.read_csv(path)", "read_csv", 8, 2, 9, 70, 60)


def test_lines_columns_are_the_contract() -> None:
    columns = (
        "context_id, name, file, line, function, source, through, peak_bytes, live_bytes, total_bytes, allocations, "
        "frees"
    )
    assert list(LINES_COLUMNS) == columns.split(", ")
    assert list(lines_frame([LINE]).columns) == columns.split(", ")
    assert list(lines_frame([LINE], stacks=True).columns) == [*columns.split(", "), "stack"]


def test_lines_hold_every_field_of_the_row_in_the_order_given() -> None:
    other = LINE._replace(line=1, file="half \ud83d")
    frame = lines_frame([LINE, other])
    assert frame.loc[0].to_dict() == {column: getattr(LINE, column) for column in LINES_COLUMNS}
    assert frame["line"].to_list() == [2, 1]
    assert frame["file"][1] == "half \\ud83d"


@pytest.mark.parametrize("rows", [[LINE], []], ids=["one", "none"])
def test_lines_have_the_same_types_also_when_there_are_none(rows: list[LineCost]) -> None:
    frame = lines_frame(rows, stacks=True)
    texts = ["name", "file", "function", "source", "through"]
    assert set(frame[texts].dtypes) == {pd.Series(["text"], dtype=str).dtype}
    assert set(frame.drop(columns=[*texts, "stack"]).dtypes) == {np.dtype("int64")}
    assert frame["stack"].dtype == np.dtype(object)


def test_stacks_are_tuples() -> None:
    stack = (("In[3]", 2, "<module>"), ("/lib/pandas.py", 7, "read_csv"))
    assert lines_frame([LINE._replace(stack=stack), LINE], stacks=True)["stack"].to_list() == [stack, ()]
