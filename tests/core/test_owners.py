"""The owner table, with blocks that lie where the test says: at boundaries, side by side, over what was missed."""

import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from figures import assert_sums_hold, of
from scripted import Scripted

import thag_nb
from thag_nb import _native

LEAF = 1 << 26
HERE = 0x2000_0000_0000  # the first address of a leaf, where no real block ever lies
GIB = 1 << 30
GRANULE = 16
MIB = 1 << 20
# Around the largest sizes whose records take one, two and four entries.
SIZES = [
    0,
    1,
    15,
    16,
    17,
    31,
    32,
    33,
    511,
    512,
    513,
    16_383,
    16_384,
    256 * MIB - 1,
    256 * MIB,
    3 * GIB + 5,
    (5 << 40) + 7,
]


def stale() -> int:
    return thag_nb.status().stale_records


def entries(size: int) -> int:
    """How many entries a record takes."""
    return 1 if size <= 16 else 2 if size <= 512 else 4 if size < 256 * MIB else 6


@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
@pytest.mark.parametrize("size", SIZES)
def test_a_block_of_any_size_keeps_its_size_and_its_owner_until_it_is_freed(size: int, gil: bool, scripted: Scripted):
    scripted.gil = gil
    with thag_nb.task("owner") as owner:
        block = scripted.malloc(HERE, size)
    assert _native.owner_of(block) == (owner.id, size)
    assert_sums_hold()
    scripted.free(block)
    assert _native.owner_of(block) is None
    assert_sums_hold()


@pytest.mark.parametrize("size", SIZES)
def test_the_record_of_a_block_ends_where_the_next_block_begins(size: int, scripted: Scripted):
    """Also when it is freed: nothing of it is left in the way of whoever comes next."""
    after = HERE + entries(size) * GRANULE
    before = stale()
    with thag_nb.task("neighbour") as neighbour:
        scripted.malloc(after, 1)
    with thag_nb.task("owner"):
        scripted.malloc(HERE, size)
    assert _native.owner_of(after) == (neighbour.id, 1)
    scripted.free(HERE)
    with thag_nb.task("heirs") as heirs:
        places = range(HERE, after, GRANULE)
        for place in places:
            scripted.malloc(place, 1)
    assert [_native.owner_of(place) for place in places] == [(heirs.id, 1)] * len(places)
    assert _native.owner_of(after) == (neighbour.id, 1)
    assert stale() == before
    for place in [*places, after]:
        scripted.free(place)
    assert_sums_hold()


@pytest.mark.parametrize("size", SIZES)
def test_a_block_that_comes_later_begins_where_the_record_of_one_ends(size: int, scripted: Scripted):
    after = HERE + entries(size) * GRANULE
    before = stale()
    with thag_nb.task("owner") as owner:
        scripted.malloc(HERE, size)
        scripted.malloc(after, 1)
    assert (_native.owner_of(HERE), _native.owner_of(after)) == ((owner.id, size), (owner.id, 1))
    assert stale() == before
    scripted.free(HERE)
    scripted.free(after)
    assert_sums_hold()


@pytest.mark.parametrize(
    ("size", "distance"), [(size, distance) for size in (1, 100, 1000, 3 * GIB) for distance in range(entries(size))]
)
def test_a_record_whose_free_was_missed_is_repaid_when_a_block_begins_on_it(
    size: int, distance: int, scripted: Scripted
):
    """Also on a later entry than its first, that many granules behind."""
    before = stale()
    with thag_nb.task("missed"):
        scripted.malloc(HERE, size)  # and freed, but not through us
    with thag_nb.task("next") as following:
        block = scripted.malloc(HERE + distance * GRANULE, 1)
    assert _native.owner_of(block) == (following.id, 1)
    assert stale() == before + 1
    assert_sums_hold()
    scripted.free(block)
    assert_sums_hold()


