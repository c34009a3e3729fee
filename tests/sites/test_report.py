"""The annotated cell, of hand-made recordings."""

from __future__ import annotations

import re
from typing import Any

import pytest
from handmade import KIB, MIB, context, recording, root

from thag_nb.errors import UnknownContextError
from thag_nb.mimebundle import NO_MATHJAX
from thag_nb.palette import styles
from thag_nb.recordings.model import NO_FRAME, SMALLER, CellFile, LinesOf, Recording, Site, SiteFigures
from thag_nb.sites.annotated import Row, Sources, annotated
from thag_nb.sites.peak import peak_lines, peak_words
from thag_nb.sites.report import lines_bundle

CELL = "/tmp/ipykernel_1/cell.py"
OTHER = "/tmp/ipykernel_1/other.py"
PANDAS = "/venv/lib/python3.13/site-packages/pandas/core/frame.py"

SOURCE = [
    "%%thag_task load --lines",
    "import pandas as pd",
    "left = build(1_000_000)",
    'both = pd.merge(left, right, on="k")',
    "text = [str(v) for v in both.a]",
    "small = 1",
]
OTHER_SOURCE = ["def build(n):", "    frame = make(n)", "    return frame", "", "unused = 0"]
TYPED = {"In[3]": SOURCE, "In[2]": OTHER_SOURCE}

SITES = (
    Site(-1, CELL, 4, "<module>"),  # 0
    Site(0, PANDAS, 170, "merge"),
    Site(1, PANDAS, 1843, "factorize"),
    Site(1, PANDAS, 99, "concat"),
    Site(-1, CELL, 3, "<module>"),  # 4
    Site(4, OTHER, 2, "build"),
    Site(-1, CELL, 5, "<module>"),  # 6
    Site(6, CELL, 5, "<listcomp>"),
    Site(-1, CELL, 6, "<module>"),  # 8
    Site(-1, PANDAS, 1, "callback"),
)

Figures = tuple[int, int, int, int]  # site, at the peak, live, in all


def lined(*figures: Figures, peak_site: int = 2, peak: int = 100 * MIB, **fields: Any) -> Recording:
    """A task ``load`` in cell In[3], whose peak, live and total bytes are 100, 50 and 200 MiB."""
    costs = {"peak_bytes": peak, "live_bytes": 50 * MIB, "retained_bytes": 50 * MIB, "total_bytes": 200 * MIB} | fields
    is_explained = costs.pop("is_explained", True)
    lines = LinesOf(4, 4 * KIB, peak_site, is_explained, ((CELL, "In[3]"),))
    session = recording(
        (root(), b""),
        (context(2, "In[2]", kind="cell"), b""),
        (context(3, "In[3]", kind="cell"), b""),
        (context(4, "load", parent_id=3, **costs), b""),
    )
    sums = tuple(SiteFigures(4, site, live, total, 1, 0, ((4, at_peak),)) for site, at_peak, live, total in figures)
    return session._replace(sites=SITES, site_figures=sums, lines=(lines,), cell_files=(CellFile(OTHER, "In[2]"),))


def usual() -> Recording:
    return lined(
        (2, 30 * MIB, 0, 60 * MIB),
        (3, 10 * MIB, 10 * MIB, 20 * MIB),
        (5, 40 * MIB, 40 * MIB, 80 * MIB),
        (7, 15 * MIB, 0, 30 * MIB),
        (8, 100 * KIB, 100 * KIB, 100 * KIB),
        (SMALLER, 4 * MIB, 0, 8 * MIB),
    )


def rows(source: Recording, typed: Sources = TYPED) -> list[Row]:
    return annotated(source, source.find("load"), typed)


def line(source: Recording, number: int, block: str = "In[3]") -> Row:
    """A line below the heading of its block."""
    found = rows(source)
    below = found[[row.text for row in found if row.kind == "heading"].index(block) and _place(found, block) :]
    return next(row for row in below if row.number == number)


def _place(found: list[Row], block: str) -> int:
    return next(place for place, row in enumerate(found) if row.kind == "heading" and row.text == block)


