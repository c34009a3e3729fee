"""Imports go down only."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "thag_nb"

# From the bottom up: a module imports from rows below its own only.
ROWS = [
    {"errors", "units", "_native"},
    {"native_build", "files", "namespaces", "progress"},
    {"recording"},
    {"hooks"},
    {"contexts", "propagation", "resident"},
    {"marks"},
    {"dispatcher"},
    {"tasks", "holders", "palette", "comparisons", "costs", "scripts", "tables"},
    {"frames", "axes"},
    {"curves", "labels"},
    {"scenes", "places", "moments", "descriptions"},
    {"plots", "stacks", "svg"},
    {"reports", "holder_reports"},
    {"comparison_reports", "pages"},
    {"canvas"},
    {"widgets"},
    {"cells", "live"},
    {"magics"},
    {"extension"},
    {"__init__"},
]
DRAWS = {"frames", "curves", "scenes", "svg", "axes", "labels", "places", "moments", "plots", "stacks"}
ROW_OF = {module: row for row, modules in enumerate(ROWS) for module in modules}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imported(module: str) -> set[str]:
    """The project's modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "thag_nb":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thag_nb."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "thag_nb" for alias in node.names), f"{module} imports the root"
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    assert module in ROW_OF, f"{module} has no row yet"
    upwards = {name for name in imported(module) if ROW_OF[name] >= ROW_OF[module]}
    assert upwards == set()


def test_only_what_draws_and_tabulates_knows_pandas_numpy_and_matplotlib():
    heavy = {"pandas", "numpy", "matplotlib"}
    for module in MODULES:
        tree = ast.parse((PACKAGE / f"{module}.py").read_text())
        guarded = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
            for node in ast.walk(block)
        }
        imports = {name.split(".")[0] for node in ast.walk(tree) if id(node) not in guarded for name in _names(node)}
        assert module in DRAWS or not imports & heavy, module


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []


def test_everything_public_is_named_once_and_exists():
    import thag_nb

    assert thag_nb.__all__ == sorted(thag_nb.__all__)
    assert all(hasattr(thag_nb, name) for name in thag_nb.__all__)


def test_the_contract_is_public():
    import thag_nb

    contract = (
        "Allocator AllocatorContext ContextGuard ContextRegistry TaskMemoryContext TaskGuard push_allocator_context "
        "with_task_allocator with_system_allocator task untracked current_context start stop reset status read "
        "contexts timeline plot_timeline retained mark Mark ResidentSize compare plot_comparison dashboard plot_stack"
    )
    assert set(contract.split()) <= set(thag_nb.__all__)


def test_the_stub_names_what_the_native_module_has():
    from thag_nb import _native

    stub = ast.parse((PACKAGE / "_native.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    named |= {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)} - {"Row", "Description", "Walk"}
    assert named == {name for name in dir(_native) if not name.startswith("__")}


def test_the_tests_run_against_this_checkout():
    import thag_nb

    assert Path(thag_nb.__file__).parent == PACKAGE or "site-packages" in str(thag_nb.__file__)
    assert sys.version_info >= (3, 11)
