"""Tables in files: for each field of some rows a list, all of one length."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeGuard

from thag_nb.units import clean_name

Rows: TypeAlias = Mapping[str, Any]  # the named tuples that a recording holds in rows, each by its field of `Recording`
Fits: TypeAlias = Callable[[str, str, object], bool]  # whether a table's field may have a value


def columns(records: Iterable[Any], row_type: Any) -> dict[str, list[Any]]:
    """Rows as a file has them."""
    rows = tuple(records)
    return {
        field: [_cleaned(row[index]) if field == "name" else row[index] for row in rows]
        for index, field in enumerate(row_type._fields)
    }


def rows(table: Mapping[str, list[Any]], row_type: Any) -> tuple[Any, ...]:
    """The rows of a table in which `flaw` finds none."""
    known = filter(table.__contains__, row_type._fields)
    ordered = (map(clean_name, table[field]) if field == "name" else table[field] for field in known)
    return tuple(row_type(*row) for row in zip(*ordered, strict=True))


def flaw(name: str, table: object, fields: tuple[str, ...], version: int, fits: Fits) -> str | None:
    """What keeps something from being a table of these fields, or None."""
    if not isinstance(table, dict) or set(table) != set(fields):
        return f"the columns of its {name} are not those of version {version}"
    for field in fields:
        if not isinstance(table[field], list):
            return f"{field} in its {name} is {reprlib.repr(table[field])}"
        wrong = [value for value in table[field] if not fits(name, field, value)]
        if wrong:
            return f"a value of {field} in its {name} is {reprlib.repr(wrong[0])}"
    if len({len(column) for column in table.values()}) > 1:
        return f"the columns of its {name} are not of one length"
    return None


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**63


def _cleaned(name: Any) -> Any:
    """A name as a context or a mark has it; what is no text is a flaw, and told as such."""
    return clean_name(name) if isinstance(name, str) else name
