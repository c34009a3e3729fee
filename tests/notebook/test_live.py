import threading
import time

import pytest
from handmade import MIB, SECOND, context, pack, recording, root

import thag_nb
from thag_nb.browser.scene import Scene
from thag_nb.errors import UnknownContextError
from thag_nb.notebook import live
from thag_nb.recordings.model import ContextRecord, Recording
from thag_nb.runtime import dispatcher

SIZE = 1_234_567
LOAD = "%load_ext thag_nb\nimport thag_nb"

pytestmark = pytest.mark.usefixtures("dispatcher")


class Page:
    """A view that remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[Scene, str]] = []
        self.arrived = threading.Event()
        self.closed = False

    def show(self, scene: Scene, words: str) -> None:
        self.shown.append((scene, words))
        if len(self.shown) >= 3:
            self.arrived.set()

    def close(self) -> None:
        self.closed = True


def until_threads_are(expected: set[threading.Thread]) -> None:
    """Wait for a thread to end by itself."""
    end = time.monotonic() + 30
    while set(threading.enumerate()) != expected:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.01)


def test_publishing_shows_the_context_and_what_is_under_it() -> None:
    page = Page()
    with thag_nb.task("load") as load:
        block = bytearray(SIZE)
        with thag_nb.task("parse"):
            live.LiveView(load.id, page, 1.0).publish()
    assert block
    ((scene, words),) = page.shown
    assert [layer["name"] for layer in scene.header["layers"]] == ["load", "parse"]
    assert scene.values[0][-1] >= SIZE
    assert words.startswith("load · live 1.2 MiB · peak 1.2 MiB · ")


def test_a_view_moves_while_the_work_goes_on_and_stops_with_it() -> None:
    page = Page()
    before = set(threading.enumerate())
    with thag_nb.task("busy") as busy:
        view = live.LiveView(busy.id, page, 0.01)
        view.start()
        while not page.arrived.is_set():  # never lets go of the GIL by itself
            sum(range(1000))
        view.stop()
    assert page.closed
    assert len(page.shown) >= 3
    assert set(threading.enumerate()) == before


def test_a_view_is_never_part_of_what_it_shows() -> None:
    page = Page()
    with thag_nb.task("shown") as shown:
        view = live.LiveView(shown.id, page, 0.01)
        view.start()  # in the task: a thread of the user's would be charged to it
        with thag_nb.untracked():  # what waiting takes
            before = thag_nb.read().find(shown.id)
            page.arrived.wait(30)
            view.stop()
            after = thag_nb.read().find(shown.id)
    assert (after.total_bytes, after.allocations) == (before.total_bytes, before.allocations)
    assert len(page.shown) >= 3


def test_a_view_of_what_a_reset_has_dropped_ends_quietly(recwarn) -> None:
    page, before = Page(), set(threading.enumerate())
    with thag_nb.task("gone") as gone:
        view = live.LiveView(gone.id, page, 0.01)
    view.start()
    thag_nb.reset()
    with pytest.raises(UnknownContextError):
        view.publish()
    until_threads_are(before)
    view.stop()
    assert not recwarn.list


def words_for(monkeypatch: pytest.MonkeyPatch, *records: ContextRecord) -> list[str]:
    """What a view says when these are read one after the other."""
    page, taken = Page(), iter(records)
    bucket = pack((0, 0, MIB, MIB, MIB))

    def read() -> Recording:
        return recording((root(), bucket), (next(taken), bucket), taken_ns=SECOND)

    monkeypatch.setattr(dispatcher, "read_without_lines", read)
    view = live.LiveView(records[0].context_id, page, 1.0)
    for _ in records:
        view.publish()
    return [words for _, words in page.shown]


def test_words_tell_the_rate_since_the_last_picture(monkeypatch) -> None:
    first = context(3, "load", live_bytes=MIB, peak_bytes=2 * MIB, duration_ns=SECOND, total_bytes=MIB, allocations=10)
    then = first._replace(duration_ns=3 * SECOND, total_bytes=5 * MIB, allocations=30)
    assert words_for(monkeypatch, first, then) == [
        "load · live 1.0 MiB · peak 2.0 MiB · 1.00 s",
        "load · live 1.0 MiB · peak 2.0 MiB · 3.00 s · 2.0 MiB/s in 10 allocations/s",
    ]


def test_words_tell_no_rate_across_a_reset(monkeypatch) -> None:
    first = context(3, "load", duration_ns=SECOND, total_bytes=5 * MIB, allocations=30)
    then = first._replace(duration_ns=2 * SECOND, total_bytes=MIB, allocations=10)
    assert words_for(monkeypatch, first, then)[1] == "load · live 0 B · peak 0 B · 2.00 s"


def test_a_view_ends_with_its_context_though_nobody_stops_it() -> None:
    page, before = Page(), set(threading.enumerate())
    with thag_nb.task("ended") as ended:
        view = live.LiveView(ended.id, page, 0.01)
        view.start()
    until_threads_are(before)
    assert len(page.shown) >= 1


def test_a_view_leaves_no_widget_behind() -> None:
    widgets = pytest.importorskip("ipywidgets.widgets.widget")
    before = set(widgets._instances)
    with thag_nb.task("shown") as shown:
        view = live.LiveView(shown.id, live.LiveCanvas(), 0.01)
        view.publish()
        view.start()
        view.stop()
        view.stop()
    assert set(widgets._instances) == before


def test_publishing_rests_fifty_times_as_long_as_it_took(monkeypatch) -> None:
    page = Page()
    rests = []

    class Stopped:
        def wait(self, rest_s: float) -> bool:
            rests.append(rest_s)
            return len(rests) > 2

        def set(self) -> None:
            pass

    moments = iter([0.0, 0.1, 1.0, 1.001])
    with thag_nb.task("load") as load:
        view = live.LiveView(load.id, page, 0.125)
        view._stopped = Stopped()
        monkeypatch.setattr(time, "thread_time", lambda: next(moments))
        view._run()
    assert rests == [0.125, pytest.approx(5.0), 0.125]
