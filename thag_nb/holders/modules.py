"""The modules that are loaded, whose they are, and the classes that come from them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


class Modules:
    """The modules there are besides the user's namespace, whose they are, and their dicts."""

    def __init__(self, main: dict[str, Any]) -> None:
        """`main` are the user's names, which are no module's here."""
        self._main = main
        self.dicts: dict[str, dict[str, Any]] = {}  # by the first name that each is loaded under
        self.addresses: set[int] = set()
        for name, module in list(sys.modules.items()):
            if type(name) is str and issubclass(type(module), ModuleType):
                names = MODULE_DICT(module)
                if names is not main and id(names) not in self.addresses:
                    self.addresses.add(id(names))
                    self.dicts[name] = names
        self.users = [name for name, names in self.dicts.items() if _is_users(name, names)]
        self.libraries: dict[str, list[str]] = {}
        for name in sorted(self.dicts.keys() - set(self.users)):
            self.libraries.setdefault(package_of(name), []).append(name)

    def is_loaded(self, module: ModuleType) -> bool:
        """Whether a name leads to it. Any other module is held like an object, by who made it."""
        names = MODULE_DICT(module)
        return names is self._main or id(names) in self.addresses

    def packages(self, of_users: set[str]) -> list[str]:
        """Libraries in the order of their claims: those that the user's objects are from, the other installed ones.

        Then come those of the notebook itself, which lead to everything, and those of the interpreter.
        """

        def claim(name: str) -> tuple[int, str]:
            if name in _EVERYWHERE:
                return 5, name
            if name.startswith(_SERVICES):
                return 3, name
            of_interpreter = name in sys.stdlib_module_names
            return (of_interpreter if name in of_users else 4 if of_interpreter else 2), name

        return sorted(self.libraries, key=claim)


# Straight from C: a class or a module may have made something of its own of these names.
MODULE_DICT: Callable[[ModuleType], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__
_TYPE_DICT: Callable[[type], Mapping[str, Any] | None] = vars(type)["__dict__"].__get__
_TYPE_NAME: Callable[[type], str] = vars(type)["__name__"].__get__
_TYPE_MODULE: Callable[[type], object] = vars(type)["__module__"].__get__
_TYPE_FLAGS: Callable[[type], int] = vars(type)["__flags__"].__get__
_HEAP_TYPE = 1 << 9


def _is_users(name: str, names: dict[str, Any]) -> bool:
    """Whether a module is the user's own work: from a file that is not installed."""
    file = names.get("__file__")
    if type(file) is not str or any(folder in file for folder in ("site-packages", "dist-packages")):
        return False
    return package_of(name) not in _NOT_USERS


_SERVICES = (
    *("IPython", "comm", "ipykernel", "jupyter_client", "matplotlib_inline", "tornado", "traitlets", "zmq"),
    *("_pydev", "debugpy", "pydev", "thag_nb"),
)
_EVERYWHERE = ("builtins", "sys")
_NOT_USERS = sys.stdlib_module_names | {"thag_nb", "IPython", "ipykernel"}


def names_of(module: str) -> Mapping[str, Any]:
    """What a module has, if it is loaded: nothing is called or loaded for it, whatever the module is made to do."""
    found = sys.modules.get(module)
    return MODULE_DICT(found) if found is not None and issubclass(type(found), ModuleType) else {}


def find_type(module: str, name: str) -> type | None:
    """A class by its name, if its module is loaded; while that is being imported, it may not have it yet."""
    return as_type(names_of(module).get(name))


def as_type(found: Any) -> type | None:
    """The same, but None for what is no class."""
    return found if issubclass(type(found), type) else None


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


def is_static(kind: type) -> bool:
    """Whether a class lies in the data of a C file: nothing that runs has made it."""
    return not _TYPE_FLAGS(kind) & _HEAP_TYPE


def static_name(kind: type) -> str:
    """Such a class with its module, as its C file has them, unless it is built in."""
    module = _TYPE_MODULE(kind)
    return _TYPE_NAME(kind) if module == "builtins" else f"{module}.{_TYPE_NAME(kind)}"


def type_name(kind: type) -> str:
    """A class with its module, unless it is built in."""
    name, module = _TYPE_NAME(kind), _module_of(kind)
    return name if type(module) is not str or module == "builtins" else f"{module}.{name}"
