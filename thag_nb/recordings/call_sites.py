"""Call sites in files: the part of a recording that tells of lines, with each text in it only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from thag_nb.recordings import tables
from thag_nb.recordings.tables import Rows, is_integer

_TABLES = ("sites", "site_figures", "lines", "source_lines", "cell_files")
_NOT_ALWAYS = {"cell_files"}  # tables that are written if they have rows
_HIDDEN = "is_hidden"  # a field of sites that is written if it is true of any
_TEXTS = (("sites", "file"), ("sites", "function"), ("source_lines", "file"), ("cell_files", "file"))  # their numbers
_PAIRS = (("site_figures", "at_peaks"), ("lines", "cells"))
_LOWEST_PLACE = -3  # below 0 stand words for what no site has
_NEVER_NEGATIVE = (("sites", "line"), ("lines", "least_bytes"), ("source_lines", "line"))


def content(recording: Any, rows: Rows) -> dict[str, Any] | None:
    """What a file holds of a recording's call sites; None if there are none."""
    if not any(getattr(recording, table) for table in _TABLES):
        return None
    kept = [table for table in _TABLES if table not in _NOT_ALWAYS or getattr(recording, table)]
    section: dict[str, Any] = {table: tables.columns(getattr(recording, table), rows[table]) for table in kept}
    numbers: dict[str, int] = {}
    for table, field in _TEXTS:
        if table in section:
            section[table][field] = [_number(numbers, text) for text in section[table][field]]
    if not any(section["sites"][_HIDDEN]):
        del section["sites"][_HIDDEN]
    return {"texts": list(numbers), **section}


def _number(numbers: dict[str, int], text: Any) -> int | None:
    """The number of a text; what is none is a flaw, and told as such."""
    return numbers.setdefault(text, len(numbers)) if isinstance(text, str) else None


def parts(section: Mapping[str, Any], rows: Rows) -> dict[str, tuple[Any, ...]]:
    """What a recording holds of a file's call sites, by its fields."""
    columns = {table: dict(section[table]) for table in _tables(section)}
    for table, field in _TEXTS:
        if table in columns:
            columns[table][field] = [section["texts"][number] for number in columns[table][field]]
    for table, field in _PAIRS:
        columns[table][field] = [tuple(map(tuple, pairs)) for pairs in columns[table][field]]
    return {table: tables.rows(columns[table], rows[table]) for table in columns}


def _tables(section: Mapping[str, Any]) -> list[str]:
    return [table for table in _TABLES if table in section]


def flaw(section: object, rows: Rows, version: int) -> str | None:
    """What keeps something from being call sites, or None."""
    if not isinstance(section, dict) or set(section) | _NOT_ALWAYS != {"texts", *_TABLES}:
        return f"what its call_sites have is not what those of version {version} have"
    texts = section["texts"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return "the texts of its call_sites are not all text"
    fits = _fits_with(len(texts))
    for table in _tables(section):
        table_flaw = tables.flaw(table, section[table], _fields(table, section[table], rows), version, fits)
        if table_flaw is not None:
            return table_flaw
    return (
        _places_flaw(section)
        or _contexts_flaw(section["site_figures"], section["lines"])
        or _cells_flaw(section.get("cell_files", {}), texts)
    )


def _fields(table: str, columns: object, rows: Rows) -> tuple[str, ...]:
    """What rows of a table have in a file."""
    fields: tuple[str, ...] = rows[table]._fields
    is_left_out = table == "sites" and isinstance(columns, dict) and _HIDDEN not in columns
    return tuple(field for field in fields if field != _HIDDEN) if is_left_out else fields


def _fits_with(texts: int) -> tables.Fits:
    """Whether values fit where there are so many texts."""

    def fits(table: str, field: str, value: object) -> bool:
        if field == "at_peaks":
            return _are_pairs(value, is_integer)
        if field == "cells":
            return _are_pairs(value, lambda text: isinstance(text, str))
        if field in ("is_explained", _HIDDEN):
            return isinstance(value, bool)
        if field in ("text", "name"):
            return isinstance(value, str)
        if not is_integer(value):
            return False
        if (table, field) in _TEXTS:
            return 0 <= value < texts
        return value >= 0 or (table, field) not in _NEVER_NEGATIVE

    return fits


def _are_pairs(value: object, fits: Callable[[Any], bool]) -> bool:
    """Lists of lists if they come out of a file, and tuples before."""
    return isinstance(value, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(map(fits, pair)) for pair in value
    )


def _places_flaw(section: dict[str, Any]) -> str | None:
    parents = section["sites"]["parent"]
    for place, parent in enumerate(parents):
        if not -1 <= parent < place:
            return f"parent of site {place} is {parent}, and not the place of one before it"
    for table, field in (("site_figures", "site"), ("lines", "peak_site")):
        for place in section[table][field]:
            if not _LOWEST_PLACE <= place < len(parents):
                return f"{field} in its {table} is {place}, and it has {len(parents)} sites"
    return None


def _contexts_flaw(figures: dict[str, list[Any]], lines: dict[str, list[Any]]) -> str | None:
    for context_id, at_peaks in zip(figures["context_id"], figures["at_peaks"], strict=True):
        peaks = [peak_id for peak_id, _ in at_peaks]
        if len(set(peaks)) != len(peaks) or not all(1 <= peak_id <= context_id for peak_id in peaks):
            return f"at_peaks of context {context_id} are not those of itself and of older ones, each once"
    for context_id, times in Counter(lines["context_id"]).items():
        if times > 1:
            return f"lines of context {context_id} occur {times} times"
    for (context_id, place), times in Counter(zip(figures["context_id"], figures["site"], strict=True)).items():
        if times > 1:
            return f"figures of context {context_id} at site {place} occur {times} times"
    return None


def _cells_flaw(cells: dict[str, list[Any]], texts: list[str]) -> str | None:
    for number, times in Counter(cells.get("file", ())).items():
        if times > 1:
            return f"the file {texts[number]!r} occurs {times} times in its cell_files"
    return None
