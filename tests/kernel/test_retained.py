"""The lines that let go, executed in a real kernel as a person would."""

from typing import Any

import kernels
import pytest

LINES = {
    "variable": ["v = bytearray(2_000_000)"],
    "two names": ["v1 = v2 = bytearray(2_000_000)"],
    "variable that was shown": ["shown = np.zeros(300_000)\nshown"],
    "last output": ["np.zeros(300_000)"],
    "last output but two": ["np.zeros(300_000)", "1", "2"],
    "underscore": ["_ = bytearray(2_000_000)"],
    "closure": ["def make():\n    d = bytearray(2_000_000)\n    return lambda: d\nf = make()"],
    "closure that calls itself": [
        "def again():\n    d = bytearray(2_000_000)\n    def g(n): return g(n - 1) if n else d\n    return g\n"
        "g = again()"
    ],
    "model that knows itself": [
        "class Model: pass\nmodel = Model(); model.me = model; model.d = bytearray(2_000_000)",
    ],
    "output that knows itself": ["Model.d = None\nm = Model(); m.me = m; m.d = bytearray(2_000_000)\nm"],
    "class": ["class Table:\n    rows = bytearray(2_000_000)"],
    "exception": [
        "def caught():\n    d = bytearray(2_000_000)\n    try: 1/0\n    except Exception as e: kept = e\n"
        "    return kept\nerror = caught()",
    ],
    "cache": ["@functools.lru_cache\ndef cached(n): return bytearray(n)\ncached(2_000_000);"],
    "module": ["mine.table = bytearray(2_000_000)"],
    "cycle": ["q = [bytearray(2_000_000)]; q.append(q); del q"],
    "chained traceback": [
        "def fail():\n    d = bytearray(2_000_000)\n    try: 1/0\n    except Exception as e: raise ValueError from e\n"
        "fail()"
    ],
    "traceback": ["def fail():\n    d = bytearray(2_000_000)\n    1/0\nfail()"],
}


BEFORE = """
%load_ext thag_nb
import functools, gc, json, sys, types, numpy as np
gc.disable()
mine = sys.modules['mine'] = types.ModuleType('mine')
mine.__file__ = '/mine.py'
import thag_nb
"""


@pytest.fixture(scope="module")
def executed() -> dict[str, list[Any]]:
    """Live bytes before and after each line was executed as the person finds it, and the lines."""
    cells, answers = [BEFORE], {}
    for name, sources in LINES.items():
        cells += [f"%thag_task {name}\n{sources[0]}", *sources[1:]]
        cells += [
            f"rows = thag_nb.retained({name!r}).itertuples()",
            "line = next(row.released_by for row in rows if row.held_bytes > 10**6 and row.released_by)",
            f"before = thag_nb.read().find({name!r}).self_live_bytes",
            "get_ipython().run_cell(line, store_history=True);",
            f"print(json.dumps([before, thag_nb.read().find({name!r}).self_live_bytes, line]))",
        ]
        answers[name] = len(cells) - 1
    shown = kernels.run(*cells)
    return {name: kernels.value(shown[place]) for name, place in answers.items()}


@pytest.mark.parametrize("name", LINES)
def test_the_line_lets_go_in_a_kernel_as_it_stands_without_the_collector(executed, name):
    before, after, line = executed[name]
    assert before > 2_000_000
    assert before - after > 1_950_000, line
