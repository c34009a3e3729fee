"""Where names are that keep memory alive: the user's variables and outputs, the last traceback, open figures."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from itertools import chain
from types import FrameType, FunctionType, TracebackType
from typing import Any, NamedTuple

from thag_nb.errors import NamespaceError
from thag_nb.holders.lines import Line, Notebook
from thag_nb.holders.modules import is_dunder, package_of
from thag_nb.recordings.model import HolderKind


class Holder(NamedTuple):
    """Something that keeps memory alive. `line` is what would let go, None if there is nothing."""

    name: str
    kind: HolderKind
    line: Line | None = None


class Root(NamedTuple):
    """A holder, and what it refers to: an object as often as there are references that its line takes away."""

    holder: Holder
    objects: list[Any]


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
        self.notebook = Notebook(names)
        self._hidden = {} if self.shell is None else self.shell.user_ns_hidden

    def roots(self) -> Iterator[Root]:
        """Variables, outputs, the oldest first, the last traceback, and what libraries are known to keep."""
        variables = self._variables()
        for name, value in variables:
            kind: HolderKind = "closure" if type(value) is FunctionType and value.__closure__ else "variable"
            yield Root(Holder(_shown(name), kind, Line(names=(self.notebook.variable(name),))), [value])
        yield from self._output_roots(variables)
        yield self._traceback_root()
        yield from self._figure_roots()
        yield from self._printed_root()

    def in_passing(self) -> list[Any]:
        """What the result of the last cell refers to, which goes with the next one, unless something else holds it."""
        if sys.getrefcount(getattr(self.shell, "last_execution_result", None)) > _REFERENCES_OF_SHELL:
            return []
        result = getattr(self.shell, "last_execution_result", None)
        return [] if result is None else _parts_of_result(result)

    def own_objects(self) -> list[Any]:
        """What of the shell refers to the user's things, but is accounted for as outputs, traceback and figures."""
        own: list[Any] = [self, vars(self), self.notebook, vars(self.notebook), self._hidden]
        if self.shell is not None:
            own += [dict.get(self.names, "_oh"), getattr(self.shell, "last_execution_result", None)]
            own += [getattr(self.shell, name, None) for name in ("displayhook", "InteractiveTB")]
            own.append(self._printed())
        return [*own, getattr(_figure_manager(), "figs", None)]

    def _variables(self) -> list[tuple[str, Any]]:
        """Names and values, without those that IPython put there."""
        return [
            (name, value)
            for name, value in list(dict.items(self.names))
            if type(name) is str and name not in _UNDERSCORES and not self._is_hidden(name, value)
        ]

    def _is_hidden(self, name: str, value: Any) -> bool:
        return is_dunder(name) or (name in self._hidden and self._hidden[name] is value)

    # ---- outputs ----

    def _outputs(self) -> list[tuple[int, Any]]:
        outputs = dict.get(self.names, "_oh")
        if type(outputs) is not dict:
            return []
        return [(number, value) for number, value in list(outputs.items()) if type(number) is int]

    def _output_roots(self, variables: list[tuple[str, Any]]) -> Iterator[Root]:
        """Each output once, however often it was shown: IPython's ``%xdel`` finds all of its names."""
        if self.shell is None:
            return
        names = self.names
        candidates = [(f"Out[{number}]", f"_{number}", value) for number, value in self._outputs()]
        candidates += [(name, name, dict.get(names, name)) for name in _UNDERSCORES if name in names]
        seen = set()
        for shown, name, value in candidates:
            if id(value) not in seen:
                seen.add(id(value))
                if dict.get(self.names, name) is value:
                    aliases = tuple(self.notebook.variable(other) for other, own in variables if own is value)
                    line, objects = Line(outputs=(name,), aliases=aliases), self._slots(value)
                else:
                    line = self._line_without_name(value)
                    objects = [value] * len(line.names)
                yield Root(Holder(shown, "output", line), objects)

    def _line_without_name(self, value: Any) -> Line:
        """What lets go of an output whose name is another value's: that alone, wherever IPython has it."""
        outputs = "Out" if dict.get(self.names, "Out") is dict.get(self.names, "_oh") else "_oh"
        listed = [f"{outputs}[{number}]" for number, shown in self._outputs() if shown is value]
        shell = self.notebook.shell()
        hidden = [f"{shell}.user_ns_hidden[{name!r}]" for name, own in list(self._hidden.items()) if own is value]
        return Line(names=(*listed, *hidden))

    def _slots(self, value: Any) -> list[Any]:
        """An output as often as IPython refers to it."""
        displayhook = getattr(self.shell, "displayhook", None)
        numbered = [name for name in self.names if type(name) is str and name[:1] == "_" and name[1:].isdecimal()]
        held = [*(value for _, value in self._outputs()), *(getattr(displayhook, name, None) for name in _UNDERSCORES)]
        held += [dict.get(names, name) for name in (*_UNDERSCORES, *numbered) for names in (self.names, self._hidden)]
        return [one for one in held if one is value]

    # ---- the last traceback ----

    def _errors(self) -> list[Any]:
        """What the last exception left: `sys` keeps it, and the shell keeps its traceback."""
        errors = [getattr(sys, name, None) for name in ERRORS]
        errors.append(getattr(getattr(self.shell, "InteractiveTB", None), "tb", None))
        return [error for error in errors if isinstance(error, BaseException | TracebackType)]

    def _traceback_root(self) -> Root:
        system, imports = self.notebook.imported("sys")
        attributes = [f"{system}.{name}" for name in ERRORS if hasattr(sys, name)]
        calls = [f"{' = '.join(attributes)} = None"] if attributes else []
        if getattr(self.shell, "InteractiveTB", None) is not None:
            calls.append(f"{self.notebook.shell()}.InteractiveTB.tb = None")
        line = Line(calls=tuple(calls), imports=imports, collects=True) if self._errors() else None
        return Root(Holder("(last traceback)", "traceback", line), self._errors())

    # ---- figures ----

    def _figure_roots(self) -> Iterator[Root]:
        """What pyplot keeps until it is told to close it."""
        manager = _figure_manager()
        if manager is None:
            return
        for number, figure in list(manager.figs.items()):
            module = self.notebook.module("matplotlib.pyplot")
            line = None
            if module is not None:
                line = Line(calls=(f"{module.names[0]}.close({number!r})",), imports=module.imports, collects=True)
            yield Root(Holder(f"pyplot figure {number}", "registry", line), [figure])

    # ---- what was printed ----

    def _printed(self) -> Any:
        """What IPython keeps of all that cells showed, since it writes whole notebooks: a dict, where it does."""
        return getattr(getattr(self.shell, "history_manager", None), "outputs", None)

    def _printed_root(self) -> Iterator[Root]:
        printed = self._printed()
        if isinstance(printed, dict):
            line = Line(calls=(f"{self.notebook.shell()}.history_manager.outputs.clear()",))
            yield Root(Holder("(what IPython keeps of outputs)", "registry", line), list(printed.values()))


