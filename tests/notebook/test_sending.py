"""Messages of a kernel are the root's, with a session of a few lines for that of a kernel."""

import inspect
import sys
from types import SimpleNamespace

import pytest
from blocks import OBJ, SIZE

import thag_nb
from thag_nb import _native
from thag_nb.notebook.sending import Sending

pytestmark = pytest.mark.usefixtures("dispatcher")


class Session:
    """Sends by allocating a block."""

    def send(self, *blocks: int, more: int = 0) -> int:
        return OBJ.malloc(sum(blocks) + more)


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def sending(session: Session) -> Sending:
    sending = Sending(SimpleNamespace(kernel=SimpleNamespace(session=session)))
    sending.attach()
    return sending


def owner_of_message(session: Session) -> int | None:
    block = session.send(SIZE, more=1)
    owner = _native.owner_of(block)
    OBJ.free(block)
    assert owner is None or owner[1] == SIZE + 1
    return owner and owner[0]


@pytest.mark.usefixtures("sending")
def test_a_message_is_the_roots_and_what_follows_it_is_not(session):
    with thag_nb.task("cell") as cell:
        assert owner_of_message(session) == _native.ROOT_ID
        assert thag_nb.current_context() == cell


@pytest.mark.usefixtures("sending")
def test_a_message_of_work_that_is_not_recorded_is_nobodys(session):
    with thag_nb.task("cell"), thag_nb.untracked():
        assert owner_of_message(session) is None


@pytest.mark.usefixtures("sending")
def test_a_message_that_cannot_be_sent_fails_as_it_would_and_leaves_the_context_alone(session):
    with thag_nb.task("cell") as cell:
        with pytest.raises(TypeError, match="nothing"):
            session.send(nothing=1)
        assert thag_nb.current_context() == cell


def test_a_session_is_left_as_it_was_found(session, sending):
    sending.attach()
    sending.detach()
    assert vars(session) == {}
    sending.attach()
    with thag_nb.task("cell"):
        assert owner_of_message(session) == _native.ROOT_ID
    sending.detach()
    assert vars(session) == {}


def test_who_wrapped_us_goes_on_and_we_only_pass_through(session, sending):
    ours, calls = session.send, []
    session.send = lambda *blocks, **options: (calls.append(1), ours(*blocks, **options))[1]
    sending.detach()
    with thag_nb.task("cell") as cell:
        assert owner_of_message(session) == cell.id
    sending.attach()
    with thag_nb.task("cell"):
        assert owner_of_message(session) == _native.ROOT_ID
    assert calls == [1, 1]


@pytest.mark.parametrize(("pending", "expected"), [(True, ["flushed"]), (False, [])])
def test_what_was_printed_and_waits_is_sent(pending, expected, monkeypatch):
    flushed = []
    stream = SimpleNamespace(_flush_pending=pending, flush=lambda: flushed.append("flushed"))
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    Sending.flush()
    assert flushed == expected


def test_kernels_tell_that_something_waits():
    """It is no public attribute."""
    iostream = pytest.importorskip("ipykernel.iostream")
    assert "self._flush_pending = True" in inspect.getsource(iostream.OutStream)
