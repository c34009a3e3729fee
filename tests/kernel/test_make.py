"""`notebooks/make.py`, which runs notebooks in kernels and saves their results."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]


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
    [output] = nbformat.read(path, as_version=4).cells[0].outputs
    assert output.text.strip() == sys.executable
