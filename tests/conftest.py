import gc
import os
from collections.abc import Iterator

import pytest

import thag_nb
from thag_nb import _native

pytest.register_assert_rewrite("figures")


MOST_PROCESSES = 4  # each must import everything before its first test
LONGEST_FIRST = ("jupyterlab", "kernel", "core")  # rooms


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes run the tests; 0 is this one alone, which is done sooner where one file is asked for."""
    asked = {argument.partition("::")[0] for argument in config.args}
    return 0 if len(asked) == 1 and asked.pop().endswith(".py") else min(os.cpu_count() or 1, MOST_PROCESSES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left with it in the end."""
    ranks = {room: rank for rank, room in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.parent.name, len(ranks)))


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
