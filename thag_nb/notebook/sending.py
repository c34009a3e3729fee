"""What a kernel sends is the kernel's: messages are charged to the root, and not to the cell that shows something.

They are made at once, and leave in a thread of the kernel's own, some of them after the cell has ended. What a cell
prints is kept until then, so it is sent before.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from thag_nb.runtime.contexts import for_root

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Sending:
    """The messages of a shell's kernel; a shell without one, as in a terminal, sends none."""

    def __init__(self, shell: InteractiveShell) -> None:
        kernel = getattr(shell, "kernel", None)
        self._session: Any = getattr(kernel, "session", None)
        self._wrapper: Any = None
        self._on = False

    def attach(self) -> None:
        """From here on, messages are the root's."""
        self._on = True
        if self._session is None or self._wrapper is not None:
            return  # still there, under somebody else's
        send = self._session.send

        @wraps(send)
        def sending(*args: Any, **kwargs: Any) -> Any:
            if not self._on:
                return send(*args, **kwargs)
            with for_root():
                return send(*args, **kwargs)

        self._wrapper = self._session.send = sending

    def detach(self) -> None:
        """Undo `attach`; what somebody has wrapped meanwhile passes calls through."""
        self._on = False
        if self._wrapper is not None and vars(self._session).get("send") is self._wrapper:
            del self._session.send
            self._wrapper = None

    @staticmethod
    def flush() -> None:
        """Send what was printed and waits to be sent, as the kernel itself does as soon as the cell has ended."""
        for stream in (sys.stdout, sys.stderr):
            if getattr(stream, "_flush_pending", False):  # a kernel's; it takes a while even for nothing
                stream.flush()
