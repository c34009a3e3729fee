"""The chart alone in a browser, without JupyterLab: what it draws, and what a person does with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import labs
import pytest
from handmade import MIB, SECOND, context, pack, recording, root

from thag_nb.browser import assets
from thag_nb.costs.report import costs_bundle
from thag_nb.palette import styles
from thag_nb.recordings.model import Recording, work_names

MISSING = [] if find_spec("playwright") else ["playwright"]
MISSING += [] if labs.CHROMIUM else ["Chromium"]
if MISSING and not os.environ.get("CI"):
    pytest.skip(f"charts are tried in a browser where there is {' and '.join(MISSING)}", allow_module_level=True)

MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that knows what the sources define."""
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.add_script_tag(content=assets.dashboard_module().partition("export default")[0])
    yield page
    page.close()


SPANS = [
    (0, 5e3, "0 1 2 3 4 5 µs"),
    (0, 2.5 * SECOND, "0 0.5 1 1.5 2 2.5 s"),
    (0, 100 * SECOND, "0 15 30 45 60 75 90 s"),
    (0, 8 * MINUTE, "0 1 2 3 4 5 6 7 8 min"),
    (0, 10 * MINUTE, "0 2 4 6 8 10 min"),
    (0, 2 * HOUR, "0 15 30 45 60 75 90 105 120 min"),
    (0, 10 * HOUR, "0 2 4 6 8 10 h"),
    (0, 30 * DAY, "0 5 10 15 20 25 30 d"),
    (36_000.25 * SECOND, 36_002 * SECOND, "36000.5 36001 36001.5 36002 s"),
]


@pytest.mark.parametrize(("start_ns", "end_ns", "labels"), SPANS)
def test_ticks_of_time_are_where_a_clock_has_them(page: Any, start_ns: float, end_ns: float, labels: str) -> None:
    *numbers, unit = labels.split()
    ticks = page.evaluate("([start, end]) => timeTicks(start, end, 8)", [start_ns, end_ns])
    assert [label for _, label in ticks] == [f"{number} {unit}" for number in numbers]


def dashboard(page: Any, recording: Recording, style: str = "") -> None:
    """A page with the dashboard of a recording, as a saved notebook has it."""
    page.set_content(f'<html style="{style}"><body>{costs_bundle(recording, figure=True)["text/html"]}</body></html>')
    page.wait_for_selector("[data-ready]")
    page.wait_for_function("document.querySelector('canvas').dataset.draws > 0")


