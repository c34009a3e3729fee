"""The live view and the dashboard as widgets: drawn by the browser where anywidget is installed, by us where not."""

from __future__ import annotations

import html
import importlib.util
from typing import Any

import ipywidgets
from IPython.display import DisplayHandle, display

from thag_nb.browser import svg
from thag_nb.browser.scene import Scene
from thag_nb.costs import report as reports
from thag_nb.recordings.model import Recording
from thag_nb.runtime import dispatcher
from thag_nb.runtime.tasks import untracked


class LivePicture(ipywidgets.HTML):
    """The live view as a picture that is sent whole each time, without anything to press."""

    columns = svg.COLUMNS

    def show(self, scene: Scene, words: str) -> None:
        """Draw a scene, and say in words what is going on."""
        self.value = f"<div>{html.escape(words)}</div>{svg.scene_svg(scene)}"


class DashboardPicture(ipywidgets.HTML):
    """The dashboard inside other widgets, as a picture and a table."""

    def show(self, recording: Recording) -> None:
        """Show what each cell and task cost."""
        self.value, _ = reports.costs_view(recording)


def live_view() -> Any:
    """What a live view is shown on: has ``columns`` and ``show``, and is closed by ``close``."""
    if _has_anywidget():
        from thag_nb.notebook.canvas import LiveCanvas

        return LiveCanvas()
    return LivePicture()


class Dashboard(ipywidgets.VBox):
    """The cost of every cell and task: a widget, and, displayed by itself, a view that outlives the kernel.

    Displayed, it is a picture and a table that a script makes a chart to zoom and a table to sort: no kernel is needed
    for that, and without scripts the picture and the table stay. Inside other widgets it needs anywidget for the same.
    """

    def __init__(self, recording: Recording | None = None) -> None:
        """Of a recording, or, without one, of this process as of now and of every `refresh`."""
        with untracked():
            super().__init__()
            self._handles: list[DisplayHandle] = []
            self._fixed = recording
            self._recording = recording or dispatcher.read()
            self._inside = _dashboard_inside()
            self._inside.show(self._recording)
            self.children = (self._inside,)

    def refresh(self) -> None:
        """Show what is true now, wherever the dashboard is displayed. One of a given recording stays as it is."""
        with untracked():
            self._recording = self._fixed or dispatcher.read()
            self._inside.show(self._recording)
            for handle in self._handles:
                handle.update(self._bundle(), raw=True)

    def _bundle(self) -> reports.Bundle:
        return reports.costs_bundle(self._recording, figure=True)

    def _ipython_display_(self, **_options: Any) -> None:
        """IPython's protocol. A widget's own view would be an error message for whoever opens the notebook later."""
        with untracked():
            handle = display(self._bundle(), raw=True, display_id=True)
            if handle is not None:
                self._handles.append(handle)


def _dashboard_inside() -> Any:
    if _has_anywidget():
        from thag_nb.notebook.canvas import DashboardCanvas

        return DashboardCanvas()
    return DashboardPicture()


def _has_anywidget() -> bool:
    return importlib.util.find_spec("anywidget") is not None
