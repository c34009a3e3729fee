"""What `import thag_nb` needs of `typing`, which itself would take as long as all the rest of it."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any as Any
    from typing import NamedTuple as NamedTuple
    from typing import cast as cast
    from typing import overload as overload
else:
    Any = object

    def cast(_type, value):
        """The value: only type checkers look at the type."""
        return value

    def overload(function):
        """The function, which the next one of its name takes the place of."""
        return function

    class _Definition(type):
        """Makes of a class statement, with its fields and their types, a class of named tuples."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body["__annotations__"]
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            made.__new__.__annotations__ = fields
            for attribute in body.keys() - {"__module__", "__qualname__", "__classdictcell__"}:
                setattr(made, attribute, body[attribute])
            return made

    class NamedTuple(metaclass=_Definition):
        """The base of such a class statement, whose module must have `from __future__ import annotations`."""
