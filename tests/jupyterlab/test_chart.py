"""The chart alone in a browser, without JupyterLab: what it draws, and what a person does with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import labs
import pytest

from thag_nb.browser import assets

MISSING = [] if find_spec("playwright") else ["playwright"]
MISSING += [] if labs.CHROMIUM else ["Chromium"]
if MISSING and not os.environ.get("CI"):
    pytest.skip(f"charts are tried in a browser where there is {' and '.join(MISSING)}", allow_module_level=True)

SECOND, MINUTE, HOUR, DAY = 1e9, 60e9, 3600e9, 86400e9


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with labs.chromium() as browser:
        yield browser


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
