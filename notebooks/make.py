"""``python notebooks/make.py``: executes the notebooks in place, so that what is committed is what they say.

Names choose some of them: ``01_tour``. With ``--html DIR`` each becomes a page in DIR instead, and the notebooks are left
alone. The kernel is the interpreter that runs this file, whatever kernels are installed elsewhere.
"""

from __future__ import annotations

import argparse
import base64
import sys
from html import escape
from pathlib import Path

try:
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from nbconvert import HTMLExporter
    from nbformat import NotebookNode
except ImportError as error:
    sys.exit(f"make.py needs {error.name}; install what the notebooks need with `pip install '.[notebooks]'`")

HERE = Path(__file__).resolve().parent
LONGEST_CELL_SECONDS = 120
PICTURE_TAG = "picture"


class NotebookError(Exception):
    """A notebook that is not there, or could not be executed; the file is as it was."""


def main() -> None:
    """Execute the notebooks beside this file, or those that are named; with ``--html``, write their pages instead."""
    parser = argparse.ArgumentParser(prog="python notebooks/make.py", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a notebook, such as 01_tour; without any, all of them")
    parser.add_argument("--html", type=Path, metavar="DIR", help="write a page of each notebook into DIR, and leave the notebooks as they are")
    options = parser.parse_args()
    try:
        paths = chosen(options.names)
        for path in paths:
            make(path, options.html)
    except (NotebookError, OSError) as error:
        sys.exit(str(error))
    for path in paths:
        print(f"to open the notebook: {Path(sys.executable).parent / 'jupyter'} lab {_shown(path)}")


def chosen(names: list[str]) -> list[Path]:
    """The notebooks of these names, in the order of the folder; without names, all. Raises `NotebookError`."""
    paths = {path.stem: path for path in sorted(HERE.glob("*.ipynb"))}
    for name in names:
        if name not in paths:
            raise NotebookError(f"no notebook is called {name!r}; there are {', '.join(paths)}")
    return [path for name, path in paths.items() if not names or name in names]


def make(path: Path, html: Path | None) -> None:
    """Execute a notebook; save it and the picture in it, or write its page and leave the file alone."""
    print(f"executing {_shown(path)}", flush=True)
    notebook = nbformat.read(path, as_version=4)
    execute(notebook, path)
    normalise(notebook)
    if html is not None:
        print(f"wrote {_shown(write_page(notebook, path, html))}")
        return
    nbformat.write(notebook, path)
    write_picture(notebook, path)


def execute(notebook: NotebookNode, path: Path) -> None:
    """Run all cells with this interpreter, in the notebook's own folder. Raises `NotebookError`."""
    # Without folders to look in, the manager knows one kernel only: this interpreter's own, called python3.
    kernels = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        notebook,
        km=kernels,
        timeout=LONGEST_CELL_SECONDS,
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--Application.log_level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"{_shown(path)}: a cell raised {error.ename}: {error.evalue}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{_shown(path)}: {str(error).splitlines()[0]}") from None


def normalise(notebook: NotebookNode) -> None:
    """Drop whatever differs from one run to the next though nothing has changed: times, versions, widgets, ids."""
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(display_name="Python 3 (ipykernel)", language="python", name="python3"),
        language_info=NotebookNode(name="python"),
    )
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02d}"
        cell.metadata.pop("execution", None)


def write_picture(notebook: NotebookNode, path: Path) -> None:
    """The last image of the cell tagged ``picture``, as ``tour.png`` beside ``01_tour.ipynb``: the README shows it."""
    images = [
        output.data["image/png"]
        for cell in notebook.cells
        if PICTURE_TAG in cell.metadata.get("tags", ())
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    if images:
        target = path.with_name(path.stem.partition("_")[2] + ".png")
        target.write_bytes(base64.b64decode(images[-1]))


def write_page(notebook: NotebookNode, path: Path, folder: Path) -> Path:
    """The notebook as one HTML file with its figures inside."""
    describe_images(notebook)
    page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{path.stem}.html"
    target.write_text(page, encoding="utf-8")
    return target


def describe_images(notebook: NotebookNode) -> None:
    """Images whose metadata hold an alternative text as HTML that has it: nbconvert would leave it out."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt and "text/html" not in output.data:
                encoded = output.data["image/png"].strip()
                output.data["text/html"] = f'<img alt="{escape(alt)}" src="data:image/png;base64,{encoded}">'


def _shown(path: Path) -> Path:
    absolute, here = path.resolve(), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


if __name__ == "__main__":
    main()
