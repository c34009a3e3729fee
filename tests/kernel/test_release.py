"""Each line that is said to let go is executed in a real kernel, as a cell of its own, and frees what it says."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from kernels import PASTED, run, value

START = """
%load_ext thag_nb
import functools, gc, io, json, logging, pathlib, sys, tempfile, threading, thag_nb
from concurrent.futures import ThreadPoolExecutor
import numpy as np, pandas as pd
ARRAY = functools.partial(np.ones, 100_000)
import matplotlib; matplotlib.use("Agg"); import matplotlib.pyplot as plt
warm = plt.figure(); warm.gca().plot([1]); warm.canvas.draw(); plt.close(warm); del warm
try:
    import pyarrow as pa, pyarrow.compute, polars as pl
    pa.compute.add(pa.array([1.0]), 1).to_numpy(); pd.array(["a"], dtype="string[pyarrow]")
    pl.DataFrame({"a": [1]}).lazy();
except ModuleNotFoundError:
    pass
folder = tempfile.mkdtemp(); sys.path.insert(0, folder)
_ = pathlib.Path(folder, "mine.py").write_text(
    "import functools\\nimport numpy as np\\nkept = []\\n"
    "@functools.lru_cache\\ndef load(n): return np.ones(n)\\n"
    "class Table:\\n    @functools.lru_cache\\n    def row(self, n): return np.ones(n)\\n"
)
import mine
del _
gc.disable()  # or else what waits for the collector may be gone before its line is executed
def lines():
    rows = thag_nb.retained("t", self_only=True)
    live = thag_nb.read().find("t").self_live_bytes
    assert abs(rows.held_bytes.sum() - live) < 50_000, (rows.held_bytes.sum(), live)
    return rows[(rows.released_by != "") & (rows.held_bytes * 100 >= live)].to_dict(orient="records")
def live():
    return thag_nb.read().find("t").self_live_bytes
