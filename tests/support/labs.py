"""A JupyterLab of its own with a headless Chromium in front of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

CHECKOUT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking",
    "--disable-component-update --disable-sync",
)
_START_SECONDS = 60
_THEMES = "@jupyterlab/apputils-extension/themes"
_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


def notebook(path: Path, *sources: str) -> Path:
    """A notebook of these cells that nobody has run."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """The address of a server on a folder, with settings, trust and home of its own."""
    home = folder / ".home"
    for plugin, settings in _SETTINGS.items():
        _set(folder, plugin, settings)
    port = _free_port()
    environment = {
        **os.environ,
        "HOME": str(home),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(CHECKOUT),
    }
    options = ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0", "--ServerApp.allow_root=True"]
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, server, folder / "lab.log")
            yield address
        finally:
            server.terminate()
            server.wait(20)


def set_theme(folder: Path, *, dark: bool) -> None:
    """How the pages look that are opened from now on from the server on this folder."""
    _set(folder, _THEMES, {"theme": "JupyterLab Dark" if dark else "JupyterLab Light"})


def _set(folder: Path, plugin: str, settings: dict[str, Any]) -> None:
    file = folder / ".home" / "settings" / f"{plugin}.jupyterlab-settings"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; without Playwright or Chromium the test is skipped, but not where CI=true."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=" ".join(_OPTIONS).split())
        try:
            yield browser
        finally:
            browser.close()


def open_notebook(page: Any, address: str, name: str) -> None:
    """Open a notebook in a page, and wait until its kernel has nothing to do."""
    page.goto(f"{address}/doc/tree/{name}")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    # Run before its session is ready, JupyterLab would ask for a kernel.
    session = "window.jupyterapp?.shell.currentWidget?.context?.sessionContext"
    page.wait_for_function(f"{session}?.isReady && {session}.session?.kernel?.status === 'idle'", timeout=60_000)


def command(page: Any, name: str) -> None:
    """Execute one of JupyterLab's commands, without waiting for what it does."""
    page.evaluate("name => { void jupyterapp.commands.execute(name); }", name)
