"""What is committed of the notebooks, and what Binder needs. That they run is tested by nbmake."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
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
    images = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert images
    assert all(len(alternative_text(output)) > 20 for output in images)


def test_nothing_is_saved_that_changes_from_run_to_run(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata == {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    assert [cell.id for cell in notebook.cells] == [f"cell-{n:02d}" for n in range(1, len(notebook.cells) + 1)]
    assert not [cell.id for cell in code_cells(notebook) if "execution" in cell.metadata]


def test_claims_are_asserted(notebook):
    assert sum("assert " in cell.source for cell in code_cells(notebook)) >= 3


def test_a_notebook_that_fails_is_told_of_in_one_sentence_and_left_as_it_was(tmp_path):
    make = tmp_path / "make.py"
    make.write_bytes((ROOT / "notebooks" / "make.py").read_bytes())
    failing = tmp_path / "02_failing.ipynb"
    cell = nbformat.v4.new_code_cell("1 / 0")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), failing)
    before = failing.read_bytes()
    run = subprocess.run([sys.executable, make], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "02_failing.ipynb: a cell raised ZeroDivisionError: division by zero"
    assert failing.read_bytes() == before


def test_only_notebooks_that_are_named_are_made(tmp_path):
    make = tmp_path / "make.py"
    make.write_bytes((ROOT / "notebooks" / "make.py").read_bytes())
    for name in ("01_here", "02_there"):
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), tmp_path / f"{name}.ipynb")
    subprocess.run([sys.executable, make, "02_there", "--html", "out"], cwd=tmp_path, capture_output=True, check=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["02_there.html"]
    run = subprocess.run([sys.executable, make, "03"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "no notebook is called '03'; there are 01_here, 02_there"


def test_the_page_has_the_alternative_text_of_an_image(tmp_path):
    make = tmp_path / "make.py"
    make.write_bytes((ROOT / "notebooks" / "make.py").read_bytes())
    lines = (
        "from IPython.display import display",
        'display({"image/png": "AAAA"}, raw=True, metadata={"image/png": {"alt": \'Live "bytes"\'}})',
    )
    cell = nbformat.v4.new_code_cell("\n".join(lines))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "01_image.ipynb")
    subprocess.run([sys.executable, make, "--html", "out"], cwd=tmp_path, capture_output=True, check=True)
    page = (tmp_path / "out" / "01_image.html").read_text(encoding="utf-8")
    [tag] = re.findall(r"<img\b[^>]*base64,AAAA[^>]*>", page)
    assert "Live &quot;bytes&quot;" in tag or "alt='Live \"bytes\"'" in tag


def test_the_readme_makes_a_notebook_that_is_there():
    [name] = re.findall(r"notebooks/make\.py (\w+) --html out", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert name in [path.stem for path in NOTEBOOKS]


def test_notebooks_are_executed_by_the_interpreter_that_makes_them(tmp_path):
    make = tmp_path / "make.py"
    make.write_bytes((ROOT / "notebooks" / "make.py").read_bytes())
    elsewhere = tmp_path / "jupyter" / "kernels" / "python3"
    elsewhere.mkdir(parents=True)
    (elsewhere / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "x", "language": "python"}')
    path = tmp_path / "03_who.ipynb"
    cell = nbformat.v4.new_code_cell("import sys; print(sys.executable)")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    environment = os.environ | {"JUPYTER_PATH": str(tmp_path / "jupyter")}
    subprocess.run([sys.executable, make], cwd=tmp_path, env=environment, capture_output=True, check=True)
    [output] = outputs(nbformat.read(path, as_version=4))
    assert output.text.strip() == sys.executable


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
