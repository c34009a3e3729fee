import re
from xml.etree import ElementTree

from handmade import MIB, busy, context, recording, root

from thag_nb.browser import svg
from thag_nb.browser.scene import Scene, stack_scene
from thag_nb.recordings.resampling import window_of


def scene_of(made=None) -> Scene:
    made = made or busy()
    top = made.contexts[0]
    return stack_scene(made, top, window=window_of(made, top)._replace(columns=svg.COLUMNS))


def test_a_picture_is_xml_with_an_area_for_each_layer() -> None:
    picture = ElementTree.fromstring(svg.scene_svg(scene_of()))
    areas = [path for path in picture.iter("path") if path.get("fill") != "none"]
    assert [area.find("title").text for area in areas] == ["root", "load", "load", "parse"]
    assert picture.find("title").text.startswith("Live bytes of root")


def test_areas_are_closed_and_inside_the_picture() -> None:
    picture = ElementTree.fromstring(svg.scene_svg(scene_of()))
    _, _, width, height = map(float, picture.get("viewBox").split())
    for path in picture.iter("path"):
        steps = path.get("d")
        assert all(0 <= float(x) <= width for x in re.findall(r"[MH]([\d.]+)", steps))
        assert all(0 <= float(y) <= height for y in re.findall(r"V([\d.]+)", steps))
        assert steps.endswith("Z") or path.get("fill") == "none"


def test_the_highest_point_and_the_newest_sizes_are_in_words() -> None:
    words = " ".join(ElementTree.fromstring(svg.scene_svg(scene_of())).itertext())
    assert "14.0 MiB" in words
    assert "load 2.0 MiB" in words


def test_a_name_cannot_break_out() -> None:
    made = recording((root(), b""), (context(3, "<script>&", self_peak_bytes=MIB), b""))
    picture = svg.scene_svg(scene_of(made))
    assert "<script" not in picture
    ElementTree.fromstring(picture)


def test_columns_of_one_level_are_one_piece() -> None:
    flat = recording((root(), b""))
    assert len(svg.scene_svg(scene_of(flat))) < 1500
