"""The views in a real JupyterLab, as a person sees and uses them. ``THAG_SCREENSHOTS=DIR`` keeps the pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import labs
import nbformat
import pytest

MISSING = [package for package in ("playwright", "jupyterlab", "anywidget") if find_spec(package) is None]
MISSING += [] if labs.CHROMIUM else ["Chromium"]
if MISSING and not os.environ.get("CI"):
    pytest.skip(f"views are tried in a browser where there is {' and '.join(MISSING)}", allow_module_level=True)

LIVE = """%thag_live
import time
kept = []
def work(name, size, seconds):
    with thag_nb.task(name):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            kept.append(bytearray(size))
            squares = [number * number for number in range(20_000)]
work("load", 20_000, 3)
work("parse", 3_000, 3)
spike = bytearray(60_000_000); del spike
work("train", 30_000, 6)"""
SOURCES = (
    "%load_ext thag_nb\nimport thag_nb",
    LIVE,
    "%thag",
    "%%thag_task reported\nmore = bytearray(7 << 20)",
    "thag_nb.dashboard()",
    "import ipywidgets\nipywidgets.VBox([thag_nb.dashboard()])",
)
LIVE_CELL, COSTS_CELL, TASK_CELL, DASHBOARD_CELL = 1, 2, 3, 4
STATIC_CELLS = (LIVE_CELL, COSTS_CELL, TASK_CELL, DASHBOARD_CELL)
LONGEST_MS = 120_000


class Jupyter(NamedTuple):
    """A server on a folder, and a browser."""

    folder: Path
    address: str
    browser: Any


@dataclass
class Seen:
    """What was seen in a browser, in the order in which it happened."""

    draws: list[tuple[float, int]] = field(default_factory=list)
    paused: tuple[int, int] = (0, 0)
    sent: int = -1
    hidden: str | None = None
    errors: list[str] = field(default_factory=list)
    live_html: str = ""
    order: dict[str, list[str]] = field(default_factory=dict)
    detail: str = ""
    zoomed: list[bool] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    inside: str = ""
    again: str = ""
    path: Path = Path()
    pictures: Path = Path()


def cell(page: Any, place: int) -> Any:
    return page.locator(".jp-Notebook .jp-Cell").nth(place)


def is_running(page: Any, place: int) -> bool:
    return "[*]" in cell(page, place).locator(".jp-InputPrompt").inner_text()


def draws(page: Any) -> int:
    return int(page.locator(".thag-canvas").first.get_attribute("data-draws") or 0)


def watch(page: Any, seen: Seen, seconds: float) -> None:
    """Count what is drawn while the cell runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen.draws.append((time.monotonic(), draws(page)))
        time.sleep(0.2)
    assert is_running(page, LIVE_CELL)


def touch(page: Any, seen: Seen) -> None:
    """Hold the view still and hide a context, while the kernel is busy; and count what the page sends meanwhile."""
    sent: list[object] = []
    page.on("websocket", lambda socket: socket.on("framesent", sent.append))
    before = len(sent)
    page.get_by_role("button", name="hold the picture still").click()
    time.sleep(0.3)
    held = draws(page)
    time.sleep(1)
    seen.paused = (held, draws(page))
    page.locator(".thag-legend button", has_text="load").click()
    time.sleep(0.3)
    seen.hidden = page.locator(".thag-legend button", has_text="load").get_attribute("aria-pressed")
    page.get_by_role("button", name="hold the picture still").click()
    seen.sent = len(sent) - before
    assert is_running(page, LIVE_CELL)


