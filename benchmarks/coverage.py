"""``python -m benchmarks.coverage``: how much of a cell's memory is seen, with the native domain and without.

One process for each cell and look: the peak that a task has, without the native domain and with it, and memray's
high-water mark of the same work. memray sees each call of the C library that Python and its libraries make, but not
into allocators that stand between: so in its process Python's objects and Arrow's buffers are had from malloc. Where
that makes Arrow copy what it would have moved, its pool's own mark is the truth. Polars and DuckDB have jemalloc
compiled in, whose address space memray sees: that is no truth, and no share is told. Cells whose packages are not
installed are left out.

``--cost`` measures what it takes instead: the CPU time of the cells, the lowest of several processes that take turns,
bare, recorded without the native domain, and with it, and the core's own memory after each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from benchmarks import machine

PYTHON_ONLY, NATIVE, MEMRAY, BARE = "python", "native", "memray", "bare"
LOOKS = (PYTHON_ONLY, NATIVE, MEMRAY)
COSTS = (BARE, PYTHON_ONLY, NATIVE)
_MIB = 1 << 20


class Cell(NamedTuple):
    """What a cell of a notebook does: `prepare` before the look begins, and then `work`, whose result is kept."""

    packages: tuple[str, ...]
    prepare: str
    work: str
    brings_allocator: bool = False
    counts_itself: bool = False  # Arrow's pool knows how much it had out at once


_TEXT = "text = 'key,name,value\\n' + ''.join(f'{i % 977},a name {i},{i / 7}\\n' for i in range(300_000))"
CELLS = {
    "pandas read_csv": Cell(("pandas",), f"import io, pandas; {_TEXT}", "pandas.read_csv(io.StringIO(text))"),
    "pandas read_csv by pyarrow": Cell(
        ("pandas", "pyarrow"),
        f"import io, pandas; {_TEXT}; few = text[:100_000].rsplit('\\n', 1)[0]\n"
        "pandas.read_csv(io.BytesIO(few.encode()), engine='pyarrow')",
        "pandas.read_csv(io.BytesIO(text.encode()), engine='pyarrow')",
    ),
    "pandas merge on text": Cell(
        ("pandas",),
        "import numpy as n, pandas; k = n.array([f'key {i}' for i in range(200_000)])\n"
        "one, other = pandas.DataFrame({'k': k, 'v': 1}), pandas.DataFrame({'k': k[::-1], 'w': 2})",
        "one.merge(other, on='k')",
    ),
    "pandas groupby": Cell(
        ("pandas",),
        "import numpy as n, pandas; frame = pandas.DataFrame({'k': n.arange(1_000_000) % 977, 'v': n.ones(1_000_000)})",
        "frame.groupby('k').v.agg(['sum', 'mean'])",
    ),
    "numpy svd": Cell(("numpy",), "import numpy; a = numpy.random.rand(800, 800)", "numpy.linalg.svd(a)"),
    "scipy sparse": Cell(
        ("scipy",),
        "import scipy.sparse; a = scipy.sparse.random(20_000, 20_000, density=1e-3, format='csr', random_state=0)",
        "(a @ a, a.T.tocsr())",
    ),
    "scikit-learn forest": Cell(
        ("sklearn",),
        "import numpy; from sklearn.ensemble import RandomForestClassifier as Forest\n"
        "x, y = numpy.random.rand(20_000, 10), numpy.random.randint(0, 2, 20_000)\n"
        "Forest(n_estimators=1).fit(x[:100], y[:100])",
        "Forest(n_estimators=20).fit(x, y)",
    ),
    "lxml": Cell(
        ("lxml",),
        "from lxml import etree; page = b'<r>' + b'<a x=\"1\">text</a>' * 300_000 + b'</r>'",
        "etree.fromstring(page)",
    ),
    "Pillow": Cell(
        ("PIL",), "from PIL import Image; picture = Image.new('RGB', (4000, 3000))", "picture.resize((3000, 2000))"
    ),
    "sqlite3": Cell(
        (),
        "import sqlite3; base = sqlite3.connect(':memory:'); base.execute('create table t(a, b)')\n"
        "rows = [(i, 'x' * 50) for i in range(200_000)]",
        "base.executemany('insert into t values(?, ?)', rows)",
    ),
    "h5py": Cell(
        ("h5py",),
        "import h5py, numpy, tempfile; path = tempfile.mktemp(); a = numpy.random.rand(2_000_000)",
        "h5py.File(path, 'w').create_dataset('a', data=a, compression='gzip')",
    ),
    "matplotlib savefig": Cell(
        ("matplotlib",),
        "import io, matplotlib, numpy; matplotlib.use('agg'); import matplotlib.pyplot as plt\n"
        "figure, axes = plt.subplots(); axes.plot(numpy.random.rand(100_000))",
        "figure.savefig(io.BytesIO(), dpi=200)",
    ),
    "json": Cell(
        (),
        "import json; text = json.dumps([{'key': i, 'name': f'name {i}'} for i in range(200_000)])",
        "json.loads(text)",
    ),
    "zlib": Cell((), "import os, zlib; text = os.urandom(20_000_000)", "zlib.compress(text)"),
    "pyarrow compute": Cell(
        ("pyarrow",),
        "import numpy, pyarrow, pyarrow.compute; a = pyarrow.array(numpy.arange(2_000_000))",
        "pyarrow.compute.sort_indices(pyarrow.compute.multiply(a, 3))",
    ),
    "pyarrow parquet": Cell(
        ("pyarrow",),
        "import numpy, pyarrow, pyarrow.parquet as q, tempfile; path = tempfile.mktemp()\n"
        "pyarrow.set_cpu_count(1); pyarrow.set_io_thread_count(1)  # else each run has a peak of its own\n"
        "q.write_table(pyarrow.table({'a': numpy.random.rand(2_000_000), 'b': ['text'] * 2_000_000}), path)",
        "q.read_table(path)",
        counts_itself=True,
    ),
    "scikit-learn PCA": Cell(
        ("sklearn",),
        "import numpy; from sklearn.decomposition import PCA; x = numpy.random.rand(20_000, 100)\n"
        "PCA(5).fit_transform(x[:500])",
        "PCA(5).fit_transform(x)",
    ),
    "torch training step": Cell(
        ("torch",),
        "import torch; from torch.nn import Linear, ReLU, Sequential\n"
        "net = Sequential(Linear(1000, 1000), ReLU(), Linear(1000, 10))\n"
        "x = torch.randn(5000, 1000); net(x[:10]).sum().backward()",
        "net(x).sum().backward()",
    ),
    "Polars group_by": Cell(
        ("polars",),
        "import numpy, polars; f = polars.DataFrame({'k': numpy.arange(2_000_000) % 977, 'v': numpy.ones(2_000_000)})",
        "f.sort('k').group_by('k').agg(polars.col('v').sum())",
        brings_allocator=True,
    ),
    "DuckDB order by": Cell(
        ("duckdb",),
        "import duckdb; base = duckdb.connect()",
        "base.execute('create or replace table t as select i, hash(i) h from range(2000000) r(i) order by h')",
        brings_allocator=True,
    ),
}


class Seen(NamedTuple):
    """Bytes at the peak, and kept at the end; memray tells the peak alone."""

    peak: int
    kept: int


# ---- in the process of one look ----


def _in_a_task(work: Callable[[], None], native: bool) -> Seen:
    import thag_nb

    thag_nb.start(native=native)
    with thag_nb.task("cell"):
        work()
    record = thag_nb.read().find("cell")
    return Seen(record.peak_bytes, record.live_bytes)


def _by_arrow(work: Callable[[], None]) -> Seen:
    import pyarrow

    pool = pyarrow.default_memory_pool()
    before = pool.bytes_allocated()
    work()
    return Seen(pool.max_memory() - before, pool.bytes_allocated() - before)


def _by_memray(work: Callable[[], None]) -> Seen:
    from memray import FileReader, Tracker

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cell"
        with Tracker(path):
            work()
        return Seen(FileReader(path).metadata.peak_memory, 0)


class Cost(NamedTuple):
    """CPU time of the process while the cell ran, of all its threads, and the core's own memory."""

    cpu_s: float
    overhead_bytes: int


