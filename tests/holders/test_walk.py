"""Who still holds what a context allocated, and which line lets go."""

import functools
import gc
import json
import sys
import textwrap
from importlib.util import find_spec
from typing import Any

import numpy
import pytest
from figures import of
from processes import python

import thag_nb
from thag_nb import _native
from thag_nb.errors import UnknownContextError
from thag_nb.holders import kinds, walk
from thag_nb.recordings import frames

SHELL = """
    import json, sys, thag_nb
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    def run(source):
        result = shell.run_cell(source, store_history=True)
        return result
    def check(source):
        run(source).raise_error()
    check("%load_ext thag_nb")
    check("import gc, functools, io, sys, thag_nb; import numpy as np, pandas as pd; gc.disable()")
    def live(name):
        return thag_nb.read().find(name).self_live_bytes
    def rows(name=None, **options):
        with thag_nb.untracked():
            frame = thag_nb.retained(name, **options)
            return frame.to_dict(orient="records")
"""
MAKE = {
    "variable": "with thag_nb.task('variable'):\n    lines = [str(i) * 3 for i in range(50_000)]",
    "output": "with thag_nb.task('output'):\n    shown = np.zeros(300_000)\nshown",
    "traceback": """
        del shown
        def broken():
            local = [bytes(1000) for _ in range(2000)]
            1 / 0
        with thag_nb.task('traceback'):
            broken()
        """,
    "closure": """
        def make():
            inside = {i: str(i) for i in range(50_000)}
            return lambda: inside
        with thag_nb.task('closure'):
            function = make()
        """,
    "view": """
        with thag_nb.task('view'):
            frame = pd.DataFrame({'a': np.arange(300_000.0), 'b': np.arange(300_000.0)})
        column = frame['a'].to_numpy()[10:20]
        del frame
        """,
    "cache": """
        @functools.lru_cache(None)
        def cached(size):
            return bytes(size)
        with thag_nb.task('cache'):
            for size in range(1000, 3000):
                cached(size)
        """,
    "cycle": """
        class Node:
            pass
        with thag_nb.task('cycle'):
            one, other = Node(), Node()
            one.other, other.other = other, one
            one.data = [str(i) * 2 for i in range(50_000)]
        del one, other
        """,
    "attribute": """
        class Model:
            def __init__(self):
                self.history = [float(i) for i in range(50_000)]
        with thag_nb.task('attribute'):
            model = Model()
        """,
}
HOLDERS = {
    "variable": ("lines", "variable"),
    "output": ("Out[4]", "output"),
    "traceback": ("(last traceback)", "traceback"),
    "closure": ("function", "closure"),
    "view": ("column", "variable"),
    "cache": ("cached", "cache"),
    "cycle": ("(reference cycles)", "cycle"),
    "attribute": ("model", "variable"),
}


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """What a session with known holders tells, and what is left after each line of `released_by` was executed."""
    code = textwrap.dedent(SHELL)
    for name, source in MAKE.items():
        code += f"{'run' if name == 'traceback' else 'check'}({textwrap.dedent(source)!r})\n"
    code += textwrap.dedent(f"""
        names = {list(MAKE)}
        found, before, after = {{}}, {{}}, {{}}
        for name in names * 2:  # the first looks let go of strings that pandas and IPython keep for the next ones
            found[name] = rows(name)
            before[name] = live(name)
        for name in names:
            check(found[name][0]["released_by"])
            after[name] = live(name)
        print(json.dumps([found, before, after]))
    """)
    found, before, after = json.loads(python(code).splitlines()[-1])
    return {"found": found, "before": before, "after": after}


@pytest.mark.parametrize("name", HOLDERS)
def test_each_known_holder_is_told_at_least_95_percent_of_its_bytes(known, name):
    first = known["found"][name][0]
    assert (first["holder"], first["kind"]) == HOLDERS[name]
    assert first["held_bytes"] >= 0.95 * known["before"][name] > 1_000_000


@pytest.mark.parametrize("name", HOLDERS)
def test_the_rows_add_up_to_what_the_context_holds(known, name):
    assert sum(row["held_bytes"] for row in known["found"][name]) == known["before"][name]


@pytest.mark.parametrize("name", HOLDERS)
def test_the_line_told_lets_go(known, name):
    first = known["found"][name][0]
    assert known["after"][name] <= known["before"][name] - 0.95 * first["held_bytes"]


