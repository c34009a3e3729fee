"""The annotated cell in a JupyterLab that does not trust it. ``THAG_SCREENSHOTS=DIR`` keeps the pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import labs
import nbformat
import pytest
from handmade import MIB, context, recording, root
from nbconvert import HTMLExporter

from thag_nb.recordings.model import LinesOf, Site, SiteFigures
from thag_nb.sites.report import lines_bundle

MISSING = [package for package in ("playwright", "jupyterlab") if find_spec(package) is None]
MISSING += [] if labs.CHROMIUM else ["Chromium"]
if MISSING and not os.environ.get("CI"):
    pytest.skip(f"cells are looked at in a browser where there is {' and '.join(MISSING)}", allow_module_level=True)

SOURCE = ["%%thag_task load --lines", "kept = bytearray(50 << 20)", 'both = pd.merge(left, right, on="k")']


def bundle() -> dict[str, str]:
    """A task whose line 2 has half of its peak, and line 3 a quarter, through a library."""
    record = context(
        3, "load", peak_bytes=100 * MIB, live_bytes=50 * MIB, retained_bytes=50 * MIB, total_bytes=200 * MIB
    )
    frame = "/venv/lib/python3.13/site-packages/pandas/core/frame.py"
    sites = (
        Site(-1, "cell", 2, "<module>"),
        Site(-1, "cell", 3, "<module>"),
        Site(1, frame, 170, "merge"),
    )
    figures = (
        SiteFigures(3, 0, 50 * MIB, 50 * MIB, 1, 0, ((3, 50 * MIB),)),
        SiteFigures(3, 2, 0, 100 * MIB, 1, 1, ((3, 25 * MIB),)),
    )
    lines = (LinesOf(3, 0, 2, True, (("cell", "In[1]"),)),)
    session = recording((root(), b""), (record, b""))._replace(sites=sites, site_figures=figures, lines=lines)
    return lines_bundle(session, 3, {"In[1]": SOURCE})


@pytest.fixture(scope="module", params=[False, True], ids=["light", "dark"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A notebook that comes from elsewhere, with such a cell."""
    folder = tmp_path_factory.mktemp("lab")
    path = labs.notebook(folder / "lines.ipynb", "\n".join(SOURCE))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].outputs = [nbformat.v4.new_output("display_data", data=bundle())]
    nbformat.write(notebook, path)
    labs.set_theme(folder, dark=request.param)
    with labs.lab(folder) as address, labs.chromium() as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 700}, device_scale_factor=2)
        labs.open_notebook(page, address, path.name)
        page.wait_for_selector(".jp-OutputArea table")
        page.locator(".jp-OutputArea summary").click()
        pictures = Path(os.environ.get("THAG_SCREENSHOTS") or folder).absolute()
        page.screenshot(path=pictures / f"lines-{'dark' if request.param else 'light'}.png")
        yield page


SHARES = """bars => bars.map(bar => {
    const cell = getComputedStyle(bar.parentElement);
    const room = bar.parentElement.getBoundingClientRect().width
        - parseFloat(cell.paddingLeft) - parseFloat(cell.paddingRight);
    return Math.round(100 * bar.getBoundingClientRect().width / room);
})"""


def test_bars_are_as_long_as_their_shares(page: Any) -> None:
    bars = page.locator(".jp-OutputArea td > div")
    assert bars.evaluate_all(SHARES) == [50, 100, 25, 25, 50, 25, 25]
    assert set(bars.evaluate_all("bars => bars.map(bar => bar.clientHeight)")) == {3}
    colours = bars.evaluate_all("bars => bars.map(bar => getComputedStyle(bar).backgroundColor)")
    assert set(colours) == {"rgb(0, 114, 178)"}


def test_source_stands_as_it_was_typed_and_libraries_unfold(page: Any) -> None:
    code = page.locator(".jp-OutputArea td > code")
    assert code.all_inner_texts() == SOURCE
    assert "monospace" in code.first.evaluate("code => getComputedStyle(code).fontFamily")
    unfolded = page.locator(".jp-OutputArea details > div")
    assert unfolded.all_inner_texts() == [
        "merge → merge, frame.py line 170: 25.0 MiB at peak, 0 B kept, 100.0 MiB allocated"
    ]
    assert unfolded.first.is_visible()


def test_an_exported_page_shows_the_same(page: Any) -> None:
    output = nbformat.v4.new_output("display_data", data=bundle())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(SOURCE), outputs=[output])])
    exported, _ = HTMLExporter().from_notebook_node(notebook)
    shown = page.context.browser.new_page(viewport={"width": 1000, "height": 700})
    shown.set_content(exported)
    assert shown.locator("td > code").all_inner_texts() == SOURCE
    assert shown.locator("td > div").evaluate_all(SHARES) == [50, 100, 25, 25, 50, 25, 25]
    shown.locator("summary").click()
    assert shown.locator("details > div").first.is_visible()
    shown.close()
