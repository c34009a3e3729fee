"""Widgets that the browser draws by itself: the live view, and the dashboard inside other widgets."""

from __future__ import annotations

import json

import anywidget
import traitlets

from thag_nb.browser import assets
from thag_nb.browser.scene import Scene
from thag_nb.costs.beside import NOTHING, Beside
from thag_nb.costs.report import costs_view
from thag_nb.mimebundle import NO_MATHJAX
from thag_nb.recordings.model import Recording
from thag_nb.sites.peak import peak_lines


class _Canvas(anywidget.AnyWidget):
    @traitlets.default("_dom_classes")
    def _pass_over_by_mathjax(self) -> tuple[str, ...]:
        return tuple(NO_MATHJAX.split())


class LiveCanvas(_Canvas):
    """The live view: each scene is sent as a header and a buffer, and drawn over there."""

    _esm = assets.live_module()
    header = traitlets.Unicode().tag(sync=True)
    buffer = traitlets.Bytes().tag(sync=True)

    def show(self, scene: Scene, words: str) -> None:
        """Draw a scene, and say in words what is going on."""
        with self.hold_sync():  # both in one message
            self.buffer = scene.values.astype("<f4").tobytes()
            self.header = json.dumps({**scene.header, "words": words})


class DashboardCanvas(_Canvas):
    """The dashboard inside other widgets."""

    _esm = assets.dashboard_module()
    view = traitlets.Unicode().tag(sync=True)
    payload = traitlets.Unicode().tag(sync=True)

    def show(self, recording: Recording, beside: Beside = NOTHING) -> None:
        """Show what each cell and task cost, and, of now, what is `beside` that."""
        view, payload = costs_view(recording, beside, peak_lines(recording))
        with self.hold_sync():
            self.view, self.payload = view, payload
