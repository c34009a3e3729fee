from __future__ import annotations

import pytest
from figures import of as newest
from handmade import EMPTY, MIB, MS, SECOND, busy, context, pack, recording, root

import thag_nb
from thag_nb.comparison.differences import FIGURES, aligned, compare, in_words, pair, verdict
from thag_nb.errors import ComparisonError, NotARecordingError, NothingToCompareError, UnknownContextError
from thag_nb.recordings.model import ContextRecord, Difference, Recording

SLOW = context(
    3,
    "slow",
    peak_bytes=800 * MIB,
    retained_bytes=100 * MIB,
    live_bytes=50 * MIB,
    total_bytes=900 * MIB,
    allocations=3_000,
    foreign_frees=7,
    duration_ns=SECOND,
)
FAST = context(4, "fast", peak_bytes=400 * MIB, retained_bytes=100 * MIB, total_bytes=450 * MIB, duration_ns=2 * SECOND)


def of(*records: ContextRecord) -> Recording:
    return recording((root(), pack()), *((record, pack()) for record in records))


def one(figure: str, before: int, after: int) -> Difference:
    records = context(3, "a", **{figure: before}), context(4, "b", **{figure: after})
    return next(row for row in compare(of(*records), of(*records), "a", "b") if row.figure == figure)


def names(rows: tuple[Difference, ...]) -> list[str]:
    return list(dict.fromkeys(row.name for row in rows))


def test_figures_are_the_contract() -> None:
    figures = ["peak_bytes", "retained_bytes", "total_bytes", "allocations", "foreign_frees", "duration_ns"]
    assert list(FIGURES) == figures
    assert set(figures) <= set(ContextRecord._fields)


def test_two_names_give_a_row_for_each_figure() -> None:
    both = of(SLOW, FAST)
    assert compare(both, both, "slow", "fast") == (
        ("slow -> fast", "peak_bytes", 800 * MIB, 400 * MIB, -400 * MIB, 0.5),
        ("slow -> fast", "retained_bytes", 100 * MIB, 100 * MIB, 0, 1.0),
        ("slow -> fast", "total_bytes", 900 * MIB, 450 * MIB, -450 * MIB, 0.5),
        ("slow -> fast", "allocations", 3_000, 0, -3_000, 0.0),
        ("slow -> fast", "foreign_frees", 7, 0, -7, 0.0),
        ("slow -> fast", "duration_ns", SECOND, 2 * SECOND, SECOND, 2.0),
    )


def test_there_is_no_ratio_to_nothing() -> None:
    assert one("peak_bytes", 0, 5)[2:] == (0, 5, 5, None)
    assert one("peak_bytes", 0, 0)[2:] == (0, 0, 0, None)


def test_large_figures_keep_every_bit() -> None:
    assert one("total_bytes", 2**62, 2**62 + 1).difference == 1


def test_an_open_context_is_compared_by_what_is_live() -> None:
    source = of(SLOW, context(9, "slow", state="open", live_bytes=30, retained_bytes=0))
    assert compare(source, source, "slow")[1] == (
        "slow",
        "retained_bytes",
        100 * MIB,
        30,
        30 - 100 * MIB,
        30 / (100 * MIB),
    )


def test_one_name_compares_its_two_newest() -> None:
    source = of(*(context(number, "load", peak_bytes=number * MIB) for number in (3, 4, 6)), context(5, "parse"))
    assert compare(source, source, "load")[0] == ("load", "peak_bytes", 4 * MIB, 6 * MIB, 2 * MIB, 1.5)


def test_an_id_is_compared_with_the_one_of_its_name_before_it() -> None:
    source = of(*(context(number, "load") for number in (3, 4, 6)))
    assert [record.context_id for record in pair(source, source, 4)] == [3, 4]


def test_one_name_in_two_recordings_is_the_newest_of_each() -> None:
    monday = of(context(3, "load", peak_bytes=1), context(4, "load", peak_bytes=2))
    tuesday = of(context(3, "load", peak_bytes=3), context(8, "load", peak_bytes=5))
    assert compare(monday, tuesday, "load")[0] == ("load", "peak_bytes", 2, 5, 3, 2.5)
    assert compare(monday, tuesday, 3)[0] == ("load", "peak_bytes", 1, 5, 4, 5.0)


