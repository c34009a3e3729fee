"""The hook in NumPy's data handler, above a handler that does what the test says."""

import os

import pytest
from blocks import OBJ, RAW, SIZE
from figures import assert_sums_hold, of
from scripted import Scripted

import thag_nb
from thag_nb import _native

HERE, THERE = 0x2100_0000_0000, 0x2100_0001_0000
UNKNOWN = 1 << 48  # an address that the owner table refuses


@pytest.fixture(params=[True, False], ids=["attached", "detached"])
def handler(request: pytest.FixtureRequest, scripted: Scripted) -> Scripted:
    scripted.gil = request.param
    return scripted


def test_a_record_is_gone_when_the_wrapped_handler_frees_or_moves_its_block(handler: Scripted):
    """Another thread may be handed the address at that moment."""
    found = []
    handler.malloc(HERE, SIZE)
    handler.during = lambda: found.append(_native.owner_of(HERE))
    handler.realloc(HERE, THERE, 2 * SIZE)
    handler.during = lambda: found.append(_native.owner_of(THERE))
    handler.free(THERE)
    assert found == [None, None]


def test_what_the_wrapped_handler_takes_from_cpython_is_not_counted_once_more(handler: Scripted):
    inner = []
    with thag_nb.task("nested"):
        for call in (lambda: handler.malloc(HERE, SIZE), lambda: handler.calloc(THERE, 10, SIZE)):
            handler.during = lambda: inner.append(RAW.malloc(SIZE))
            call()
        handler.during = lambda: inner.append(RAW.realloc(None, SIZE))
        handler.realloc(HERE, HERE, 3 * SIZE)
    assert [_native.owner_of(block) for block in inner] == [None] * 3
    assert 13 * SIZE <= of("nested").self_live_bytes < 14 * SIZE
    for block in inner:
        RAW.free(block)
    handler.free(HERE)
    handler.free(THERE)
    assert_sums_hold()


def test_an_array_of_zeros_is_charged_for_all_its_elements(handler: Scripted):
    with thag_nb.task("zeros") as zeros:
        handler.calloc(HERE, 3, 1000)
    assert _native.owner_of(HERE) == (zeros.id, 3000)
    handler.free(HERE)


def test_a_call_that_fails_changes_nothing(handler: Scripted):
    with thag_nb.task("owner") as owner:
        handler.malloc(HERE, SIZE)
    with thag_nb.task("failing"):
        assert handler.malloc(None, SIZE) is None
        assert handler.calloc(None, 1, SIZE) is None
        assert handler.realloc(HERE, None, 2 * SIZE) is None
    assert _native.owner_of(HERE) == (owner.id, SIZE)
    assert of("owner").foreign_frees == 0
    assert of("failing").peak_bytes < SIZE
    assert_sums_hold()
    handler.free(HERE)


def test_a_block_resized_to_its_own_size_stays_its_owners(handler: Scripted):
    with thag_nb.task("owner") as owner:
        handler.malloc(HERE, SIZE)
    with thag_nb.task("other"):
        handler.realloc(HERE, THERE, SIZE)
    assert _native.owner_of(HERE) is None
    assert _native.owner_of(THERE) == (owner.id, SIZE)
    assert_sums_hold()
    handler.free(THERE)


