"""The live view in real kernels, and the defaults that are set there."""

import kernels
import pytest

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
    for found, start in ((by_task, "shown · peak 5.0 MiB"), (by_line, "In[3] · peak 3.0 MiB")):
        (bundle,) = found.displays
        assert set(bundle) == {"text/plain", "text/html"}
        assert bundle["text/plain"].startswith(start)
    (small,) = switched.displays
    assert set(small) == {"text/plain"}
    assert small["text/plain"].startswith("In[6] · ")
    assert threads.displays[0]["text/plain"] == "[]"
    assert "%thag_live takes `on`, `off` or nothing, not 'maybe'" in wrong.text + wrong.traceback
    assert failing.error == "division by zero"
    assert failing.displays[0]["text/plain"].startswith("In[7] · ")
    assert len(silent.displays) == 1


@pytest.mark.parametrize(
    "source", ["%thag_live", "%%thag_task shown --live\npass", "if True:\n    %thag_task indented --live\n    pass"]
)
def test_what_a_view_needs_is_loaded_before_the_cell_begins(source: str) -> None:
    watch = """
import sys
class Watch:
    def find_spec(self, name, path, target=None):
        if name in ("anywidget", "ipywidgets", "numpy"):
            loaded[name] = [record.name for record in thag_nb.read().contexts if record.kind in ("cell", "task")]
            contexts.append(thag_nb.current_context().kind)
loaded, contexts = {}, []
sys.meta_path.insert(0, Watch())
"""
    cells = kernels.run(LOAD, watch, source, "print(sorted(loaded), list(loaded.values()), set(contexts))")
    before = ["In[2]"]  # the cell that runs is not there yet
    assert cells[3].text == f"['anywidget', 'ipywidgets', 'numpy'] {[before] * 3} {{'system'}}\n"


def test_the_line_comes_at_once_and_the_picture_into_its_place() -> None:
    watch = """
from IPython.core.displaypub import DisplayPublisher
published = []
publish = type(get_ipython().display_pub).publish
def watched(self, data, *arguments, **options):
    published.append((sorted(data), bool(options.get("update"))))
    return publish(self, data, *arguments, **options)
type(get_ipython().display_pub).publish = watched
"""
    line, picture = ["text/plain"], ["text/html", "text/plain"]
    cells = kernels.run(
        LOAD,
        watch,
        "%thag_task one\na = bytearray(2 << 20)\n%thag_task two\nb = bytearray(2 << 20)",
        "print(published); published.clear()",
        "%thag_task small\nc = bytearray(1 << 19)",
        "print(published); published.clear()",
        "%thag_task above\nwith thag_nb.task('below'):\n    pass",
        "print(published)",
    )
    assert cells[3].text == f"{[(line, False), (line, False), (picture, True), (picture, True)]}\n"
    assert [set(bundle) for bundle in cells[2].displays] == [{*picture}, {*picture}]
    assert cells[5].text == f"{[(line, False)]}\n"
    assert cells[7].text == f"{[(line, False), (picture, True)]}\n"


def test_a_view_is_closed_only_after_its_page_was_told_to_take_it_down() -> None:
    watch = """
import asyncio
import ipywidgets
order = []
pub, closing = type(get_ipython().display_pub), ipywidgets.Widget.close
publish = pub.publish
def published(self, data, *arguments, **options):
    order.append("replaced" if options.get("update") else "shown")
    return publish(self, data, *arguments, **options)
def closed(self):
    order.append("closed")
    return closing(self)
pub.publish, ipywidgets.Widget.close = published, closed
"""
    wait = "while 'closed' not in order: await asyncio.sleep(0.05)"
    cells = kernels.run(LOAD, watch, "%thag_live\nblock = bytearray(2 << 20)", "print(order)", wait, "print(order[-1])")
    assert cells[3].text == "['shown', 'replaced', 'replaced']\n"
    assert cells[5].text == "closed\n"


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
instances = len(widget._instances)
print([t.name for t in threading.enumerate() if "live view" in t.name],
      [record.name for record in thag_nb.read().contexts if record.state == "open" and record.kind != "root"][1:-1])
"""
    cells = kernels.run(
        LOAD,
        left,
        "%thag_live",
        "%thag_task a --live\nx = 1\n%thag_task b\n%thag_reset",
        "import matplotlib.figure; del matplotlib.figure.Figure.savefig",
        "%%thag_task no_picture --live\nblock = bytearray(1 << 20)",
        "import threading; start = threading.Thread.start\n"
        "def fails(thread): raise RuntimeError('no more threads')\n"
        "threading.Thread.start = fails",
        "%%thag_task without --live\n'the cell goes on'",
        "threading.Thread.start = start",
        "import asyncio\nwhile len(widget._instances) > instances: await asyncio.sleep(0.05)",
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
    assert cells[12].text == cells[1].text
