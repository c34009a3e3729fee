"""What can be wrong with what a person asked for, each in one sentence: what, the value, what to do."""

from __future__ import annotations


class ThagError(Exception):
    """A request that cannot be met; nothing recorded is lost. IPython shows it as one line."""

    def _render_traceback_(self) -> list[str]:
        """IPython's protocol for exceptions that say everything in their message."""
        return [f"{type(self).__name__}: {self}"]


class ContextNameError(ThagError, ValueError):
    """A context name that is no text."""

    def __init__(self, name: object) -> None:
        super().__init__(f"context name must be a str, not {_in_one_line(name)}")


class MarkNameError(ThagError, ValueError):
    """A name of a mark that is no text."""

    def __init__(self, name: object) -> None:
        super().__init__(f"mark name must be a str, not {_in_one_line(name)}")


class LinesError(ThagError, ValueError):
    """Something else where it was to be said which lines are recorded."""

    def __init__(self, lines: object) -> None:
        super().__init__(
            "lines must be True, False, or the least size of an allocation to be told apart, such as 4096 or '4 KiB', "
            f"not {_in_one_line(lines)}"
        )


class DecorationError(ThagError, TypeError):
    """A decorator above something else than a function."""

    def __init__(self, decorated: object) -> None:
        super().__init__(
            f"only a function or a method can be decorated, not {_in_one_line(decorated)}; "
            "write the decorator directly above a `def`, or use `with`"
        )


class AllocatorError(ThagError, TypeError):
    """Something else where an allocator was wanted."""

    def __init__(self, allocator: object) -> None:
        super().__init__(f"allocator must be Allocator.TASK_AWARE or Allocator.SYSTEM, not {_in_one_line(allocator)}")


class UnknownContextError(ThagError, LookupError):
    """A name or id that no recorded context has."""

    _NAMES = 12
    _COMPARED_NAMES = 1_000

    def __init__(self, wanted: object, known: list[str], among: str = "") -> None:
        """`known` are the names there are, likeliest first; `among` says where: `` in the recording before``."""
        names = ", ".join(map(_shortened, known[: self._NAMES])) + (", ..." if len(known) > self._NAMES else "")
        missing = f"no context{among} is called {_in_one_line(wanted)}"
        near = self._near(wanted, known[: self._COMPARED_NAMES])
        hint = f"did you mean {near!r}?" if near else f"known: {names or 'nothing has been recorded yet'}"
        super().__init__(f"{missing}; {hint}")
        self.known = known

    @staticmethod
    def _near(wanted: object, known: list[str]) -> str | None:
        if not isinstance(wanted, str):
            return None
        from difflib import get_close_matches  # only for whoever has mistyped

        return next(iter(get_close_matches(wanted, known, n=1)), None)


class NothingToCompareError(ThagError, LookupError):
    """One context where two were wanted."""


class ComparisonError(ThagError, TypeError):
    """Something else to compare than two names or two recordings."""

    def __init__(self, before: object, after: object) -> None:
        super().__init__(
            f"compare two names or ids, or two recordings, not {_in_one_line(before)} and {_in_one_line(after)}; "
            "for a name in two recordings, write compare(name, recording=after, against=before)"
        )


class NamespaceError(ThagError, TypeError):
    """Something else where the user's names were wanted."""

    def __init__(self, namespace: object) -> None:
        super().__init__(
            f"namespace must be a dict of names, not {_in_one_line(namespace)}; "
            "leave it out for the names of this session"
        )


class AxesError(ThagError, TypeError):
    """Something else where matplotlib axes were wanted, or axes on which time and bytes cannot be drawn."""

    def __init__(self, axes: object, *, rule: str = "one matplotlib Axes") -> None:
        """`rule` is what they must be and are not."""
        super().__init__(f"ax must be {rule}, not {_in_one_line(axes)}; leave it out to draw a new figure")


class NoLinesError(ThagError, LookupError):
    """Lines of a context that was not asked to record them."""

    def __init__(self, name: str, *, is_task: bool) -> None:
        """`name` is the context's; what is no task never asks itself."""
        task = name if is_task else "load"
        super().__init__(
            f"no lines of {_in_one_line(name)} were recorded; ask for them before it allocates: "
            f"thag_nb.task({_in_one_line(task)}, lines=True)"
        )


class ChoiceError(ThagError, ValueError):
    """A word for something that can be chosen, and is not among them."""

    def __init__(self, argument: str, chosen: object, choices: tuple[str | None, ...]) -> None:
        *others, last = map(repr, choices)
        super().__init__(f"{argument} must be {', '.join(others)} or {last}, not {_in_one_line(chosen)}")


class NotARecordingError(ThagError, TypeError):
    """Something else where a recording was wanted."""

    def __init__(self, recording: object, argument: str = "recording") -> None:
        super().__init__(
            f"{argument} must be a Recording, not {_in_one_line(recording)}; take one with thag_nb.read(), "
            "or load a file with Recording.load(path)"
        )


class RecordingFileError(ThagError, ValueError):
    """A file that is no recording, or a damaged one, or of a newer version, or that must not be replaced."""

    def __init__(self, path: str, problem: str) -> None:
        """`problem` says what is wrong with the file, and what to do."""
        super().__init__(f"{path!r} {problem}")


class NoCellError(ThagError, RuntimeError):
    """A task that is to end with its cell was opened where no cell runs."""

    def __init__(self) -> None:
        super().__init__(
            "this thread runs no cell that a task could end with; write `with thag_nb.task(...):` around the work"
        )


class NativeModuleError(ThagError, ImportError):
    """The native core is missing, broken or stale."""


class DispatcherError(ThagError, RuntimeError):
    """The hooks cannot be put where they belong."""


_LETTERS = 120


def _in_one_line(value: object) -> str:
    """The value in one line, though it be a table or a page of text."""
    return _shortened(" ".join(line.strip() for line in repr(value).splitlines()))


def _shortened(words: str) -> str:
    return words if len(words) <= _LETTERS else f"{words[:_LETTERS]}..."
