from __future__ import annotations

import pytest
from handmade import EMPTY, MIB, MS, SECOND, busy, context, pack, recording

from thag_nb.errors import UnknownContextError
from thag_nb.plotting.alt_text import describe_stack, describe_timeline


def test_description_tells_name_duration_peak_and_what_is_retained() -> None:
    assert describe_timeline(busy(), "load") == (
        "Live bytes of load over 1.00 s: peak 13.0 MiB after 200.0 ms, 2.0 MiB retained at its end."
    )


def test_description_of_the_whole_process_tells_what_is_live() -> None:
    assert (
        describe_timeline(busy()) == "Live bytes of root over 2.00 s: peak 14.0 MiB after 700.0 ms, 2.0 MiB live now."
    )


def test_description_of_nothing_says_so() -> None:
    assert describe_timeline(EMPTY) == "Nothing has been recorded yet."
    assert describe_stack(EMPTY) == "Nothing has been recorded yet."


def test_description_of_unknown_context_is_an_error() -> None:
    with pytest.raises(UnknownContextError):
        describe_timeline(EMPTY, "load")
    with pytest.raises(UnknownContextError):
        describe_stack(EMPTY, "load")


@pytest.mark.parametrize(
    ("duration_ns", "peak_at_ns", "words"),
    [
        (MS // 5, 0, "over 200.0 µs: peak 1.0 MiB, "),
        (50 * MS, 0, "over 50.0 ms: peak 1.0 MiB within the first milliseconds, "),
        (50 * MS, MS, "peak 1.0 MiB within the first milliseconds, "),
        (50 * MS, 20 * MS, "peak 1.0 MiB after 20.0 ms, "),
        (MS // 5, 20 * MS, "over 200.0 µs: peak 1.0 MiB after 20.0 ms, "),
    ],
)
def test_when_the_peak_was_is_told_as_far_as_it_is_known(duration_ns: int, peak_at_ns: int, words: str) -> None:
    record = context(3, "load", peak_bytes=MIB, started_ns=SECOND, duration_ns=duration_ns)
    buckets = [(SECOND, 0, 5, 5, 5), (SECOND + peak_at_ns, 0, MIB, 5, 5)]
    assert words in describe_timeline(recording((record, pack(*buckets))), "load")


def test_no_bucket_is_no_moment() -> None:
    assert "peak 0 B, 0 B retained" in describe_timeline(recording((context(3, "load"), pack())), "load")


def test_several_contexts_have_a_sentence_each() -> None:
    words = describe_timeline(busy(), ["load", "parse"])
    assert words.count("Live bytes of ") == 2


def test_a_stack_tells_the_largest_shares() -> None:
    source = recording(
        (context(3, "load", peak_bytes=9 * MIB, duration_ns=SECOND), pack()),
        *((context(4 + n, f"part {n}", parent_id=3, self_peak_bytes=n * MIB), pack()) for n in range(5)),
    )
    assert describe_stack(source, "load").endswith(
        " Largest shares: part 4 up to 4.0 MiB, part 3 up to 3.0 MiB, part 2 up to 2.0 MiB."
    )
