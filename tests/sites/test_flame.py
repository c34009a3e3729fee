"""A picture of who called whom to allocate, and the same in words and as a table."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import pytest
from handmade import CELL, MIB, Frames, charged, context, lined, recording, root

import thag_nb
from thag_nb import palette
from thag_nb.errors import ChoiceError, NoLinesError
from thag_nb.recordings.model import Recording, SourceLine
from thag_nb.sites.flame import MOST_LEVELS, WIDTH, Flame, flame

SVG = "{http://www.w3.org/2000/svg}"


def of_load(*charges: tuple[Frames, int], name: str = "load") -> Recording:
    whole = sum(size for _, size in charges)
    record = context(3, name, peak_bytes=whole, live_bytes=whole, total_bytes=whole, allocations=len(charges))
    return charged(recording((root(), b""), (record, b"")), *((3, stack, size, {3: size}) for stack, size in charges))


def boxes(made: Flame) -> list[tuple[str, float, float, int]]:
    """Title, left edge, width and top of each, as they are drawn."""
    drawn = ElementTree.fromstring(made.svg).findall(f"{SVG}svg")
    return [
        (box.findtext(f"{SVG}title") or "", float(box.get("x", 0)), float(box.get("width", 0)), int(box.get("y", 0)))
        for box in drawn
    ]


def note(made: Flame) -> str:
    return "".join(text.text or "" for text in ElementTree.fromstring(made.svg).findall(f"{SVG}text"))


def test_what_was_called_hangs_below_who_called_it_as_wide_as_its_bytes() -> None:
    drawn = {title: rest for title, *rest in boxes(flame(lined(), "load"))}
    whole, eight = WIDTH - 1, WIDTH * 8 / 13 - 1
    assert drawn["load · 13.0 MiB live at its peak"] == [0, whole, 0]
    assert drawn["<module> (In[3]:2): 8.0 MiB, 61.5 %"] == pytest.approx([0, eight, 20], abs=0.06)
    assert drawn["_read (parsers.py:620): 8.0 MiB, 61.5 %"] == pytest.approx([0, eight, 60], abs=0.06)
    assert drawn["parse (parse.py:6): 4.0 MiB, 30.8 %"] == pytest.approx([eight + 1, WIDTH * 4 / 13 - 1, 40], abs=0.06)
    assert drawn["not known where: 724.0 KiB, 5.4 %"][2] == 20
    assert note(flame(lined(), "load")) == ""


@pytest.mark.parametrize(
    ("figure", "summary"),
    [("peak", "13.0 MiB live at its peak"), ("kept", "2.0 MiB still live"), ("total", "20.0 MiB allocated in all")],
)
def test_the_figure_is_chosen(figure: str, summary: str) -> None:
    made = flame(lined(), "load", figure)  # type: ignore[arg-type]
    assert repr(made) == f"<Flame of load · {summary}>"
    assert boxes(made)[0][0] == f"load · {summary}"


def test_boxes_too_narrow_to_be_seen_are_counted_once_with_what_they_called() -> None:
    narrow = [(((CELL, line, "f"), (CELL, 50, "g")), 1) for line in range(1, 8)]
    made = flame(of_load((((CELL, 9, "f"),), 1000), *narrow), "load")
    assert len(boxes(made)) == 2
    assert note(made) == "7 narrower than what is drawn"


def test_boxes_too_deep_are_counted_and_the_picture_ends() -> None:
    deep = tuple((CELL, line, "f") for line in range(1, 2 * MOST_LEVELS))
    made = flame(of_load((deep, 1000)), "load")
    assert len(boxes(made)) == MOST_LEVELS + 1
    assert note(made) == "1 deeper than what is drawn"
    height = int(ElementTree.fromstring(made.svg).get("height", 0))
    assert height == (MOST_LEVELS + 2) * 20


def test_a_function_that_calls_itself_hangs_below_itself() -> None:
    made = flame(of_load((((CELL, 3, "f"),) * 3, 9), (((CELL, 3, "f"),), 1)), "load")
    assert [(round(width), top) for _, _, width, top in boxes(made)[1:]] == [(899, 20), (809, 40), (809, 60)]


def test_names_are_text_and_cut_where_there_is_no_room() -> None:
    odd = "f<script>&\"'" + "x" * 500 + "\x1b\n\ud83d"
    made = flame(of_load((((CELL, 3, odd),), 900), (((CELL, 4, "a_long_name"),), 60), name="<b>&"), 3)
    texts = [text.text or "" for text in ElementTree.fromstring(made.svg).iter(f"{SVG}text")]
    assert texts[0] == "<b>& · 960 B live at its peak"
    assert texts[1].startswith("f<script>&\"'xxx")
    assert texts[1].endswith("…")
    assert texts[2] == "a_long…"
    assert "script&gt;" in made.svg
    made.svg.encode("ascii", "xmlcharrefreplace")
    assert "\x1b" not in made.svg


def test_a_box_without_room_has_only_a_title() -> None:
    made = flame(of_load((((CELL, 3, "f"),), 990), (((CELL, 4, "g"),), 10)), "load")
    assert len(boxes(made)) == 3
    assert len(list(ElementTree.fromstring(made.svg).iter(f"{SVG}text"))) == 2


def test_own_files_have_colours_that_labels_are_read_on_and_libraries_are_grey() -> None:
    drawn = ElementTree.fromstring(flame(lined(), "load").svg).findall(f"{SVG}svg")
    fills = {box.findtext(f"{SVG}title", "").split(":")[0]: box.find(f"{SVG}rect").get("fill") for box in drawn}
    assert fills["<module> (In[3]"] in palette.COLOURS
    assert fills["parse (parse.py"] in palette.COLOURS
    assert fills["<module> (In[3]"] != fills["parse (parse.py"]
    assert fills["read_csv (parsers.py"] == palette.OTHERS.colour
    assert fills["smaller than 4.0 KiB"] == palette.GREY
    for box in drawn:
        text = box.find(f"{SVG}text")
        if text is not None:
            contrast = palette._contrast(box.find(f"{SVG}rect").get("fill"), box.get("color"))
            assert text.get("fill") == "currentColor"
            assert contrast >= 4.5


def test_a_notebook_gets_an_image_that_says_what_is_in_it_and_a_table() -> None:
    made = thag_nb.flame("load", recording=lined())
    bundle = made._repr_mimebundle_()
    (encoded,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', bundle["text/html"])
    assert base64.b64decode(encoded).decode() == made.svg
    assert "<svg" not in bundle["text/html"]
    assert made.alt == (
        "Who called whom to allocate: load · 13.0 MiB live at its peak: In[3] line 2 through read_csv 8.0 MiB, 61.5 %; "
        "parse.py line 6 4.0 MiB, 30.8 %; not known where 724.0 KiB, 5.4 %; 1 more line."
    )
    assert f'alt="{made.alt}"' in bundle["text/html"]
    assert "<details><summary>lines of load · 13.0 MiB live at its peak</summary><table" in bundle["text/html"]
    text = bundle["text/plain"].splitlines()
    assert text[0] == "load · 13.0 MiB live at its peak"
    assert re.split(r"\s{2,}", text[2]) == [
        "In[3] line 2",
        "<module>",
        "read_csv",
        "61.5 %",
        "8.0 MiB",
        "2.0 MiB",
        "2.0 MiB",
    ]


def test_the_table_has_the_largest_lines_of_the_figure_and_the_others_as_one() -> None:
    made = flame(of_load(*((((CELL, line, "f"),), MIB) for line in range(1, 31))), "load")
    rows = made._repr_mimebundle_()["text/plain"].splitlines()[2:]
    assert len(rows) == 21
    assert re.split(r"\s{2,}", rows[-1]) == ["10 others", "33.3 %", "10.0 MiB", "10.0 MiB", "10.0 MiB"]
    kept = flame(lined(), "load", "total")._repr_mimebundle_()["text/plain"].splitlines()
    assert kept[2].startswith("not known where")


def test_a_context_without_bytes_has_a_picture_of_one_box() -> None:
    made = flame(of_load((((CELL, 3, "f"),), 0)), "load")
    assert [title for title, *_ in boxes(made)] == ["load · 0 B live at its peak"]
    assert made.alt == "Who called whom to allocate: load · 0 B live at its peak."


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(ChoiceError, match=r"^figure must be 'peak', 'kept' or 'total', not 'live'$"):
        flame(lined(), "load", "live")  # type: ignore[arg-type]
    with pytest.raises(NoLinesError):
        flame(recording((root(), b"")), "root")


def test_the_text_of_a_line_is_cut_and_does_not_move_the_figures() -> None:
    text = "x = " + "read() + " * 20
    source = of_load((((CELL, 1, "f"),), MIB))._replace(source_lines=(SourceLine(CELL, 1, text),))
    page = flame(source, "load")._repr_mimebundle_()["text/html"]
    assert f">{text[:39]}…</td>" in page