@pytest.mark.parametrize("size", [17, 100, 1000, 3 * GIB])
def test_records_whose_frees_were_missed_are_repaid_when_a_new_record_covers_them(size: int, scripted: Scripted):
    before = stale()
    with thag_nb.task("missed"):
        for place in range(entries(size)):
            scripted.malloc(HERE + place * GRANULE, 1)
    with thag_nb.task("next") as following:
        scripted.malloc(HERE, size)
    assert _native.owner_of(HERE) == (following.id, size)
    assert stale() == before + entries(size)
    assert_sums_hold()
    scripted.free(HERE)
    assert_sums_hold()


@pytest.mark.parametrize(
    ("size", "entry"), [(size, entry) for size in (100, 1000, 3 * GIB) for entry in range(1, entries(size))]
)
def test_the_one_record_that_only_a_later_entry_of_a_new_one_covers_is_repaid(
    size: int, entry: int, scripted: Scripted
):
    before = stale()
    with thag_nb.task("missed"):
        scripted.malloc(HERE + entry * GRANULE, 16)
    scripted.malloc(HERE, size)
    assert stale() == before + 1
    assert_sums_hold()
    scripted.free(HERE)


@pytest.mark.parametrize("size", [1, 100, 3 * GIB])
def test_a_block_may_begin_at_the_last_entry_of_a_leaf(size: int, scripted: Scripted):
    last = HERE + LEAF - GRANULE
    with thag_nb.task("owner") as owner, thag_nb.task("neighbour") as neighbour:
        scripted.malloc(HERE + LEAF, 100)
    with thag_nb.task("owner") as owner:
        scripted.malloc(last, size)
    assert _native.owner_of(last) == (owner.id, size)
    assert _native.owner_of(HERE + LEAF) == (neighbour.id, 100)
    assert_sums_hold()
    scripted.free(last)
    scripted.free(HERE + LEAF)
    assert_sums_hold()


@pytest.mark.parametrize("address", [HERE + 8, HERE + 1, HERE + 4, 1 << 48, 0xFFFF_8000_0000_0000])
def test_an_address_that_no_supported_allocator_returns_is_dropped_and_counted(address: int, scripted: Scripted):
    scripted.malloc(HERE + 4096, 100)  # the table is there
    before = thag_nb.status().dropped
    with thag_nb.task("dropped"):
        scripted.malloc(address, 1 << 20)
    assert thag_nb.status().dropped == before + 1
    assert _native.owner_of(address) is None
    assert of("dropped").peak_bytes < 1 << 20
    scripted.free(address)
    scripted.free(HERE + 4096)
    assert_sums_hold()


BURNT = HERE + (1 << 40)


@contextmanager
def burnt(contexts: int, scripted: Scripted) -> Iterator[None]:
    """So many contexts have ended and hold something meanwhile, so that their places are not given to others."""
    for number in range(contexts):
        with thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, "burnt"):
            scripted.malloc(BURNT + number * GRANULE, 1)
    yield
    for number in range(contexts):
        scripted.free(BURNT + number * GRANULE)


# A context's place in the table of contexts: where a tiny block's entry has no room for it, and where none has.
FAR = [2_000, 33_000]


@pytest.mark.parametrize("before", [10, *FAR])
def test_records_of_every_kind_pass_to_the_heir_when_their_context_is_forgotten(before: int, scripted: Scripted):
    sizes = [1, 16, 17, 100, GIB, (5 << 40) + 7]
    places = {HERE + number * 4096: size for number, size in enumerate(sizes)}
    places[HERE + LEAF - GRANULE] = 100  # its owner stands in the room behind the leaf
    thag_nb.reset()
    with burnt(before, scripted), thag_nb.task("owner") as owner:
        for place, size in places.items():
            scripted.malloc(place, size)
    thag_nb.reset()
    assert _native.context(owner.id) is None
    assert {place: _native.owner_of(place) for place in places} == {
        place: (_native.ROOT_ID, size) for place, size in places.items()
    }
    assert_sums_hold()
    for place in places:
        scripted.free(place)
    assert_sums_hold()