def use_dashboard(page: Any, seen: Seen) -> None:
    """Sort, choose a context, zoom by dragging and by key, and show other columns."""
    view = cell(page, COSTS_CELL).locator("[data-ready]")
    view.scroll_into_view_if_needed()
    seen.columns["at first"] = view.locator("th:visible").all_inner_texts()
    for title, times in (("peak", 1), ("allocated", 2)):
        for _ in range(times):
            view.get_by_role("button", name=title, exact=True).click()
        rows = view.locator("tbody tr").all()
        seen.order[title] = [row.locator("td").first.inner_text().strip() for row in rows]
    view.locator("tbody tr", has_text="train").click()
    page.wait_for_function("document.querySelector('.thag-detail canvas')?.dataset.draws > 0")
    seen.detail = view.locator(".thag-detail .thag-figures").inner_text()
    canvas = view.locator("canvas").first
    whole = view.get_by_role("button", name="show the whole time").first
    seen.zoomed.append(whole.is_enabled())
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 100, steps=4)
    page.mouse.up()
    page.wait_for_timeout(200)
    seen.zoomed.append(whole.is_enabled())
    canvas.focus()
    page.keyboard.press("0")
    page.wait_for_timeout(200)
    seen.zoomed.append(whole.is_enabled())
    page.keyboard.press("+")
    page.wait_for_timeout(200)
    seen.zoomed.append(whole.is_enabled())
    page.keyboard.press("0")
    view.get_by_role("button", name="self only").click()
    seen.columns["self"] = view.locator("th:visible").all_inner_texts()
    view.get_by_role("button", name="with what was started under it").click()


def visit(jupyter: Jupyter, seen: Seen, *, scale: int) -> None:
    """Run the notebook, use the views, take their pictures, and save it."""
    look = seen.path.stem
    page = jupyter.browser.new_page(viewport={"width": 1000, "height": 1400}, device_scale_factor=scale)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    labs.open_notebook(page, jupyter.address, seen.path.name)
    page.on("console", lambda message: seen.errors.append(message.text) if "TypeError" in message.text else None)
    labs.command(page, "notebook:run-all-cells")
    page.wait_for_selector(".thag-canvas", timeout=LONGEST_MS)
    watch(page, seen, 5)
    cell(page, LIVE_CELL).screenshot(path=seen.pictures / f"live-{look}.png")
    touch(page, seen)
    page.wait_for_selector(f".jp-Notebook .jp-Cell:nth-child({COSTS_CELL + 1}) [data-ready]", timeout=LONGEST_MS)
    cell(page, len(SOURCES) - 1).locator("[data-ready]").wait_for(timeout=LONGEST_MS)
    seen.live_html = cell(page, LIVE_CELL).locator(".jp-OutputArea").inner_html()
    use_dashboard(page, seen)
    cell(page, COSTS_CELL).locator(".jp-OutputArea").screenshot(path=seen.pictures / f"dashboard-{look}.png")
    seen.inside = cell(page, len(SOURCES) - 1).locator("[data-ready] .thag-legend").inner_text()
    labs.command(page, "docmanager:save")
    page.wait_for_function("!jupyterapp.shell.currentWidget.context.model.dirty")
    again = jupyter.browser.new_page(viewport={"width": 1000, "height": 1400})
    labs.open_notebook(again, jupyter.address, seen.path.name)
    cell(again, COSTS_CELL).locator("[data-ready]").wait_for(timeout=LONGEST_MS)
    seen.again = cell(again, COSTS_CELL).locator(".thag-legend").first.inner_text()


LOOKS = [(False, 1), (True, 2)]
if "THAG_SCREENSHOTS" in os.environ:
    LOOKS += [(False, 2), (True, 1)]


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    folder = tmp_path_factory.mktemp("jupyter")
    with labs.lab(folder) as address, labs.chromium() as browser:
        yield Jupyter(folder, address, browser)


@pytest.fixture(scope="module", params=LOOKS, ids=lambda look: f"{'dark' if look[0] else 'light'}-{look[1]}x")
def seen(request: pytest.FixtureRequest, jupyter: Jupyter) -> Seen:
    dark, scale = request.param
    path = labs.notebook(jupyter.folder / f"{'dark' if dark else 'light'}-{scale}x.ipynb", *SOURCES)
    pictures = Path(os.environ.get("THAG_SCREENSHOTS") or jupyter.folder / "pictures").absolute()
    pictures.mkdir(parents=True, exist_ok=True)
    seen = Seen(path=path, pictures=pictures)
    labs.set_theme(jupyter.folder, dark=dark)
    visit(jupyter, seen, scale=scale)
    return seen


