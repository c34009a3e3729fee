"""The dashboard as a widget, and as a view that a saved notebook keeps."""

from __future__ import annotations

from typing import Any

import ipywidgets
from IPython.display import DisplayHandle, display

from thag_nb.costs import beside
from thag_nb.costs.report import costs_bundle
from thag_nb.mimebundle import Bundle
from thag_nb.notebook.canvas import DashboardCanvas
from thag_nb.recordings.model import Recording
from thag_nb.runtime import dispatcher
from thag_nb.runtime.tasks import untracked
from thag_nb.sites.peak import peak_lines


class Dashboard(ipywidgets.VBox):
    """The cost of every cell and task: a widget, and, displayed by itself, a view that outlives the kernel.

    Displayed, it is a picture and a table that a script makes a chart to zoom and a table to sort: no kernel is needed
    for that, and without scripts the picture and the table stay. Inside other widgets it is a `DashboardCanvas`.
    """

    def __init__(self, recording: Recording | None = None) -> None:
        """Of a recording, or, without one, of this process as of now and of every `refresh`."""
        with untracked():
            super().__init__()
            self._handles: list[DisplayHandle] = []
            self._fixed = recording
            self._recording = recording or dispatcher.read()
            self._inside = DashboardCanvas()
            self._inside.show(self._recording, self._beside())
            self.children = (self._inside,)

    def refresh(self) -> None:
        """Show what is true now, wherever the dashboard is displayed. One of a given recording stays as it is."""
        with untracked():
            self._recording = self._fixed or dispatcher.read()
            self._inside.show(self._recording, self._beside())
            for handle in self._handles:
                handle.update(self._bundle(), raw=True)

    def _bundle(self) -> Bundle:
        peaks = peak_lines(self._recording)
        return costs_bundle(self._recording, figure=True, beside=self._beside(), peaks=peaks)

    def _beside(self) -> beside.Beside:
        return beside.NOTHING if self._fixed else beside.as_of_now()

    def _ipython_display_(self, **_options: Any) -> None:
        """IPython's protocol. A widget's own view would be an error message for whoever opens the notebook later."""
        with untracked():
            handle = display(self._bundle(), raw=True, display_id=True)
            if handle is not None:
                self._handles.append(handle)