VALUES = {
    "list": "list(range(1000, 9000))",
    "dict": "{i: str(i) for i in range(5000)}",
    "dict with text for keys": "{str(i): i for i in range(5000)}",
    "functions": "[compile(f'def f(a): return a + {i}, \"some text {i}\"', f'file{i}', 'exec') for i in range(99)]",
    "code whose parts were asked for": "asked([compile(f'a = b = {i}', f'file{i}', 'exec') for i in range(99)])",
    "copied dict": "dict({str(i): i for i in range(5000)})",
    "dict with some text for keys": "{str(i) if i % 2 else i: i for i in range(1000, 6000)}",
    "set": "set(range(5000, 9000))",
    "frozenset": "frozenset(range(5000, 9000))",
    "bytes": "bytes(50_000)",
    "bytearray": "bytearray(50_000)",
    "bytearray with its front cut off": "cut(bytearray(90_000))",
    "memoryview": "memoryview(bytearray(50_000))[10:]",
    "int": "1 << 300_000",
    "text": "'ä' * 50_000",
    "text with its UTF-8": "encoded('ä' * 50_000)",
    "text of a subclass": "Text('a' * 50_000)",
    "deque": "collections.deque(range(1000, 9000))",
    "OrderedDict": "collections.OrderedDict((i, i) for i in range(1000, 4000))",
    "defaultdict": "collections.defaultdict(list, {i: [i] for i in range(1000, 4000)})",
    "array": "array.array('d', range(5000))",
    "BytesIO": "io.BytesIO(bytes(range(250)) * 200)",
    "StringIO": "written(io.StringIO())",
    "StringIO written over": "written_over(io.StringIO())",
    "BufferedReader": "read(io.BufferedReader(io.BytesIO(bytes(90_000)), 50_000))",
    "BufferedWriter": "io.BufferedWriter(io.BytesIO(), 50_000)",
    "BufferedRandom": "io.BufferedRandom(io.BytesIO(), 50_000)",
    "SimpleQueue": "filled(queue.SimpleQueue())",
    "Struct": "struct.Struct('ihd' * 300)",
    "locks": "[(threading.Lock(), threading.RLock()) for _ in range(500)]",
    "ranges": "[range(i, i + 5000, 300) for i in range(1000, 1500)]",
    "ElementTree": "ElementTree.fromstring('<a>' + '<b c=\"d\">e<f/></b>' * 500 + '</a>')",
    "children of an Element": "ElementTree.fromstring('<a>' + '<b/>' * 2000 + '</a>')",
    "ctypes": "(ctypes.c_double * 5000)()",
    "ctypes over other memory": "(ctypes.c_char * 50_000).from_buffer(bytearray(50_000))",
    "ndarray": "np.arange(50_000)",
    "view of an ndarray": "np.arange(50_000).reshape(100, -1)[3:7, ::2]",
    "ndarray over bytes": "np.frombuffer(bytes(50_000), dtype=np.uint8)",
    "ndarray of objects": "np.array([str(i) for i in range(5000)], dtype=object)",
    "ndarray of objects in another order": "shuffled(np.array(['x' * (i // 10) for i in range(5000)], dtype=object))",
    "ndarray of packed records": "np.array(pairs(), [('a', 'i1'), ('b', object)])",
    "ndarray of records in records": "nested(np.zeros(500, [('a', [('b', 'i4'), ('c', 'O', (2, 3))]), ('d', 'f8')]))",
    "ndarray of records with titles": "np.array(pairs(), [(('title', 'a'), int), (('other', 'b'), object)])",
    "recarray": "pd.DataFrame({'a': range(2000), 'b': pd.Series(texts(2000), dtype=object)}).to_records(index=False)",
    "record of an ndarray": "np.array(pairs(), [('a', int), ('b', object)])[7]",
    "copies of records": "[record.copy() for record in np.array(pairs(), [('a', int), ('b', object)])]",
    "dtypes": "[np.dtype([(f'field {i}', object, (2, i)), ('b', 'M8[25s]')]) for i in range(1, 200)]",
    "Series of text": "pd.Series([str(i) for i in range(5000)], dtype=object)",
    "DataFrame": "pd.DataFrame({'a': np.arange(50_000), 'b': np.arange(50_000.0)})",
    "instances": "[Plain(i) for i in range(1000, 4000)]",
    "instances with a dict": "[opened(Plain(i)) for i in range(1000, 4000)]",
    "instances with slots": "[Slotted(i) for i in range(1000, 4000)]",
    "generator": "begun(i * 2 for i in list(range(1000, 9000)))",
    "partial": "functools.partial(print, list(range(1000, 9000)))",
    "bound method": "Plain(list(range(1000, 9000))).method",
    "exception": "caught()",
    "classes": "[type(f'C{i}', (), {'a': i, 'b': [i] * 500}) for i in range(30)]",
}
if hasattr(numpy.dtypes, "StringDType"):
    VALUES["ndarray of text of any length"] = "np.array(texts(2000), np.dtypes.StringDType())"
    VALUES["ndarray of text that was replaced"] = "replaced(np.array(texts(2000), np.dtypes.StringDType()))"
