"""Blocks that are found by pointers alone."""

import ctypes
import mmap
import sys
from array import array

import pytest
from blocks import RAW
from processes import python

import thag_nb
from thag_nb import _native

pytestmark = [
    pytest.mark.usefixtures("dispatcher"),
    pytest.mark.skipif(sys.platform != "linux", reason="Linux copies what is to be read"),
]
SIZE = 10_000  # more than is read at once


def block(*words: int) -> int:
    """Ends with these words."""
    made = RAW.malloc(SIZE)
    ctypes.memset(made, 0, SIZE)
    (ctypes.c_uint64 * len(words)).from_address(made + SIZE - 8 * len(words))[:] = words
    return made


def test_they_are_found_once_each_through_each_other():
    last = block()
    second = block(last, 0x1234, last + 16)
    first = block(second, second, 1 << 60)
    ctypes.c_uint64.from_address(last).value = first  # round
    others = block(last), block()
    shown = array("Q", [first])
    found = _native.blocks_behind(shown)
    assert sorted(found) == sorted({first, second, last, shown.buffer_info()[0]})
    assert len(set(found)) == len(found)
    RAW.free(second)
    assert sorted(_native.blocks_behind(shown)) == sorted({first, shown.buffer_info()[0]})
    for made in (first, last, *others):
        RAW.free(made)


def test_what_two_new_objects_both_point_to_is_not_their_own():
    secret, shared_now, own_secret = block(), block(), block()
    shared = block(secret)

    def made(*words):
        return array("Q", [*words, *[0] * 9])

    new = made(shared_now, block(), 0, 5), made(shared_now, block(), 0, 5)
    thing = made(shared, block(own_secret), secret, 7)
    found = set(_native.blocks_behind(thing, new))
    assert found == {thing.buffer_info()[0], thing[1], own_secret, secret}
    assert set(_native.blocks_behind(thing)) == {*found, shared}
    thing[2] = 0
    assert secret not in _native.blocks_behind(thing, new)
    assert secret in _native.blocks_behind(thing)
    for address in (secret, shared_now, own_secret, shared, thing[1], new[0][1], new[1][1]):
        RAW.free(address)


def test_it_takes_two_new_objects():
    with pytest.raises(TypeError):
        _native.blocks_behind([], ([],))


def test_what_may_not_be_read_is_not():
    thag_nb.start(native=True)
    library = ctypes.CDLL(None)
    area = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    assert _native.owner_of(address) is not None
    shown = array("Q", [address])
    before = _native.blocks_behind(shown)
    assert library.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    try:
        assert _native.blocks_behind(shown) == before
        assert address in before
    finally:
        library.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), 3)
    thag_nb.start(native=False)


def test_blocks_may_come_and_go_meanwhile():
    python("""
        import threading
        from array import array
        import numpy as np
        import thag_nb
        from thag_nb import _native

        thag_nb.start(native=True)
        kept = [np.empty(50_000) for _ in range(200)]
        shown = array("Q", [it.ctypes.data for it in kept])
        for place, it in enumerate(kept):
            it.view("u8")[:] = kept[place - 1].ctypes.data
        over = threading.Event()

        def churn():
            while not over.is_set():
                np.empty(1 << 20).sum()

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for _ in range(20):
                assert set(_native.blocks_behind(shown)) >= {it.ctypes.data for it in kept}
        finally:
            over.set()
            thread.join()
    """)


LOOK = """
import gc, sys
import numpy as np
import thag_nb
{imports}
thag_nb.start(native=True)
{warm}
thag_nb.retained("root")
with thag_nb.task("made"):
    made = {make}
other = {make}

def live():
    gc.collect()
    return thag_nb.read().find("made").self_live_bytes

with thag_nb.untracked():
    for _ in range(3):
        row = thag_nb.retained("made").iloc[0]
before = live()
assert row.holder == "made", row
assert before * 0.98 <= row.held_bytes <= before, (row, before)
assert row.released_by == "del made", row
exec(row.released_by)
assert before - live() >= 0.9 * row.held_bytes, (before, live())
"""
XML = """b"<r>" + b"".join(b"<a i='%d'><b>text %d</b></a>" % (i, i) for i in range(20_000)) + b"</r>" """


def test_an_xml_document_is_held_by_whoever_has_an_element_of_it():
    pytest.importorskip("lxml")
    python(
        LOOK.format(
            imports=f"from lxml import etree\nxml = {XML}",
            warm="etree.fromstring(xml[:3] + b'</r>')",
            make="etree.fromstring(xml)",
        )
    )


STAINED = f"""
import ctypes, gc, threading
import thag_nb
from lxml import etree
from thag_nb import _native

LIBRARY = ctypes.CDLL(None)
LIBRARY.malloc.restype = ctypes.c_void_p
LIBRARY.free.argtypes = [ctypes.c_void_p]
xml = {XML}
thag_nb.start(native=True)

def stain(address):
    sizes = [1_048, 4_048, 16_048] * 20
    blocks = [LIBRARY.malloc(size) for size in sizes for _ in range(2)]
    for block, size in zip(blocks[::2], sizes, strict=True):
        (ctypes.c_uint64 * (size // 8)).from_address(block)[:] = [address] * (size // 8)
        LIBRARY.free(block)

with thag_nb.task("made"):
    made = etree.fromstring(xml)
document = next(it for it in gc.get_referents(made) if type(it).__name__ == "_Document")
stained_with = _native.blocks_behind(document)[0]
del document

def work():
    global other
    stain(stained_with)
    other = etree.fromstring(xml)

thread = threading.Thread(target=work)
thread.start()
thread.join()
with thag_nb.untracked():
    row = thag_nb.retained("made").iloc[0]
assert row.released_by == "del made", row
assert row.alone_bytes >= 0.99 * row.held_bytes, row
"""


def test_what_is_left_over_in_the_names_that_documents_share_leads_nowhere():
    """Each thread has a dictionary of names, which takes memory as it comes."""
    pytest.importorskip("lxml")
    python(STAINED)


def test_a_forest_is_held_by_whoever_has_it():
    pytest.importorskip("sklearn")
    python(
        LOOK.format(
            imports="from sklearn.tree import DecisionTreeRegressor\nx = np.random.default_rng(1).random((30_000, 3))",
            warm="DecisionTreeRegressor().fit(x[:9], x[:9, 0])",
            make="DecisionTreeRegressor(random_state=1).fit(x, x[:, 0] + x[:, 1])",
        )
    )


def test_libraries_that_are_not_what_they_seem_are_left_alone():
    python("""
        import sys, types
        from unittest.mock import MagicMock
        from thag_nb.holders.foreign import behind
        for module in (MagicMock(), types.SimpleNamespace(_Element=int), None, types.ModuleType("lxml.etree")):
            sys.modules["lxml.etree"] = sys.modules["sklearn.tree._tree"] = module
            assert behind.documents() is behind.trees() is None
    """)
