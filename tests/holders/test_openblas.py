"""What OpenBLAS maps at its first use, and keeps: it is no leak of whoever used it first."""

import json

import pytest
from processes import python

CODE = """
import json
import numpy as np
import thag_nb
from thag_nb import _native
from thag_nb.costs.beside import as_of_now
from thag_nb.costs.report import costs_bundle
from thag_nb.runtime import dispatcher

thag_nb.start(native=True)
matrix = np.ones((300, 300))
with thag_nb.task("first"):
    matrix @ matrix
with thag_nb.task("later"):
    matrix @ matrix
first = thag_nb.read().find("first")
retained = thag_nb.retained("first")
rows = retained[["holder", "kind", "held_bytes"]].values.tolist()
assert retained.held_bytes.sum() == first.self_live_bytes
found = _native.workspaces()
seen = dispatcher.seen()
table = costs_bundle(thag_nb.read(), figure=False, beside=as_of_now())["text/plain"].splitlines()
row_below = table[next(number for number, row in enumerate(table) if row.startswith("  first ")) + 1]
thag_nb.reset()
after = _native.workspaces(), dispatcher.seen()
print(json.dumps([first.context_id, found, seen, rows, row_below, after]))
thag_nb.stop()
thag_nb.start(native=True)
matrix @ matrix
assert _native.workspaces() == []  # it was mapped before
"""


def test_it_is_told_apart_and_named_as_its_holder():
    pytest.importorskip("numpy")
    told = python(CODE)
    first_id, found, seen, rows, row_below, (after, seen_after) = json.loads(told)
    if not found:
        pytest.skip("NumPy multiplies without OpenBLAS, or its library cannot be redirected")
    [[context_id, size]] = found
    assert context_id == first_id
    assert size >= 1 << 20
    sentence = f"{size / (1 << 20):.1f} MiB of first are OpenBLAS's to work in, which keeps them for every later call."
    assert seen.endswith(sentence)
    assert row_below.split() == ["OpenBLAS,", "to", "work", "in", *f"{size / (1 << 20):.1f} MiB".split()]
    assert rows[0] == ["(OpenBLAS, to work in)", "object", size]
    assert after == [[1, size]]
    assert seen_after.endswith(sentence.replace("of first", "of root"))