def test_what_is_there_only_once_is_an_error() -> None:
    source = of(SLOW, FAST)
    with pytest.raises(NothingToCompareError) as caught:
        compare(source, source, "slow")
    assert str(caught.value) == "only one 'slow' has been recorded; run it again, or name what to compare it with"
    with pytest.raises(NothingToCompareError, match=r"^'slow' and 3 are the same context; "):
        compare(source, source, "slow", 3)


def test_a_name_that_is_missing_is_told_with_the_recording_that_misses_it() -> None:
    with pytest.raises(UnknownContextError, match=r"^no context is called 'nosuch'; known: fast, slow, root$"):
        compare(*[of(SLOW, FAST)] * 2, "slow", "nosuch")
    with pytest.raises(UnknownContextError, match=r"^no context in the recording before is called 'fast'; known: slow"):
        compare(of(SLOW), of(FAST), "fast")
    with pytest.raises(UnknownContextError, match=r"^no context in the recording after is called 'slow'; known: fast"):
        compare(of(SLOW), of(FAST), "slow")


def test_two_recordings_are_compared_by_name_the_largest_difference_of_peak_first() -> None:
    monday = of(*(context(3 + place, name, peak_bytes=10) for place, name in enumerate(("a", "b", "c", "gone"))))
    grown = {"small": 1, "a": 11, "b": 4, "c": 30, "large": 9}
    tuesday = of(*(context(3 + place, name, peak_bytes=peak) for place, (name, peak) in enumerate(grown.items())))
    rows = compare(monday, tuesday)
    assert names(rows) == ["c", "b", "a", "gone", "large", "small"]
    assert len(rows) == 6 * len(FIGURES)
    assert rows[3 * len(FIGURES)] == ("gone", "peak_bytes", 10, None, None, None)
    assert rows[-len(FIGURES)] == ("small", "peak_bytes", None, 1, None, None)


def test_two_recordings_are_compared_by_the_newest_of_each_name_but_not_by_root_and_system() -> None:
    system = context(2, "system", kind="system")
    monday = of(system, context(3, "In[1]", kind="cell"), context(4, "load", peak_bytes=1), context(5, "load"))
    rows = compare(monday, monday)
    assert names(rows) == ["In[1]", "load"]
    assert rows[-len(FIGURES)] == ("load", "peak_bytes", 0, 0, 0, None)


def test_empty_recordings_have_no_differences() -> None:
    assert compare(EMPTY, EMPTY) == ()
    assert in_words(()) == ()


# Words


@pytest.mark.parametrize(
    ("figure", "before", "after", "expected"),
    [
        ("peak_bytes", 800 * MIB, 400 * MIB, "better"),
        ("peak_bytes", 400 * MIB, 800 * MIB, "worse"),
        ("retained_bytes", 0, MIB, "worse"),
        ("retained_bytes", MIB, MIB - (64 << 10) + 1, "the same"),
        ("retained_bytes", MIB, MIB - (64 << 10), "better"),
        ("peak_bytes", 1000 * MIB, 991 * MIB, "the same"),
        ("peak_bytes", 1000 * MIB, 990 * MIB, "better"),
        ("allocations", 50, 149, "the same"),
        ("allocations", 50, 150, "worse"),
        ("duration_ns", MS, 2 * MS - 1, "the same"),
        ("duration_ns", 2 * MS, MS, "better"),
        ("total_bytes", 0, 800 * MIB, ""),
        ("total_bytes", 800 * MIB, 800 * MIB, "the same"),
        ("foreign_frees", 0, 1000, ""),
    ],
)
def test_less_is_better_unless_it_is_the_same(figure: str, before: int, after: int, expected: str) -> None:
    assert verdict(one(figure, before, after)) == expected