@pytest.fixture(params=FAR)
def far(request: pytest.FixtureRequest, scripted: Scripted) -> Iterator[Scripted]:
    """Contexts that are opened here have a place far from the first."""
    thag_nb.reset()
    with burnt(request.param, scripted):
        yield scripted
    thag_nb.reset()


@pytest.mark.parametrize("gil", [True, False], ids=["attached", "detached"])
def test_blocks_of_a_context_far_from_the_first_are_told_apart_as_well(gil: bool, far: Scripted):
    places = {HERE + number * 4096: size for number, size in enumerate(SIZES)}
    far.gil = gil
    with thag_nb.task("far") as one:
        for place, size in places.items():
            far.malloc(place, size)
    with thag_nb.task("far, too") as other:
        for place, size in places.items():
            far.malloc(place + 2048, size)
    assert {place: _native.owner_of(place) for place in places} == {
        place: (one.id, size) for place, size in places.items()
    }
    assert {_native.owner_of(place + 2048)[0] for place in places} == {other.id}
    assert_sums_hold()
    for place in places:
        far.free(place)
        far.free(place + 2048)
        assert _native.owner_of(place) is _native.owner_of(place + 2048) is None
    assert max(of("far").live_bytes, of("far, too").live_bytes) < 1000  # not counting the variables here
    assert_sums_hold()


def test_blocks_of_contexts_around_the_last_near_place_are_told_apart_as_well(scripted: Scripted):
    """Places are given out in groups: some at their ends are as what tells of none, or of one that stands elsewhere."""
    sizes = (1, 100, 1000, 256 * MIB)
    thag_nb.reset()
    places: dict[int, tuple[int, int]] = {}
    with burnt(24_500, scripted):
        for number in range(150):
            with thag_nb.task("around") as context:
                for kind, size in enumerate(sizes):
                    place = HERE + 8192 * number + 2048 * kind
                    scripted.malloc(place, size)
                    places[place] = context.id, size
        assert {place: _native.owner_of(place) for place in places} == places
        assert_sums_hold()
        for place in list(places)[::2]:
            scripted.free(place)
            assert _native.owner_of(place) is None
    thag_nb.reset()
    for place in list(places)[1::2]:
        assert _native.owner_of(place) == (_native.ROOT_ID, places[place][1])
        scripted.free(place)
    assert_sums_hold()


def test_blocks_whose_records_have_no_room_for_the_heir_are_the_heirs_as_well(scripted: Scripted):
    """Their context is only forgotten by the first reset after the last of them was freed."""
    thag_nb.reset()
    opened = ExitStack()
    with burnt(33_000, scripted):
        heir = opened.enter_context(thag_nb.task("heir"))
    with opened:
        thag_nb.reset()  # all but the heir is forgotten, and the next context takes the first place
        with thag_nb.task("near"):
            for number, size in enumerate(SIZES):
                scripted.malloc(HERE + number * 4096, size)
        for _ in range(2):
            thag_nb.reset()
            assert {_native.owner_of(HERE + number * 4096) for number in range(len(SIZES))} == {
                (heir.id, size) for size in SIZES
            }
            assert of("heir").self_live_bytes >= sum(SIZES)
            assert_sums_hold()
        with thag_nb.task("next"):  # takes another place than the one that those records still name
            scripted.malloc(HERE - 4096, 1000)
        assert _native.owner_of(HERE)[0] == heir.id
        for number in range(len(SIZES)):
            scripted.free(HERE + number * 4096)
        scripted.free(HERE - 4096)
        assert of("heir").self_live_bytes < 1 << 20
    assert_sums_hold()


