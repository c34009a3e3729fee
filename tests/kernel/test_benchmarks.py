"""Cells of every kind, timed in real kernels; no timing is asserted."""

import json
from pathlib import Path

import pytest
from processes import python

from benchmarks import cells


@pytest.mark.skipif(bool(cells.missing()), reason="cells run in a real kernel, and there is none")
def test_cells_of_every_kind_are_timed_in_real_kernels() -> None:
    code = "import json; from benchmarks import cells; print(json.dumps(cells.measure(1, 1)))"
    times = json.loads(python(code, PYTHONPATH=str(Path(cells.__file__).parent.parent)))
    assert {kind: len(values) for kind, values in times.items()} == dict.fromkeys(cells.KINDS, 1)
    assert len(cells.markdown(times).splitlines()) == 2 + len(cells.KINDS)