def test_a_figure_that_is_missing_is_neither_better_nor_worse() -> None:
    assert {verdict(row) for row in compare(of(SLOW), EMPTY)} == {""}


def test_a_sentence_says_what_changed_and_what_is_the_same() -> None:
    both = of(SLOW, FAST)
    assert in_words(compare(both, both, "slow", "fast")) == (
        "slow -> fast: peak 800.0 MiB -> 400.0 MiB, 2.0 times less (better); allocations 3,000 -> 0 (better); "
        "time of one run 1.00 s -> 2.00 s, 2.0 times as long (worse); kept the same",
    )


@pytest.mark.parametrize(
    ("figure", "before", "after", "clause"),
    [
        ("peak_bytes", 100 * MIB, 125 * MIB, "peak 100.0 MiB -> 125.0 MiB, 25 % more (worse)"),
        ("peak_bytes", 100 * MIB, 75 * MIB, "peak 100.0 MiB -> 75.0 MiB, 25 % less (better)"),
        ("peak_bytes", 100 * MIB, 50 * MIB + 1, "peak 100.0 MiB -> 50.0 MiB, 2.0 times less (better)"),
        ("retained_bytes", 2 * MIB, 7 * MIB, "kept 2.0 MiB -> 7.0 MiB, 3.5 times as much (worse)"),
        ("retained_bytes", 0, 7 * MIB, "kept 0 B -> 7.0 MiB (worse)"),
        ("retained_bytes", 7 * MIB, 0, "kept 7.0 MiB -> 0 B (better)"),
        ("allocations", 10_000, 9_000, "allocations 10,000 -> 9,000, 10 % fewer (better)"),
        ("allocations", 10, 99_990, "allocations 10 -> 99,990, 9,999 times as many (worse)"),
        ("duration_ns", 30 * MS, 10 * MS, "time of one run 30.0 ms -> 10.0 ms, 3.0 times less (better)"),
    ],
)
def test_how_much_is_said_in_percent_or_times(figure: str, before: int, after: int, clause: str) -> None:
    records = of(context(3, "a", **{figure: before}), context(4, "b", **{figure: after}))
    (sentence,) = in_words(compare(records, records, "a", "b"))
    assert sentence.startswith(f"a -> b: {clause}; ")


def test_all_the_same_is_said_once() -> None:
    assert in_words(compare(of(SLOW), of(SLOW))) == ("slow: peak, kept, allocations and time of one run the same",)


def test_a_name_on_one_side_only_is_said_to_be() -> None:
    assert in_words(compare(of(SLOW), of(FAST))) == (
        "slow: only before, peak 800.0 MiB",
        "fast: only after, peak 400.0 MiB",
    )


# Aligned curves


def test_aligned_contexts_both_start_at_0() -> None:
    found = aligned(busy(), busy(), "load", "parse")
    assert [(record.context_id, record.name, record.kind, record.parent_id) for record in found.contexts] == [
        (1, "load", "task", 0),
        (2, "parse", "task", 0),
    ]
    assert [record.started_ns for record in found.contexts] == [0, 0]
    assert found.contexts[0].peak_bytes == 13 * MIB
    assert found.taken_ns == SECOND
    assert found.timeline(1) == (
        (0, 0, 4 * MIB, 4 * MIB, 4 * MIB),
        (200 * MS, 2 * MIB, 13 * MIB, 2 * MIB, 2 * MIB),
    )
    assert found.timeline(2) == ((0, 0, 3 * MIB, 0, 0),)


def test_two_of_one_name_are_told_apart() -> None:
    source = busy()
    assert [record.name for record in aligned(source, source, "load").contexts] == ["load (before)", "load (after)"]
    assert [record.duration_ns for record in aligned(source, source, "load").contexts] == [100 * MS, SECOND]


def test_a_curve_begins_at_its_start_whenever_it_had_something_first() -> None:
    late = context(3, "late", started_ns=SECOND, duration_ns=SECOND)
    source = recording((late, pack((SECOND + MS, 1, 2, 2, 2))), (context(4, "none"), pack()))
    found = aligned(source, source, "late", "none")
    assert found.timeline(1) == ((0, 0, 0, 0, 0), (MS, 1, 2, 2, 2))
    assert found.timeline(2) == ((0, 0, 0, 0, 0),)