def test_two_blocks_of_eight_bytes_may_share_a_granule(scripted: Scripted):
    with thag_nb.task("lower") as lower:
        scripted.malloc(HERE, 8)
    with thag_nb.task("upper") as upper:
        scripted.malloc(HERE + 8, 5)
    assert _native.owner_of(HERE) == (lower.id, 8)
    assert _native.owner_of(HERE + 8) == (upper.id, 5)
    assert_sums_hold()
    scripted.free(HERE)
    assert _native.owner_of(HERE + 8) == (upper.id, 5)
    thag_nb.reset()
    assert _native.owner_of(HERE + 8) == (_native.ROOT_ID, 5)
    before = stale()
    with thag_nb.task("again") as again:
        scripted.malloc(HERE + 8, 1)  # the free before was missed
    assert stale() == before + 1
    assert _native.owner_of(HERE + 8) == (again.id, 1)
    assert_sums_hold()
    assert scripted.realloc(HERE + 8, HERE + 64, 100) == HERE + 64
    assert _native.owner_of(HERE + 8) is None
    scripted.free(HERE + 64)
    assert_sums_hold()


def test_a_block_in_the_middle_of_a_granule_may_be_the_first_of_a_leaf(scripted: Scripted):
    with thag_nb.task("first") as first:
        scripted.malloc(HERE + 11 * LEAF + 8, 8)
    assert _native.owner_of(HERE + 11 * LEAF + 8) == (first.id, 8)
    assert_sums_hold()
    scripted.free(HERE + 11 * LEAF + 8)
    assert _native.owner_of(HERE + 11 * LEAF + 8) is None
    assert_sums_hold()


def test_the_table_takes_a_page_where_a_block_is_and_none_where_none_is(scripted: Scripted):
    with thag_nb.untracked():
        before = _native.overhead()["owners"]
    for number in range(3):
        scripted.malloc(HERE + 7 * LEAF + number * LEAF // 4, 1)
    with thag_nb.untracked():
        grown = _native.overhead()["owners"] - before
    assert 3 * 4096 <= grown < 100 * 4096  # a leaf is four thousand of them
    for number in range(3):
        scripted.free(HERE + 7 * LEAF + number * LEAF // 4)


def test_what_was_forgotten_is_gone_from_the_table(scripted: Scripted):
    with thag_nb.task("forgotten"):
        scripted.malloc(HERE, 100)
        scripted.malloc(HERE + LEAF - GRANULE, 100)
    thag_nb.stop()
    thag_nb.start()
    assert _native.owner_of(HERE) is None
    assert _native.owner_of(HERE + LEAF - GRANULE) is None
    assert_sums_hold()


@pytest.mark.parametrize("size", [1, 17, 600, 3 * MIB, 200 * MIB])
def test_the_block_around_an_address_is_found_wherever_it_begins(size: int, scripted: Scripted):
    for at in (HERE + 4096, HERE + LEAF - GRANULE):
        with thag_nb.task("owner"):
            block = scripted.malloc(at, size)
        for inside in {at, at + 1, at + size // 2, at + size - 1} - {at + size}:
            assert _native.block_around(inside) == (block, size)
        assert _native.block_around(at + size) is None
        assert _native.block_around(at - 1) is None
        scripted.free(block)
        assert _native.block_around(at) is None


def test_the_block_around_an_address_is_the_nearest(scripted: Scripted):
    with thag_nb.task("owner"):
        blocks = [scripted.malloc(HERE + 4096 * i, 1000) for i in range(3)]
    assert _native.block_around(blocks[1] + 999) == (blocks[1], 1000)
    assert _native.block_around(blocks[1] + 1000) is None
    for block in blocks:
        scripted.free(block)
    assert _native.block_around(1 << 63) is None
    with pytest.raises(TypeError):
        _native.block_around("here")  # type: ignore[arg-type]


@pytest.mark.usefixtures("scripted")
def test_the_words_of_a_block_are_read_and_nothing_else():
    with thag_nb.task("owner"):
        numbers = array.array("Q", [7, 8, 9])
    address = numbers.buffer_info()[0]
    assert _native.words(address)[:4] == (address, 7, 8, 9)
    assert _native.words(HERE) == (HERE,)
    with pytest.raises(TypeError):
        _native.words("here")
