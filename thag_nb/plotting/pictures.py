"""Pictures as reports have them: drawn whatever a person has set, and in silence; or why they could not be.

A report is not the person's figure: it looks the same under every style sheet, fills nobody's log, and comes without
its picture rather than not at all. matplotlib is loaded by the first one, in silence as well.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from thag_nb.mimebundle import Picture
from thag_nb.units import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from thag_nb.recordings.model import Recording, Wanted

_REASON_LETTERS = 200
_TALKATIVE = ("matplotlib", "PIL")  # whose loggers speak while a picture is drawn


def timeline(recording: Recording, wanted: Wanted) -> Picture:
    """The live bytes of a context over time."""

    def draw() -> Axes:
        from thag_nb.plotting.timeline import plot_timeline

        return plot_timeline(recording, wanted)

    from thag_nb.plotting.alt_text import describe_timeline

    return _picture(draw, describe_timeline(recording, wanted))


def stack(recording: Recording) -> Picture:
    """Whose live bytes they were over a session."""

    def draw() -> Axes:
        from thag_nb.plotting.stack import plot_stack

        return plot_stack(recording)

    from thag_nb.plotting.alt_text import describe_stack

    return _picture(draw, describe_stack(recording))


def comparison(aligned: Recording, alt: str) -> Picture:
    """Two contexts over each other, and what to say of them in words."""

    def draw() -> Axes:
        from thag_nb.plotting.timeline import plot_comparison

        return plot_comparison(aligned)

    return _picture(draw, alt)


def _picture(draw: Callable[[], Axes], alt: str) -> Picture:
    try:
        with _quietly(), _own_settings():
            from thag_nb.plotting.axes import figure_png

            return Picture(alt, figure_png(draw()))
    except Exception as error:  # the figures are right whatever somebody has done to matplotlib, and must be shown
        reason = short(f"{type(error).__name__}: {error}", _REASON_LETTERS)
        return Picture(alt, problem=f"The picture could not be drawn: {reason}")


@contextmanager
def _own_settings() -> Iterator[None]:
    """matplotlib's defaults and NumPy's calm, and afterwards what the person has set.

    Also while the picture is rendered: then ticks are made and TeX would be called.
    """
    import numpy as np
    from matplotlib import style

    with style.context("default"), np.errstate(all="ignore"):
        yield


@contextmanager
def _quietly() -> Iterator[None]:
    """Neither warnings nor lines in a log from this thread's drawing; other threads' lines are theirs."""
    thread_id = threading.get_ident()

    def is_somebody_elses(record: logging.LogRecord) -> bool:
        return threading.get_ident() != thread_id or record.name.partition(".")[0] not in _TALKATIVE

    handlers = _handlers()
    for handler in handlers:
        handler.addFilter(is_somebody_elses)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_somebody_elses)


def _handlers() -> list[logging.Handler]:
    """All that a talkative logger may reach, also one that is made meanwhile."""
    names = [name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] in _TALKATIVE]
    loggers = [logging.root, *map(logging.getLogger, names)]
    found = [handler for logger in loggers for handler in logger.handlers]
    return found if logging.lastResort is None else [*found, logging.lastResort]
