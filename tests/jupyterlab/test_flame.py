"""The icicle where scripts run: a box that is clicked fills the width. ``THAG_SCREENSHOTS=DIR`` keeps pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import labs
import pytest
from handmade import lined

from thag_nb.sites.flame import WIDTH, flame

MISSING = [] if find_spec("playwright") is not None else ["Playwright"]
MISSING += [] if labs.CHROMIUM else ["Chromium"]
if MISSING and not os.environ.get("CI"):
    pytest.skip(f"icicles are looked at in a browser where there is {' and '.join(MISSING)}", allow_module_level=True)

# Title, left edge, width and label of those that are shown.
SHOWN = """boxes => boxes.filter(box => getComputedStyle(box).display !== "none").map(box => [
    box.querySelector("title").textContent,
    Math.round(box.getAttribute("x")),
    Math.round(box.getAttribute("width")),
    box.querySelector("text").textContent,
])"""
WHOLE, READ = "load · 13.0 MiB live at its peak", "_read (parsers.py:620): 8.0 MiB, 61.5 %"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1000, "height": 400}, device_scale_factor=2)
    problems: list[object] = []
    page.on("pageerror", lambda error: problems.append(error))
    page.set_content(f"<!DOCTYPE html>{flame(lined(), 'load')._repr_mimebundle_()['text/html']}")
    yield page
    assert problems == []
    page.close()


def shown(page: Any) -> list[list[Any]]:
    boxes: list[list[Any]] = page.locator("svg svg").evaluate_all(SHOWN)
    return boxes


def box(page: Any, title: str) -> Any:
    return page.locator("svg svg").filter(has=page.locator("title", has_text=title))


def keep(page: Any, folder: Path, name: str) -> None:
    page.screenshot(path=Path(os.environ.get("THAG_SCREENSHOTS") or folder).absolute() / name)


def test_at_first_it_is_the_picture(page: Any) -> None:
    assert page.locator("img").count() == 0
    assert page.locator("[role=group]").get_attribute("aria-label") == flame(lined(), "load").alt
    assert [WHOLE, 0, WIDTH - 1, WHOLE] in shown(page)
    titles = [title for title, *_ in shown(page)]
    assert len(titles) == flame(lined(), "load").svg.count("<title>")


def test_a_box_fills_the_width_with_what_it_called_under_who_called_it(page: Any, tmp_path: Path) -> None:
    before = {title: rest for title, *rest in shown(page)}
    box(page, "parse (parse.py:6)").click()
    after = {title: rest for title, *rest in shown(page)}
    keep(page, tmp_path, "flame-closer.png")
    assert after["parse (parse.py:6): 4.0 MiB, 30.8 %"] == [0, WIDTH - 1, "parse (parse.py:6)"]
    assert after[WHOLE] == [0, WIDTH - 1, WHOLE]
    assert READ in before
    assert READ not in after
    called = [title.partition(" (")[0] for title in after]
    assert called == [WHOLE, "<module>", "parse"]


@pytest.mark.parametrize("way", ["the whole", "Escape"])
def test_there_is_a_way_back(page: Any, way: str) -> None:
    before = shown(page)
    box(page, "_read").click()
    assert shown(page) != before
    if way == "Escape":
        page.keyboard.press("Escape")
    else:
        box(page, "live at its peak").click()
    assert shown(page) == before


def test_keys_do_what_clicks_do(page: Any) -> None:
    box(page, "_read").focus()
    page.keyboard.press("Enter")
    assert [READ, 0, WIDTH - 1, "_read (parsers.py:620)"] in shown(page)
    page.keyboard.press("Escape")
    box(page, "_read").focus()
    page.keyboard.press(" ")
    assert [READ, 0, WIDTH - 1, "_read (parsers.py:620)"] in shown(page)
