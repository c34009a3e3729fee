from __future__ import annotations

import pytest

from thag_nb.units import format_bytes, format_count, format_duration, short


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (17, "17 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (-3072, "-3.0 KiB"),
        (424_778_138, "405.1 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_bytes_read_in_the_binary_unit_that_fits(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [((1 << 20) - 1, "1.0 MiB"), ((1 << 30) - 1, "1.0 GiB"), (-(1 << 20) + 1, "-1.0 MiB")]
)
def test_bytes_never_read_as_1024_of_a_unit(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (999, "999"), (1_204_332, "1,204,332"), (-1000, "-1,000")])
def test_counts_have_their_thousands_separated(count: int, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0 ns"),
        (830, "830 ns"),
        (1_500, "1.5 µs"),
        (12_300_000, "12.3 ms"),
        (1_210_000_000, "1.21 s"),
        (60_000_000_000, "1 min 00 s"),
        (185_400_000_000, "3 min 05 s"),
        (3_600_000_000_000, "60 min 00 s"),
    ],
)
def test_durations_read_in_the_unit_that_fits(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text


def test_names_are_shortened_to_one_line() -> None:
    assert short("two\nlines  of text") == "two lines of text"
    assert short("x" * 99) == "x" * 27 + "…"
    assert short("abcdef", 4) == "abc…"
