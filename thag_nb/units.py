"""Bytes, counts, durations and names as people read them."""

from __future__ import annotations

from typing import TypeGuard

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024

NAME_LETTERS = 28
KEY_LETTERS = 18  # the key of a picture takes its room from the axes


def format_bytes(size_bytes: float) -> str:
    """Bytes with a binary unit and one decimal: ``405.1 MiB``, ``-3.0 KiB``, ``17 B``."""
    size = float(size_bytes)
    unit = 0
    # Rounded first, so that 1023.96 KiB does not read as 1024.0 KiB.
    while abs(round(size, 1)) >= _STEP and unit < len(_BYTE_UNITS) - 1:
        size /= _STEP
        unit += 1
    return f"{size:.{min(unit, 1)}f} {_BYTE_UNITS[unit]}"


def format_count(count: int) -> str:
    """A count with thousands separated: ``1,204,332``."""
    return f"{count:,}"


def format_duration(duration_ns: int) -> str:
    """Nanoseconds in the unit that fits: ``830 ns``, ``12.3 ms``, ``1.21 s``, ``3 min 05 s``."""
    if duration_ns < 1_000:
        return f"{duration_ns} ns"
    if duration_ns < 1_000_000:
        return f"{duration_ns / 1e3:.1f} µs"
    if duration_ns < 1_000_000_000:
        return f"{duration_ns / 1e6:.1f} ms"
    if duration_ns < 60_000_000_000:
        return f"{duration_ns / 1e9:.2f} s"
    minutes, seconds = divmod(round(duration_ns / 1e9), 60)
    return f"{minutes} min {seconds:02d} s"


def is_name(value: object) -> TypeGuard[str]:
    """Whether a context or a mark can be called so: not empty, on one line, and something that can be encoded."""
    if not isinstance(value, str) or not value.strip():
        return False
    # Quick for nearly all; joiners of emoji and other spaces are allowed though they do not count as printable.
    return value.isprintable() or not any(map(_breaks_a_line, value))


def _breaks_a_line(letter: str) -> bool:
    """Control characters and line separators, and lone surrogates, which cannot even be encoded."""
    return letter < " " or "\x7f" <= letter < "\xa0" or letter in "\u2028\u2029" or "\ud800" <= letter < "\ue000"


def short(name: str, letters: int = NAME_LETTERS) -> str:
    """A name in one line that is not too long for a picture."""
    words = " ".join(name.split())
    return words if len(words) <= letters else f"{words[: letters - 1]}…"
