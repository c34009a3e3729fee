"""The lines that let go, and how several become one."""

import functools
import gc
import sys
from types import ModuleType
from typing import Any

import pytest

from thag_nb.holders.lines import Caches, Line, Notebook, joined


@pytest.fixture
def module(monkeypatch) -> ModuleType:
    """A module that is loaded, with a cached function in it."""
    made = ModuleType("some_module")
    monkeypatch.setitem(sys.modules, "some_module", made)
    code = """if True:
        import functools
        @functools.cache
        def load(n): return n
        class Table:
            @staticmethod
            @functools.lru_cache
            def row(n): return n
            @property
            @functools.cache
            def column(self): return self
        def decorated(n): return n
        decorated.__wrapped__ = functools.cache(decorated)
    """
    exec(code, vars(made))
    return made


COLLECTED = "del a; get_ipython().del_var('_3'); import gc; gc.collect();"


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (Line(names=("a",)), "del a"),
        (Line(names=("a", "b")), "del a, b"),
        (Line(names=("a",), collects=True), "del a; import gc; gc.collect();"),
        (Line(collects=True), "import gc; gc.collect();"),
        (Line(outputs=("_3",)), "%xdel _3"),
        (Line(outputs=("_3",), collects=True), "get_ipython().del_var('_3'); import gc; gc.collect();"),
        (Line(names=("a", "b"), outputs=("_3",), aliases=("a",)), "del a, b; get_ipython().del_var('_3')"),
        (Line(names=("a",), outputs=("_3",), aliases=("a",), collects=True), COLLECTED),
        (Line(names=("a",), outputs=("_3",), aliases=("a",)), "%xdel a"),
        (Line(names=("globals()['a b']",), outputs=("_3",), aliases=("globals()['a b']",)), "%xdel _3"),
        (Line(outputs=("_3", "_4")), "get_ipython().del_var('_3'); get_ipython().del_var('_4')"),
        (Line(calls=("f.cache_clear()",), names=("f",)), "f.cache_clear(); del f"),
        (Line(calls=("sys.x = None",), imports=("sys",), names=("a",)), "import sys; sys.x = None; del a"),
    ],
)
def test_what_a_line_is_written_as(line, written):
    assert Notebook({}).write(line) == written


def test_several_lines_become_one_that_names_each_thing_once():
    one = Line(names=("a", "b"), imports=("sys",))
    other = Line(names=("b",), calls=("f()",), imports=("sys",), collects=True)
    assert joined([one, other]) == Line(calls=("f()",), names=("a", "b"), imports=("sys",), collects=True)


def test_an_import_hides_no_variable_of_the_users():
    line = Notebook({"gc": 1}).write(Line(names=("a",), collects=True))
    assert line == "del a; __import__('gc').collect();"
    assert Notebook({"gc": gc}).write(Line(collects=True)) == "import gc; gc.collect();"


@pytest.mark.parametrize("name", ["globals", "vars", "get_ipython"])
def test_a_variable_that_hides_something_built_in_is_stepped_around(module, monkeypatch, name):
    monkeypatch.setattr("builtins.get_ipython", object, raising=False)
    notebook = Notebook({name: 1, "m": module})
    vars(module)["a b"] = 1
    lines = [
        Line(names=(notebook.variable("a b"),)),
        Line(outputs=("_3",)),
        notebook.module_variable("some_module", "a b"),
    ]
    written = [notebook.write(line) for line in lines if line is not None]
    assert [line for line in written if f"__import__('builtins').{name}(" in line] != []
    assert "%xdel" not in " ".join(written) or name != "get_ipython"


def test_a_bound_method_is_the_same_each_time(monkeypatch):
    monkeypatch.setattr("builtins.get_ipython", "".join, raising=False)
    assert Notebook({"get_ipython": functools.partial}).shell() == "__import__('builtins').get_ipython()"
    monkeypatch.setattr("builtins.get_ipython", Notebook({}).shell, raising=False)
    assert Notebook({"get_ipython": Notebook({}).shell}).shell() == "get_ipython()"


def test_a_module_is_written_as_the_user_knows_it(module):
    assert Notebook({"m": module}).module("some_module") == Line(names=("m",))
    assert Notebook({}).module("some_module") == Line(names=("sys.modules['some_module']",), imports=("sys",))
    assert Notebook({"sys": 1}).module("some_module") == Line(names=("__import__('sys').modules['some_module']",))
    assert Notebook({}).module("no_such_module") is None


@pytest.mark.parametrize("name", ["kept", "class", "not a name", "\N{LATIN SMALL LIGATURE FI}"])
@pytest.mark.parametrize("known", [True, False])
def test_a_variable_of_a_module_is_deleted_where_it_is(module, name, known):
    vars(module)[name] = 1
    names = {"m": module} if known else {}
    notebook = Notebook(names)
    exec(notebook.write(notebook.module_variable("some_module", name)), names)
    assert name not in vars(module)


def cleared(wrapper: Any, names: dict[str, Any]) -> str:
    """The line that clears a cache; empty if there is none. It is executed."""
    notebook = Notebook(names)
    line = Caches(names, type(functools.cache(len))).find(wrapper, wrapper.__wrapped__, notebook)
    if line is None:
        return ""
    wrapper(1)
    assert wrapper.cache_info().currsize == 1
    exec(notebook.write(line), dict(names))
    assert wrapper.cache_info().currsize == 0
    return notebook.write(line)


def test_a_cache_is_cleared_by_the_users_name_for_it_or_through_its_module(module):
    assert cleared(module.load, {"known": module.load}) == "known.cache_clear()"
    assert cleared(module.load, {"m": module}) == "m.load.cache_clear()"
    assert cleared(module.load, {}) == "import sys; sys.modules['some_module'].load.cache_clear()"


def test_a_cache_is_found_in_classes_and_below_decorators(module):
    assert cleared(module.Table.row, {"m": module}) == "m.Table.row.cache_clear()"
    assert cleared(module.Table.row, {"Table": module.Table}) == "Table.row.cache_clear()"
    assert cleared(module.Table.column.fget, {"m": module}) == "m.Table.column.fget.cache_clear()"
    assert cleared(module.decorated.__wrapped__, {"f": module.decorated}) == "f.__wrapped__.cache_clear()"


def test_a_cache_that_no_name_leads_to_any_more_has_no_line(module):
    former = module.load
    module.load = functools.cache(former.__wrapped__)
    assert cleared(former, {"m": module}) == ""
    del sys.modules["some_module"]
    assert cleared(module.load, {}) == ""
