from collections.abc import Iterator
from typing import Any

import labs
import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with labs.chromium() as browser:
        yield browser