if numpy.lib.NumpyVersion(numpy.__version__) >= "2.5.0":  # before, nobody saw its bytes
    VALUES["np.void"] = "np.void(bytes(50_000))"
if sys.version_info >= (3, 15):
    VALUES["frozendict"] = "frozendict({i: str(i) for i in range(5000)})"
    VALUES["frozendict with text for keys"] = "frozendict({str(i): i for i in range(5000)})"
VALUES_WITH = """
import array, collections, ctypes, functools, io, json, queue, struct, sys, threading
from xml.etree import ElementTree
import numpy as np, pandas as pd
import thag_nb
class Text(str): pass
class Plain:
    def __init__(self, value): self.value, self.second, self.third = value, value, None
    def method(self): pass
class Slotted:
    __slots__ = ("value", "__weakref__")
    def __init__(self, value): self.value = value
def cut(block): del block[:100]; return block
def encoded(text):
    ctypes.pythonapi.PyUnicode_AsUTF8.argtypes = [ctypes.py_object]
    ctypes.pythonapi.PyUnicode_AsUTF8.restype = ctypes.c_void_p
    ctypes.pythonapi.PyUnicode_AsUTF8(text); return text
def written(stream):
    for i in range(5000): stream.write(f"line {i}")
    return stream
def written_over(stream): stream.write("a"); stream.seek(0); stream.write("b" * 50_000); stream.seek(0); return stream
def read(stream): stream.read(10); return stream
def filled(queue):
    for i in range(1000, 6000): queue.put(i)
    return queue
def asked(codes):
    for code in codes: code.co_code, code.co_varnames, code.co_cellvars, code.co_freevars
    return codes
def texts(count): return [f"a text that takes a while, number {i}" for i in range(count)]
def pairs(): return [(i % 100, text) for i, text in enumerate(texts(2000))]
def shuffled(array): return array.reshape(10, 20, 25).transpose(1, 0, 2).copy("K")
def nested(array): array["a"]["c"] = np.array(texts(3000), dtype=object).reshape(500, 2, 3); return array
def replaced(array): array[::2] = "longer than what there was, " * 9; array[::4] = "short"; return array
def opened(thing): vars(thing); return thing
def begun(generator): next(generator); return generator
def caught():
    local = list(range(1000, 9000))
    try: 1 / 0
    except ZeroDivisionError as error: return error
"""


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    code = VALUES_WITH + textwrap.dedent(f"""
        told = {{}}
        # So that nobody pays when the interpreter's table of these grows.
        kept = [sys.intern(f"interned {{i}}") for i in range(200_000)]
        thag_nb.start()
        for name, source in {VALUES!r}.items():
            eval(source)
            made = eval(f"lambda: {{source}}")
            with thag_nb.task(name):
                value = made()
            with thag_nb.untracked():
                rows = thag_nb.retained(name, namespace={{"value": value}})
                told[name] = rows[["holder", "held_bytes"]].values.tolist()
        print(json.dumps(told))
    """)
    return json.loads(python(code))


@pytest.mark.parametrize("name", VALUES)
def test_what_a_value_is_made_of_is_found(values, name):
    held = dict(values[name])
    assert held["value"] >= 0.95 * sum(held.values()) > 1000
    assert held.get("(unexplained)", 0) >= 0


@pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")
def test_an_array_that_numba_made_holds_its_memory():
    code = """
        import numba, numpy as np, thag_nb
        ones = numba.njit(lambda count: np.ones(count))
        ones(1)
        with thag_nb.task("ones"):
            value = ones(100_000)
        print(thag_nb.retained("ones")[["holder", "held_bytes"]].values.tolist())
    """
    rows = json.loads(python(code).replace("'", '"'))
    assert dict(rows)["value"] > 800_000


def named(**values: Any) -> dict[str, Any]:
    """Names that are all that refers to their values, if the caller drops its own."""
    return values


