"""The tools to compare: for each, how Python is started so that it watches a child."""

from __future__ import annotations

from typing import NamedTuple

BARE = "bare"


class Tool(NamedTuple):
    """What stands between ``python`` and the workload's name, and what the child itself switches on.

    A tool that runs a program, as ``-m memray run``, goes into `launch`, with the bare recorder.
    """

    recorder: str
    launch: tuple[str, ...] = ("-m", "benchmarks.child")

    def arguments(self, workload: str, size: int | None) -> list[str]:
        """The arguments of the Python that runs the child."""
        return [*self.launch, workload, self.recorder, *([] if size is None else [str(size)])]


TOOLS = {
    BARE: Tool("bare"),
    "thag_nb": Tool("thag_nb"),
    "tracemalloc": Tool("tracemalloc"),
}
