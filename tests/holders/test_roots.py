"""Where names are that keep memory alive."""

import textwrap

import pytest
from processes import python

from thag_nb.errors import NamespaceError
from thag_nb.holders.modules import type_name, type_package
from thag_nb.holders.roots import Namespace, with_article

SHELL = """
    import sys
    from IPython.core.interactiveshell import InteractiveShell
    from thag_nb.holders.roots import Namespace
    shell = InteractiveShell.instance()
    def run(source):
        shell.run_cell(source, store_history=True)
    def lines():
        user = Namespace(None)
        return {root.holder.name: user.notebook.write(root.holder.line) for root in user.roots() if root.holder.line}
"""


def in_shell(code: str) -> list[str]:
    return python(textwrap.dedent(SHELL) + textwrap.dedent(code)).splitlines()


def released(names: dict[str, object]) -> list[str]:
    """The line of each variable."""
    user = Namespace(names)
    return [user.notebook.write(root.holder.line) for root in user.roots() if root.holder.kind == "variable"]


def test_a_variable_is_deleted_by_its_name():
    assert released({"a": [], "b": bytearray(1)}) == ["del a", "del b"]


@pytest.mark.parametrize("name", ["not a name", "class", "caf\udce9", "a-b", ""])
def test_a_key_that_is_no_name_is_deleted_all_the_same(name):
    namespace = {name: []}
    (line,) = released(namespace)
    exec(line, namespace)
    assert name not in namespace


def test_a_name_that_cannot_be_encoded_is_shown_all_the_same():
    (first, *_) = Namespace({"caf\udce9": []}).roots()
    assert first.holder.name.encode() == b"caf\\udce9"


def test_a_function_that_closes_over_something_is_a_closure():
    outer = []
    kinds = [root.holder.kind for root in Namespace({"f": lambda: outer, "g": lambda: 0}).roots()]
    assert kinds[:2] == ["closure", "variable"]


def test_what_ipython_put_there_is_no_variable_of_the_users():
    code = """
        run("a = 1")
        print(*lines())
    """
    assert in_shell(code)[-1].split()[:2] == ["a", "_"]


def test_a_value_that_was_shown_is_one_output_with_all_its_names():
    code = """
        run("a = [1]; b = [2]")
        run("a")
        run("a")
        run("[3]")
        found = {root.holder.name: root for root in Namespace(None).roots()}
        print(lines()["a"], lines()["b"], lines()["Out[2]"], lines()["Out[4]"], "Out[3]" in found, sep="|")
        print(len(found["Out[2]"].objects), sys.getrefcount(found["Out[2]"].objects[0]))
    """
    *_, lines, counts = in_shell(code)
    assert lines == "del a|del b|%xdel _2|%xdel _4|False"
    named, known = map(int, counts.split())
    assert known == 2 * named + 1 + 1 + 1  # from where they are and from the list; the variable, twice; the question


def test_a_value_of_a_name_that_was_shown_is_let_go_by_one_magic():
    code = """
        run("a = [1]")
        run("a")
        user = Namespace(None)
        from thag_nb.holders.lines import joined
        line = joined(root.holder.line for root in user.roots() if root.holder.name in ("a", "Out[2]"))
        print(user.notebook.write(line), user.notebook.write(line._replace(collects=True)), sep="|")
    """
    assert in_shell(code)[-1] == "%xdel a|del a; get_ipython().del_var('_2'); import gc; gc.collect();"


def test_without_an_exception_there_is_no_line_for_it():
    code = """
        found = {root.holder.name: root for root in Namespace(None).roots()}
        print(found["(last traceback)"].holder.line, found["(last traceback)"].objects)
    """
    assert in_shell(code)[-1] == "None []"


def test_an_exception_that_was_let_go_of_leaves_no_line():
    code = """
        run("1 / 0")
        line = lines()["(last traceback)"]
        run(line)
        print("(last traceback)" in lines(), line)
    """
    assert in_shell(code)[-1].startswith("False import sys; sys.last_")


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