def _prepared(name: str) -> tuple[CodeType, dict[str, object]]:
    cell = CELLS[name]
    names: dict[str, object] = {}
    exec(cell.prepare, names)
    return compile(f"kept = {cell.work}", name, "exec"), names


def cost(name: str, how: str) -> Cost:
    """What the cell takes, in this process, when it runs for the second time."""
    work, names = _prepared(name)
    exec(work, names)
    if how == BARE:
        before = time.process_time()
        exec(work, names)
        return Cost(time.process_time() - before, 0)
    import thag_nb

    thag_nb.start(native=how == NATIVE)
    with thag_nb.task("cell"):
        before = time.process_time()
        exec(work, names)
        cpu_s = time.process_time() - before
    return Cost(cpu_s, thag_nb.read().overhead_bytes)


def look(name: str, how: str) -> Seen:
    """What is seen of the cell, in this process."""
    work, names = _prepared(name)
    if how == MEMRAY and CELLS[name].counts_itself:
        return _by_arrow(lambda: exec(work, names))
    if how == MEMRAY:
        return _by_memray(lambda: exec(work, names))
    return _in_a_task(lambda: exec(work, names), how == NATIVE)


# ---- all of them ----


def _environment(name: str, how: str) -> dict[str, str]:
    if how != MEMRAY or CELLS[name].counts_itself:
        return {}
    return {"PYTHONMALLOC": "malloc", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def _in_a_process(option: str, name: str, how: str) -> list[float] | None:
    """None if it fails."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.coverage", option, name, how],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **_environment(name, how)},
    )
    if result.returncode:
        print(f"{name}, {how}: {result.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    figures: list[float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def _look_in_a_process(name: str, how: str) -> Seen | None:
    figures = _in_a_process("--look", name, how)
    return None if figures is None else Seen(int(figures[0]), int(figures[1]))


def costs_row(name: str, repetitions: int) -> str:
    """A line of the table of costs: ratios to bare."""
    lowest: dict[str, list[float]] = {}
    for _ in range(repetitions):
        for how in COSTS:
            figures = _in_a_process("--cost-of", name, how)
            if figures is None:
                return f"| {name} |  |  |  |  |"
            lowest[how] = min(lowest.get(how, figures), figures)
    bare = lowest[BARE][0]
    ratios = [f"{lowest[how][0] / bare:.2f}" for how in (PYTHON_ONLY, NATIVE)]
    tables = [f"{lowest[how][1] / _MIB:.1f}" for how in (PYTHON_ONLY, NATIVE)]
    return f"| {name} | {bare * 1000:.0f} | {ratios[0]} | {ratios[1]} | {tables[0]} | {tables[1]} |"


def _mib(seen: Seen | None) -> str:
    return "" if seen is None else f"{seen.peak / _MIB:.1f}"


def row(name: str, looks: dict[str, Seen | None]) -> str:
    """A line of the table. The share is left out where memray's mark is no truth."""
    native, truth = looks[NATIVE], looks[MEMRAY]
    share = ""
    if native is not None and truth is not None and truth.peak > 0 and not CELLS[name].brings_allocator:
        share = f"{native.peak / truth.peak:.1%}"
    return f"| {name} | {_mib(looks[PYTHON_ONLY])} | {_mib(native)} | {_mib(truth)} | {share} |"


COSTS_HEAD = (
    "| cell | bare, ms of CPU | recorded | with native | core's memory, MiB | with native |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: |"
)
HEAD = (
    "| cell | Python's, MiB | with native, MiB | memray or the pool itself, MiB | share |\n"
    "| --- | ---: | ---: | ---: | ---: |"
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--look", nargs=2, metavar=("CELL", "LOOK"), help=argparse.SUPPRESS)
    parser.add_argument("--cost-of", nargs=2, metavar=("CELL", "HOW"), help=argparse.SUPPRESS)
    parser.add_argument("--cost", action="store_true", help="measure what it takes, not what is seen")
    parser.add_argument("--repetitions", type=int, default=7, help="processes of each kind, for --cost (default: 7)")
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"some of {', '.join(CELLS)} (default: all)")
    options = parser.parse_args(arguments)
    if options.look:
        print(json.dumps(look(*options.look)))
        return
    if options.cost_of:
        print(json.dumps(cost(*options.cost_of)))
        return
    unknown = [name for name in options.cells if name not in CELLS]
    if unknown:
        parser.error(f"there is no cell {unknown[0]!r}; name some of {', '.join(CELLS)}")
    print(COSTS_HEAD if options.cost else HEAD)
    for name in options.cells or CELLS:
        missing = [package for package in CELLS[name].packages if find_spec(package) is None]
        if missing:
            print(f"{name}: {missing[0]} is not installed", file=sys.stderr)
            continue
        if options.cost:
            print(costs_row(name, options.repetitions), flush=True)
        else:
            print(row(name, {how: _look_in_a_process(name, how) for how in LOOKS}), flush=True)
    print(f"\n{machine.describe()}")


if __name__ == "__main__":
    main()
