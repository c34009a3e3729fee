"""Who holds what libraries allocate: Arrow, Polars and torch tell where it is."""

import json
from typing import Any

import pytest
from processes import python

from thag_nb.holders import foreign

SESSION = """
import gc, json
import numpy as np
import thag_nb

def rows(name):
    with thag_nb.untracked():
        for _ in range(3):  # a look lets go of what Python keeps for the next one
            found = thag_nb.retained(name).to_dict(orient="records")
            live = thag_nb.read().find(name).self_live_bytes
    return found, live

def live(name):
    gc.collect()
    return thag_nb.read().find(name).self_live_bytes

numbers = np.arange(1_000_000.0)
thag_nb.start(native=True)
"""
ARROW = (
    SESSION
    + """
import pyarrow as pa, pyarrow.compute
try:
    import polars as pl
except ModuleNotFoundError:
    pl = None
warm = pa.compute.add(pa.array(numbers[:10]), 1), pa.array(["a"]).dictionary_encode()
rows("root")
"""
)

CASES = {
    "table": ("pa.table({'a': pa.compute.add(numbers, 1), 'b': pa.compute.add(numbers, 2)})", 16_000_000),
    "array": ("pa.compute.add(numbers, 1)", 8_000_000),
    "batch": ("pa.record_batch({'a': pa.compute.add(numbers, 1)})", 8_000_000),
    "chunks": ("pa.chunked_array([pa.compute.add(numbers, 1), pa.compute.add(numbers, 2)])", 16_000_000),
    "dictionary": ("pa.compute.cast(pa.compute.add(numbers, 1), pa.int64()).dictionary_encode()", 12_000_000),
    "struct": ("pa.StructArray.from_arrays([pa.compute.add(numbers, 1)], ['x'])", 8_000_000),
    "text": ("pa.compute.cast(pa.compute.add(numbers, 1e6), pa.string())", 11_000_000),
    "buffer": ("pa.allocate_buffer(5_000_000)", 5_000_000),
    "in a list": ("[pa.compute.add(numbers, 1)]", 8_000_000),
    "polars series": ("pl.Series(range(1_000_000), dtype=pl.Int64) * 2", 8_000_000),
    "polars frame": ("pl.DataFrame({'a': range(1_000_000)}).with_columns(b=pl.col('a').cast(pl.String))", 16_000_000),
}


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """For each case the rows, what is live of the context, and what was when the line of the first row was executed."""
    pytest.importorskip("pyarrow")
    code = (
        ARROW
        + f"CASES = {CASES!r}\n"
        + """
found = {}
for name, (expression, _) in CASES.items():
    if "pl." in expression and pl is None:
        continue
    with thag_nb.task(name):
        kept = eval(expression)
    before = rows(name)
    exec(before[0][0]["released_by"])
    found[name] = [*before, live(name)]
print(json.dumps(found))
"""
    )
    return json.loads(python(code))


@pytest.mark.parametrize("name", CASES)
def test_the_variable_is_told_with_what_the_library_allocated(told, name: str) -> None:
    if name not in told:
        pytest.skip("needs Polars")
    rows, live, after = told[name]
    first = rows[0]
    assert (first["holder"], first["kind"], first["released_by"]) == ("kept", "variable", "del kept")
    assert first["held_bytes"] >= CASES[name][1]
    assert sum(row["held_bytes"] for row in rows) == live
    assert first["alone_bytes"] >= 0.99 * first["held_bytes"]
    assert live - after >= 0.95 * first["held_bytes"]


def test_what_a_table_and_its_slice_share_is_counted_once_and_goes_with_both() -> None:
    pytest.importorskip("pyarrow")
    code = (
        ARROW
        + """
with thag_nb.task("table"):
    table = pa.table({"a": pa.compute.add(numbers, 1)})
    part = table.slice(5, 100)
    view = part["a"].chunk(0).to_numpy()
found, before = rows("table")
exec(found[0]["released_by"])
print(json.dumps([found, before, live("table")]))
"""
    )
    rows, before, after = json.loads(python(code))
    first = rows[0]
    assert first["held_bytes"] >= 8_000_000
    assert sum(row["held_bytes"] for row in rows) == before
    assert first["alone_bytes"] < 100_000
    names = {first["holder"], *first["shared_with"].split(", ")}
    assert names == {"table", "part", "view"}
    assert set(first["released_by"].removeprefix("del ").split(", ")) == names
    assert before - after >= 8_000_000


def test_pandas_text_in_arrow_is_the_frame_s() -> None:
    pytest.importorskip("pyarrow")
    code = (
        ARROW
        + """
import pandas as pd
pd.Series(["a"], dtype="string[pyarrow]").str.upper()
rows("root")
words = pa.compute.cast(pa.array(numbers), pa.string())
with thag_nb.task("frame"):
    frame = pd.DataFrame({"s": pd.Series(words, dtype=pd.ArrowDtype(pa.string())).str.upper()})
found, before = rows("frame")
print(json.dumps([found, before]))
"""
    )
    rows, before = json.loads(python(code))
    assert rows[0]["holder"] == "frame"
    assert rows[0]["held_bytes"] >= 10_000_000
    assert 0 <= sum(row["held_bytes"] for row in rows) - before < 1000  # the next look frees some text of pandas


def test_a_tensor_is_told_with_its_storage() -> None:
    pytest.importorskip("torch")
    code = (
        SESSION
        + """
import torch
torch.ones(10) + 1
rows("root")
with thag_nb.task("tensor"):
    tensor = torch.ones(1_000_000) + 1
    layer = torch.nn.Linear(1000, 500)
found, before = rows("tensor")
exec(found[0]["released_by"])
print(json.dumps([found, before, live("tensor")]))
"""
    )
    rows, before, after = json.loads(python(code))
    assert [(row["holder"], row["released_by"]) for row in rows[:2]] == [
        ("tensor", "del tensor"),
        ("layer", "del layer"),
    ]
    assert rows[0]["held_bytes"] >= 4_000_000
    assert rows[1]["held_bytes"] >= 2_000_000
    assert before - after >= 4_000_000


def test_what_a_library_refuses_to_tell_stays_unexplained() -> None:
    pytest.importorskip("pyarrow")
    import pyarrow

    readers = foreign.readers()
    assert list(readers[pyarrow.Table](pyarrow.table({"a": [1]}))) != []
    assert list(readers[pyarrow.Table](object())) == []


def test_a_slice_of_a_buffer_is_of_the_whole_one() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    buffer = pyarrow.allocate_buffer(1000)
    read = foreign.readers()[pyarrow.Buffer]
    assert list(read(buffer.slice(10).slice(10))) == [buffer.address]
