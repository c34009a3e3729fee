"""Real Jupyter kernels, driven cell by cell."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).parents[2]
LONGEST_S = 60  # the slowest cell takes a few
PASTED = "# what the cell above has printed"  # a cell that executes that


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


def run(*sources: str | tuple[str, str], allow_errors: bool = True, seconds: int = LONGEST_S) -> list[Cell]:
    """Run the cells in a fresh kernel; without `allow_errors`, stop at the first that fails, as Run All does.

    A source may come with the id of its cell, as a front end sends it: two sources of one id are one cell, edited.
    A cell that takes longer than `seconds` fails the test, and so does a kernel that dies.
    """
    notebook = nbformat.v4.new_notebook(cells=[_code_cell(source) for source in sources])
    answer = _client().ask({"notebook": notebook, "allow_errors": allow_errors, "seconds": seconds})
    assert "error" not in answer, answer["error"]
    return [_cell(cell) for cell in nbformat.from_dict(answer["notebook"]).cells]


@functools.cache
def _client() -> Client:
    """One for all kernels: starting it takes longer than starting a kernel."""
    return Client()


class Client:
    """The process that drives the kernels. It has threads of its own, whose allocations would be counted in ours."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        atexit.register(self.close)

    def close(self) -> None:
        """It ends with what it reads from."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(LONGEST_S)
        self._process.stdout.close()
        self._errors.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The notebook as it was executed, or why it could not be. A client that dies is replaced for the next test."""
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            _client.cache_clear()
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            return {"error": f"the client of the kernels died: {self._errors.read()[-4000:]}"}


def _code_cell(source: str | tuple[str, str]) -> Any:
    if isinstance(source, str):
        return nbformat.v4.new_code_cell(source)
    cell_id, code = source
    return nbformat.v4.new_code_cell(code, metadata={"cellId": cell_id})  # the ids of nbformat must be unique


def serve() -> None:
    """Answer the requests on standard input, one a line, until it ends. A kernel sees no file of the person's."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # where the kernels print what is none of their cells'
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPYTHONDIR"] = folder
        for line in sys.stdin:
            request = json.loads(line)
            limit = LONGEST_S + request["seconds"] * len(request["notebook"]["cells"])
            faulthandler.dump_traceback_later(limit, exit=True)  # should this side hang
            print(json.dumps(answer(**request)), file=answers, flush=True)
            faulthandler.cancel_dump_traceback_later()


def answer(notebook: dict[str, Any], allow_errors: bool, seconds: int) -> dict[str, Any]:
    """The notebook as a fresh kernel left it."""
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client = NotebookClient(
        nbformat.from_dict(notebook),
        km=manager,
        allow_errors=allow_errors,
        timeout=seconds,
        shutdown_kernel="immediate",
    )

    def prepare(cell: Any, cell_index: int) -> None:
        client.kc.session.metadata = _identity(cell)
        if cell.source == PASTED:
            cell.source = _cell(client.nb.cells[cell_index - 1]).text

    client.on_cell_execute = prepare
    try:
        client.execute(cleanup_kc=True)
    except CellExecutionError:
        pass  # the cells after it have no outputs, which is what tests look at
    except (CellTimeoutError, DeadKernelError) as error:
        return {"error": str(error)}
    return {"notebook": client.nb}


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
    serve()
