"""One workload under one tool, as a whole process: ``python -m benchmarks.child WORKLOAD TOOL [SIZE]``.

Prints what the workload returned, after `RESULT`, and where thag_nb came from if it was imported, after `ORIGIN`.
Nothing that is only for the workload is imported before the tool is on, and nothing of a tool for another one.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, which nothing here needs when it runs
if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], object]

RESULT = "result: "
ORIGIN = "thag_nb from: "


def bare(work: Work) -> object:
    return work()


def thag_nb(work: Work) -> object:
    import thag_nb

    with thag_nb.task("bench"):
        result = work()
    recording = thag_nb.read()
    allocations = recording.find("bench").allocations
    if allocations <= 0 or recording.dropped != 0:
        raise RuntimeError(
            f"a bad recording: {allocations} allocations in the task, {recording.dropped} events dropped"
        )
    return result


def thag_nb_no_task(work: Work) -> object:
    import thag_nb

    thag_nb.start()
    result = work()
    root = thag_nb.read().contexts[0]
    if root.allocations <= 0:
        raise RuntimeError(f"a bad recording: {root.allocations} allocations in {root.name}")
    return result


def thag_nb_stopped(work: Work) -> object:
    import thag_nb

    thag_nb.start()
    thag_nb.stop()
    result = work()
    state = thag_nb.status().state
    if state != "off":
        raise RuntimeError(f"stopped, but still {state}")
    return result


def tracemalloc(work: Work) -> object:
    import tracemalloc

    tracemalloc.start(1)
    result = work()
    _, peak = tracemalloc.get_traced_memory()
    if peak <= 0:
        raise RuntimeError(f"a bad recording: a peak of {peak} bytes")
    return result


RECORDERS: dict[str, Callable[[Work], object]] = {
    recorder.__name__: recorder for recorder in (bare, thag_nb, thag_nb_no_task, thag_nb_stopped, tracemalloc)
}


def main(workload: str, recorder: str, size: str | None = None) -> None:
    def work() -> object:
        from benchmarks.workloads import WORKLOADS

        chosen = WORKLOADS[workload]
        return chosen.run(chosen.size if size is None else int(size))

    print(f"{RESULT}{RECORDERS[recorder](work)!r}")
    if "thag_nb" in sys.modules:
        print(f"{ORIGIN}{sys.modules['thag_nb'].__file__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