@pytest.mark.usefixtures("dispatcher")
def test_a_block_counts_once_and_the_other_holder_is_told():
    with thag_nb.task("shared"):
        names = named(rows=[bytes(1000) for _ in range(100)])
    names["again"] = [names["rows"]]
    found = walk.find("shared", namespace=names)
    assert (found[0].holder, found[0].released_by, found[0].shared_with) == ("rows", "del rows, again", ("again",))
    assert sum(row.held_bytes for row in found) == of("shared").self_live_bytes
    assert found[0].held_bytes > 100_000
    assert found[0].alone_bytes == 0
    before = of("shared").self_live_bytes
    exec(found[0].released_by, names)
    assert before - of("shared").self_live_bytes == found[0].held_bytes


@pytest.mark.usefixtures("dispatcher")
def test_what_refers_to_nothing_counts_once_as_well():
    with thag_nb.task("shared"):
        names = named(first=[bytes(100_000)])
    names["second"] = [names["first"][0]]
    found = walk.find("shared", namespace=names)
    assert sum(row.held_bytes for row in found) == of("shared").self_live_bytes
    assert all(row.held_bytes > 0 for row in found)


@pytest.mark.usefixtures("dispatcher")
def test_a_line_is_left_out_where_something_that_is_no_name_holds_it_as_well():
    with thag_nb.task("shared"):
        unknown = [bytes(1000) for _ in range(100)]
    found = walk.find("shared", namespace={"rows": unknown})
    assert (found[0].holder, found[0].released_by) == ("rows", "")
    assert found[0].shared_with == ("(something that is no name)",)
    del unknown


@pytest.mark.usefixtures("dispatcher")
def test_who_only_shares_a_trifle_is_no_other_holder():
    with thag_nb.task("shared"):
        trifle = [0]
        names = named(rows=[trifle, *(bytes(1000) for _ in range(100))])
    names["again"] = [trifle]
    del trifle
    first, *_ = walk.find("shared", namespace=names)
    assert (first.holder, first.shared_with, first.released_by) == ("rows", (), "del rows")
    assert 0.99 * first.held_bytes < first.alone_bytes < first.held_bytes


@pytest.mark.usefixtures("dispatcher")
def test_of_a_line_that_only_frees_half_both_halves_are_named():
    with thag_nb.task("halves"):
        names = named(rows=[bytearray(50_000), bytearray(50_000)])
    names["half"] = names["rows"][0]
    first, *_ = walk.find("halves", namespace=names)
    assert (first.holder, first.released_by) == ("rows", "del rows, half")
    assert 50_000 < first.alone_bytes < 51_000


@pytest.mark.usefixtures("dispatcher")
def test_the_walk_itself_is_no_other_holder():
    names = named(cached=functools.lru_cache(None)(lambda size: bytes(size)))
    with thag_nb.task("cached"):
        names["cached"](100_000)
    rows = walk.find("cached", namespace=names)
    found = [(row.holder, row.shared_with, row.released_by) for row in rows if row.held_bytes > 100_000]
    assert found == [("cached", (), "cached.cache_clear()")]


@pytest.mark.usefixtures("dispatcher")
def test_a_task_counts_with_what_was_started_under_it_unless_that_is_declined():
    names: dict[str, Any] = {}
    with thag_nb.task("features"):
        names["own"] = bytearray(10_000)
        with thag_nb.task("dummies"):
            names["dummies"] = bytearray(100_000)
    live_bytes = of("features").live_bytes
    found = walk.find("features", namespace=names)
    assert sum(row.held_bytes for row in found) == live_bytes
    under = {row.holder: row.under for row in found}
    assert (under["own"], under["dummies"]) == ("features", "features › dummies")
    own = walk.find("features", namespace=names, self_only=True)
    assert {row.under for row in own} == {"features"}
    assert 10_000 < sum(row.held_bytes for row in own) < 20_000
    everything = thag_nb.retained(namespace=names)
    assert set(everything.under[everything.name == "dummies"]) == {"features › dummies"}


def test_a_class_whose_module_was_loaded_again_belongs_to_who_has_an_instance(tmp_path):
    (tmp_path / "model_of_mine.py").write_text("class Model:\n    table = bytearray(100_000)\n")
    code = f"""
        import importlib, sys, thag_nb
        sys.path.insert(0, {str(tmp_path)!r})
        compile("", "", "exec")  # the first time in a process, this makes the classes of `ast`
        with thag_nb.task("model"):
            import model_of_mine
            model = model_of_mine.Model()
        importlib.reload(model_of_mine)
        first = thag_nb.retained("model").iloc[0]
        print(first.holder, first.released_by)
        exec(first.released_by)
        print(thag_nb.read().find("model").self_live_bytes < 50_000)
    """
    assert python(code).splitlines() == ["model del model; import gc; gc.collect();", "True"]


