"""Where names are that keep memory alive: the user's variables and outputs, the last traceback, modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from thag_nb.errors import NamespaceError
from thag_nb.recordings.model import HolderKind


class Holder(NamedTuple):
    """Something that keeps memory alive. `released_by` is the line that would let go, or empty if there is none."""

    name: str
    kind: HolderKind
    released_by: str = ""


class Namespace:
    """The user's names, and the shell they were typed into, if there is one."""

    def __init__(self, names: dict[str, Any] | None) -> None:
        """`names` are those of the running shell, or of ``__main__``, unless given. Raises `NamespaceError`."""
        if names is not None and not isinstance(names, dict):
            raise NamespaceError(names)
        shell = _running_shell()
        if names is None:
            names = sys.modules["__main__"].__dict__ if shell is None else shell.user_ns
        self.names = names
        self.shell: Any = shell if shell is not None and shell.user_ns is names else None
        self.outputs = {} if self.shell is None else _outputs(names)
        self._hidden = {} if self.shell is None else self.shell.user_ns_hidden

    def holders(self) -> Iterator[tuple[Holder, Any]]:
        """Variables, then outputs, the oldest first, and what each of them is."""
        variables = self._variables()
        names: dict[int, list[str]] = {}
        for name, value in variables:
            names.setdefault(id(value), []).append(name)
        output_ids = {id(value) for _, value in self._output_holders()}
        for name, value in variables:
            kind: HolderKind = "closure" if type(value) is FunctionType and value.__closure__ else "variable"
            yield Holder(name, kind, _deletion(names[id(value)], is_output=id(value) in output_ids)), value
        yield from self._output_holders()

    def _variables(self) -> list[tuple[str, Any]]:
        """Names and values, without those that IPython put there."""
        return [
            (name, value)
            for name, value in list(dict.items(self.names))
            if type(name) is str and name not in _UNDERSCORES and not self._is_hidden(name, value)
        ]

    def _is_hidden(self, name: str, value: Any) -> bool:
        return is_dunder(name) or (name in self._hidden and self._hidden[name] is value)

    def _output_holders(self) -> Iterator[tuple[Holder, Any]]:
        if self.shell is None:
            return
        for number, value in self.outputs.items():
            is_named = dict.get(self.names, f"_{number}") is value
            yield Holder(f"Out[{number}]", "output", f"{_XDEL}_{number}" if is_named else f"del Out[{number}]"), value
        numbered = {id(value) for value in self.outputs.values()}
        for name in _UNDERSCORES:
            if id(dict.get(self.names, name)) not in numbered:
                yield Holder(name, "output", f"{_XDEL}{name}"), dict.get(self.names, name)

    def traceback_holder(self) -> tuple[Holder, list[Any]]:
        """What the last exception holds: `sys` keeps it, and the shell keeps its traceback."""
        attributes = [name for name in ("last_exc", "last_value", "last_traceback") if hasattr(sys, name)]
        objects = [getattr(sys, name) for name in attributes]
        lines = [f"{' = '.join(f'sys.{name}' for name in attributes)} = None"] if attributes else []
        formatter = getattr(self.shell, "InteractiveTB", None)
        if formatter is not None:
            objects.append(getattr(formatter, "tb", None))
            lines.append("get_ipython().InteractiveTB.tb = None")
        # IPython's frames are in it, and one of them keeps the exception.
        line = f"import gc, sys; {'; '.join(lines)}; gc.collect();" if lines else ""
        return Holder("(last traceback)", "traceback", line), objects


_UNDERSCORES = ("_", "__", "___")
_XDEL = "%xdel "  # knows wherever IPython keeps an output


def _running_shell() -> Any:
    interactive = sys.modules.get("IPython.core.interactiveshell")
    if interactive is None or not interactive.InteractiveShell.initialized():
        return None
    return interactive.InteractiveShell.instance()


def _outputs(names: dict[str, Any]) -> dict[int, Any]:
    outputs = dict.get(names, "_oh")
    if type(outputs) is not dict:
        return {}
    return {number: value for number, value in list(outputs.items()) if type(number) is int}


def _deletion(names: list[str], *, is_output: bool) -> str:
    """The line that deletes a value of these names; `is_output` says that IPython has it as an output as well."""
    if is_output:
        return f"{_XDEL}{names[0]}"
    return f"del {', '.join(name if name.isidentifier() else f'globals()[{name!r}]' for name in names)}"


def collected(line: str) -> str:
    """The same line, with a run of the collector after it, for what refers to itself. It shows nothing."""
    if not line or "gc.collect()" in line:
        return line
    if line.startswith(_XDEL):  # a magic takes the rest of its line
        line = f"get_ipython().del_var({line.removeprefix(_XDEL)!r})"
    return f"{line}; import gc; gc.collect();"


class Modules:
    """The modules there are besides the user's namespace, whose they are, and their dicts."""

    def __init__(self, namespace: Namespace) -> None:
        self.dicts: dict[str, dict[str, Any]] = {}
        for name, module in list(sys.modules.items()):
            if type(name) is str and issubclass(type(module), ModuleType):
                names = MODULE_DICT(module)
                if names is not namespace.names:
                    self.dicts.setdefault(name, names)
        self.addresses = set(map(id, self.dicts.values()))
        self.users = [name for name, names in self.dicts.items() if _is_users(name, names)]
        self.libraries: dict[str, list[str]] = {}
        for name in sorted(self.dicts.keys() - set(self.users)):
            self.libraries.setdefault(package_of(name), []).append(name)

    def packages(self) -> list[str]:
        """Libraries, those of the interpreter last."""
        return sorted(self.libraries, key=lambda name: (name in sys.stdlib_module_names, name))


# Straight from C: a class or a module may have made something of its own of these names.
MODULE_DICT: Callable[[ModuleType], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__
_TYPE_DICT: Callable[[type], Mapping[str, Any] | None] = vars(type)["__dict__"].__get__
_TYPE_NAME: Callable[[type], str] = vars(type)["__name__"].__get__


def _is_users(name: str, names: dict[str, Any]) -> bool:
    """Whether a module is the user's own work: from a file that is not installed."""
    file = names.get("__file__")
    if type(file) is not str or any(folder in file for folder in ("site-packages", "dist-packages")):
        return False
    return package_of(name) not in _NOT_USERS


_NOT_USERS = sys.stdlib_module_names | {"thag_nb", "IPython", "ipykernel"}


def is_dunder(name: str) -> bool:
    """Whether Python itself gave a module this variable."""
    return name.startswith("__") and name.endswith("__") and len(name) > len("____")


def package_of(module: str) -> str:
    """The outermost package of a module."""
    return module.partition(".")[0]


def _module_of(kind: type) -> object:
    """What the class calls its module. A class of C that was never made ready has no dict yet."""
    names = _TYPE_DICT(kind)
    return None if names is None else names.get("__module__")


def type_package(kind: type) -> str:
    """The outermost package that a class says it is from."""
    module = _module_of(kind)
    return package_of(module) if type(module) is str else "builtins"


def type_name(kind: type) -> str:
    """A class with its module, unless it is built in."""
    name, module = _TYPE_NAME(kind), _module_of(kind)
    return name if type(module) is not str or module == "builtins" else f"{module}.{name}"


def with_article(noun: str) -> str:
    """A noun with "a" or "an"; most names that begin with u sound like "you"."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"