_REFERENCES_OF_SHELL = 2  # of its own, and that of whoever asks how many there are
_UNDERSCORES = ("_", "__", "___")
ERRORS = ("last_exc", "last_value", "last_traceback")
SHELLS = ("IPython", "ipykernel", "thag_nb")


def _running_shell() -> Any:
    interactive = sys.modules.get("IPython.core.interactiveshell")
    if interactive is None or not interactive.InteractiveShell.initialized():
        return None
    return interactive.InteractiveShell.instance()


def _figure_manager() -> Any:
    return getattr(sys.modules.get("matplotlib._pylab_helpers"), "Gcf", None)


def _shown(name: str) -> str:
    """A name that can be written anywhere."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_of_shell(frame: FrameType) -> bool:
    """Whether a frame is the notebook's own, which ran the cell."""
    package = dict.get(frame.f_globals, "__name__")
    return type(package) is str and package_of(package) in SHELLS


def behind(frame: FrameType) -> list[Any]:
    """What a frame leads to through those of IPython, which ran the cell: errors and the result, once per reference."""
    caller = frame.f_back or _awaited_by(frame)
    if caller is None or not is_of_shell(caller):
        return []
    held = list(chain.from_iterable(map(gc.get_referents, _frames_of_shell(caller))))
    kind = getattr(sys.modules.get("IPython.core.interactiveshell"), "ExecutionResult", None)
    results = {id(one): one for one in held if type(one) is kind}
    errors = [one for one in held if issubclass(type(one), BaseException | TracebackType)]
    return errors + [part for result in results.values() for part in _parts_of_result(result)]


def _awaited_by(frame: FrameType) -> FrameType | None:
    """Who awaited a coroutine that has failed, if the last traceback knows: CPython 3.11 has let go of that."""
    traceback = getattr(sys, "last_traceback", None)
    while isinstance(traceback, TracebackType) and traceback.tb_next is not None:
        if traceback.tb_next.tb_frame is frame:
            return traceback.tb_frame
        traceback = traceback.tb_next
    return None


def _frames_of_shell(frame: FrameType | None) -> Iterator[FrameType]:
    """This one and those that called it, as far as they are the notebook's own."""
    while frame is not None:
        if is_of_shell(frame):
            yield frame
        frame = frame.f_back


def _parts_of_result(result: Any) -> list[Any]:
    parts = (result.result, result.error_before_exec, result.error_in_exec)
    return [part for part in parts if part is not None]


def with_article(noun: str) -> str:
    """A noun with "a" or "an"; most names that begin with u sound like "you"."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"
