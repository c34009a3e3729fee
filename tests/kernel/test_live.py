"""The live view in real kernels, and the defaults that are set there."""

import kernels

LOAD = "%load_ext thag_nb\nimport thag_nb"


def test_in_a_kernel_the_static_report_takes_the_place_of_the_view() -> None:
    cells = kernels.run(
        LOAD,
        "%%thag_task shown --live\nkept = bytearray(5 << 20)",
        "%thag_live\nwith thag_nb.task('inner'):\n    more = bytearray(3 << 20)",
        "import threading\n[thread.name for thread in threading.enumerate() if 'live view' in thread.name]",
        "%thag_live maybe",
        "%thag_live on",
        "1/0",
        "%thag_live off",
        "'silent again'",
    )
    by_task, by_line, threads, wrong, switched, failing, _, silent = cells[1:]
    for found, start in ((by_task, "shown · peak 5.0 MiB"), (by_line, "In[3] · peak 3.0 MiB"), (switched, "In[6] · ")):
        (bundle,) = found.displays
        assert set(bundle) == {"text/plain", "text/html"}
        assert bundle["text/plain"].startswith(start)
    assert threads.displays[0]["text/plain"] == "[]"
    assert "%thag_live takes `on`, `off` or nothing, not 'maybe'" in wrong.text + wrong.traceback
    assert failing.error == "division by zero"
    assert failing.displays[0]["text/plain"].startswith("In[7] · ")
    assert len(silent.displays) == 1


def test_defaults_are_set_like_any_other_of_ipython() -> None:
    cells = kernels.run(
        LOAD,
        "%config ThagNb.plots = False",
        "%%thag_task one\npass",
        "%config ThagNb.quiet = True",
        "%%thag_task two\npass",
        "%config ThagNb.live_interval = 'soon'",
        "%config ThagNb",
    )
    assert set(cells[2].displays[0]) == {"text/plain"}
    assert cells[4] == kernels.Cell()
    assert "live_interval" in cells[5].traceback + cells[5].text
    assert all(word in cells[6].text for word in ("ThagNb.plots", "ThagNb.quiet", "ThagNb.live"))


def test_whatever_happens_to_the_report_it_comes_and_nothing_is_left() -> None:
    left = """
import threading
from ipywidgets.widgets import widget
print(len(widget._instances), [t.name for t in threading.enumerate() if "live view" in t.name],
      [record.name for record in thag_nb.read().contexts if record.state == "open" and record.kind != "root"][1:-1])
"""
    cells = kernels.run(
        LOAD,
        "%thag_live",
        left,
        "%thag_task a --live\nx = 1\n%thag_task b\n%thag_reset",
        "import matplotlib.figure; del matplotlib.figure.Figure.savefig",
        "%%thag_task no_picture --live\nblock = bytearray(1 << 20)",
        "import threading; start = threading.Thread.start\n"
        "def fails(thread): raise RuntimeError('no more threads')\n"
        "threading.Thread.start = fails",
        "%%thag_task without --live\n'the cell goes on'",
        "threading.Thread.start = start",
        left,
        "%thag_task c --live\n%thag_task d\n%thag_reset\n%unload_ext thag_nb",
        "%thag",
        left,
    )
    forgotten, ended = cells[3].displays
    assert forgotten["text/plain"] == "a · its figures were forgotten by a reset"
    assert ended["text/plain"].startswith("b · ")
    (no_picture,) = cells[5].displays
    line, reason = no_picture["text/plain"].splitlines()
    assert line.startswith("no_picture · peak 1.0 MiB")
    assert reason.startswith("The picture could not be drawn: AttributeError: ")
    shown = [display["text/plain"] for display in cells[7].displays]
    assert "no live view: no more threads" in shown
    assert "'the cell goes on'" in shown
    assert [found.error for found in cells if found.error] == []
    assert [display["text/plain"][:2] for display in cells[10].displays] == ["c ", "d "]
    assert "%thag" in cells[11].text + cells[11].traceback
    assert "not found" in cells[11].text + cells[11].traceback
    assert cells[9].text == cells[2].text
    assert cells[12].text.split()[1] == "[]"
