"""Bytes, counts, durations and names as people read them."""

from __future__ import annotations

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_MOST_OF_UNIT = 1000  # three digits before the point

LONGEST_NAME = 200
NAME_LETTERS = 28
KEY_LETTERS = 18  # the key of a picture takes its room from the axes


def format_bytes(size_bytes: float) -> str:
    """Bytes with a binary unit and one decimal: ``405.1 MiB``, ``-3.0 KiB``, ``17 B``."""
    size = float(size_bytes)
    unit = 0
    # Rounded first, so that 999.96 KiB does not read as 1000.0 KiB.
    while abs(round(size, 1)) >= _MOST_OF_UNIT and unit < len(_BYTE_UNITS) - 1:
        size /= _STEP
        unit += 1
    return f"{size:.{min(unit, 1)}f} {_BYTE_UNITS[unit]}"


def bytes_from(text: str) -> int | None:
    """The size that a text such as ``4096``, ``4 KiB`` or ``1.5GiB`` stands for; None if it stands for none."""
    number = text.rstrip("BKMGTIbkmgti")
    unit = text[len(number) :].lower() or "b"
    units = {name.lower(): _STEP**power for power, name in enumerate(_BYTE_UNITS)}
    try:
        return int(float(number) * units[unit])
    except (KeyError, ValueError, OverflowError):
        return None


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


def is_plain_name(text: str) -> bool:
    """Whether a name is known at once to be as `clean_name` leaves it: nearly all that are, but not those in emoji."""
    return type(text) is str and len(text) <= LONGEST_NAME and text.isprintable() and bool(text) and not text.isspace()


def clean_name(text: str) -> str:
    """What a context or a mark is called that was given this text: one line that can be seen and encoded.

    Line breaks and tabs become a space, and what else cannot be shown is written as in Python's source: ``\\x1b``. Text
    of more than 200 letters ends in an ellipsis, and blank text is ``unnamed``. Names that are clean stay as they are.
    """
    if is_plain_name(text):
        return text
    # By `str` itself, for its subclasses; and the head only, as somebody may have given a whole file.
    head = str.__getitem__(text, slice(LONGEST_NAME + 1))
    if not head.strip():
        head = str.lstrip(text)[: LONGEST_NAME + 1]
    return cut(visible(head), LONGEST_NAME) if head.strip() else "unnamed"


def visible(text: str) -> str:
    """Text in one line that can be encoded, whatever is in it; the same text if it is so already."""
    if text.isprintable():
        return text
    lines = text.splitlines()
    if lines != [text]:
        text = " ".join(filter(None, map(str.strip, lines)))
    return "".join(map(_seen, text))


def _seen(letter: str) -> str:
    # Joiners of emoji and other spaces are left alone, though they do not count as printable.
    if letter < " " or "\x7f" <= letter < "\xa0" or "\ud800" <= letter < "\ue000":
        return " " if letter == "\t" else ascii(letter)[1:-1]
    return letter


def short(name: str, letters: int = NAME_LETTERS) -> str:
    """A name in one line that is not too long for a picture."""
    return cut(" ".join(visible(name).split()), letters)


def cut(text: str, letters: int) -> str:
    """Text of so many letters at most, the last of them an ellipsis if there were more."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
