"""Where names are that keep memory alive."""

import textwrap

import pytest
from processes import python

from thag_nb.errors import NamespaceError
from thag_nb.holders.roots import Namespace, collected, type_name, type_package, with_article

SHELL = """
    import sys
    from IPython.core.interactiveshell import InteractiveShell
    from thag_nb.holders.roots import Namespace
    shell = InteractiveShell.instance()
    def run(source):
        shell.run_cell(source, store_history=True)
    def lines():
        return {holder.name: holder.released_by for holder, _ in Namespace(None).holders()}
"""


def in_shell(code: str) -> list[str]:
    return python(textwrap.dedent(SHELL) + textwrap.dedent(code)).splitlines()


def released(names: dict[str, object]) -> list[str]:
    return [holder.released_by for holder, _ in Namespace(names).holders()]


def test_names_of_one_value_are_deleted_together():
    block = bytearray(1)
    assert released({"a": block, "b": bytearray(1), "c": block}) == ["del a, c", "del b", "del a, c"]


def test_a_key_that_is_no_name_is_deleted_all_the_same():
    assert released({"not a name": []}) == ["del globals()['not a name']"]


def test_a_function_that_closes_over_something_is_a_closure():
    outer = []
    kinds = [holder.kind for holder, _ in Namespace({"f": lambda: outer, "g": lambda: 0}).holders()]
    assert kinds == ["closure", "variable"]


def test_what_ipython_put_there_is_no_variable_of_the_users():
    code = """
        run("a = 1")
        print(*lines())
    """
    assert in_shell(code)[-1].split() == ["a", "_", "__", "___"]


def test_a_variable_that_was_shown_needs_xdel():
    code = """
        run("a = [1]; b = [2]")
        run("a")
        run("[3]")
        found = lines()
        print(found["a"], found["b"], found["Out[2]"], found["Out[3]"], sep="|")
    """
    assert in_shell(code)[-1] == "%xdel a|del b|%xdel _2|%xdel _3"


def test_without_an_exception_there_is_no_line_for_it():
    code = """
        holder, objects = Namespace({}).traceback_holder()
        print([holder.released_by, objects])
    """
    assert in_shell(code)[-1] == "['', []]"


@pytest.mark.parametrize(
    ("line", "with_collector"),
    [
        ("del a", "del a; import gc; gc.collect();"),
        ("%xdel _3", "get_ipython().del_var('_3'); import gc; gc.collect();"),
        ("import gc; gc.collect();", "import gc; gc.collect();"),
        ("", ""),
    ],
)
def test_a_line_may_need_the_collector(line, with_collector):
    assert collected(line) == with_collector


def test_a_noun_has_its_article():
    assert [with_article(noun) for noun in ("dict", "asyncio.events.Handle", "Enum", "ufunc")] == [
        "a dict",
        "an asyncio.events.Handle",
        "an Enum",
        "a ufunc",
    ]


@pytest.mark.parametrize("wrong", [3, [("a", 1)], "names"])
def test_what_is_no_dict_is_refused_in_one_sentence(wrong):
    with pytest.raises(
        NamespaceError, match=r"namespace must be a dict of names, not .*; leave it out for the names of"
    ):
        Namespace(wrong)


def test_a_class_that_was_never_made_ready_has_a_name_and_a_package():
    testcapi = pytest.importorskip("_testcapi")
    names = vars(type)["__dict__"].__get__
    unready = [kind for kind in vars(testcapi).values() if isinstance(kind, type) and names(kind) is None]
    if not unready:
        pytest.skip("all classes of this _testcapi are ready")
    assert type_name(unready[0])
    assert type_package(unready[0]) == "builtins"
