import pytest
from handmade import MIB, context, pack, recording, root

from thag_nb.comparison.differences import aligned, compare
from thag_nb.comparison.report import comparison_bundle
from thag_nb.costs.page import page
from thag_nb.costs.report import costs_bundle, costs_view, task_bundle
from thag_nb.holders.report import retained_bundle
from thag_nb.mimebundle import NO_MATHJAX, html_table, stacked, text_table
from thag_nb.notebook.canvas import DashboardCanvas, LiveCanvas
from thag_nb.recordings.model import Held, Recording

ROWS = [("load", "1.0 MiB"), ("<b>", "12 B")]


def test_text_is_in_line() -> None:
    assert text_table(ROWS, ("context", "peak")) == "context     peak\nload     1.0 MiB\n<b>         12 B"


def test_each_cell_has_a_line_of_its_own_as_one_that_stays_in_sight_covers_what_it_shares() -> None:
    table = html_table(ROWS, ("context", "peak"))
    assert table.startswith('<table style="border-collapse: separate; border-spacing: 0">')
    assert table.count("border-bottom: 1px") == table.count("<td") + table.count("<th ")


def test_html_is_escaped_and_styled_where_it_stands() -> None:
    table = html_table(ROWS, ("context", "peak"))
    assert "&lt;b&gt;" in table
    assert "<b>" not in table
    assert table.count("<tr>") == 3
    assert "class=" not in table
    assert table.count("text-align: left") == 3


def test_long_text_wraps_and_code_is_marked_as_such() -> None:
    table = html_table([("  load", "a & b", "del a")], ("context", "holder", "released by"), wrapped=(1, 2), code=(2,))
    context, holder, line = table.split("<td")[1:]
    assert "white-space: pre" in context
    assert "wrap" not in context
    assert "white-space: pre-wrap; overflow-wrap: anywhere" in holder
    assert "a &amp; b</td>" in holder
    assert ">del a</code></td>" in line


def test_a_table_without_rows_has_its_head() -> None:
    assert text_table([], ("context", "peak")) == "context  peak"
    assert html_table([], ("context",)).endswith("</thead><tbody></tbody></table>")


def test_one_bundle_below_another_is_html_if_either_is() -> None:
    words, table = {"text/plain": "a < b"}, {"text/plain": "table", "text/html": "<table>"}
    assert stacked(words, words) == {"text/plain": "a < b\na < b"}
    assert stacked(words, table) == {
        "text/plain": "a < b\ntable",
        "text/html": f'<div class="{NO_MATHJAX}"><div>a &lt; b</div></div><table>',
    }
    assert stacked(table, words)["text/html"].startswith("<table><div class=")


LONG = "summarise: " + "lorem ipsum " * 15


def test_a_long_name_is_cut_and_never_moves_the_figures_out_of_sight() -> None:
    rows = [("  " + LONG, "1.0 MiB"), ("short", "2.0 MiB")]
    text = text_table(rows, ("context", "peak")).splitlines()
    assert text[1].startswith(f"  {LONG[:39]}…  ")
    assert max(map(len, text)) < 60
    head, long, short = html_table(rows, ("context", "peak")).split("<tr>")[1:]
    assert f'title="{LONG}"' in long
    assert f">  {LONG}</td>" in long
    assert "max-width: 30ch" in long
    assert "max-width: 28ch" in short
    for row in (head, long, short):
        first, second = row.split("</t", 1)
        assert "position: sticky; left: 0" in first
        assert "text-overflow: ellipsis" in first
        assert "sticky" not in second


def test_a_deeply_nested_name_stays_in_sight() -> None:
    rows = [(" " * 400 + "deep", "1 B")]
    assert len(text_table(rows, ("context", "peak")).splitlines()[1]) < 60
    assert " " * 25 not in html_table(rows, ("context", "peak"))


def test_text_that_cannot_be_encoded_is_written_so_that_it_can() -> None:
    rows = [("caf\udce9", "del \x1b"), ("\n", "")]
    for table in (text_table(rows, ("holder", "line")), html_table(rows, ("holder", "line"), code=(1,))):
        assert table.encode()
        assert r"caf\udce9" in table
        assert r"\x1b" in table


def formula() -> Recording:
    named = (context(3, "$x_1$ <i>", peak_bytes=MIB), pack()), (context(4, "$x_1$ <i>"), pack())
    return recording((root(), pack()), *named)


SHOWN = {
    "task": lambda: task_bundle(formula(), 3, figure=True)["text/html"],
    "costs": lambda: costs_bundle(formula(), figure=True)["text/html"],
    "view": lambda: costs_view(formula())[0],
    "holders": lambda: retained_bundle((Held(3, "$x_1$ <i>", "x", "variable", MIB, "", (), 0, "$x_1$ <i>"),))[
        "text/html"
    ],
    "comparison": lambda: comparison_bundle(
        compare(formula(), formula(), "$x_1$ <i>"), aligned(formula(), formula(), "$x_1$ <i>")
    )["text/html"],
    "words": lambda: comparison_bundle(compare(formula(), formula()), None)["text/html"],
    "page": lambda: page(formula()).partition("<body")[2],
}


@pytest.mark.parametrize("shown", SHOWN)
def test_mathjax_passes_over_whatever_is_shown(shown: str) -> None:
    html = SHOWN[shown]()
    assert html.removeprefix("<div").startswith(f' class="{NO_MATHJAX}">')
    assert html.rstrip().endswith("</div>") or shown == "page"
    assert NO_MATHJAX == "tex2jax_ignore mathjax_ignore"


@pytest.mark.parametrize("canvas", [LiveCanvas, DashboardCanvas])
def test_mathjax_passes_over_the_canvases(canvas: type[LiveCanvas | DashboardCanvas]) -> None:
    view = canvas()
    assert set(NO_MATHJAX.split()) <= set(view._dom_classes)
    view.close()
