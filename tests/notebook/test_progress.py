"""A line while something takes long."""

import sys

import pytest

from thag_nb.notebook import progress
from thag_nb.notebook.progress import Progress

BUNDLE = {"text/plain": "the result"}


class Handle:
    def __init__(self, shown):
        self.shown = shown

    def update(self, bundle, raw):
        assert raw
        self.shown.append(("update", bundle["text/plain"]))


@pytest.fixture
def shown(monkeypatch):
    shown: list[tuple[str, str]] = []

    def display(bundle, raw, display_id=False):
        assert raw
        shown.append(("display", bundle["text/plain"]))
        return Handle(shown) if display_id else None

    monkeypatch.setattr(progress, "display", display)
    return shown


@pytest.fixture
def clock(monkeypatch):
    """What time it is, in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_is_done_within_a_second_shows_its_result_only(shown, clock):
    with Progress(notebook=True) as shows:
        clock[0] += 0.9
        shows(5)
        shows.replace(BUNDLE)
    assert shown == [("display", "the result")]


def test_in_a_notebook_one_line_counts_and_makes_way_for_the_result(shown, clock):
    with Progress(notebook=True) as shows:
        clock[0] += 1
        for objects in (1000, 1001):
            shows(objects)
        clock[0] += 0.5
        shows(2000)
        shows.replace(BUNDLE)
    assert shown == [
        ("display", "Looking for who holds what: 1,000 objects so far"),
        ("update", "Looking for who holds what: 2,000 objects so far"),
        ("update", "the result"),
    ]


def test_a_line_does_not_outlive_an_error(shown, clock):
    def fail():
        with Progress(notebook=True) as shows:
            clock[0] += 1
            shows(1000)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert shown[1:] == [("update", "")]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_has_the_line_on_stderr_and_a_file_has_none(shown, clock, monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with Progress(notebook=False) as shows:
        clock[0] += 1
        shows(1000)
        shows.replace(BUNDLE)
    line = "\rLooking for who holds what: 1,000 objects so far\r\x1b[K"
    assert capsys.readouterr().err == (line if terminal else "")
    assert shown == [("display", "the result")]