@pytest.mark.parametrize("size", [SIZE // 2, SIZE * 2], ids=["shrinking", "growing"])
def test_a_block_that_moves_to_where_no_record_can_be_kept_is_repaid(size: int, handler: Scripted):
    with thag_nb.task("owner"):
        handler.malloc(HERE, SIZE)
    handler.realloc(HERE, UNKNOWN, size)
    assert _native.owner_of(HERE) is None
    assert of("owner").self_live_bytes < SIZE // 2
    assert_sums_hold()


def test_a_block_that_grows_in_untracked_work_is_nobodys_any_more(handler: Scripted):
    with thag_nb.task("owner"):
        handler.malloc(HERE, SIZE)
    with thag_nb.untracked():
        handler.realloc(HERE, THERE, 2 * SIZE)
    assert _native.owner_of(THERE) is None
    assert of("owner").self_live_bytes < SIZE
    assert_sums_hold()


@pytest.mark.parametrize("domain", [RAW, OBJ], ids=["raw", "obj"])
@pytest.mark.parametrize("size", [SIZE // 2, SIZE * 2], ids=["shrinking", "growing"])
def test_an_owned_block_that_is_resized_inside_another_call_is_kept_or_repaid(domain, size: int, scripted: Scripted):
    """Inside, nothing new is charged, but no record may stay of what has moved."""
    block = []
    with thag_nb.task("owner") as owner:
        block.append(domain.malloc(SIZE))
    scripted.during = lambda: block.append(domain.realloc(block.pop(), size))
    with thag_nb.task("other") as other:
        scripted.malloc(HERE, SIZE)
    assert _native.owner_of(block[0]) == ((owner.id, size) if size < SIZE else None)
    assert _native.owner_of(HERE) == (other.id, SIZE)
    assert_sums_hold()
    domain.free(block[0])
    scripted.free(HERE)
    assert_sums_hold()


@pytest.mark.parametrize("size", [SIZE // 2, SIZE * 2], ids=["shrinking", "growing"])
def test_an_owned_array_that_is_resized_inside_another_call_is_kept_or_repaid(size: int, handler: Scripted):
    with thag_nb.task("owner") as owner:
        handler.malloc(HERE, SIZE)
    handler.during = lambda: handler.realloc(HERE, THERE, size)
    handler.malloc(HERE + (1 << 20), SIZE)
    assert _native.owner_of(HERE) is None
    assert _native.owner_of(THERE) == ((owner.id, size) if size < SIZE else None)
    assert_sums_hold()


@pytest.mark.parametrize("gil", [True, False], ids=["with the GIL", "without"])
def test_a_block_without_a_record_may_lie_where_a_larger_one_has_its_own(gil: bool, scripted: Scripted):
    """As when an allocator hands out parts of what it asked another one for, and only that was recorded."""
    with thag_nb.task("owner") as owner:
        scripted.malloc(HERE, SIZE)
        scripted.gil = gil
        for offset in range(16, 128, 16):
            scripted.free(HERE + offset)
            with thag_nb.untracked():  # where nothing can be taken for what goes on
                scripted.free(HERE + offset)
    assert _native.owner_of(HERE) == (owner.id, SIZE)
    assert_sums_hold()
    scripted.free(HERE)
    assert_sums_hold()


def test_a_handler_of_another_version_is_refused_and_left_alone(scripted: Scripted):
    _native.stop()
    before = bytes(scripted.handler)
    scripted.handler.version = 2
    try:
        with pytest.raises(ValueError, match="layout"):
            _native.attach_numpy(scripted.api)
    finally:
        scripted.handler.version = 1
    assert bytes(scripted.handler) == before


def test_a_handler_is_hooked_once_and_put_back_as_it_was(scripted: Scripted):
    assert not _native.attach_numpy(scripted.api)
    hooked = bytes(scripted.handler)
    _native.stop()
    assert _native.hooks()["numpy"] == "absent"
    scripted.malloc(HERE, SIZE)
    assert _native.owner_of(HERE) is None
    _native.start()
    assert _native.attach_numpy(scripted.api)
    assert bytes(scripted.handler) == hooked


def test_a_child_forked_in_the_middle_of_an_event_has_sums_that_hold(scripted: Scripted):
    """Without the GIL: the thread that was in the middle of it is not there to finish it."""
    status = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            audit = _native.audit()
            os._exit(0 if all(counted == found for counted, found in audit.values()) else 1)
        status.append(os.waitpid(child, 0)[1])

    with thag_nb.task("owner"):
        scripted.malloc(HERE, SIZE)
    scripted.gil, scripted.during = False, fork
    scripted.realloc(HERE, THERE, 2 * SIZE)
    assert status == [0]
    assert_sums_hold()
    scripted.free(THERE)


def test_a_reset_in_the_middle_of_an_event_without_the_gil_gives_no_record_back(scripted: Scripted):
    """The event may be about to charge a context that it looked up before."""
    with thag_nb.task("owner") as owner:
        scripted.malloc(HERE, SIZE)
    for _ in range(2 * 4096):
        thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "burnt").close()
    before = _native.overhead()["contexts"]
    scripted.gil, scripted.during = False, thag_nb.reset
    scripted.realloc(HERE, THERE, SIZE // 2)
    assert _native.owner_of(THERE) == (_native.ROOT_ID, SIZE // 2)
    assert _native.context(owner.id) is None
    assert _native.overhead()["contexts"] >= before
    thag_nb.reset()
    assert _native.overhead()["contexts"] < before
    assert _native.owner_of(THERE) == (_native.ROOT_ID, SIZE // 2)
    assert_sums_hold()
    scripted.free(THERE)
