"""What can be wrong with what a person asked for, each in one sentence: what, the value, what to do."""

from __future__ import annotations


class ThagError(Exception):
    """A request that cannot be met; nothing recorded is lost. IPython shows it as one line."""

    def _render_traceback_(self) -> list[str]:
        """IPython's protocol for exceptions that say everything in their message."""
        return [f"{type(self).__name__}: {self}"]


class ContextNameError(ThagError, ValueError):
    """A context name that is not a non-empty str."""

    def __init__(self, name: object) -> None:
        super().__init__(f"context name must be a non-empty str, not {name!r}")


class DecorationError(ThagError, TypeError):
    """A decorator above something else than a function."""

    def __init__(self, decorated: object) -> None:
        super().__init__(
            f"only a function or a method can be decorated, not {decorated!r}; "
            "write the decorator directly above a `def`, or use `with`"
        )


class AllocatorError(ThagError, TypeError):
    """Something else where an allocator was wanted."""

    def __init__(self, allocator: object) -> None:
        super().__init__(f"allocator must be Allocator.TASK_AWARE or Allocator.SYSTEM, not {allocator!r}")


class UnknownContextError(ThagError, LookupError):
    """A name or id that no recorded context has."""

    _SHOWN = 12

    def __init__(self, wanted: object, known: list[str]) -> None:
        """`known` are the names there are, likeliest first."""
        names = ", ".join(known[: self._SHOWN]) + (", ..." if len(known) > self._SHOWN else "")
        super().__init__(f"no context is called {wanted!r}; known: {names or 'nothing has been recorded yet'}")


class NativeModuleError(ThagError, ImportError):
    """The native core is missing, broken or stale."""


class DispatcherError(ThagError, RuntimeError):
    """The hooks cannot be put where they belong."""
