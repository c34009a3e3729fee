import json

import numpy as np
import pytest
from handmade import busy

import thag_nb
from thag_nb.browser.scene import stack_scene
from thag_nb.errors import NotARecordingError
from thag_nb.notebook import canvas, widgets

pytestmark = pytest.mark.usefixtures("dispatcher")


def test_a_live_view_shows_a_scene_and_its_words() -> None:
    view = canvas.LiveCanvas()
    scene = stack_scene(busy(), busy().contexts[0])
    view.show(scene, "root · live 2.0 MiB")
    header = json.loads(view.header)
    assert header["words"] == "root · live 2.0 MiB"
    sent = np.frombuffer(view.buffer, "<f4").reshape(-1, header["columns"])
    assert np.array_equal(sent, scene.values)
    view.close()


def test_a_dashboard_inside_other_widgets_shows_the_costs() -> None:
    board = thag_nb.dashboard(recording=busy())
    (inside,) = board.children
    assert "<img alt=" in inside.view
    assert "13.0 MiB" in inside.view
    assert "<script" not in inside.view


class Page:
    """What is displayed and updated, instead of a notebook."""

    def __init__(self) -> None:
        self.shown = []

    def display(self, bundle, **options):
        assert options == {"raw": True, "display_id": True}
        self.shown.append(bundle)
        return self

    def update(self, bundle, *, raw):
        assert raw
        self.shown[-1] = bundle


def test_a_displayed_dashboard_is_a_bundle_that_can_be_saved(monkeypatch) -> None:
    page = Page()
    monkeypatch.setattr(widgets, "display", page.display)
    thag_nb.dashboard(recording=busy())._ipython_display_()
    (bundle,) = page.shown
    assert set(bundle) == {"text/plain", "text/html"}
    assert "<script>" in bundle["text/html"]


def test_refresh_reaches_what_is_displayed(monkeypatch) -> None:
    page = Page()
    monkeypatch.setattr(widgets, "display", page.display)
    board = thag_nb.dashboard()
    board._ipython_display_()
    with thag_nb.task("later"):
        pass
    assert "later" not in page.shown[0]["text/plain"]
    board.refresh()
    assert "later" in page.shown[0]["text/plain"]


def test_refresh_shows_what_is_true_by_then() -> None:
    board = thag_nb.dashboard()
    with thag_nb.task("later"):
        kept = bytearray(1000)
    assert kept
    (inside,) = board.children
    before = inside.view
    board.refresh()
    after = inside.view
    assert "later" not in before
    assert "later" in after


def test_a_dashboard_of_a_recording_stays() -> None:
    board = thag_nb.dashboard(recording=busy())
    with thag_nb.task("later"):
        pass
    board.refresh()
    assert board._recording == busy()


def test_a_dashboard_is_of_a_recording_only() -> None:
    with pytest.raises(NotARecordingError, match="recording must be a Recording, not 5"):
        thag_nb.dashboard(recording=5)


def test_making_a_dashboard_is_charged_to_nobody() -> None:
    thag_nb.dashboard()  # whatever is imported first
    with thag_nb.task("boards") as context:
        board = thag_nb.dashboard()
    assert board
    assert thag_nb.read().find(context.id).self_live_bytes < 2_000
