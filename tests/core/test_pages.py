"""Pages of the tables: which are in use, as far as the system tells, and what was forgotten is gone from them."""

FORGETTING = """
        slots = (ctypes.c_void_p * 3000)()
        with thag_nb.task("forgotten"):
            for slot in range(len(slots)):
                slots[slot] = RAW.malloc(1000)
        {given}
        thag_nb.stop()
        thag_nb.start()
        for slot in slots:
            RAW.free(slot)
        assert 0 <= thag_nb.read().contexts[0].live_bytes < 500_000
        assert_sums_hold()
"""

PASSING_ON = """
        def fill(slots):
            for slot in range(len(slots)):
                with thag_nb.task("dropped"):
                    slots[slot] = RAW.malloc(1000)

        thag_nb.start()
        fill((ctypes.c_void_p * 4096)())  # the chunk of the root is never given back
        slots = (ctypes.c_void_p * (3 * 4096))()
        fill(slots)
        before = _native.overhead()["contexts"]
        {given}
        thag_nb.reset()
        assert _native.overhead()["contexts"] < before
        assert {{_native.owner_of(slot) for slot in slots}} == {{(_native.ROOT_ID, 1000)}}
        assert_sums_hold()
        for slot in slots:
            RAW.free(slot)
        assert of("root").live_bytes < 5_000_000
        assert_sums_hold()
"""


def test_records_on_pages_in_swap_pass_to_the_heir_and_are_repaid(interposed):
    """The system is made to say that half of the pages are in swap."""
    assert interposed(PASSING_ON.format(given="library.pages_tell(1)")) == ""


def test_where_the_system_tells_nothing_of_pages_those_with_records_are_found_all_the_same(interposed):
    assert interposed(PASSING_ON.format(given="library.pages_tell(2)")) == ""


def test_where_the_system_tells_nothing_of_pages_those_without_records_are_not_counted(interposed):
    code = """
        thag_nb.start()
        told = _native.overhead()["owners"]
        library.pages_tell(2)
        # A leaf has 16 MiB. Pages may have been used, and hold nothing any more.
        assert abs(_native.overhead()["owners"] - told) < 4 << 20
    """
    assert interposed(code) == ""


def test_what_was_forgotten_is_gone_though_no_more_memory_can_be_mapped(interposed):
    """As at the kernel's limit of mappings for one process."""
    assert interposed(FORGETTING.format(given="library.mappings_end()")) == ""


def test_what_was_forgotten_is_gone_from_pages_that_are_locked_in_memory(interposed):
    assert interposed(FORGETTING.format(given="library.pages_lock()")) == ""


def test_a_block_that_finds_no_memory_for_its_record_changes_no_error(interposed):
    """What a library then asks errno must be what it was before."""
    code = """
        unlocked = ctypes.CDLL(None, use_errno=True)
        unlocked.PyMem_RawMalloc.restype = ctypes.c_void_p
        thag_nb.start()
        library.mappings_end()
        ctypes.set_errno(77)
        blocks = [unlocked.PyMem_RawMalloc(ctypes.c_size_t(512 << 20)) for _ in range(3)]
        assert all(blocks) and ctypes.get_errno() == 77
        assert thag_nb.status().dropped > 0
    """
    assert interposed(code) == ""
