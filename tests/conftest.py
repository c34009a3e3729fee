import gc
from collections.abc import Iterator

import pytest

import thag_nb
from thag_nb import _native

pytest.register_assert_rewrite("figures")


def pytest_collection_finish() -> None:
    """Leave what the imports made out of the collection after each test: it took half of the time of all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test finds no hook and no context, and leaves none."""
    before = _native.allocators()
    yield
    gc.collect()  # a guard that a test dropped closes itself
    thag_nb.stop()
    assert _native.allocators() == before
    assert thag_nb.current_context().name == "root"


@pytest.fixture
def dispatcher() -> None:
    """Recording, with nothing recorded yet."""
    thag_nb.start()
    thag_nb.reset()
