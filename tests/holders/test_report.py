"""Who still holds what, as a table."""

import re

from thag_nb.holders.report import retained_bundle
from thag_nb.recordings.model import Held

MIB = 1 << 20


def held(
    context_id,
    name="a",
    holder="x",
    held_bytes=MIB,
    released_by="",
    kind="variable",
    shared_with=(),
    alone_bytes=None,
    allocated_at="",
):
    alone_bytes = held_bytes if alone_bytes is None else alone_bytes
    return Held(context_id, name, holder, kind, held_bytes, released_by, shared_with, alone_bytes, name, allocated_at)


def lines(*rows: Held) -> list[str]:
    return [line.rstrip() for line in retained_bundle(rows)["text/plain"].splitlines()]


def words(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_nothing_is_said_in_a_sentence():
    assert retained_bundle(()) == {"text/plain": "Nothing that was allocated is still held."}


def test_one_context_has_its_sum_its_holders_and_the_smaller_ones_in_one_row():
    rows = [
        held(3, "load", "table", 3 * MIB, "del table"),
        held(3, "load", "rest", MIB, "del rest"),
        held(3, "load", "(a list)", 56, kind="object"),
        held(3, "load", "(a type)", 600, kind="object"),
    ]
    assert lines(*rows) == [
        "context  holder        held  share  released by",
        "load                4.0 MiB",
        "         table      3.0 MiB    75%  del table",
        "         rest       1.0 MiB    25%  del rest",
        "         2 smaller    656 B     0%",
    ]


def test_a_few_bytes_are_shown_only_where_nobody_holds_more():
    rows = [held(3, "a", "x", 100, "del x"), held(3, "a", "(a list)", 60, kind="object")]
    assert [words(line)[0] for line in lines(*rows)] == ["context", "a", "x", "1 smaller"]


def test_a_single_smaller_one_is_shown_if_it_can_be_let_go():
    rows = [held(3, "a", "x", MIB, "del x"), held(3, "a", "y", 60, "del y")]
    assert [words(line)[0] for line in lines(*rows)[2:]] == ["x", "y"]


def test_libraries_are_one_row_as_nobody_lets_go_of_them():
    rows = [
        held(3, "imports", "pandas", 2 * MIB, kind="module"),
        held(3, "imports", "frame", MIB, "del frame"),
        held(3, "imports", "numpy", MIB, kind="module"),
        held(3, "imports", "mine.kept", MIB, "del mine.kept", kind="module"),
        held(3, "imports", "re", 3, kind="module"),
    ]
    assert [words(line)[0] for line in lines(*rows)[2:]] == ["pandas and 2 other libraries", "frame", "mine.kept"]
    assert [words(line)[0] for line in lines(*rows[:3])[2:]] == ["pandas and numpy", "frame"]
    assert [words(line)[0] for line in lines(*rows[:2])[2:]] == ["pandas", "frame"]


def test_who_else_holds_it_is_a_column_of_its_own_so_that_the_line_can_be_copied():
    rows = [held(3, "a", "x", MIB, "del x", shared_with=("y", "Out[3]", "z", "f", "g"))]
    assert words(lines(*rows)[0])[-2:] == ["released by", "also held by"]
    assert words(lines(*rows)[2])[-2:] == ["del x", "y, Out[3], z and 2 more"]


def test_contexts_that_hold_little_are_summed_up_and_everything_adds_up():
    rows = [held(number, f"In[{number}]", f"v{number}", 10 * MIB, "del v") for number in range(1, 4)]
    rows += [held(number, f"In[{number}]", "w", 2000) for number in range(4, 30)]
    found = lines(*rows)
    assert [words(line)[0] for line in found[1:-1:2]] == ["In[1]", "In[2]", "In[3]", "26 others"]
    assert found[-3].split() == ["26", "others", "50.8", "KiB"]
    assert found[-2].split() == ["together", "30.0", "MiB"]
    assert found[-1] == "The 26 others hold little; thag_nb.retained() has all of them."


def test_at_least_three_contexts_are_shown_and_at_most_twelve():
    uneven = [held(1, "In[1]", held_bytes=1000 * MIB), *(held(number, f"In[{number}]") for number in range(2, 9))]
    assert sum(line.startswith("In[") for line in lines(*uneven)) == 3
    even = [held(number, f"In[{number}]") for number in range(1, 31)]
    assert sum(line.startswith("In[") for line in lines(*even)) == 12
    assert "18 others" in "\n".join(lines(*even))


def test_one_other_context_is_shown_rather_than_summed_up():
    rows = [held(1, "In[1]", held_bytes=1000 * MIB), *(held(number, f"In[{number}]") for number in range(2, 5))]
    assert sum(line.startswith("In[") for line in lines(*rows)) == 4
    assert "other" not in "\n".join(lines(*rows))


def test_a_long_line_wraps_in_html_and_is_complete():
    line = "import gc, sys; sys.last_value = sys.last_traceback = None; get_ipython().InteractiveTB.tb = None"
    shown = retained_bundle((held(3, "a<b", "x", MIB, line),))["text/html"]
    assert f">{line}</code></td>" in shown
    assert '<code style="white-space: pre-wrap; overflow-wrap: anywhere">' in shown
    assert "a&lt;b" in shown
    assert shown.count("<code") == 1


def test_what_a_holder_frees_alone_is_told_where_its_line_names_others():
    rows = [held(3, "a", "df", 8 * MIB, "del df, merged", shared_with=("merged",), alone_bytes=MIB), held(3, "a", "y")]
    assert words(lines(*rows)[0]) == ["context", "holder", "held", "share", "alone", "released by", "also held by"]
    assert words(lines(*rows)[2]) == ["df", "8.0 MiB", "89%", "1.0 MiB", "del df, merged", "merged"]
    assert words(lines(*rows)[3]) == ["y", "1.0 MiB", "11%"]


def test_where_it_was_allocated_is_a_column_where_anybody_knows():
    rows = [held(3, "a", "df", 3 * MIB, "del df", allocated_at="In[3] line 4 through <lambda>"), held(4, "b", "y")]
    assert words(lines(*rows)[0]) == ["context", "holder", "held", "share", "allocated at", "released by"]
    assert words(lines(*rows)[2]) == ["df", "3.0 MiB", "100%", "In[3] line 4 through <lambda>", "del df"]
    assert words(lines(*rows)[4]) == ["y", "1.0 MiB", "100%"]
    shown = retained_bundle(tuple(rows))["text/html"]
    assert 'overflow-wrap: anywhere">In[3] line 4 through &lt;lambda&gt;</td>' in shown
    assert "allocated at" not in "\n".join(lines(*rows[1:]))


def test_a_task_stands_behind_those_that_it_is_part_of():
    row = held(4, "dummies", "d", MIB, "del d")
    assert words(lines(row._replace(under="features › dummies"))[1]) == ["features › dummies", "1.0 MiB"]
