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


def thag_nb_lines(work: Work) -> object:
    return _thag_nb_with_lines(work, least_bytes=0)


def thag_nb_lines_4096(work: Work) -> object:
    return _thag_nb_with_lines(work, least_bytes=4096)


def _thag_nb_with_lines(work: Work, least_bytes: int) -> object:
    import thag_nb

    with thag_nb.task("bench", lines=least_bytes or True):
        result = work()
    recording = thag_nb.read()
    told = [one.least_bytes for one in recording.lines]
    if told != [least_bytes] or len(recording.sites) == 0:
        raise RuntimeError(f"a bad recording: lines from {told} bytes on, {len(recording.sites)} of them")
    untold = thag_nb.status().untold_sites
    if recording.dropped != 0 or untold != 0:
        raise RuntimeError(f"a bad recording: {recording.dropped} events dropped, {untold} without their line")
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
    return _tracemalloc(work, frames=1)


def tracemalloc_25(work: Work) -> object:
    return _tracemalloc(work, frames=25)


def _tracemalloc(work: Work, frames: int) -> object:
    import tracemalloc

    tracemalloc.start(frames)
    result = work()
    _, peak = tracemalloc.get_traced_memory()
    if peak <= 0:
        raise RuntimeError(f"a bad recording: a peak of {peak} bytes")
    return result


RECORDERS: dict[str, Callable[[Work], object]] = {
    recorder.__name__: recorder
    for recorder in (
        bare,
        thag_nb,
        thag_nb_lines,
        thag_nb_lines_4096,
        thag_nb_no_task,
        thag_nb_stopped,
        tracemalloc,
        tracemalloc_25,
    )
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
