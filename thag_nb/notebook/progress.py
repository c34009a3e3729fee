"""One line that says how far something has come, while it takes long."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from IPython.display import DisplayHandle, display

from thag_nb.mimebundle import Bundle

_PATIENCE_S = 1.0  # what takes less shows nothing
_INTERVAL_S = 0.5


class Progress:
    """A line in the notebook, or on a terminal's stderr, that is gone at the end. Nothing, if that comes soon.

    To be called with the number of objects looked at so far, as often as one likes.
    """

    def __init__(self, *, notebook: bool) -> None:
        self._notebook = notebook
        self._handle: DisplayHandle | None = None
        self._written = False
        self._due_s = time.monotonic() + _PATIENCE_S

    def __call__(self, objects: int) -> None:
        """Tell of it, if it is time to."""
        if time.monotonic() < self._due_s:
            return
        line = f"Looking for who holds what: {objects:,} objects so far"
        if not self._notebook:
            self._write(line)
        elif self._handle is None:
            self._handle = display({"text/plain": line}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": line}, raw=True)
        self._due_s = time.monotonic() + _INTERVAL_S

    def replace(self, bundle: Bundle) -> None:
        """Show what it was all for, in the place of the line if there is one."""
        if self._handle is None:
            self._wipe()
            display(bundle, raw=True)
        else:
            self._handle.update(bundle, raw=True)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the line away if something went wrong."""
        self._wipe()
        if self._handle is not None:
            self._handle.update({"text/plain": ""}, raw=True)

    def _write(self, line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{line}", end="", file=sys.stderr, flush=True)
            self._written = True

    def _wipe(self) -> None:
        if self._written:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._written = False
