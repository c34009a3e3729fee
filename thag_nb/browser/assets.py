"""The JavaScript and CSS of the views, from the files in ``static``, put together for where they are to run.

The sources share one scope and load nothing, so that they run from a widget, from a saved notebook and from a page that
somebody opens without a network.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_SOURCES = Path(__file__).parent / "static"


def live_module() -> str:
    """The module that anywidget loads for the live view."""
    return f"{_code('live')}\nexport default {{ render: renderLive }};\n"


def dashboard_module() -> str:
    """The module that anywidget loads for the dashboard."""
    return f"{_code('dashboard')}\nexport default {{ render: renderDashboard }};\n"


def dashboard_script(payload: dict[str, Any]) -> str:
    """A script element that brings to life the static view at whose end it stands."""
    call = f"dashboard(document.currentScript.parentElement, {dashboard_json(payload)});"
    return f"<script>(() => {{\n{_code('dashboard')}\n{call}\n}})();</script>"


def dashboard_json(payload: dict[str, Any]) -> str:
    """JSON that can stand in a script element: no name of a context ends the element or begins a comment in it."""
    return json.dumps(payload, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _code(view: str) -> str:
    style = json.dumps(_source("style.css"))
    return "\n".join((f"const STYLE = {style};", _source("chart.js"), _source(f"{view}.js")))


def _source(name: str) -> str:
    return (_SOURCES / name).read_text(encoding="utf-8")
