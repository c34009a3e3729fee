"""The same bytes as tracemalloc for the same statement, in real kernels."""

import json

import kernels
import pytest

MACHINERY_BYTES = 4096  # what running a cell itself allocates while the statement runs

STATEMENTS = {
    "temporary": "np.ones(25_000_000).sum()",
    "kept": "kept = np.empty(64_000_000)",
    "both": "y = np.arange(2e7); (y * 2.0 + 1.0).sum()",
    "objects": "objs = [(i, str(i)) for i in range(400_000)]",
}
DRAINS = {"objects": "drained += [(i, i) for i in range(5000)]"}
WARM_UP = """
import gc
drained = []
gc.disable()
import numpy as np
np.ones(10).sum(); (np.arange(10.) * 2.0 + 1.0).sum(); [(i, str(i)) for i in range(9)]
"""

# What is kept is read when all is over: when a cell ends, the kernel's threads are still sending what it displayed.
FIGURES = """
import json, time
time.sleep(0.3)
print(json.dumps({record.name: (record.peak_bytes, record.live_bytes) for record in thag_nb.read().contexts}))
"""
SPIKES = """
recording = thag_nb.read()
tops = {name: max(bucket.high_bytes for bucket in recording.timeline(recording.find(name).context_id)) for name in
        ("temporary", "kept", "both", "objects")}
print(json.dumps(tops))
"""
# The collector is off on both sides: it would free what earlier cells left, which tracemalloc takes off this
# statement's bytes, and empty the interpreter's free lists, whose objects belong to whoever allocated them first.
# For the same reason the free list of pairs is emptied before pairs are made, outside of what is counted.
# tracemalloc counts the whole process, so the kernel's own threads get a moment to finish with the cell before.
# One compound statement: IPython compiles the statements of a cell one by one, and compiling the next one while a
# large array lives would be part of the traced peak.
CHARGED = """%%thag_task {name} --quiet
with thag_nb.untracked(): {drain}
{statement}
"""
TRACED = """
if True:
    time.sleep(0.3)
    {drain}
    tracemalloc.reset_peak(); _before = tracemalloc.get_traced_memory()[0]
    {statement}
    _live, _peak = tracemalloc.get_traced_memory()
_figures["{name}"] = (_peak - _before, _live - _before)
"""


@pytest.fixture(scope="module")
def charged() -> tuple[dict[str, list[int]], dict[str, int]]:
    """Peak and kept bytes by task, and the top of each timeline."""
    tasks = [
        CHARGED.format(name=name, statement=statement, drain=DRAINS.get(name, "pass"))
        for name, statement in STATEMENTS.items()
    ]
    shown_before = ["%%thag_task warm-up --quiet\nnp.ones(10).sum()"] * 2  # the machinery keeps more the first times
    cells = kernels.run(WARM_UP, "%load_ext thag_nb\nimport thag_nb", *shown_before, *tasks, FIGURES, SPIKES)
    assert [cell.error for cell in cells] == [None] * len(cells)
    return kernels.value(cells[-2]), kernels.value(cells[-1])


@pytest.fixture(scope="module")
def traced() -> dict[str, list[int]]:
    """Peak and kept bytes by tracemalloc."""
    statements = [
        TRACED.format(name=name, statement=statement, drain=DRAINS.get(name, "pass"))
        for name, statement in STATEMENTS.items()
    ]
    start = "import json, time, tracemalloc\ntracemalloc.start()\n_figures = {}"
    cells = kernels.run(WARM_UP, start, *statements, "print(json.dumps(_figures))")
    assert [cell.error for cell in cells] == [None] * len(cells)
    return kernels.value(cells[-1])


@pytest.mark.parametrize("name", STATEMENTS)
def test_peak_and_kept_bytes_are_those_of_tracemalloc(name, charged, traced):
    (peak, kept), (traced_peak, traced_kept) = charged[0][name], traced[name]
    print(json.dumps({"statement": STATEMENTS[name], "peak": [peak, traced_peak], "kept": [kept, traced_kept]}))
    assert abs(peak - traced_peak) <= MACHINERY_BYTES
    assert abs(kept - traced_kept) <= MACHINERY_BYTES


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_top_of_the_timeline_is_the_peak(name, charged):
    figures, tops = charged
    assert tops[name] == figures[name][0]


def test_a_temporary_of_milliseconds_is_in_the_peak_and_on_the_timeline(charged):
    figures, tops = charged
    assert 200_000_000 <= figures["temporary"][0] <= 200_000_000 + MACHINERY_BYTES
    assert tops["temporary"] >= 200_000_000
    assert figures["temporary"][1] <= MACHINERY_BYTES