def test_of_two_recordings_the_name_whose_peak_differs_most_is_aligned() -> None:
    monday = of(context(3, "a"), context(4, "b"), context(5, "gone", peak_bytes=100))
    tuesday = of(context(3, "b", peak_bytes=9), context(4, "a", peak_bytes=2))
    assert [record.name for record in aligned(monday, tuesday).contexts] == ["b (before)", "b (after)"]
    with pytest.raises(NothingToCompareError, match=r"^no cell or task is in both recordings; name two to compare$"):
        aligned(of(SLOW), of(FAST))


# thag_nb.compare


def load(size: int) -> None:
    with thag_nb.task("load"):
        bytearray(size)


def peaks(**options: object) -> list[int]:
    """Before, after and difference of the peak of ``load``."""
    frame = thag_nb.compare("load", **options)  # type: ignore[arg-type]
    return frame.loc[frame.figure == "peak_bytes", ["before", "after", "difference"]].to_numpy().tolist()[0]  # type: ignore[no-any-return]


@pytest.mark.usefixtures("dispatcher")
def test_a_name_is_compared_now_in_a_recording_or_between_both() -> None:
    load(3_000_000)
    load(1_000_000)
    monday = thag_nb.read()
    first, second = (record.peak_bytes for record in monday.find_all("load"))
    assert first - second == 2_000_000
    assert peaks() == peaks(recording=monday) == [first, second, -2_000_000]
    load(5_000_000)
    third = newest("load").peak_bytes
    assert peaks() == peaks(against=monday) == [second, third, 4_000_000]
    assert peaks(recording=monday, against=thag_nb.read()) == [third, second, -4_000_000]


@pytest.mark.usefixtures("dispatcher")
def test_whole_recordings_are_compared_with_each_other_or_with_now() -> None:
    load(3_000_000)
    monday = thag_nb.read()
    with thag_nb.task("parse"):
        pass
    load(1_000_000)
    assert thag_nb.compare(monday)["name"].drop_duplicates().to_list() == ["load", "parse"]
    assert thag_nb.compare(monday).equals(thag_nb.compare(monday, thag_nb.read()))
    assert thag_nb.compare(monday, monday)["difference"].to_list() == [0] * len(FIGURES)


@pytest.mark.parametrize(
    ("sides", "options"),
    [
        ((busy(), "load"), {}),
        (("load", busy()), {}),
        ((busy(),), {"against": busy()}),
        ((busy(), busy()), {"recording": busy()}),
        ((None,), {}),
    ],
    ids=["recording, name", "name, recording", "recording against", "three recordings", "nothing"],
)
def test_what_cannot_be_compared_is_refused(sides: tuple[object, ...], options: dict[str, object]) -> None:
    with pytest.raises(ComparisonError, match=r"^compare two names or ids, or two recordings, not .* and .*; for"):
        thag_nb.compare(*sides, **options)  # type: ignore[arg-type]


def test_something_else_than_a_recording_is_refused() -> None:
    with pytest.raises(NotARecordingError, match=r"^against must be a Recording, not 'monday.json.gz'; take one"):
        thag_nb.compare("load", against="monday.json.gz")  # type: ignore[arg-type]
    with pytest.raises(NotARecordingError, match=r"^recording must be a Recording, not 3; take one"):
        thag_nb.compare("load", recording=3)  # type: ignore[arg-type]


def test_one_time_needs_a_quarter_of_difference_and_bytes_do_not() -> None:
    assert verdict(Difference("a", "duration_ns", SECOND, 1_300 * MS, 300 * MS, 1.3)) == "the same"
    assert verdict(Difference("a", "duration_ns", SECOND, 1_400 * MS, 400 * MS, 1.4)) == "worse"
    assert verdict(Difference("a", "peak_bytes", 100 * MIB, 102 * MIB, 2 * MIB, 1.02)) == "worse"
