"""Imports go down only."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "thag_nb"


def test_everything_public_is_named_once_and_exists():
    import thag_nb

    assert thag_nb.__all__ == sorted(thag_nb.__all__)
    assert all(hasattr(thag_nb, name) for name in thag_nb.__all__)


def test_the_stub_names_what_the_native_module_has():
    from thag_nb import _native

    stub = ast.parse((PACKAGE / "_native.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    named |= {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)} - {"Row", "Description"}
    assert named == {name for name in dir(_native) if not name.startswith("__")}
