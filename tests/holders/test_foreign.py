"""Who holds what libraries allocate: Arrow, Polars, torch, Pillow and others tell where it is."""

import json
import textwrap
from typing import Any

import pytest
from processes import python

import thag_nb
from thag_nb import _native
from thag_nb.holders import kinds
from thag_nb.holders.foreign.asked import Asked

SESSION = '''
import gc, json, mmap, weakref
import numpy as np
import thag_nb
from thag_nb.holders import walk

readings = []
read = walk.read_numbered

def read_and_keep():
    numbered = read()
    readings.append(numbered[0])
    return numbered

walk.read_numbered = read_and_keep

def rows(name):
    """The rows, and what was live when they were told."""
    with thag_nb.untracked():
        for _ in range(3):  # a look lets go of what Python keeps for the next one
            readings.clear()
            found = thag_nb.retained(name).to_dict(orient="records")
            live = readings[-1].find(name).self_live_bytes
            readings.clear()
    return found, live

def live(name):
    gc.collect()
    return thag_nb.read().find(name).self_live_bytes

numbers = np.arange(1_000_000.0)
words = [f"a word of many letters, the one with number {n}" for n in range(100_000)]
thag_nb.start(native=True)
'''
ARROW = (
    SESSION
    + """
import pyarrow as pa, pyarrow.compute
try:
    import polars as pl
except ModuleNotFoundError:
    pl = None
pa.table({"a": numbers[:10]}).to_pandas()
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
    "words in lists": (
        "pa.ListArray.from_arrays(pa.array(range(100_001), pa.int32()), pa.array(words).dictionary_encode())",
        4_000_000,
    ),
    "words in a struct": ("pa.StructArray.from_arrays([pa.array(words).dictionary_encode()], ['x'])", 4_000_000),
    "an extension": (
        "pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * 200_000, pa.binary(16)))",
        3_200_000,
    ),
    "a slice alone": ("pa.compute.add(numbers, 1)[500_000:]", 8_000_000),
    "bytes that only Arrow has": ("pa.py_buffer(bytes(5_000_000))", 5_000_000),
    "NumPy's array that only Arrow has": ("pa.array(np.ones(1_000_000))", 8_000_000),
    "NumPy over Arrow": ("pa.compute.add(numbers, 1).to_numpy()", 8_000_000),
    "pandas over Arrow": ("pa.table({'a': pa.compute.add(numbers, 1)}).to_pandas()", 8_000_000),
    "mapped memory": ("mmap.mmap(-1, 5_000_000)", 5_000_000),
    "polars lists": ("pl.Series([[i, i] for i in range(100_000)])", 2_000_000),
    "polars struct": ("pl.DataFrame({'a': range(500_000), 'b': range(500_000)}).to_struct('x')", 8_000_000),
    "polars slice alone": ("(pl.Series(range(1_000_000), dtype=pl.Int64) * 2).slice(500_000, 10)", 8_000_000),
    "NumPy over Polars": ("(pl.Series(range(1_000_000), dtype=pl.Int64) * 2).to_numpy()", 8_000_000),
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
    assert sum(row["held_bytes"] for row in rows) == before


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


def told_of(code: str, session: str = ARROW) -> Any:
    """What a session prints as JSON in the end."""
    return json.loads(python(session + textwrap.dedent(code)))


LENT = {
    "arrow": ("pa.array(x)", "pyarrow"),
    "arrow's buffer": ("pa.py_buffer(x)", "pyarrow"),
    "polars": ("pl.Series('a', x)", "polars"),
    "torch": ("__import__('torch').from_numpy(x)", "torch"),
}


@pytest.mark.parametrize("name", LENT)
@pytest.mark.parametrize("first", ["x", "lent"])
def test_what_a_library_was_lent_is_the_lenders_and_no_line_frees_it_alone(name: str, first: str) -> None:
    expression, module = LENT[name]
    pytest.importorskip(module)
    rows, live = told_of(
        f"""
        {expression.replace("x", "np.ones(9)")}
        if {first!r} == "lent":
            lent = None
        with thag_nb.task("lent"):
            x = np.ones(1_000_000)
            lent = {expression}
        print(json.dumps(rows("lent")))
        """,
        SESSION if module == "torch" else ARROW,
    )
    held = {row["holder"]: row for row in rows}
    assert 8_000_000 <= held["x"]["held_bytes"] < 8_100_000
    assert held["x"]["released_by"] == ""
    assert held["lent"]["held_bytes"] < 100_000
    assert sum(row["held_bytes"] for row in rows) == live
    assert all(row["held_bytes"] > 0 for row in rows)


HOARDS = {
    "a lazy frame": ("pl.DataFrame({'a': range(1_000_000)})", "kept.lazy()"),
    "a reader": ("pa.table({'a': pa.compute.add(numbers, 1)})", "kept.to_reader()"),
    "a data set": ("pa.table({'a': pa.compute.add(numbers, 1)})", "dataset.dataset(kept)"),
}


@pytest.mark.parametrize("name", HOARDS)
def test_what_may_be_held_where_nobody_can_see_it_is_let_go_of_by_all_who_may(name: str) -> None:
    pytest.importorskip("pyarrow")
    kept, other = HOARDS[name]
    if "pl." in kept:
        pytest.importorskip("polars")
    (rows, live), after = told_of(f"""
        from pyarrow import dataset
        with thag_nb.task("kept"):
            kept = {kept}
            other = {other}
        found = rows("kept")
        exec(found[0][0]["released_by"])
        print(json.dumps([found, live("kept")]))
    """)
    assert (rows[0]["holder"], rows[0]["released_by"], rows[0]["shared_with"]) == ("kept", "del kept, other", "other")
    assert live - after >= 8_000_000


def test_what_a_gradient_needs_is_not_said_to_go_with_its_name() -> None:
    pytest.importorskip("torch")
    rows, live = told_of(
        """
        import torch
        ones = torch.ones(10, requires_grad=True); (ones.exp() * 2).sum().backward()
        with thag_nb.task("graph"):
            x = torch.ones(1_000_000, requires_grad=True)
            y = x.exp()
            z = y.sum()
        print(json.dumps(rows("graph")))
        """,
        SESSION,
    )
    held = {row["holder"]: row for row in rows}
    assert held["x"]["held_bytes"] >= 4_000_000 <= held["y"]["held_bytes"]
    assert (held["x"]["released_by"], held["y"]["released_by"]) == ("", "")
    assert sum(row["held_bytes"] for row in rows) == live


TENSORS = {
    "of a view": ("(torch.arange(1_000_000) + 1).view(1000, 1000)", 8_000_000),
    "with its gradient": ("trained(torch.ones(1_000_000, requires_grad=True))", 8_000_000),
    "storage": ("(torch.ones(1_000_000) + 1).untyped_storage()", 4_000_000),
    "array of one": ("(torch.ones(1_000_000) + 1).numpy()", 4_000_000),
}
IMAGES = {
    "in one piece": ("Image.new('RGB', (300, 200))", 240_000),
    "in several": ("Image.new('RGB', (5000, 4000))", 80_000_000),
    "whose rows are as long as pointers": ("Image.new('L', (8, 5000))", 80_000),
    "with a palette": ("Image.new('P', (3000, 2000))", 6_000_000),
}


@pytest.mark.parametrize("name", [*TENSORS, *IMAGES])
def test_the_whole_of_a_tensor_or_an_image_is_told_and_its_line_frees_it(name: str) -> None:
    pytest.importorskip("torch" if name in TENSORS else "PIL")
    expression, least = {**TENSORS, **IMAGES}[name]
    setup = """
        import torch
        def trained(x):
            (x * 2).sum().backward()
            return x
        trained(torch.ones(10, requires_grad=True))
    """
    (rows, live), after = told_of(
        textwrap.dedent(setup if name in TENSORS else "from PIL import Image; Image.new('L', (9, 9))")
        + textwrap.dedent(f"""
        {expression}
        rows("root")
        with thag_nb.task("kept"):
            kept = {expression}
        found = rows("kept")
        exec(found[0][0]["released_by"])
        print(json.dumps([found, live("kept")]))
        """),
        SESSION,
    )
    assert (rows[0]["holder"], rows[0]["released_by"]) == ("kept", "del kept")
    assert rows[0]["held_bytes"] >= max(least, 0.98 * live)
    assert sum(row["held_bytes"] for row in rows) == live
    assert live - after >= least


def test_an_image_that_was_only_opened_is_not_loaded() -> None:
    pytest.importorskip("PIL")
    is_loaded = told_of(
        """
        import io
        from PIL import Image
        kept = io.BytesIO()
        Image.new("L", (100, 100)).save(kept, "png")
        opened = Image.open(kept)
        rows("root")
        print(json.dumps(getattr(opened, "_im", None) is not None))
        """,
        "import json, thag_nb\nthag_nb.start(native=True)\ndef rows(name): return thag_nb.retained(name)\n",
    )
    assert is_loaded is False


def test_half_made_and_closed_objects_are_survived() -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("polars")
    rows, live = told_of("""
        with thag_nb.task("odd"):
            kinds = [pa.Table, pa.RecordBatch, pa.Int64Array, pa.ChunkedArray, pl.DataFrame, pl.Series]
            odd = [kind.__new__(kind) for kind in (*kinds, pa.Buffer, pa.ResizableBuffer, pa.Buffer)]
            weak = weakref.ref(odd[-1])
            closed = mmap.mmap(-1, 5_000)
            closed.close()
        print(json.dumps(rows("odd")))
    """)
    assert sum(row["held_bytes"] for row in rows) == live


def test_no_class_of_a_users_is_asked() -> None:
    pytest.importorskip("pyarrow")
    calls = told_of("""
        calls = []
        class Array(pa.ExtensionArray):
            pass
        class Type(pa.ExtensionType):
            def __init__(self):
                super().__init__(pa.float64(), "mine")
            def __arrow_ext_serialize__(self):
                return b""
            @classmethod
            def __arrow_ext_deserialize__(cls, storage, serialized):
                return cls()
            def __arrow_ext_class__(self):
                calls.append("class")
                return Array
        array = pa.ExtensionArray.from_storage(Type(), pa.array(numbers))
        inside = pa.StructArray.from_arrays([array], ["x"])
        chunks = pa.chunked_array([array])
        kept = [array, inside, chunks, pa.table({"a": array}), pa.record_batch({"a": array})]
        calls.clear()
        rows("root")
        print(json.dumps(calls))
    """)
    assert calls == []


def test_an_array_over_an_objects_own_memory_does_not_count_it_again() -> None:
    rows, live = told_of(
        """
        class Own(tuple):
            @property
            def __array_interface__(self):
                return {"data": (id(self), True), "shape": (4,), "typestr": "<u8", "version": 3}
        with thag_nb.task("own"):
            own = Own(range(1_000_000))
            over = np.asarray(own)
        print(json.dumps(rows("own")))
        """,
        SESSION,
    )
    assert (rows[0]["holder"], rows[0]["held_bytes"] // 1_000_000) == ("own", 39)
    assert sum(row["held_bytes"] for row in rows) == live
    assert all(row["held_bytes"] > 0 for row in rows)


@pytest.mark.usefixtures("dispatcher")
def test_what_an_object_holds_is_told_once() -> None:
    walk = _native.Walk(kinds.known(), ())
    thing = object()
    with thag_nb.task("block"):
        block = bytearray(1000)
    address = _native.buffer_address(block)
    assert len(walk.hold(thing, (address, address))) == 2
    with pytest.raises(ValueError, match="what it holds was told before: <class 'object'>"):
        walk.hold(thing, ())
    with pytest.raises(TypeError, match="hold takes an object and a tuple of addresses"):
        walk.hold(thing, [])  # type: ignore[arg-type]


def test_what_is_not_loaded_is_not_asked_and_nothing_is_imported_for_it() -> None:
    assert python("""
        import sys, thag_nb
        from thag_nb.holders.foreign.asked import Asked
        before = set(sys.modules)
        print([kind.__name__ for kind in Asked().types if kind.__module__ not in ("numpy", "mmap")])
        print(set(sys.modules) - before)
    """).splitlines() == ["['PyCapsule']", "set()"]
    assert all(isinstance(kind, type) for kind in Asked().types)
