"""The frames that run: as Python has them, and as a walk of ours finds them."""

from __future__ import annotations

import sys

from thag_nb import _native


def frames_of_python() -> list[tuple[str, int, str]]:
    """Those of who calls, the innermost first."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))
        frame = frame.f_back
    return found


def both() -> tuple[list[tuple[str, int, str]], list[tuple[str, int, str]]]:
    """The same twice: by Python, and by a walk."""
    return frames_of_python(), _native.stack_here()
