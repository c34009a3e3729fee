from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thag_nb.units import (
    LONGEST_NAME,
    bytes_from,
    clean_name,
    format_bytes,
    format_count,
    format_duration,
    short,
    visible,
)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (17, "17 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1004, "1.0 KiB"),
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
    ("size_bytes", "text"),
    [
        ((1 << 20) - 1, "1.0 MiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (-(1 << 20) + 1, "-1.0 MiB"),
        (1023 << 10, "1.0 MiB"),
        (int(999.96 * 1024), "1.0 MiB"),
        (int(999.9 * 1024), "999.9 KiB"),
    ],
)
def test_bytes_never_have_four_digits_of_a_unit(size_bytes: int, text: str) -> None:
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


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("two\nlines", "two lines"),
        ("two\r\n  lines\n", "two lines"),
        ("a\tb", "a b"),
        ("\u2028.", "."),
        ("NUL\0", r"NUL\x00"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("half \ud83d", r"half \ud83d"),
        ("", "unnamed"),
        (" \n\t", "unnamed"),
        ("\n" * 999 + "late", "late"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        ("x" * 10_000_000, "x" * 199 + "…"),
    ],
)
def test_a_name_is_cleaned_so_that_it_can_be_read(given: str, name: str) -> None:
    assert clean_name(given) == name


@pytest.mark.parametrize("name", ["load", "größe", "負荷", "👩\u200d🚀", "1\xa0000", "بار", " indented", "a  b"])
def test_a_name_that_can_be_read_stays_as_it_is(name: str) -> None:
    assert clean_name(name) is name or clean_name(name) == name


class Loud(str):
    """A kind of str that answers nothing by itself."""

    def _refuse(self, *_: object) -> str:
        raise AssertionError

    __getitem__ = __len__ = __str__ = __eq__ = __ne__ = isprintable = isspace = strip = lstrip = splitlines = _refuse  # type: ignore[assignment]
    __hash__ = str.__hash__


@pytest.mark.parametrize("text", ["load", "two\nlines", "\n" * 300 + "late"])
def test_a_kind_of_str_is_asked_nothing(text: str) -> None:
    name = clean_name(Loud(text))
    assert type(name) is str
    assert name == clean_name(text)


@given(st.text(st.characters(blacklist_categories=())))
@example("\ud800" * 100)
def test_a_clean_name_is_one_encodable_line_and_clean(text: str) -> None:
    name = clean_name(text)
    assert name.encode()
    assert name.splitlines() == [name]
    assert len(name) <= LONGEST_NAME
    assert clean_name(name) == name


def test_what_is_indented_stays_so_where_it_is_made_visible() -> None:
    assert visible("  👩\u200d🚀") == "  👩\u200d🚀"
    assert visible("  caf\udce9") == r"  caf\udce9"


@given(st.integers(min_value=0, max_value=999), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_a_size_that_people_write_is_read_as_it_is_shown(number: int, unit: str) -> None:
    size_bytes = bytes_from(f"{number} {unit}")
    assert size_bytes == number * 1024 ** ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
    assert number == 0 or format_bytes(size_bytes).replace(".0", "") == f"{number} {unit}"


@pytest.mark.parametrize("text", ["", "KiB", "4 KB", "4 Ki", "4 KiB B", "four", "nan", "inf B", "4 PiB", "4,096"])
def test_what_is_no_size_stands_for_none(text: str) -> None:
    assert bytes_from(text) is None
