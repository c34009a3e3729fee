"""Where bytes were asked for: with Python's allocators, NumPy's, or by native code. See test_composition.py as well."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from blocks import RAW
from figures import assert_sources_fit, assert_sums_hold, of

import thag_nb
from thag_nb import ContextRecord, _native

SIZE = 4_000_000  # more than anything else here
ENOUGH = (1 << 14) * 3 // 2  # contexts, that older ones are surely given back


class Sources(NamedTuple):
    """In blocks."""

    python: int
    numpy: int
    native: int


NONE = Sources(0, 0, 0)


def blocks(whole: int, numpy: int, native: int) -> Sources:
    return Sources(*(round(size / SIZE) for size in (whole - numpy - native, numpy, native)))


def live(record: ContextRecord) -> Sources:
    return blocks(record.self_live_bytes, record.self_live_numpy_bytes, record.self_live_native_bytes)


def at_session_peak(record: ContextRecord) -> Sources:
    sources = record.at_session_peak_numpy_bytes, record.at_session_peak_native_bytes
    return blocks(record.at_session_peak_bytes, *sources)


@pytest.fixture(params=["gil", "no gil"])
def slots(request: pytest.FixtureRequest, build: Callable[..., Path]) -> Iterator[Any]:
    """Functions of a library whose slots are ours."""
    library = (ctypes.PyDLL if request.param == "gil" else ctypes.CDLL)(str(build("slots.c")))
    library.take.restype, library.take.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.resize.restype, library.resize.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]
    library.give_back.argtypes = [ctypes.c_void_p]
    thag_nb.start(native=True)
    thag_nb.reset()
    yield library
    assert_sums_hold()
    thag_nb.start(native=False)


def array(count: int) -> np.ndarray:
    return np.empty(count * SIZE, dtype=np.uint8)


def test_the_three_are_told_apart(slots):
    with thag_nb.task("owner"):
        kept = RAW.malloc(3 * SIZE), array(2), slots.take(SIZE)
        assert live(of("owner")) == (3, 2, 1)
    with thag_nb.task("other"):
        slots.give_back(kept[2])
        assert live(of("owner")) == (3, 2, 0)
        assert at_session_peak(of("owner")) == (3, 2, 1)
        RAW.free(kept[0])
    assert live(of("owner")) == (0, 2, 0)
    del kept
    gc.collect()
    assert live(of("owner")) == live(of("other")) == NONE


def test_a_block_that_another_context_grows_is_the_others_from_the_same_source(slots):
    with thag_nb.task("owner"):
        block, numbers = slots.take(SIZE), array(1)
    with thag_nb.task("other"):
        block = slots.resize(block, 3 * SIZE)
        numbers.resize(2 * SIZE, refcheck=False)
    assert live(of("owner")) == NONE
    assert live(of("other")) == (0, 2, 3)
    slots.give_back(block)
    assert live(of("other")) == (0, 2, 0)


def test_what_a_forgotten_context_held_passes_on_with_its_source(slots):
    with thag_nb.task("outer"):
        with thag_nb.task("inner"):
            kept = array(1), slots.take(2 * SIZE)
        thag_nb.reset()
        assert live(of("outer")) == at_session_peak(of("outer")) == (0, 1, 2)
        slots.give_back(kept[1])
        assert live(of("outer")) == (0, 1, 0)
        assert at_session_peak(of("outer")) == (0, 1, 2)


def test_contexts_that_are_given_back_leave_their_part_of_the_peak_with_its_source(slots):
    with thag_nb.task("around"):
        with thag_nb.task("forgotten"):
            kept = array(2), slots.take(9 * SIZE)
            slots.give_back(kept[1])
            del kept
        for _ in range(ENOUGH):
            with thag_nb.task("newer"):
                pass
        assert "forgotten" not in {record.name for record in thag_nb.read().contexts}
        assert at_session_peak(of("around")) == (0, 2, 9)


def test_after_a_stop_nothing_is_live_of_any_source(slots):
    with thag_nb.task("kept"):
        block, numbers = slots.take(SIZE), array(1)
        thag_nb.stop()
        assert live(of("kept")) == (0, 1, 1)
        thag_nb.start()
        assert live(of("kept")) == NONE
        assert at_session_peak(of("kept")) == (0, 1, 1)
        slots.give_back(block)
        del numbers
        later = RAW.malloc(2 * SIZE)
        assert live(of("kept")) == (2, 0, 0)
        RAW.free(later)


def test_a_child_has_what_its_parent_had(slots):
    with thag_nb.task("kept"):
        kept = array(1), slots.take(2 * SIZE)
    pid = os.fork()
    if pid == 0:
        found = live(of("kept"))
        slots.give_back(kept[1])
        os._exit(found != (0, 1, 2) or live(of("kept")) != (0, 1, 0))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    slots.give_back(kept[1])


def test_a_block_whose_end_nobody_told_is_repaid_as_of_where_its_address_is_given_out(scripted):
    """The hooks were out for a moment, for example. What native code has is not Python's for that."""
    here, there = 0x2100_0000_0000, 0x2100_0100_0000
    thag_nb.reset()
    with thag_nb.task("owner"):
        scripted.malloc(here, 2 * SIZE)
        scripted.malloc(there, SIZE)
        kept = RAW.malloc(2 * SIZE)
        assert live(of("owner")) == (2, 3, 0)
    with thag_nb.task("later"):
        scripted.malloc(here, SIZE)
    assert live(of("owner")) == (2, 1, 0)
    assert live(of("later")) == (0, 1, 0)
    RAW.free(kept)
    scripted.free(here)
    scripted.free(there)


def test_a_block_given_back_elsewhere_makes_no_figure_absurd(slots):
    """Python's and the C library's are the same in truth, and some programs rely on that."""
    with thag_nb.task("mixed"):
        slots.give_back(RAW.malloc(SIZE))
        assert live(of("mixed")) == NONE
        assert_sources_fit(of("mixed"))
        RAW.free(slots.take(SIZE))
        kept = slots.take(SIZE)
        assert_sources_fit(of("mixed"))
    slots.give_back(kept)
    assert _native.audit()
