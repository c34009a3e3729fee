"""The lines that let go: one for each holder, and one for several of them together."""

from __future__ import annotations

import builtins
import keyword
import sys
import unicodedata
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from thag_nb.holders.modules import MODULE_DICT


class Line(NamedTuple):
    """What lets go, in parts, so that several can be made one.

    ``calls`` come first, as they may need the names that go; ``names`` are what one ``del`` takes; ``outputs`` are what
    IPython's ``%xdel`` takes, which finds ``aliases`` itself; ``imports`` are modules that the rest needs. ``collects``
    says that only the collector frees what was let go of.
    """

    calls: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    collects: bool = False


def joined(lines: Iterable[Line]) -> Line:
    """One line that does what all of these do."""
    several = tuple(lines)

    def all_of(part: Callable[[Line], tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for line in several for text in part(line)))

    return Line(
        calls=all_of(lambda line: line.calls),
        names=all_of(lambda line: line.names),
        outputs=all_of(lambda line: line.outputs),
        aliases=all_of(lambda line: line.aliases),
        imports=all_of(lambda line: line.imports),
        collects=any(line.collects for line in several),
    )


class Notebook:
    """How things are written where a line is pasted: in the user's namespace."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def variable(self, name: str) -> str:
        """What stands for a variable in a ``del``."""
        return name if _is_plain(name) else f"{self.builtin('globals')}()[{name!r}]"

    def module(self, name: str) -> Line | None:
        """A module as the only part of `names`, with what has to be imported; None if there is no way to it."""
        module = sys.modules.get(name)
        if not issubclass(type(module), ModuleType):
            return None
        known = next((own for own, value in list(dict.items(self._names)) if value is module and _is_plain(own)), None)
        if known is not None:
            return Line(names=(known,))
        system, imports = self.imported("sys")
        return Line(names=(f"{system}.modules[{name!r}]",), imports=imports)

    def module_variable(self, module: str, variable: str) -> Line | None:
        """What deletes a variable of a module, if there is a way to that."""
        written = self.module(module)
        if written is None:
            return None
        (path,) = written.names
        is_attribute = _is_plain(variable) and type(sys.modules[module]) is ModuleType
        target = f"{path}.{variable}" if is_attribute else f"{self.builtin('vars')}({path})[{variable!r}]"
        return written._replace(names=(target,))

    def write(self, line: Line) -> str:
        """The line as it is pasted. It shows nothing."""
        is_one = len(line.outputs) == 1 and set(line.names) <= set(line.aliases)
        shell = self.shell()
        if is_one and not (line.calls or line.collects) and shell == "get_ipython()":
            shown = next((name for name in line.aliases if name in line.names and _is_plain(name)), line.outputs[0])
            return f"%xdel {shown}"
        parts = [f"import {', '.join(line.imports)}"] if line.imports else []
        parts += line.calls
        if line.names:  # also those that the outputs take along: who reads the line is to know
            parts.append(f"del {', '.join(line.names)}")
        parts += [f"{shell}.del_var({output!r})" for output in line.outputs]
        if line.collects:
            collector, imports = self.imported("gc")
            parts += [*(f"import {name}" for name in imports), f"{collector}.collect();"]
        return "; ".join(parts)

    def builtin(self, name: str) -> str:
        """What stands for something built in, also where a variable hides it."""
        known = getattr(builtins, name, None)  # IPython's own are there while a cell runs
        own = dict.get(self._names, name, known)
        is_same = own is known or (type(own) is type(known) is MethodType and own.__func__ is known.__func__)
        return name if is_same or known is None else f"__import__('builtins').{name}"

    def shell(self) -> str:
        """What stands for IPython."""
        return f"{self.builtin('get_ipython')}()"

    def imported(self, module: str) -> tuple[str, tuple[str, ...]]:
        """What stands for a module of the interpreter, and the import that it needs: one that hides no variable."""
        loaded = sys.modules.get(module)
        if dict.get(self._names, module, loaded) is loaded:
            return module, (module,)
        return f"__import__({module!r})", ()


def _is_plain(name: str) -> bool:
    """Whether a name in source text is that name: Python reads some letters as others."""
    return name.isidentifier() and not keyword.iskeyword(name) and unicodedata.is_normalized("NFKC", name)


class Caches:
    """How the results of ``functools.cache`` and ``lru_cache`` are got at by name."""

    def __init__(self, names: dict[str, Any], wrapper_type: type) -> None:
        self._main = names
        self._type = wrapper_type
        self._found: dict[int, str] = {}
        for name, value in list(dict.items(names)):
            if type(name) is str and _is_plain(name):
                self._enter(name, value)

    def _enter(self, expression: str, value: Any) -> None:
        self._note(expression, value)
        if issubclass(type(value), type):
            for name, attribute in list(_attributes(value).items()):
                if type(name) is str and _is_plain(name):
                    self._note(f"{expression}.{name}", attribute)

    def _note(self, expression: str, value: Any) -> None:
        for written, reached in _unwrapped(expression, value):
            if type(reached) is self._type:
                self._found.setdefault(id(reached), written)

    def find(self, wrapper: Any, function: FunctionType, notebook: Notebook) -> Line | None:
        """What clears a cache, if there is a way to it from the user's names or from the function's module."""
        written = self._found.get(id(wrapper))
        if written is not None:
            return Line(calls=(f"{written}.cache_clear()",))
        names = function.__globals__
        module = dict.get(names, "__name__")
        if type(module) is not str or not _is_dict_of(module, names):
            return None
        path = function.__code__.co_qualname.rpartition("<locals>.")[2]
        inside = next((text for text, reached in _along(path, names) if reached is wrapper), None)
        base = notebook.module(module)
        if inside is None or base is None:
            return None
        return Line(calls=(f"{base.names[0]}.{inside}.cache_clear()",), imports=base.imports)


def _is_dict_of(module: str, names: dict[str, Any]) -> bool:
    known = sys.modules.get(module)
    return known is not None and issubclass(type(known), ModuleType) and MODULE_DICT(known) is names


def _along(path: str, names: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a dotted name leads to in a module, and what that wraps."""
    first, *others = path.split(".")
    if not all(map(_is_plain, (first, *others))) or first not in names:
        return []
    value: Any = dict.get(names, first)
    for name in others:
        if not issubclass(type(value), type):
            return []
        value = _attributes(value).get(name)
    return _unwrapped(path, value)


_DECORATORS_AT_MOST = 20


def _unwrapped(expression: str, value: Any) -> list[tuple[str, Any]]:
    """A value and what it wraps, as far as that is known without running code of the user's."""
    if type(value) in (staticmethod, classmethod):
        value = value.__func__
    elif type(value) is property:
        expression, value = f"{expression}.fget", value.fget
    found = [(expression, value)]
    while type(value) is FunctionType and len(found) < _DECORATORS_AT_MOST and "__wrapped__" in value.__dict__:
        expression, value = f"{expression}.__wrapped__", value.__dict__["__wrapped__"]
        found.append((expression, value))
    return found


def _attributes(kind: type) -> dict[str, Any]:
    """Those of a class itself. A class of C that was never made ready has none yet."""
    attributes = vars(type)["__dict__"].__get__(kind)
    return {} if attributes is None else attributes
