"""The workloads: programs that allocate in different ways, each with one number that says how much of it to run.

A workload imports what it needs itself, so that a tool that is already on sees these imports too, and returns a small
value that must be the same whichever tool is watching.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple


class Workload(NamedTuple):
    """Something to run: `run(size)`, where the unit of `size` is the workload's own."""

    run: Callable[[int], object]
    size: int
    packages: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The packages it needs that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]


def _pyperformance(name: str) -> Any:
    """pyperformance's own benchmark file, as a module; the benchmarks are data of that package, not modules of it."""
    package = find_spec("pyperformance")
    if package is None or package.submodule_search_locations is None:
        raise ModuleNotFoundError("pyperformance is not installed")
    folder = Path(package.submodule_search_locations[0], "data-files", "benchmarks", f"bm_{name}")
    spec = spec_from_file_location(f"bm_{name}", folder / "run_benchmark.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _async_tree(variant: str, runs: int) -> object:
    import asyncio
    import random

    module = _pyperformance("async_tree")
    # A generator of its own: a tool that draws from the shared one would change what is measured.
    module.random = random.Random()
    tree = module.BENCHMARKS[variant]()
    for _ in range(runs):
        asyncio.run(tree.run())
    # The next random number tells how many were drawn.
    return sorted(tree.cache), module.random.random()


def async_tree_none(runs: int) -> object:
    return _async_tree("none", runs)


def async_tree_memo(runs: int) -> object:
    return _async_tree("memoization", runs)


def mdp(rounds: int) -> object:
    battle = _pyperformance("mdp").Battle
    # What bench_mdp does, which checks the value and returns only the time.
    return [battle().evaluate(0.192) for _ in range(rounds)]


def fannkuch(elements: int) -> object:
    return _pyperformance("fannkuch").fannkuch(elements)


def pprint(items: int) -> object:
    module = _pyperformance("pprint")
    return _checksum(module.p.pformat(module.printable[:items]))


def raytrace(images: int) -> object:
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(suffix=".ppm") as file:
        _pyperformance("raytrace").bench_raytrace(images, 100, 100, file.name)
        return zlib.crc32(file.read())


def json_dumps(rounds: int) -> object:
    import json

    module = _pyperformance("json_dumps")
    cases = [getattr(module, case) for case in module.CASES]
    data = [(value, range(count)) for value, count in cases]
    for _ in range(rounds):
        module.bench_json_dumps(data)
    return [_checksum(json.dumps(value)) for value, _ in cases]


def small_objs(rounds: int) -> object:
    for _ in range(rounds):
        objects = [(i, str(i), {"a": i}) for i in range(150_000)]
    return len(objects), objects[-1]


def numpy_temps(rounds: int) -> object:
    import numpy as np

    a = np.arange(200_000, dtype=np.float64)
    for _ in range(rounds):
        b = a * 2 + 1
        total = b.sum()
    return float(total)


def numpy_small(rounds: int) -> object:
    import numpy as np

    a = np.arange(64, dtype=np.float64)
    for _ in range(rounds):
        b = a + 1
    return b.tolist()


def pandas_gb(rounds: int) -> object:
    import numpy as np
    import pandas as pd

    rows = np.arange(1_000_000)
    frame = pd.DataFrame({"key": rows % 1_000, "value": rows.astype(np.float64)})
    for _ in range(rounds):
        totals = frame.groupby("key", as_index=False)["value"].sum()
        merged = frame.merge(totals, on="key", suffixes=("", "_total"))
    # Whole numbers below 2**53: the sum does not depend on its order.
    return merged.shape, float(merged["value_total"].sum())


def threads4(rounds: int) -> object:
    from threading import Thread

    made: list[object] = []

    def work() -> None:
        for _ in range(rounds):
            objects = [(i, str(i)) for i in range(150_000)]
        made.append((len(objects), objects[-1]))

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


_PYPERFORMANCE = ("pyperformance", "pyperf")

WORKLOADS = {
    "async_tree_none": Workload(async_tree_none, 2, _PYPERFORMANCE),
    "async_tree_memo": Workload(async_tree_memo, 2, _PYPERFORMANCE),
    "mdp": Workload(mdp, 1, _PYPERFORMANCE),
    "fannkuch": Workload(fannkuch, 9, _PYPERFORMANCE),
    "pprint": Workload(pprint, 40_000, _PYPERFORMANCE),
    "raytrace": Workload(raytrace, 3, _PYPERFORMANCE),
    "json_dumps": Workload(json_dumps, 60, _PYPERFORMANCE),
    "small_objs": Workload(small_objs, 8),
    "numpy_temps": Workload(numpy_temps, 1_500, ("numpy",)),
    "numpy_small": Workload(numpy_small, 700_000, ("numpy",)),
    "pandas_gb": Workload(pandas_gb, 8, ("numpy", "pandas")),
    "threads4": Workload(threads4, 2),
}
QUICK = ("small_objs", "numpy_temps", "fannkuch", "async_tree_none")