"""
FORGET = """
import builtins
globals, get_ipython, Out = builtins.globals, builtins.get_ipython, _oh
%reset -f out
import gc, sys, mine
mine.__class__ = type(sys)
plt.close("all"); sys.last_exc = sys.last_value = sys.last_traceback = None
get_ipython().InteractiveTB.tb = None
mine.kept = []; mine.load.cache_clear(); mine.Table.row.cache_clear(); logging.getLogger("shop").handlers.clear()
for name in [name for name in globals() if name not in KNOWN and name[:1] != "_"]: del globals()[name]
gc.collect();
"""
KNOWN = "COUNT = 0; KNOWN = {'name', 'KNOWN', *globals()};"
KINDS = {
    "a list": "x = [bytes(1000) for _ in range(1000)]",
    "a frame whose labels were looked up": (
        "x = pd.DataFrame({'v': 0.0}, index=[f'label {n} of mine' for n in range(5000)]); x.loc['label 7 of mine'];"
    ),
    "two names": "x = y = ARRAY()",
    "a name that is a keyword": "globals()['class'] = ARRAY()",
    "a name with a blank": "globals()['a b'] = ARRAY()",
    "a name that cannot be encoded": "globals()[b'caf\\xe9'.decode('utf-8', 'surrogateescape')] = ARRAY()",
    "a name that Python reads as another": "globals()['\N{LATIN SMALL LIGATURE FI}'] = ARRAY(); fi = 1",
    "a name that hides vars": "setattr(mine, 'a b', ARRAY()); vars = 1",
    "a name that hides globals": "globals()['class'] = ARRAY(); globals = 1",
    "a name that hides the outputs": [
        "ARRAY()",
        "number = max(_oh)\nOut = globals()[f'_{number}'] = _ = __ = ___ = get_ipython().displayhook._ = 1;",
    ],
    "a name that hides the shell": "get_ipython = 1\nARRAY()",
    "a module of another class": (
        "class Module(type(sys)):\n    def __delattr__(self, name): raise AttributeError(name)\n"
        "mine.__class__ = Module; mine.kept.append(ARRAY())"
    ),
    "a name that hides the collector": "gc = Node(); gc.itself = gc; gc.data = ARRAY()",
    "a name that hides sys": "sys = mine; mine.load(100_000); del mine",
    "bytes in a list": "x = bytes(1_000_000); rows = [x]",
    "text in a dict": "x = 'ä' * 500_000; rows = {x: 1}",
    "a frame": "df = pd.DataFrame({'a': np.arange(1e5), 'b': np.arange(1e5)})",
    "frames that share their columns": (
        "df = pd.DataFrame({'a': np.arange(1e5), 'b': np.arange(1e5)}); merged = df.assign(c=1.0); a = df['a']"
    ),
    "a view": "x = ARRAY(); view = x[10:20]",
    "a memoryview": "x = memoryview(bytearray(1_000_000))[10:]",
    "an array of objects": "x = np.array([bytes(1000) for _ in range(1000)], dtype=object)",
    "an array of objects that is in itself": "x = np.empty(2, dtype=object); x[0] = x; x[1] = ARRAY()",
    "an array of objects in a cycle": (
        "x = Node(); x.itself = x; x.data = np.array([bytes(1000) for _ in range(1000)], dtype=object)"
    ),
    "an instance": "x = Node(); x.data = ARRAY()",
    "a cycle": "x = Node(); x.itself = x; x.data = ARRAY()",
    "two cycles that share": ("x = Node(); x.itself = x; x.data = ARRAY(); y = Node(); y.itself = y; y.data = x.data"),
    "a class": "class Big: table = ARRAY()",
    "a class and its instance": "class Big: table = ARRAY()\nx = Big()",
    "a closure that calls itself": (
        "def again():\n    data = ARRAY()\n    def g(n): return g(n - 1) if n else data\n    return g\nx = again()"
    ),
    "a closure": "def make():\n    data = ARRAY()\n    return lambda: data\nx = make()",
    "a default argument": "def x(data=ARRAY()): pass",
    "a generator": "def numbers():\n    data = ARRAY()\n    yield data\nx = numbers(); next(x);",
    "a partial function": "x = functools.partial(print, ARRAY())",
    "a bound method": "x = Node(); x.data = ARRAY(); x = x.method",
    "a stream of bytes": "x = io.BytesIO(bytes(1_000_000))",
    "an exception in a variable": (
        "def broken():\n    data = ARRAY()\n    1 / 0\n"
        "try:\n    broken()\nexcept ZeroDivisionError as error:\n    x = error"
    ),
    "an output": ["x = ARRAY()\nx", "del x"],
    "an output and a variable": "x = ARRAY()\nx",
    "an output but two": ["ARRAY()", "1", "2"],
    "an underscore": "_ = ARRAY()",
    "an output shown twice": ["x = ARRAY()\nx", "x"],
    "a frame shown": "df = pd.DataFrame({'a': np.arange(1e5)})\ndf",
    "an output that is in a cycle": "x = Node(); x.itself = x; x.data = ARRAY()\nx",
    "the last traceback": "def broken():\n    data = ARRAY()\n    1 / 0\nbroken()",
    "the last traceback of a cell that awaited": "async def broken():\n    data = ARRAY()\n    1 / 0\nawait broken()",
    "the last traceback and a variable": "def broken(data):\n    1 / 0\nx = ARRAY(); broken(x)",
    "a traceback through a library": "x = pd.DataFrame({'a': np.arange(1e5)}); x.apply(lambda column: 1 / 0)",
    "an exception because of another": (
        "def broken():\n    data = ARRAY()\n    1 / 0\n"
        "try:\n    broken()\nexcept ZeroDivisionError as error:\n    raise ValueError from error"
    ),
    "an error and an exception of the same cell in a variable": (
        "def broken():\n    data = ARRAY()\n    1 / 0\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    x = error\n"
        "broken()"
    ),
    "an output that is an exception": (
        "def broken():\n    data = ARRAY()\n    1 / 0\n"
        "try:\n    broken()\nexcept ZeroDivisionError as error:\n    x = error\n"
        "x"
    ),
    "an output and an exception of the same cell": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    x = error\ny = ARRAY()\ny"
    ),
    "an output of a cell that left garbage": (
        "gc.disable()\ndef broken():\n    try: 1 / 0\n    except ZeroDivisionError as error: x = error\n"
        "    return sys._getframe()\nbroken()\nARRAY()"
    ),
    "a cache": "@functools.lru_cache\ndef load(n): return np.ones(n)\nload(100_000);",
    "a cache without a limit": "@functools.cache\ndef load(n): return np.ones(n)\nload(100_000);",
    "a cache whose cell ran again": [
        "@functools.lru_cache\ndef load(n): return np.ones(n)\nsteps = [load]; load(100_000);",
        "@functools.lru_cache\ndef load(n): return np.ones(n)",
    ],
    "a cache that has no name": (
        "def make():\n    return functools.cache(np.ones)\nsteps = [make()]; steps[0](100_000);"
    ),
    "a cache below a decorator": (
        "def plain(f):\n    @functools.wraps(f)\n    def call(*args): return f(*args)\n    return call\n"
        "@plain\n@functools.lru_cache\ndef load(n): return np.ones(n)\nload(100_000);"
    ),
    "a cache of a method": (
        "class Model:\n    @functools.lru_cache\n    def row(self, n): return np.ones(n)\n"
        "model = Model(); model.row(100_000);"
    ),
    "a cache of a static method": (
        "class Model:\n    @staticmethod\n    @functools.cache\n    def row(n): return np.ones(n)\nModel.row(100_000);"
    ),
    "a cache that keeps an instance": (
        "def make():\n    class Model:\n        def __init__(self): self.data = ARRAY()\n"
        "        @functools.lru_cache\n        def score(self): return 1\n    return Model\n"
        "Model = make(); model = Model(); model.score(); del model"
    ),
    "a cached result in a variable": "@functools.cache\ndef load(n): return np.ones(n)\nx = load(100_000)",
    "a cached property": (
        "class Model:\n    @functools.cached_property\n    def data(self): return ARRAY()\nx = Model(); x.data;"
    ),
    "a variable of a module": "mine.kept.append(ARRAY())",
    "a module that was never imported": (
        "x = type(sys)('made'); exec('def f(): return data', vars(x)); x.data = ARRAY()"
    ),
    "a module that was never imported in a list": (
        "x = [type(sys)('made')]; exec('def f(): return data', vars(x[0])); x[0].data = ARRAY()"
    ),
    "a variable imported from a module": "from mine import kept; kept.append(ARRAY())",
    "a module that the notebook does not know": "mine.kept.append(ARRAY()); del mine",
    "a module that was made by hand": "import types; x = types.ModuleType('made'); x.data = ARRAY()",
    "a module that was made by hand, in a list": (
        "import types; x = [types.ModuleType('made')]; x[0].data = ARRAY(); x[0].itself = x"
    ),
    "labels of groups": "x = pd.DataFrame({'g': np.arange(50_000) % 7, 'v': 1.0}).groupby('g'); x.mean();",
    "a merge by text": (
        "a = pd.DataFrame({'k': [f'key {i}' for i in range(5000)], 'v': 1.0}); b = a.copy(); x = a.merge(b, on='k')"
    ),
    "a task that has ended": (
        "import asyncio\nasync def work(): return ARRAY()\njob = asyncio.create_task(work()); await job;"
    ),
    "an async generator": "async def numbers():\n    data = ARRAY()\n    yield data\nx = numbers(); await anext(x);",
    "a thread-local": "import threading; x = threading.local(); x.data = ARRAY()",
    "a copied context": (
        "import contextvars; v = contextvars.ContextVar('v'); x = contextvars.copy_context(); x.run(v.set, ARRAY())"
    ),
    "a finalizer": (
        "import weakref; x = Node(); x.data = ARRAY(); f = weakref.finalize(x, print, 'gone'); f.atexit = False"
    ),
    "what weak references lead to": (
        "import weakref; x = Node(); x.data = ARRAY(); weak = weakref.WeakValueDictionary(k=x); one = weakref.ref(x)"
    ),
    "an element of a tree": (
        "from xml.etree import ElementTree as E; x = E.fromstring('<a>' + '<b c=\"d\"/>' * 5000 + '</a>')"
    ),
    "iterators": "x = iter([bytes(1000) for _ in range(1000)]); y = map(str, x)",
    "one artist of a figure": (
        "fig, ax = plt.subplots(); x, = ax.plot(np.arange(100_000.)); plt.close(fig); del fig, ax"
    ),
    "a masked array": "x = np.ma.masked_array(ARRAY(), mask=np.zeros(100_000, bool)); y = x.mask",
    "an instance whose class answers nothing": (
        "class Mute:\n    def __eq__(self, other): raise ValueError\n    def __hash__(self): return 1\n"
        "    def __getattr__(self, name): raise RuntimeError\nx = Mute(); x.__dict__['data'] = ARRAY()"
    ),
    "a cache of a module": "mine.load(100_000);",
    "a cache imported from a module": "from mine import load; load(100_000);",
    "a cache of a module that the notebook does not know": "mine.load(100_000); del mine",
    "a cache of a method of a module": "mine.Table().row(100_000);",
    "a figure": "fig = plt.figure(); fig.gca().plot(np.arange(100_000.));",
    "a figure without a name": "plt.plot(np.arange(100_000.), np.arange(100_000.));",
    "a figure that was closed": "fig = plt.figure(); fig.gca().plot(np.arange(100_000.)); plt.close(fig)",
    "figures": "for _ in range(3): plt.figure(); plt.plot(np.arange(100_000.))",
    "garbage": "gc.disable()\nx = Node(); x.itself = x; x.data = ARRAY(); del x",
    "a thread's result": "with ThreadPoolExecutor(1) as pool: x = pool.submit(np.ones, 100_000)",
    "a pool that is idle": "pool = ThreadPoolExecutor(1); x = pool.submit(np.ones, 100_000); x.result();",
    "captured output": "%%capture x\nprint('y' * 1_000_000)",
    "a logger of a library": (
        "log = logging.getLogger('shop'); log.addHandler(logging.NullHandler()); log.handlers[0].data = ARRAY()"
    ),
}
if find_spec("pyarrow") and find_spec("polars"):
    KINDS |= {
        "a table of Arrow": "x = pa.table({'a': pa.compute.add(ARRAY(), 1)})",
        "a table of Arrow that is shown": "x = pa.table({'a': pa.compute.add(ARRAY(), 1)})\nx",
        "a table of Arrow and a slice of it": "x = pa.table({'a': pa.compute.add(ARRAY(), 1)}); part = x.slice(10, 20)",
        "two names for a table of Arrow": "x = y = pa.table({'a': pa.compute.add(ARRAY(), 1)})",
        "a table of Arrow in a cycle": "x = Node(); x.itself = x; x.data = pa.table({'a': pa.compute.add(ARRAY(), 1)})",
        "an array over a table of Arrow": "x = pa.table({'a': pa.compute.add(ARRAY(), 1)})['a'].chunk(0).to_numpy()",
        "a frame of text in Arrow": (
            "x = pd.DataFrame({'s': pd.array([f'text {n}' for n in range(50_000)], dtype='string[pyarrow]')})"
        ),
        "a reader of a table of Arrow": "x = pa.table({'a': pa.compute.add(ARRAY(), 1)}); y = x.to_reader()",
        "a frame of Polars": "x = pl.DataFrame({'a': range(100_000)})",
        "a frame of Polars and a lazy one": "x = pl.DataFrame({'a': range(100_000)}); y = x.lazy()",
    }
NOTHING_TO_SAY = {
    "a logger of a library",
    "an output of a cell that left garbage",
    "an array of objects that is in itself",
}


def cells(kind: str) -> list[str]:
    first, *others = [KINDS[kind]] if isinstance(KINDS[kind], str) else KINDS[kind]
    capture, _, rest = first.rpartition("%%capture x\n")
    magic = f"{capture}%%capture x\n" if capture or first.startswith("%%") else ""
    prelude = "class Node:\n    def method(self): pass\n    def __repr__(self): return 'node'"
    return [prelude, f"{magic}%thag_task t -q\n{rest}", *others]


TOLD = """
told = lines() if {number} < max(COUNT, 1) else []
COUNT = max(COUNT, len(told))
line, held_bytes = (told[{number}]["released_by"], told[{number}]["held_bytes"]) if {number} < len(told) else ("", 0)
before = live()
"""
MOST = 3  # lines for one of the kinds


@pytest.fixture(scope="module")
def executed() -> dict[str, list[Any]]:
    """For each line printed: what went wrong, itself, the size beside it, and how many of how many bytes fell."""
    sources, places = [START, KNOWN], {}
    for kind in KINDS:
        sources.append("COUNT = 0")
        for number in range(MOST):
            sources += [*cells(kind), TOLD.format(number=number), "print(line)", PASTED]
            sources += ["print(json.dumps([line, held_bytes, before - live(), before, COUNT]))", FORGET]
            places[kind, number] = len(sources) - 2
    shown = run(*sources, seconds=120)
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for (kind, _), place in places.items():
        errors = [shown[place + beside].error for beside in (-3, -1, 0, 1)]
        found[kind].append((errors, value(shown[place]) if shown[place].text else None))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_line_frees_what_it_says(executed, kind):
    share = 0.0
    for errors, answer in executed[kind]:
        assert errors == [None] * 4
        line, held_bytes, fell, before, count = answer
        assert count <= MOST
        assert fell >= 0.9 * held_bytes, (line, held_bytes, fell)
        share += held_bytes / before
    assert share > 0.2 or kind in NOTHING_TO_SAY
