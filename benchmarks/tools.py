"""The tools to compare: for each, how Python is started so that it watches a child."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BARE, AGAIN = "bare", "bare_again"
_CHILD = ("-m", "benchmarks.child")


def _nothing_to_show(_: Path) -> bool:
    return True


class Tool(NamedTuple):
    """What stands between ``python`` and the workload's name, and what the child itself switches on.

    A tool that runs a program, as ``-m memray run``, goes into `launch`, with the bare recorder. ``{folder}`` there is
    a directory for what it writes; `recorded` tells from that directory whether it has really recorded.
    """

    recorder: str = BARE
    launch: tuple[str, ...] = _CHILD
    label: str = ""
    requirement: str = ""  # for pip, of what does not come with Python or is ours
    recorded: Callable[[Path], bool] = _nothing_to_show

    @property
    def package(self) -> str:
        """The requirement without its version."""
        return self.requirement.partition(">=")[0]

    @property
    def is_peer(self) -> bool:
        """Whether its failures are its own."""
        return self.recorder.startswith("tracemalloc") or self.requirement != ""

    def arguments(self, workload: str, size: int | None, folder: Path = Path()) -> list[str]:
        """The arguments of the Python that runs the child."""
        launch = [argument.format(folder=folder) for argument in self.launch]
        return [*launch, workload, self.recorder, *([] if size is None else [str(size)])]


def _memray_recorded(folder: Path) -> bool:
    return any(path.stat().st_size for path in folder.glob("memray.bin"))


def _scalene_recorded(folder: Path) -> bool:
    profiles = [json.loads(path.read_text()) for path in folder.glob("scalene.json")]
    return any(profile.get("memory") and profile.get("files") for profile in profiles)


def _fil_recorded(folder: Path) -> bool:
    return any(folder.glob("*/peak-memory.prof"))


_MEMRAY = ("-m", "memray", "run", "--quiet", "--output", "{folder}/memray.bin")
_SCALENE = ("-m", "scalene", "run", "--no-async", "--outfile", "{folder}/scalene.json")
_FIL = ("-m", "filprofiler", "--no-browser", "-o", "{folder}", "run")

TOOLS = {
    BARE: Tool(BARE),
    AGAIN: Tool(BARE, label="bare, again"),  # what differs from bare here is noise
    "thag_nb": Tool("thag_nb"),
    "thag_nb_lines": Tool("thag_nb_lines", label="thag_nb, lines"),
    "thag_nb_lines_4096": Tool("thag_nb_lines_4096", label="thag_nb, lines of 4 KiB"),
    "thag_nb_no_task": Tool("thag_nb_no_task", label="thag_nb, no task"),
    "thag_nb_stopped": Tool("thag_nb_stopped", label="thag_nb, stopped"),
    "tracemalloc": Tool("tracemalloc"),
    "tracemalloc_25": Tool("tracemalloc_25", label="tracemalloc, 25 frames"),
    "memray": Tool(BARE, (*_MEMRAY, *_CHILD), "memray", "memray>=1.15", _memray_recorded),
    "memray_python": Tool(
        BARE,
        (*_MEMRAY, "--trace-python-allocators", *_CHILD),
        "memray, Python allocators",
        "memray>=1.15",
        _memray_recorded,
    ),
    "scalene": Tool(BARE, (*_SCALENE, *_CHILD), "Scalene", "scalene>=2", _scalene_recorded),
    "fil": Tool(BARE, (*_FIL, *_CHILD), "Fil", "filprofiler>=2024.11", _fil_recorded),
}
FULL = (BARE, "thag_nb", "thag_nb_stopped", AGAIN, "tracemalloc", "memray", "scalene")
QUICK = (BARE, "thag_nb", "thag_nb_stopped", "tracemalloc")


def label(name: str) -> str:
    """The tool as tables and pictures call it."""
    return (TOOLS[name].label if name in TOOLS else "") or name