@pytest.fixture(scope="module")
def reopened(seen: Seen, jupyter: Jupyter) -> Any:
    """The saved notebook in the page of somebody who has never run it, and does not trust it."""
    notebook = nbformat.read(seen.path, as_version=4)
    notebook.metadata["title"] = "from elsewhere"  # a notebook that was signed is trusted, under whatever name
    theirs = jupyter.folder / f"untrusted-{seen.path.name}"
    nbformat.write(notebook, theirs)
    labs.set_theme(jupyter.folder, dark=False)
    page = jupyter.browser.new_page(viewport={"width": 1000, "height": 1400}, device_scale_factor=2)
    labs.open_notebook(page, jupyter.address, theirs.name)
    page.wait_for_selector(".jp-OutputArea img")
    return page


def test_the_view_moves_at_least_four_times_a_second_while_the_cell_runs(seen: Seen) -> None:
    # In the best second of five: how often a shared machine lets the browser draw is not ours to say.
    pairs = [
        (then - now, later - before)
        for place, (now, before) in enumerate(seen.draws)
        for then, later in seen.draws[place:]
        if then - now >= 1
    ]
    assert max(drawn / seconds for seconds, drawn in pairs) >= 4
    assert all(later >= before for (_, before), (_, later) in zip(seen.draws, seen.draws[1:], strict=False))


def test_it_is_held_still_and_hides_a_context_without_the_kernel(seen: Seen) -> None:
    assert seen.paused[0] == seen.paused[1] > 0
    assert seen.hidden == "false"
    assert seen.sent == 0


def test_nothing_goes_wrong_in_the_page(seen: Seen) -> None:
    assert seen.errors == []


def test_the_static_report_takes_the_place_of_the_view(seen: Seen) -> None:
    assert "thag-canvas" not in seen.live_html
    assert 'alt="Live bytes of In[2] over ' in seen.live_html
    assert "figures of In[2]" in seen.live_html


def test_the_table_is_sorted_below_each_parent(seen: Seen) -> None:
    assert seen.order["peak"][:2] == ["root", "In[2]"]
    assert seen.order["peak"][-1] == "thag_nb itself"
    tasks = [name for name in seen.order["peak"] if name in ("load", "parse", "train")]
    assert tasks == ["train", "load", "parse"]
    assert seen.order["allocated"].index("In[3]") < seen.order["allocated"].index("In[2]")


def test_a_context_is_shown_by_itself(seen: Seen) -> None:
    assert seen.detail.startswith("train · peak ")


def test_time_is_zoomed_by_dragging_and_by_key(seen: Seen) -> None:
    assert seen.zoomed == [False, True, False, True]


def test_inclusive_and_self_figures_can_be_shown_apart(seen: Seen) -> None:
    assert "peak" in seen.columns["at first"]
    assert "self peak" not in seen.columns["at first"]
    assert "self peak" in seen.columns["self"]
    assert "peak" not in seen.columns["self"]


def test_inside_other_widgets_the_dashboard_is_alive(seen: Seen) -> None:
    assert "train" in seen.inside


def test_reopened_by_its_author_the_dashboard_is_alive_again(seen: Seen) -> None:
    assert "train" in seen.again


def test_the_saved_notebook_holds_no_view_that_only_a_kernel_can_show(seen: Seen) -> None:
    notebook = nbformat.read(seen.path, as_version=4)
    for place in STATIC_CELLS:
        for output in notebook.cells[place].outputs:
            assert "application/vnd.jupyter.widget-view+json" not in output.data


def test_reopened_untrusted_every_figure_and_table_is_there(seen: Seen, reopened: Any) -> None:
    for place in STATIC_CELLS:
        output = cell(reopened, place).locator(".jp-OutputArea")
        output.scroll_into_view_if_needed()
        image = output.locator("img").first
        assert image.is_visible()
        assert image.evaluate("image => image.naturalWidth") > 300
        assert image.get_attribute("alt").startswith("Live bytes")
        assert "context" in output.locator("table").first.text_content()
        output.screenshot(path=seen.pictures / f"untrusted-{place}.png")
    assert reopened.locator(".thag-canvas").count() == 0
