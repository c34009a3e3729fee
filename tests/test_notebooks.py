"""What is committed of the notebooks, and what Binder needs. That they run is tested by nbmake."""

import os
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
RAISES_TAG = "raises-exception"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def alternative_text(output) -> str:
    """What `make.py` puts into the page: our own HTML goes before the image, metadata belong to the image."""
    html = output.data.get("text/html")
    if html is None:
        return output.metadata.get("image/png", {}).get("alt", "")
    found = re.search(r'<img\b[^>]*\balt="([^"]*)"', html)
    return found[1] if found else ""


def has_image(data) -> bool:
    return "image/png" in data or "<img" in data.get("text/html", "")


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_every_code_cell_was_executed_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_only_cells_that_say_so_failed(notebook):
    for cell in code_cells(notebook):
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert failed == (RAISES_TAG in cell.metadata.get("tags", ()))


def test_no_cell_wrote_to_stderr(notebook):
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]


def test_no_output_needs_a_widget_that_is_gone(notebook):
    assert not [output for output in outputs(notebook) if WIDGET_VIEW in output.get("data", {})]
    assert "widgets" not in notebook.metadata


def test_every_image_has_an_alternative_text(notebook):
    images = [output for output in outputs(notebook) if has_image(output.get("data", {}))]
    assert images
    assert all(len(alternative_text(output)) > 20 for output in images)


def test_nothing_is_saved_that_changes_from_run_to_run(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata == {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    assert [cell.id for cell in notebook.cells] == [f"cell-{n:02d}" for n in range(1, len(notebook.cells) + 1)]
    assert not [cell.id for cell in code_cells(notebook) if "execution" in cell.metadata]


def test_claims_are_asserted(notebook):
    assert sum("assert " in cell.source for cell in code_cells(notebook)) >= 3


def test_the_readme_makes_a_notebook_that_is_there():
    [name] = re.findall(r"notebooks/make\.py (\w+) --html out", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert name in [path.stem for path in NOTEBOOKS]


def test_the_readme_shows_the_picture_of_the_tour():
    assert (ROOT / "notebooks" / "tour.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"!\[[^\]]{20,}\]\(notebooks/tour\.png\)", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_binder_gets_a_python_that_we_support():
    runtime = (ROOT / "binder" / "runtime.txt").read_text(encoding="ascii")
    assert re.fullmatch(r"python-3\.1[1-4]\n", runtime)


def test_binder_installs_this_checkout():
    requirements = (ROOT / "binder" / "requirements.txt").read_text(encoding="ascii").splitlines()
    assert {".", "ipykernel>=7.1"} <= set(requirements)


def test_binder_checks_the_native_module():
    post_build = ROOT / "binder" / "postBuild"
    lines = post_build.read_text(encoding="ascii").splitlines()
    assert os.access(post_build, os.X_OK)
    assert lines[:2] == ["#!/bin/bash", "set -euo pipefail"]
    assert any("thag_nb import _native" in line for line in lines)


def test_binder_files_have_unix_line_ends():
    assert not [path.name for path in (ROOT / "binder").iterdir() if b"\r" in path.read_bytes()]
