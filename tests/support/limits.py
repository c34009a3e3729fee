"""What is known not to work yet, with its cause."""

import sys

import pytest

BYTEARRAYS_UNEXPLAINED = pytest.mark.xfail(
    sys.version_info >= (3, 15),
    reason="since 3.15 the bytes of a bytearray are a bytes object that only it knows: the walk does not find them",
    strict=True,
)
FROZENDICTS_UNEXPLAINED = pytest.mark.xfail(reason="the walk does not know the blocks of a frozendict", strict=True)
