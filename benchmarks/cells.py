"""``python -m benchmarks.cells``: how long a cell takes in a real kernel, bare and with the extension.

From sending the request until the kernel has answered and is idle again, as a notebook waits for it. Both kernels live
side by side and take turns, and each round is a new pair of them: the first figure in a kernel is not like later ones.
The extension is a wheel of the checkout's, as users have it (see environment.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from statistics import median, quantiles
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

from benchmarks import environment, machine

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient
    from jupyter_client.manager import KernelManager

_NO_HISTORY = "--HistoryManager.hist_file=:memory:"
_WARM_UP = 5
BARE, LOADED = "pass, bare kernel", "pass, extension loaded"
FIRST, LATER = "%%thag_task x of 5 MiB, the first with its figure", "%%thag_task x of 5 MiB, later ones with theirs"
SMALL = "%%thag_task x of a few bytes, without a figure"
KINDS = (BARE, LOADED, SMALL, FIRST, LATER)


def _kernel_manager(python: str) -> KernelManager:
    """Of kernels of this interpreter, whatever is installed elsewhere, that leave the user's history alone."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import KernelManager

    class OfThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}", _NO_HISTORY]
            return KernelSpec(argv=command, display_name=kernel_name, language="python")

    return KernelManager(kernel_name="python3", kernel_spec_manager=OfThisPython())


@contextmanager
def kernel() -> Generator[BlockingKernelClient]:
    """A client of a new kernel."""
    where = environment.lent()
    manager = _kernel_manager(where.python)
    variables = environment.children_variables()
    manager.start_kernel(cwd=str(where.program), env=variables, stdout=DEVNULL, stderr=DEVNULL)
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client: BlockingKernelClient, source: str) -> tuple[float, list[str]]:
    """Milliseconds that a cell took, and the kinds of the messages it sent. Raises `RuntimeError` if it fails."""
    kinds: list[str] = []
    began = time.perf_counter()
    reply = client.execute_interactive(
        source, timeout=120, output_hook=lambda message: kinds.append(message["msg_type"])
    )
    milliseconds = (time.perf_counter() - began) * 1e3
    if reply["content"]["status"] != "ok":
        raise RuntimeError(f"{source!r} failed: {reply['content']['evalue']}")
    return milliseconds, kinds


def printed(client: BlockingKernelClient, source: str) -> str:
    """What a cell printed. Raises `RuntimeError` if it fails."""
    texts: list[str] = []

    def keep(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    reply = client.execute_interactive(source, timeout=120, output_hook=keep)
    if reply["content"]["status"] != "ok":
        raise RuntimeError(f"{source!r} failed: {reply['content']['evalue']}")
    return "".join(texts)


def measure(kernels: int, cells: int) -> dict[str, list[float]]:
    """Milliseconds of each kind of cell: so many in each pair of so many new kernels."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(kernels):
        with ExitStack() as stack:
            bare, loaded = (stack.enter_context(kernel()) for _ in range(2))
            run(loaded, "%load_ext thag_nb")
            _round(bare, loaded, cells, times)
    return times


def _round(bare: BlockingKernelClient, loaded: BlockingKernelClient, cells: int, times: dict[str, list[float]]) -> None:
    for client in (bare, loaded):
        for _ in range(_WARM_UP):
            run(client, "pass")
    times[FIRST].append(_figure(loaded))
    for _ in range(cells):
        times[BARE].append(run(bare, "pass")[0])
        times[LOADED].append(run(loaded, "pass")[0])
        times[SMALL].append(run(loaded, "%%thag_task x\npass")[0])
        times[LATER].append(_figure(loaded))


def _figure(loaded: BlockingKernelClient) -> float:
    milliseconds, kinds = run(loaded, "%%thag_task x\nblock = bytearray(5 << 20)")
    assert "update_display_data" in kinds, kinds  # the line comes first, and the figure into its place
    return milliseconds


def markdown(times: dict[str, list[float]]) -> str:
    """A row for each kind of cell."""
    rows = ["| cell | ms, median | middle half | lowest | cells |", "| --- | ---: | ---: | ---: | ---: |"]
    rows += [f"| {kind} | {_spread(values)} | {len(values)} |" for kind, values in times.items()]
    return "\n".join(rows)


def _spread(values: Sequence[float]) -> str:
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return f"{median(values):.1f} | {low:.1f}-{high:.1f} | {min(values):.1f}"


def missing() -> list[str]:
    """The packages it needs that are not installed."""
    return [package for package in ("ipykernel", "jupyter_client") if find_spec(package) is None]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    parser.add_argument("--kernels", type=int, default=5, metavar="N", help="pairs of kernels (default 5)")
    parser.add_argument("--cells", type=int, default=40, metavar="N", help="cells of each kind in each (default 40)")
    options = parser.parse_args(arguments)
    if missing():
        sys.exit(f"pip install '.[bench]' is needed for {', '.join(missing())}.")
    print(markdown(measure(options.kernels, options.cells)))
    print(f"\n{machine.describe(environment.lent().python, packages=['ipykernel', 'ipython', 'matplotlib'])}")


if __name__ == "__main__":
    main()
