"""Real Jupyter kernels, driven cell by cell."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[2]


class ThisPython(KernelSpecManager):
    """Knows one kernel: the interpreter that runs the tests, whatever is installed elsewhere."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


@dataclass
class Cell:
    """What a cell showed."""

    texts: list[str] = field(default_factory=list)
    displays: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    traceback: str = ""

    @property
    def text(self) -> str:
        return "".join(self.texts)


def run(*sources: str | tuple[str, str], allow_errors: bool = True) -> list[Cell]:
    """Run the cells in a fresh kernel; without `allow_errors`, stop at the first that fails, as Run All does.

    A source may come with the id of its cell, as a front end sends it: two sources of one id are one cell, edited.

    The client has threads of its own, so it runs in a process of its own: this one counts what its threads allocate.
    """
    notebook = nbformat.v4.new_notebook(cells=[_code_cell(source) for source in sources])
    command = [sys.executable, __file__, "--allow-errors" if allow_errors else "--stop-at-errors"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    source = nbformat.writes(notebook)
    client = subprocess.run(
        command, input=source, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert client.returncode == 0, client.stderr
    return [_cell(cell) for cell in nbformat.reads(client.stdout, as_version=4).cells]


def _code_cell(source: str | tuple[str, str]) -> Any:
    if isinstance(source, str):
        return nbformat.v4.new_code_cell(source)
    cell_id, code = source
    return nbformat.v4.new_code_cell(code, metadata={"cellId": cell_id})  # the ids of nbformat must be unique


def execute() -> None:
    """Run the notebook on standard input, and write it with its outputs to standard output."""
    notebook = nbformat.reads(sys.stdin.read(), as_version=4)
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client = NotebookClient(notebook, km=manager, allow_errors="--allow-errors" in sys.argv, timeout=300)
    client.on_cell_execute = lambda cell, **_: setattr(client.kc.session, "metadata", _identity(cell))
    with contextlib.suppress(CellExecutionError):  # the cells after it have no outputs, which is what tests look at
        client.execute()
    print(nbformat.writes(notebook))


def _identity(cell: Any) -> dict[str, Any]:
    """The metadata of a request to run a cell."""
    return {name: cell.metadata[name] for name in ("cellId",) if name in cell.metadata}


def _cell(source: Any) -> Cell:
    cell = Cell()
    for output in source.outputs:
        if output.output_type == "stream":
            cell.texts.append(output.text)
        elif output.output_type == "error":
            cell.error, cell.traceback = output.evalue, "\n".join(output.traceback)
        else:
            cell.displays.append(dict(output.data))
    return cell


def value(cell: Cell) -> Any:
    """What a cell printed as JSON."""
    return json.loads(cell.text)


if __name__ == "__main__":
    execute()
