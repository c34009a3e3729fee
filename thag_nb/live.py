"""The live view: a thread that shows, a few times a second, what the native core has recorded meanwhile.

The thread only publishes. While a C call keeps the GIL it stands still, and afterwards shows everything that happened.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from IPython.display import DisplayHandle, display

from thag_nb import dispatcher, scenes, widgets
from thag_nb.curves import window_of
from thag_nb.errors import UnknownContextError
from thag_nb.recording import ContextRecord
from thag_nb.tasks import untracked
from thag_nb.units import format_bytes, format_count, format_duration

_REST = 50  # times as long as publishing took: at most 2 % of a core
_PATIENCE_S = 5.0


class LiveView:
    """Shows one context and what is started under it on a view, until it is stopped. Charged to nobody."""

    def __init__(self, context_id: int, view: Any, interval_s: float) -> None:
        """`view` is of `widgets.live_view`; `interval_s` is the time between two pictures at least, in seconds."""
        self._context_id = context_id
        self._view = view
        self._interval_s = interval_s
        self._before: ContextRecord | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="thag_nb live view", daemon=True)

    def start(self) -> None:
        """Publish from now on."""
        with untracked():  # else the thread would be followed into, and charged to the cell
            self._thread.start()

    def stop(self) -> None:
        """Publish no more, and take the view off the page."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
        self._view.close()

    def publish(self) -> None:
        """Show what is true now. Raises `UnknownContextError` if a reset has dropped the context."""
        recording = dispatcher.read()
        record = recording.find(self._context_id)
        window = window_of(recording, record)._replace(columns=self._view.columns)
        scene = scenes.stack_scene(recording, record, window=window)
        self._view.show(scene, _words(record, self._before))
        self._before = record

    def _run(self) -> None:
        with untracked():
            rest_s = self._interval_s
            while not self._stopped.wait(rest_s):
                began_s = time.thread_time()
                try:
                    self.publish()
                except UnknownContextError:
                    return
                rest_s = max(self._interval_s, _REST * (time.thread_time() - began_s))


class Shown:
    """A live view on the page."""

    def __init__(self, view: LiveView, handle: DisplayHandle) -> None:
        self._view = view
        self._handle = handle

    def replace(self, bundle: dict[str, str]) -> None:
        """Put something that can be saved in its place."""
        self._view.stop()
        self._handle.update(bundle, raw=True)


def show(context_id: int, interval_s: float) -> Shown:
    """Display a live view of a context here, and keep it going."""
    widget = widgets.live_view()
    view = LiveView(context_id, widget, interval_s)
    view.publish()
    handle = display(widget, display_id=True)
    view.start()
    return Shown(view, handle)


def _words(record: ContextRecord, before: ContextRecord | None) -> str:
    """``load · live 405.1 MiB · peak 812.4 MiB · 1.21 s · 130.0 MiB/s in 12,000 allocations/s``."""
    parts = [
        record.name,
        f"live {format_bytes(record.live_bytes)}",
        f"peak {format_bytes(record.peak_bytes)}",
        format_duration(record.duration_ns),
    ]
    if before is not None and record.duration_ns > before.duration_ns:
        seconds = (record.duration_ns - before.duration_ns) / 1e9
        bytes_per_second = format_bytes((record.total_bytes - before.total_bytes) / seconds)
        per_second = format_count(round((record.allocations - before.allocations) / seconds))
        parts.append(f"{bytes_per_second}/s in {per_second} allocations/s")
    return " · ".join(parts)