def test_the_source_of_the_cell_stands_beside_what_its_lines_cost() -> None:
    assert (
        lines_bundle(usual(), 4, TYPED)["text/plain"]
        == """\
  at peak      kept  allocated  line
                                      In[3]
                                   1  %%thag_task load --lines
                                   2  import pandas as pd
                                   3  left = build(1_000_000)  → build
 40.0 MiB  10.0 MiB   80.0 MiB     4  both = pd.merge(left, right, on="k")  (through merge)  ← peak
 15.0 MiB             30.0 MiB     5  text = [str(v) for v in both.a]
                                   6  small = 1
                                      build, in In[2]
                                   1  def build(n):
 40.0 MiB  40.0 MiB   80.0 MiB     2      frame = make(n)
                                   3      return frame
  4.0 MiB              8.0 MiB        smaller than 4.0 KiB
  1.0 MiB              2.0 MiB        less than 1% each
100.0 MiB  50.0 MiB  200.0 MiB        together
Peak at line 4, in factorize.
A line has what it allocated itself or through libraries; your own functions have lines of their own."""
    )


@pytest.mark.parametrize(
    "source",
    [
        usual(),
        lined(),
        lined((0, 30, 40, 50), (5, 7, 0, 9), peak=100, live_bytes=41, total_bytes=1000),
        lined((9, 20 * MIB, MIB, 30 * MIB), (NO_FRAME, MIB, 2 * MIB, 70 * MIB), (7, 0, 0, 100 * MIB)),
        lined((2, 100 * MIB, 60 * MIB, 200 * MIB)),  # of which some has been freed where nobody saw it
        lined(*((site, 300 * KIB, 300 * KIB, 900 * KIB) for site in range(8))),
    ],
)
def test_each_column_adds_up_to_what_the_context_cost(source: Recording) -> None:
    *parts, whole = rows(source)
    record = source.find("load")
    assert whole.figures == (record.peak_bytes, record.live_bytes, record.total_bytes)
    assert tuple(map(sum, zip(*(row.figures for row in parts), strict=True))) == whole.figures


