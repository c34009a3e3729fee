"""The workloads: programs that allocate in different ways, each with one number that says how much of it to run.

A workload imports what it needs itself, so that a tool that is already on sees these imports too, and returns a small
value that must be the same whichever tool is watching. Each takes between a third of a second and one and a half, so
that what a start costs, which `nothing` shows alone, weighs little in the others; for the same reason those that are
written here hold some tens of megabytes.

This module itself imports next to nothing: what bare Python had loaded for it would be left out of a tool's cost.
"""

from __future__ import annotations

import zlib

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Workload:
    """Something to run: `run(size)`, where the unit of `size` is the workload's own."""

    def __init__(self, run: Callable[[int], object], size: int, packages: tuple[str, ...] = ()) -> None:
        self.run = run
        self.size = size
        self.packages = packages

    def missing(self) -> list[str]:
        """The packages it needs that are not installed."""
        from importlib.util import find_spec

        return [package for package in self.packages if find_spec(package) is None]


def _pyperformance(name: str) -> Any:
    """pyperformance's own benchmark file, as a module; the benchmarks are data of that package, not modules of it."""
    from importlib.util import find_spec, module_from_spec, spec_from_file_location
    from pathlib import Path

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


def nothing(_: int) -> object:
    """A start and an end: what a tool costs before anything is done under it."""
    return None


def async_tree_none(runs: int) -> object:
    return _async_tree("none", runs)


def async_tree_memo(runs: int) -> object:
    return _async_tree("memoization", runs)


def mdp(rounds: int) -> object:
    battle = _pyperformance("mdp").Battle
    # As bench_mdp, which returns only the time, but with a tolerance that takes a quarter of it.
    return [battle().evaluate(0.5) for _ in range(rounds)]


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


def telco(rounds: int) -> object:
    module = _pyperformance("telco")
    module.bench_telco(rounds, module.rel_path("data", "telco-bench.b"))
    return str(module.getcontext().rounding)


def json_dumps(rounds: int) -> object:
    import json

    module = _pyperformance("json_dumps")
    cases = [getattr(module, case) for case in module.CASES]
    data = [(value, range(count)) for value, count in cases]
    for _ in range(rounds):
        module.bench_json_dumps(data)
    return [_checksum(json.dumps(value)) for value, _ in cases]


def json_loads(rounds: int) -> object:
    import json

    text = json.dumps(_records(20_000))
    for _ in range(rounds):
        loaded = json.loads(text)
    return len(loaded), loaded[-1]


def deepcopy(rounds: int) -> object:
    import copy

    document = _records(20_000)
    for _ in range(rounds):
        copied = copy.deepcopy(document)
    return copied == document


def csv_rows(rounds: int) -> object:
    import csv
    import io
    from collections import defaultdict

    file = io.StringIO()
    writer = csv.DictWriter(file, ("id", "name", "price", "tags"))
    writer.writeheader()
    writer.writerows(_records(30_000))
    for _ in range(rounds):
        file.seek(0)
        prices = defaultdict(list)
        for row in csv.DictReader(file):
            prices[row["id"][-1]].append(float(row["price"]))
    return [(digit, sum(group)) for digit, group in sorted(prices.items())][:3]


def words(rounds: int) -> object:
    import re
    from collections import Counter

    text = " ".join(f"{'aeiou'[i % 5]}{i * 7919 % 5003:x}, The" for i in range(100_000))
    for _ in range(rounds):
        counted = Counter(word.lower() for word in re.findall(r"\w+", text))
    return counted.most_common(3)


def growing(rounds: int) -> object:
    """Things that grow in place, as long as they can: realloc."""
    for _ in range(rounds):
        numbers: list[float] = []
        places: dict[str, int] = {}
        data = bytearray()
        for i in range(200_000):
            numbers.append(i / 2)
            places[str(i)] = i
            data += b"0123456789abcdef"
    return len(numbers), len(places), len(data)


def cycles(rounds: int) -> object:
    """Trees whose nodes know their parents, so that only the collector frees them."""
    import gc

    class Node:
        def __init__(self, parent: Node | None, depth: int) -> None:
            self.parent = parent
            self.children = [Node(self, depth - 1) for _ in range(4)] if depth else []

        def count(self) -> int:
            return 1 + sum(child.count() for child in self.children)

    for _ in range(rounds):
        count = Node(None, 8).count()
        gc.collect()  # or how many trees there are at once would depend on what else the tool has made
    return count


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


def pandas_rows(rounds: int) -> object:
    import pandas as pd

    frame = pd.DataFrame(_records(20_000))
    for _ in range(rounds):
        endings = frame["name"].map(lambda name: name[-1])
        discounted = frame.apply(lambda row: row["price"] * 0.9 if row["id"] % 2 else row["price"], axis=1)
        rows = [tuple(row) for row in frame.itertuples(index=False)]
    return endings.nunique(), float(discounted.sum()), len(rows)


def pool_arrays(rounds: int) -> object:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    def smoothed(seed: int) -> float:
        signal = np.arange(20_000, dtype=np.float64) % (seed + 2)
        for _ in range(20):
            signal = (signal[1:] + signal[:-1]) / 2
        return float(signal.sum())

    with ThreadPoolExecutor(4) as pool:
        for _ in range(rounds):
            sums = list(pool.map(smoothed, range(100)))
    return sums[:3]


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


def _records(count: int) -> list[dict[str, Any]]:
    """Rows as they come out of a service."""
    return [
        {"id": i, "name": f"item {i}", "price": i * 7 % 1000 / 10, "tags": ["a", f"t{i % 9}"]} for i in range(count)
    ]


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


_PYPERFORMANCE = ("pyperformance", "pyperf")

START = "nothing"
WORKLOADS = {
    START: Workload(nothing, 1),
    "async_tree_none": Workload(async_tree_none, 1, _PYPERFORMANCE),
    "async_tree_memo": Workload(async_tree_memo, 1, _PYPERFORMANCE),
    "mdp": Workload(mdp, 1, _PYPERFORMANCE),
    "fannkuch": Workload(fannkuch, 9, _PYPERFORMANCE),
    "pprint": Workload(pprint, 30_000, _PYPERFORMANCE),
    "raytrace": Workload(raytrace, 2, _PYPERFORMANCE),
    "telco": Workload(telco, 50, _PYPERFORMANCE),
    "json_dumps": Workload(json_dumps, 40, _PYPERFORMANCE),
    "json_loads": Workload(json_loads, 20),
    "deepcopy": Workload(deepcopy, 9),
    "csv_rows": Workload(csv_rows, 12),
    "words": Workload(words, 8),
    "growing": Workload(growing, 8),
    "cycles": Workload(cycles, 5),
    "small_objs": Workload(small_objs, 4),
    "numpy_temps": Workload(numpy_temps, 2_000, ("numpy",)),
    "numpy_small": Workload(numpy_small, 700_000, ("numpy",)),
    "pandas_gb": Workload(pandas_gb, 6, ("numpy", "pandas")),
    "pandas_rows": Workload(pandas_rows, 3, ("pandas",)),
    "pool_arrays": Workload(pool_arrays, 7, ("numpy",)),
    "threads4": Workload(threads4, 4),
}
QUICK = (START, "small_objs", "numpy_temps", "fannkuch", "async_tree_none")