def test_a_library_that_a_name_was_imported_from_is_told(tmp_path):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "library.py").write_text("big = None\n")
    code = f"""
        import sys, thag_nb
        sys.path.insert(0, {str(tmp_path / "site-packages")!r})
        import library
        with thag_nb.task("big"):
            library.big = bytearray(100_000)
        from library import big
        first = thag_nb.retained("big").iloc[0]
        print(first.holder, first.released_by, first.shared_with, sep="|")
    """
    assert python(code) == "big||library\n"


@pytest.mark.usefixtures("dispatcher")
def test_progress_is_told_how_many_objects_were_looked_at():
    told: list[int] = []
    walk.find(namespace={"rows": [[i] for i in range(250_000)]}, progress=told.append)
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] > 500_000


def test_a_module_of_the_users_holds_by_its_variables_and_a_library_as_a_whole(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import functools\nkept = []\n"
        "class Table:\n    @functools.lru_cache(None)\n    def row(self, n): return bytes(n)\n"
    )
    code = f"""
        import sys, thag_nb
        sys.path.insert(0, {str(tmp_path)!r})
        import mine
        thag_nb.start()
        with thag_nb.task("import"):
            import pydoc_data.topics
        with thag_nb.task("kept"):
            mine.kept.append(bytearray(100_000))
        with thag_nb.task("row"):
            mine.Table().row(100_000)
        for name in ("import", "kept", "row"):
            first = thag_nb.retained(name).iloc[0]
            print(first.holder, first.kind, first.released_by, sep="|")
            exec(first.released_by)
            print(thag_nb.read().find(name).self_live_bytes < 5_000)
    """
    assert python(code).splitlines() == [
        "pydoc_data|module|",
        "False",
        "mine.kept|module|del mine.kept",
        "True",
        "mine.Table.row|cache|mine.Table.row.cache_clear()",
        "True",
    ]


@pytest.mark.usefixtures("dispatcher")
def test_garbage_is_told_and_collected_on_request():
    gc.disable()
    try:
        with thag_nb.task("garbage"):
            loop: list[Any] = [bytearray(100_000)]
            loop.append(loop)
            del loop
        assert [row.kind for row in walk.find("garbage", namespace={})] == ["cycle"]
        assert walk.find("garbage", namespace={}, collect=True) == ()
    finally:
        gc.enable()


@pytest.mark.usefixtures("dispatcher")
def test_what_runs_is_not_garbage():
    with thag_nb.task("running"):
        local = [[bytearray(100_000)]]
    rows = walk.find("running", namespace={})
    assert {row.kind for row in rows} <= {"object", "unexplained"}
    assert sum(row.held_bytes for row in rows) == of("running").self_live_bytes
    del local


def test_no_code_of_the_users_runs():
    code = """
        import thag_nb
        def fail(*arguments, **options): raise SystemExit("ran")
        class Meta(type):
            __hash__ = __eq__ = __getattribute__ = __subclasscheck__ = __instancecheck__ = fail
        names = "__hash__ __eq__ __getattribute__ __getattr__ __repr__ __str__ __len__ __iter__ __bool__ __sizeof__"
        Hostile = Meta("Hostile", (), dict.fromkeys(names.split(), fail))
        class Mapping(dict):
            __getitem__ = __iter__ = keys = items = values = get = fail
        class Text(str):
            __hash__ = str.__hash__
            __eq__ = isidentifier = fail
        with thag_nb.task("hostile"):
            value = [Hostile() for _ in range(1000)]
            more = [Mapping(a=Hostile()), Text("x"), property(fail), Hostile, type.__call__(Meta, "B", (Hostile,), {})]
        found = thag_nb.retained("hostile")
        print(found.holder[0], found.held_bytes[0] > 16_000)
    """
    assert python(code) == "value True\n"


