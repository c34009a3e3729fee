"""The list of mutants is about the C as it stands, and about tests that there are."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

_SPEC = importlib.util.spec_from_file_location("mutants", ROOT / "tests" / "mutants.py")
assert _SPEC is not None
mutants = importlib.util.module_from_spec(_SPEC)
assert _SPEC.loader is not None
_SPEC.loader.exec_module(mutants)


def _tests_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_one_change_of_the_sources_and_its_tests_exist(mutant) -> None:
    source = (ROOT / mutant.source).read_text("utf-8")
    assert source.count(mutant.old) == 1
    assert mutant.new != mutant.old
    for test in mutant.tests:
        file, name = test.split("::")
        assert name in _tests_in(file), test


def test_there_are_mutants_enough_and_each_file_of_the_core_has_some() -> None:
    assert len(mutants.MUTANTS) >= 25
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS)
    mutated = {Path(mutant.file).stem for mutant in mutants.MUTANTS}
    assert {path.stem for path in (ROOT / mutants.CORE).glob("*.c")} - {"clock"} <= mutated  # it only asks for the time