def one_after_the_other() -> Recording:
    """Two seconds: ``early`` in the first half of the first one, then nothing, and ``late`` in the second."""
    whole = pack((0, 0, 8 * MIB, 8 * MIB, 0), (SECOND // 2, 0, 0, 0, 0), (SECOND, 0, 8 * MIB, 8 * MIB, 0))
    early = pack((0, 0, 8 * MIB, 8 * MIB, 8 * MIB), (SECOND // 2, 0, 0, 0, 0))
    late = pack((SECOND, 0, 8 * MIB, 8 * MIB, 8 * MIB))
    return recording(
        (root(peak_bytes=8 * MIB), whole),
        (context(3, "early", peak_bytes=8 * MIB, self_peak_bytes=8 * MIB, duration_ns=SECOND // 2), early),
        (context(4, "late", peak_bytes=8 * MIB, started_ns=SECOND, duration_ns=SECOND, live_bytes=8 * MIB), late),
        taken_ns=2 * SECOND,
    )


def test_several_dashboards_in_a_page_are_alive_with_one_copy_of_the_code(page: Any) -> None:
    view = costs_bundle(one_after_the_other(), figure=True)["text/html"]
    page.set_content(f"{view}{view}{view}")
    page.wait_for_function("document.querySelectorAll('[data-ready] canvas').length === 3")
    assert page.evaluate("Object.keys(window.thagNb).length") == 2  # the code, and the promise of it
    assert page.locator("img:visible").count() == 0
    assert page.locator("head script").count() == 0


OPAQUE_COLOURS = """() => {
  const canvas = document.querySelector("canvas");
  const ratio = canvas.width / canvas.clientWidth;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = {};
  for (let place = 0; place < pixels.length; place += 4) {
    if (pixels[place + 3] < 250) continue;
    const parts = [0, 1, 2].map((part) => pixels[place + part].toString(16).padStart(2, "0"));
    const colour = `#${parts.join("").toUpperCase()}`;
    const x = (place / 4) % canvas.width / ratio;
    const [left, right] = seen[colour] ?? [x, x];
    seen[colour] = [Math.min(left, x), Math.max(right, x)];
  }
  return seen;
}"""


def test_a_layer_has_no_line_where_there_is_nothing_of_it(page: Any) -> None:
    source = one_after_the_other()
    dashboard(page, source)
    looks = styles(work_names(source))
    seen = page.evaluate(OPAQUE_COLOURS)
    left, right = page.evaluate("[MARGIN.left, document.querySelector('canvas').clientWidth - MARGIN.right]")
    begin, end = seen[looks["early"].colour]
    assert begin < left + 3
    assert end < left + (right - left) * 0.27
    begin, end = seen[looks["late"].colour]
    assert begin > left + (right - left) * 0.48
    assert end > right - 3


def rows(page: Any) -> list[tuple[str, int, str | None]]:
    """Of each row that can be chosen: its name, its tab index, and whether it is chosen."""
    found = page.locator("tbody tr.thag-row").all()
    return [
        (
            row.locator("td").first.inner_text().strip(),
            row.evaluate("row => row.tabIndex"),
            row.get_attribute("aria-selected"),
        )
        for row in found
    ]


def test_one_row_is_a_stop_of_the_tab_key_and_arrows_lead_to_the_others(page: Any) -> None:
    dashboard(page, one_after_the_other())
    assert page.locator("table").get_attribute("role") == "grid"
    assert rows(page) == [("root", 0, "false"), ("early", -1, "false"), ("late", -1, "false")]
    page.locator("tbody tr").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert rows(page) == [("root", -1, "false"), ("early", 0, "true"), ("late", -1, "false")]
    assert page.locator(".thag-detail .thag-figures").inner_text().startswith("early · ")
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    assert rows(page) == [("root", -1, "false"), ("early", -1, "false"), ("late", 0, "true")]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.cells[0].textContent.trim()") == "root"


CONTRAST = """element => {
  const luminance = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [red, green, blue] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const { color, backgroundColor } = getComputedStyle(element);
  const [darker, lighter] = [luminance(color), luminance(backgroundColor)].sort((one, other) => one - other);
  return [backgroundColor, (lighter + 0.05) / (darker + 0.05)];
}"""


@pytest.mark.parametrize(
    ("ink", "paper"), [("rgb(20, 20, 20)", "rgb(255, 255, 255)"), ("rgb(220, 220, 220)", "rgb(17, 17, 17)")]
)
def test_the_tooltip_has_the_colours_of_the_page(page: Any, ink: str, paper: str) -> None:
    dashboard(page, one_after_the_other(), f"color: {ink}; background: {paper}")
    page.locator("canvas").hover(position={"x": 300, "y": 100})
    page.wait_for_selector(".thag-tooltip:not([hidden])")
    background, contrast = page.locator(".thag-tooltip").evaluate(CONTRAST)
    assert background == paper
    assert contrast >= 4.5


def test_what_is_hidden_is_told_by_its_swatch_and_stays_legible(page: Any) -> None:
    dashboard(page, one_after_the_other())
    button = page.locator(".thag-legend button", has_text="late")
    fill = "button => getComputedStyle(button.querySelector('.thag-swatch')).backgroundColor"
    assert button.evaluate(fill) != "rgba(0, 0, 0, 0)"
    button.click()
    page.wait_for_selector(".thag-legend [aria-pressed=false]")
    assert button.evaluate(fill) == "rgba(0, 0, 0, 0)"
    assert button.evaluate("button => getComputedStyle(button).opacity") == "1"
