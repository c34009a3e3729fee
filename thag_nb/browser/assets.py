"""The JavaScript and CSS of the views, from the files in ``static``, put together for where they are to run.

The sources share one scope and load nothing, so that they run from a widget, from a saved notebook and from a page that
somebody opens without a network. What a notebook saves has them compressed, and in each output: whether another one
will still be there, nobody knows.
"""

from __future__ import annotations

import base64
import json
import zlib
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
    key, code = _compressed_dashboard()
    start = f"const root = document.currentScript.parentElement, payload = {dashboard_json(payload)};"
    call = f'load("{key}", "{code}").then((dashboard) => dashboard(root, payload));'
    return f"<script>(() => {{\n{_without_comments(_source('load.js'))}\n{start}\n{call}\n}})();</script>"


@cache
def flame_script() -> str:
    """A script element that lets the boxes of an icicle, which is the picture where it stands, be looked at closely."""
    source = _without_comments(_source("flame.js"))
    return f"<script>(() => {{\n{source}\nflame(document.currentScript.parentElement);\n}})();</script>"


def dashboard_json(payload: dict[str, Any]) -> str:
    """JSON that can stand in a script element: no name of a context ends the element or begins a comment in it."""
    return json.dumps(payload, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _compressed_dashboard() -> tuple[str, str]:
    """What tells these sources from others, and a script of them that leaves `dashboard` where load.js expects it."""
    source = _without_comments(_code("dashboard"))
    key = f"{zlib.crc32(source.encode()):08x}"
    script = f'window.thagNb["{key} code"] = (() => {{\n{source}\nreturn dashboard;\n}})();'
    return key, base64.b64encode(zlib.compress(script.encode(), 9)).decode("ascii")


@cache
def _code(view: str) -> str:
    style = json.dumps(_source("style.css"))
    return "\n".join((f"const STYLE = {style};", *map(_source, ("load.js", "chart.js", f"{view}.js"))))


def _without_comments(source: str) -> str:
    """The lines without their indentation, and without those that are a comment as a whole."""
    lines = (line.strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/**")))


def _source(name: str) -> str:
    return (_SOURCES / name).read_text(encoding="utf-8")
