"""Real Jupyter kernels, driven cell by cell."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent


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


def run(*sources: str, allow_errors: bool = True) -> list[Cell]:
    """Run the cells in a fresh kernel; without `allow_errors`, stop at the first that fails, as Run All does."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    from jupyter_client.manager import AsyncKernelManager

    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client = NotebookClient(notebook, km=manager, allow_errors=allow_errors, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    client.execute(env=environment)
    return [_cell(cell) for cell in notebook.cells]


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
