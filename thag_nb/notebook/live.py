"""The live view: a thread that shows, a few times a second, what the native core has recorded meanwhile.

The thread only publishes. While a C call keeps the GIL it stands still, and afterwards shows everything that happened.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from IPython.display import DisplayHandle, display

from thag_nb.browser.scene import stack_scene
from thag_nb.errors import UnknownContextError
from thag_nb.mimebundle import Bundle
from thag_nb.notebook.canvas import LiveCanvas
from thag_nb.recordings.model import ContextRecord
from thag_nb.recordings.resampling import window_of
from thag_nb.runtime import dispatcher
from thag_nb.runtime.tasks import untracked
from thag_nb.units import format_bytes, format_count, format_duration, short

_REST = 50  # times as long as publishing took: at most 2 % of a core
_PATIENCE_S = 5.0


class LiveView:
    """Shows one context and what is started under it on a view, until it is stopped. Charged to nobody."""

    def __init__(self, context_id: int, view: Any, interval_s: float) -> None:
        """`view` is a `LiveCanvas`; `interval_s` is the time between two pictures at least, in seconds."""
        self._context_id = context_id
        self._view = view
        self._interval_s = interval_s
        self._before: ContextRecord | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="thag_nb live view", daemon=True)

    def start(self) -> None:
        """Publish from now on. Raises RuntimeError if no thread can be had."""
        with untracked():  # else the thread would be followed into, and charged to the cell
            self._thread.start()

    def stop(self) -> None:
        """Publish no more, and close the view once its page has had time to take it down."""
        self._stopped.set()
        try:
            if self._thread.is_alive():
                self._thread.join(_PATIENCE_S)
        finally:  # somebody may interrupt the waiting
            _later(self._close)

    def _close(self) -> None:
        with untracked():
            # A widget that is closed leaves behind what it has made for itself.
            for part in (getattr(self._view, "layout", None), getattr(self._view, "style", None), self._view):
                if part is not None:
                    part.close()

    def publish(self) -> bool:
        """Show what is true now; False once the context has ended. Raises `UnknownContextError` if it was dropped."""
        recording = dispatcher.read_without_lines()
        record = recording.find(self._context_id)
        window = window_of(recording, record)
        scene = stack_scene(recording, record, window=window)
        self._view.show(scene, _words(record, self._before))
        self._before = record
        return record.state == "open"

    def _run(self) -> None:
        with untracked():
            rest_s = self._interval_s
            # Whoever was to stop it may have been interrupted: it also stops by itself when its context ends.
            while not self._stopped.wait(rest_s):
                began_s = time.thread_time()
                try:
                    if not self.publish():
                        return
                except UnknownContextError:
                    return
                rest_s = max(self._interval_s, _REST * (time.thread_time() - began_s))


def _later(close: Callable[[], None]) -> None:
    """Close a view when whoever shows it no longer does.

    A page takes a moment to make its view of a widget. If the widget is closed before that, as a short cell would have
    it, JupyterLab's manager attaches a view that is already disposed of, and fails.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # nothing runs that could have shown it
        close()
    else:
        loop.call_later(_PATIENCE_S, close)


class LiveDisplay:
    """A live view on the page: displayed when it is made, moving from `start` until something takes its place."""

    def __init__(self, context_id: int, interval_s: float) -> None:
        widget = LiveCanvas()
        self._view = LiveView(context_id, widget, interval_s)
        self._view.publish()
        self._handle: DisplayHandle = display(widget, display_id=True)

    def start(self) -> None:
        """Keep it going. Raises RuntimeError if no thread can be had."""
        self._view.start()

    def stop(self) -> None:
        """Let it stand still and take it off the page. Twice is once."""
        self._view.stop()

    def replace(self, bundle: Bundle) -> None:
        """Put something that can be saved in its place."""
        self._view.stop()
        self._handle.update(bundle, raw=True)


def _words(record: ContextRecord, before: ContextRecord | None) -> str:
    """``load · live 405.1 MiB · peak 812.4 MiB · 1.21 s · 130.0 MiB/s in 12,000 allocations/s``."""
    parts = [
        short(record.name),
        f"live {format_bytes(record.live_bytes)}",
        f"peak {format_bytes(record.peak_bytes)}",
        format_duration(record.duration_ns),
    ]
    # After a reset there is less of everything than before it.
    if before is not None and record.duration_ns > before.duration_ns and record.allocations >= before.allocations:
        seconds = (record.duration_ns - before.duration_ns) / 1e9
        bytes_per_second = format_bytes((record.total_bytes - before.total_bytes) / seconds)
        per_second = format_count(round((record.allocations - before.allocations) / seconds))
        parts.append(f"{bytes_per_second}/s in {per_second} allocations/s")
    return " · ".join(parts)