@pytest.mark.usefixtures("dispatcher")
def test_the_walk_keeps_nothing_alive_and_is_charged_to_nobody():
    class Noticed(bytearray):
        pass

    with thag_nb.task("walked"):
        block = Noticed(100_000)
    with thag_nb.task("walking"):
        before = of("walking").self_total_bytes
        thag_nb.retained("walked", namespace={"block": block})
        assert of("walking").self_total_bytes - before < 10_000
    was_on = gc.isenabled()
    assert was_on
    del block
    assert of("walked").self_live_bytes < 1000


@pytest.mark.usefixtures("dispatcher")
def test_all_contexts_that_have_ended_and_hold_something_are_told():
    with thag_nb.task("a"):
        one = bytearray(10_000)
    with thag_nb.task("nothing"):
        pass
    with thag_nb.task("open"):
        two = bytearray(10_000)
        found = thag_nb.retained(namespace={"one": one, "two": two})
    assert list(dict.fromkeys(found.name)) == ["a"]
    assert thag_nb.retained("open", namespace={"two": two}).holder[0] == "two"


def test_the_frame_has_its_columns_and_types_without_rows():
    frame = frames.retained_frame(())
    columns = "context_id name holder kind held_bytes released_by shared_with alone_bytes under allocated_at"
    assert " ".join(frame.columns) == columns
    assert str(frame.held_bytes.dtype) == str(frame.context_id.dtype) == "int64"


@pytest.mark.usefixtures("dispatcher")
def test_an_unknown_context_is_answered_in_one_sentence():
    with pytest.raises(UnknownContextError, match="no context is called 'laod'"):
        thag_nb.retained("laod")


def test_a_walk_refuses_what_it_does_not_know():
    with pytest.raises(TypeError, match=f"Walk takes a tuple of {len(kinds.known())} types at most"):
        _native.Walk((*kinds.known(), None), ())
    with pytest.raises(TypeError, match="Walk takes no keyword arguments"):
        _native.Walk(types=())  # type: ignore[call-arg]
    walk = _native.Walk((), ())
    with pytest.raises(TypeError, match="follow takes a number and two lists"):
        walk.follow(0, (), [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no holder has the number -1"):
        walk.follow(-1, [], [])
    for takes_a_list in (walk.exclude, walk.include, walk.unvisited, walk.divide):
        with pytest.raises(TypeError, match="a list"):
            takes_a_list(())  # type: ignore[arg-type]


def test_a_walk_visits_each_object_once_and_gives_them_in_pieces():
    things = [[[i]] for i in range(1000, 151_000)]
    walk = _native.Walk((), ())
    excluded = things[0]
    walk.include([walk])
    walk.exclude([excluded])
    pending: list[Any] = []
    _, special = walk.follow(0, [things], pending)
    assert 0 < len(pending) < 150_000
    while pending:
        before = len(pending)
        walk.follow(0, [], pending)
        assert len(pending) < before
    assert special == []
    assert walk.seen_count == 450_000 - 3 + 1
    assert walk.unvisited([things, things[1], excluded, walk, [0]]) == [walk]
    walk.include([excluded])
    assert walk.unvisited([excluded]) == [excluded]
    assert walk.follow(1, [things[1], things[2], int, int, excluded], [])[1] == [int]
    assert walk.unvisited([excluded]) == []


def test_the_magic_prints_a_table():
    code = textwrap.dedent(SHELL) + textwrap.dedent("""
        check("with thag_nb.task('load'):\\n    table = bytearray(3 << 20)")
        check("%thag_retained load")
        check("%thag_retained 'load' --collect")
        check("%thag_retained")
        sys.stderr = sys.stdout
        run("%thag_retained nosuch")
        run("%thag_retained load --nosuch")
    """)
    printed = python(code)
    assert printed.count("table   3.0 MiB   100%  del table") == 2
    assert printed.count("del table") == 3
    assert "UnknownContextError: no context is called 'nosuch'; known: load" in printed
    assert "UsageError: %thag_retained: unrecognized arguments: --nosuch; see %thag_retained?" in printed


def test_looking_for_garbage_leaves_the_dead_objects_of_asyncio_alone():
    code = """
        import asyncio, gc, thag_nb
        async def wait():
            loop = asyncio.get_running_loop()
            for _ in range(100):
                future = loop.create_future()
                loop.call_soon(future.set_result, None)
                await future
        async def main():
            await asyncio.gather(*(wait() for _ in range(10)))
        asyncio.run(main())
        with thag_nb.task("kept"):
            keep = [bytearray(1000)]
        for _ in range(3):
            thag_nb.retained("kept", namespace={})
            gc.collect()
        print("ended")
    """
    assert python(code) == "ended\n"