def test_a_figure_of_less_than_a_hundredth_of_its_column_is_blank() -> None:
    at_limit = lined((0, MIB, MIB // 2, 2 * MIB))
    below = lined((0, MIB - 1, MIB // 2 - 1, 2 * MIB - 1))
    assert line(at_limit, 4).figures == (MIB, MIB // 2, 2 * MIB)
    assert line(below, 4).figures == (0, 0, 0)
    assert line(lined((0, MIB - 1, 0, 3 * MIB)), 4).figures == (0, 0, 3 * MIB)


def test_a_function_elsewhere_has_the_lines_that_count_and_their_neighbours() -> None:
    found = rows(usual())
    block = found[_place(found, "build, in In[2]") + 1 :]
    assert [(row.number, row.text) for row in block if row.kind == "line"] == [
        (number, OTHER_SOURCE[number - 1]) for number in (1, 2, 3)
    ]


def test_the_cell_comes_first_whatever_others_cost() -> None:
    found = rows(lined((5, 90 * MIB, 50 * MIB, 150 * MIB), (0, 5 * MIB, 0, 5 * MIB)))
    assert [row.text for row in found if row.kind == "heading"] == ["In[3]", "build, in In[2]"]


def test_the_line_that_called_a_function_elsewhere_points_to_it() -> None:
    sites = (*SITES[:4], Site(-1, CELL, 6, "<module>"), Site(4, CELL, 2, "helper"), Site(5, OTHER, 2, "build"))
    found = rows(lined((6, 90 * MIB, 50 * MIB, 150 * MIB))._replace(sites=sites))
    assert [(row.number, row.calls) for row in found if row.calls] == [(2, ("build",))]


def test_a_function_that_is_not_to_be_shown_unfolds_from_the_line_that_called_it() -> None:
    hidden = Site(0, CELL, 6, "checked", is_hidden=True)
    sites = (SITES[0], hidden, Site(1, OTHER, 2, "build"))
    source = lined((1, 40 * MIB, 0, 40 * MIB), (2, 50 * MIB, 0, 50 * MIB), peak_site=1)._replace(sites=sites)
    found = line(source, 4)
    assert (found.figures[0], found.calls, found.mark) == (40 * MIB, ("build",), "peak")
    assert [way for way, _ in found.ways] == [("checked", "checked, In[3] line 6")]
    assert line(source, 6).calls == ()
    assert "<summary>through <code>checked</code></summary>" in lines_bundle(source, 4, TYPED)["text/html"]


def test_a_function_elsewhere_that_does_not_count_has_no_block() -> None:
    found = rows(lined((5, KIB, KIB, KIB)))
    assert [row.text for row in found if row.kind == "heading"] == ["In[3]"]
    assert line(lined((5, KIB, KIB, KIB)), 3).calls == ()


def test_a_gap_is_shown_between_lines_that_are_far_apart(tmp_path: Any) -> None:
    file = tmp_path / "tools.py"
    file.write_text("".join(f"step_{number}()\n" for number in range(1, 31)))
    sites = (Site(-1, CELL, 3, "<module>"), Site(0, str(file), 5, "work"), Site(0, str(file), 9, "work"))
    source = lined((1, 50 * MIB, 0, 50 * MIB), (2, 40 * MIB, 0, 40 * MIB), peak_site=1)._replace(sites=sites)
    found = rows(source)
    block = found[_place(found, f"work, in {file}") + 1 :]
    assert [row.text or row.kind for row in block][:7] == [
        *("step_4()", "step_5()", "step_6()"),
        "gap",
        *("step_8()", "step_9()", "step_10()"),
    ]
    assert [row.number for row in block if row.mark] == [5]
    assert re.search(r"^ +⋮$", lines_bundle(source, 4, TYPED)["text/plain"], re.MULTILINE)
    assert peak_words(source, 4) == "peak at line 5 of tools.py"


def test_a_long_cell_is_shown_where_it_counts() -> None:
    typed = {"In[3]": [f"line_{number} = 1" for number in range(1, 500)]}
    numbers = [row.number for row in rows(usual(), typed) if row.kind == "line"]
    assert numbers[:5] == [3, 4, 5, 6, 2]  # line 3 is a neighbour, line 2 another block's


def test_without_the_source_of_the_cell_its_lines_have_figures() -> None:
    found = rows(usual()._replace(cell_files=()), {})
    assert [row.text for row in found if row.kind == "heading"] == ["In[3]", f"build, in {OTHER}"]
    assert [(row.number, row.text) for row in found if row.kind == "line"] == [(4, ""), (5, ""), (2, "")]


def test_libraries_are_told_by_the_function_that_was_called_and_unfold_to_where_it_allocated() -> None:
    html = lines_bundle(usual(), 4, TYPED)["text/html"]
    assert html.count("<details") == 1
    unfolded = html[html.index("<details") : html.index("</details>")]
    assert "<summary>through <code>merge</code></summary>" in unfolded
    ways = [re.sub("<[^>]*>", "", way) for way in unfolded.split("<div>")[1:]]
    assert ways == [
        "merge → factorize, frame.py line 1843: 30.0 MiB at peak, 0 B kept, 60.0 MiB allocated",
        "merge → concat, frame.py line 99: 10.0 MiB at peak, 10.0 MiB kept, 20.0 MiB allocated",
    ]


def test_many_ways_through_libraries_are_summed_up() -> None:
    several = range(1, 10)
    sites = (SITES[0], *(Site(0, PANDAS, number, f"function_{number}") for number in several))
    source = lined(*((number, 10 * MIB, 0, 20 * MIB) for number in several))._replace(sites=sites)
    bundle = lines_bundle(source, 4, TYPED)
    assert "(through function_1, function_2 and 7 others)" in bundle["text/plain"]
    assert "<div>3 more: 30.0 MiB at peak, 0 B kept, 60.0 MiB allocated</div>" in bundle["text/html"]


def test_bars_are_shares_of_the_column_in_the_colour_of_the_context() -> None:
    html = lines_bundle(usual(), 4, TYPED)["text/html"]
    bars = re.findall(r"width: ([\d.]+)%; background-color: (#\w+)", html)
    assert bars[:3] == [(share, styles(("In[2]", "In[3]", "load"))["load"].line) for share in ("40.0", "20.0", "40.0")]
    assert len(bars) == 3 + 2 + 3 + 2 + 2  # the row of all has none


def test_what_untrusted_notebooks_strip_is_not_used() -> None:
    html = lines_bundle(usual(), 4, TYPED)["text/html"]
    html = html.replace(f'class="{NO_MATHJAX}"', "")  # which no look depends on
    assert not any(word in html for word in ("<style", "<svg", "<script", "class=", "var("))


def test_source_is_text_and_no_formula() -> None:
    typed = {"In[3]": ["<b>&amp;</b>", "\tx = '$1$'", "", 'y = "<script>"']}
    html = lines_bundle(usual(), 4, typed)["text/html"]
    assert html.startswith(f'<div class="{NO_MATHJAX}">')
    assert "&lt;b&gt;&amp;amp;&lt;/b&gt;" in html
    assert "    x = &#x27;$1$&#x27;</code>" in html
    assert "<script" not in html
    assert "<b>&amp;" not in html


def test_long_source_is_cut_in_text_alone() -> None:
    typed = {"In[3]": ["", "", "", "x" * 200]}
    bundle = lines_bundle(usual(), 4, typed)
    assert f"{'x' * 71}…  (through merge)" in bundle["text/plain"]
    assert "x" * 200 in bundle["text/html"]


def test_what_has_been_freed_since_is_not_called_kept() -> None:
    text = lines_bundle(lined((0, MIB, MIB, MIB), retained_bytes=60 * MIB), 4, TYPED)["text/plain"]
    assert text.splitlines()[0].split("  ")[-3:] == ["live now", "allocated", "line"]
    still_open = lines_bundle(lined((0, MIB, MIB, MIB), state="open"), 4, TYPED)["text/plain"]
    assert "live now" in still_open


def test_a_peak_that_is_not_explained_has_no_column() -> None:
    bundle = lines_bundle(lined((0, 0, MIB, MIB), is_explained=False), 4, TYPED)
    assert "at peak" not in "".join(bundle.values())
    assert "What made up the peak is not known: too many contexts around this one" in bundle["text/plain"]
    assert "not told apart" not in bundle["text/plain"]


def test_a_context_without_lines_says_so() -> None:
    assert lines_bundle(usual(), 3, TYPED) == {"text/plain": "In[3] · its lines were not recorded"}
    with pytest.raises(UnknownContextError):
        lines_bundle(usual(), 9, TYPED)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (0, "peak at line 4"),
        (2, "peak at line 4"),
        (5, "peak at line 2 of In[2]"),
        (7, "peak at line 5"),
        (SMALLER, ""),
        (NO_FRAME, ""),
    ],
)
def test_the_peak_is_told_by_its_line(site: int, words: str) -> None:
    source = lined(peak_site=site)
    assert peak_words(source, 4) == words
    assert peak_lines(source) == ({4: words} if words else {})
    assert peak_words(source, 3) == ""


def test_the_line_of_the_peak_is_shown_even_if_it_holds_little() -> None:
    found = rows(lined((0, 90 * MIB, 0, 90 * MIB), (5, MIB, 0, MIB), peak_site=5))
    (peak,) = (row for row in found if row.mark)
    assert (peak.text, peak.mark) == ("    frame = make(n)", "peak")
    assert found[_place(found, "build, in In[2]") + 2] == peak


@pytest.mark.parametrize("peak_site", [5, SMALLER, NO_FRAME])
def test_if_something_small_came_last_the_line_of_most_is_told(peak_site: int) -> None:
    source = lined((0, 30 * MIB, 0, 90 * MIB), (7, 60 * MIB, 0, 60 * MIB), (5, KIB, 0, KIB), peak_site=peak_site)
    number = SITES[7].line
    assert [(row.number, row.mark) for row in rows(source) if row.mark] == [(number, "most at peak")]
    assert peak_words(source, 4) == f"most at peak: line {number}"
    text = lines_bundle(source, 4, TYPED)["text/plain"]
    assert f"\nMost at peak: line {number}.\n" in text
    assert text.count("← most at peak") == 1


def test_what_is_not_the_users_is_not_told_as_the_line_of_most() -> None:
    sites = (
        Site(-1, "/venv/lib/python3.13/site-packages/ipykernel/kernelbase.py", 678, "run"),
        Site(-1, CELL, 3, "<module>"),
    )
    small = lined((0, 90 * MIB, 0, 90 * MIB), (1, KIB, 0, KIB), peak_site=1)._replace(sites=sites)
    assert peak_words(small, 4) == "peak at line 3"
    large = lined((0, 60 * MIB, 0, 60 * MIB), (1, 30 * MIB, 0, 30 * MIB), peak_site=SMALLER)._replace(sites=sites)
    assert peak_words(large, 4) == "most at peak: line 3"
