from thag_nb.mimebundle import html_table, text_table

ROWS = [("load", "1.0 MiB"), ("<b>", "12 B")]


def test_text_is_in_line() -> None:
    assert text_table(ROWS, ("context", "peak")) == "context     peak\nload     1.0 MiB\n<b>         12 B"


def test_html_is_escaped_and_styled_where_it_stands() -> None:
    table = html_table(ROWS, ("context", "peak"))
    assert "&lt;b&gt;" in table
    assert "<b>" not in table
    assert table.count("<tr>") == 3
    assert "class=" not in table
    assert table.count("text-align: left") == 3


def test_long_text_wraps_and_code_is_marked_as_such() -> None:
    table = html_table([("  load", "a & b", "del a")], ("context", "holder", "released by"), wrapped=(1, 2), code=(2,))
    context, holder, line = table.split("<td ")[1:]
    assert "white-space: pre" in context
    assert "wrap" not in context
    assert "white-space: pre-wrap; overflow-wrap: anywhere" in holder
    assert "a &amp; b</td>" in holder
    assert ">del a</code></td>" in line


def test_a_table_without_rows_has_its_head() -> None:
    assert text_table([], ("context", "peak")) == "context  peak"
    assert html_table([], ("context",)).endswith("</thead><tbody></tbody></table>")
