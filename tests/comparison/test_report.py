from __future__ import annotations

import pytest
from handmade import EMPTY, MIB, MS, SECOND, busy, context, pack, recording

from thag_nb.comparison.differences import aligned, compare
from thag_nb.comparison.report import comparison_bundle
from thag_nb.mimebundle import NO_MATHJAX
from thag_nb.recordings.model import Recording

CAVEAT = (
    "Bytes and counts are exact; the time is that of one run, and varies. "
    "The same is what is less than 1 % apart (5 % of a count, 25 % of a time), or than 64 KiB, 100 allocations or 1 ms."
)


def peaks(*names: str, peak_bytes: int) -> Recording:
    records = (context(3 + place, name, peak_bytes=peak_bytes) for place, name in enumerate(names))
    return recording(*((record, pack()) for record in records))


def text(before: Recording, after: Recording, *which: str) -> str:
    return comparison_bundle(compare(before, after, *which), None)["text/plain"]


def test_one_pair_is_told_in_words_and_a_table_of_every_figure_that_is_not_nothing() -> None:
    slow = context(3, "slow", peak_bytes=8 * MIB, retained_bytes=MIB, total_bytes=9 * MIB, duration_ns=SECOND)
    fast = context(4, "fast", peak_bytes=4 * MIB, retained_bytes=MIB, total_bytes=3 * MIB, duration_ns=1500 * MS)
    both = recording((slow, pack()), (fast, pack()))
    assert text(both, both, "slow", "fast").splitlines() == [
        "slow -> fast: peak 8.0 MiB -> 4.0 MiB, 2.0 times less (better); "
        "time of one run 1.00 s -> 1.50 s, 50 % more (worse); kept and allocations the same",
        "",
        "context       figure            before    after  difference  ratio",
        "slow -> fast  peak             8.0 MiB  4.0 MiB    -4.0 MiB   0.50  better",
        "              kept             1.0 MiB  1.0 MiB         0 B         the same",
        "              allocated        9.0 MiB  3.0 MiB    -6.0 MiB   0.33",
        "              time of one run   1.00 s   1.50 s   +500.0 ms   1.50  worse",
        CAVEAT,
    ]


def test_several_names_show_only_what_differs_and_how_many_do_not() -> None:
    before = recording(*((context(3 + place, name, peak_bytes=MIB), pack()) for place, name in enumerate("abcd")))
    after = recording(
        (context(3, "a", peak_bytes=MIB), pack()),
        (context(4, "b", peak_bytes=3 * MIB, allocations=5), pack()),
        (context(5, "c", peak_bytes=MIB + 5), pack()),
        (context(6, "new", peak_bytes=2 * MIB), pack()),
    )
    assert text(before, after).splitlines() == [
        "b: peak 1.0 MiB -> 3.0 MiB, 3.0 times as much (worse); kept, allocations and time of one run the same",
        "new: only after, peak 2.0 MiB",
        "d: only before, peak 1.0 MiB",
        "the same in everything: 2 of 5 names",
        "",
        "context  figure   before    after  difference  ratio",
        "b        peak    1.0 MiB  3.0 MiB    +2.0 MiB   3.00  worse",
        "new      peak             2.0 MiB",
        "d        peak    1.0 MiB",
        CAVEAT,
    ]


def test_many_names_are_shown_briefly() -> None:
    names = [f"task {number}" for number in range(12)]
    found = text(peaks(*names, peak_bytes=MIB), peaks(*names, peak_bytes=9 * MIB))
    assert found.count(": peak ") == 10
    assert "\n... and 2 more; thag_nb.compare() has them all\n" in found


def test_nothing_in_common_or_nothing_at_all_is_said() -> None:
    assert text(EMPTY, EMPTY) == "There is no cell or task to compare."
    same = peaks("a", "b", peak_bytes=MIB)
    assert text(same, same) == "the same in everything: 2 of 2 names"


def test_without_curves_there_is_no_picture() -> None:
    bundle = comparison_bundle(compare(busy(), busy(), "load", "parse"), None)
    assert set(bundle) == {"text/plain", "text/html"}
    assert "<img" not in bundle["text/html"]


def test_with_curves_the_picture_stands_between_words_and_table() -> None:
    source = busy()
    bundle = comparison_bundle(compare(source, source, "load"), aligned(source, source, "load"))
    assert set(bundle) == {"text/plain", "text/html"}
    html = bundle["text/html"]
    assert html.index("<div>load: peak 1.0 MiB -&gt; 13.0 MiB") < html.index("<img") < html.index("<table style")
    alt = "Live bytes of load (before) and load (after), both from their start. load (before) -&gt; load (after): peak "
    assert f'<img alt="{alt}1.0 MiB -&gt; 13.0 MiB' in html


def test_what_untrusted_notebooks_strip_is_not_used() -> None:
    source = busy()
    html = comparison_bundle(compare(source, source, "load"), aligned(source, source, "load"))["text/html"]
    html = html.replace(f'class="{NO_MATHJAX}"', "")  # which no look depends on
    assert not any(word in html for word in ("<style", "<svg", "<script", "class=", "var("))


@pytest.mark.parametrize("name", ["<b>bold</b>", 'a"quote', "$x$"])
def test_names_are_text(name: str) -> None:
    source = recording((context(3, name, peak_bytes=MIB), pack()), (context(4, name), pack()))
    html = comparison_bundle(compare(source, source, name), aligned(source, source, name))["text/html"]
    assert "<b>" not in html
    assert 'a"quote' not in html
