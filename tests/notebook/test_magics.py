"""What magics take for a name, and what they say where they can do nothing."""

import pytest
from shells import in_shell, last_line


def test_expressions_and_variables_in_a_name_stand_for_their_values():
    code = """
        run("k, title, half = 7, '--quiet \\\\'tis # \\\\n the {season}', '\\\\ud83d'")
        names = ["fold_{k}", "fold_{k + 1}", "$k apples", "{title}", "{half}", "{nosuch}", "$x_1$ 100%", "{"]
        for name in names:
            run(f"%thag_task -q {name}\\n1;")
        run("for k in range(2):\\n    %thag_task -q loop_{k}\\n    k")
        run("def work(inner):\\n    %thag_task -q local_{inner}\\n    return inner")
        run("work(5);")
        run("%%thag_task -q cell_{k}\\n1;")
        run("get_ipython().run_cell_magic('thag_task', '-q called_{k}', '1;')")
        print(json.dumps([record.name for record in thag_nb.read().contexts if record.kind == "task"]))
    """
    assert last_line(in_shell(code)) == [
        "fold_7",
        "fold_8",
        "7 apples",
        "--quiet 'tis # the {season}",
        r"\ud83d",
        "{nosuch}",
        "$x_1$ 100%",
        "{",
        "loop_0",
        "loop_1",
        "local_5",
        "cell_1",
        "called_1",
    ]


def test_expressions_stand_for_their_values_in_every_magic_that_takes_a_name(tmp_path):
    code = f"""
        import contextlib, io
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            run("folder, k, empty = {str(tmp_path)!r}, 7, ''")
            run("%thag_task -q fold_{{k}}\\nkept = bytearray(100_000)")
            run("%thag_task -q fold_{{k}}\\nmore = bytearray(100_000)")
            run("%thag_mark after_{{k}}")
            run("%thag_mark {{empty}}")
            run("import thag_nb; thag_nb.read().save(folder + '/saved.json')")
            for line in ("%thag_retained fold_{{k}}", "%thag_compare fold_{{k}} --with {{folder}}/saved.json",
                         "%thag_report {{folder}}/page_{{k}}.html"):
                assert run(line).success, line
        print(json.dumps([[mark.name for mark in thag_nb.read().marks], shown.getvalue()]))
    """
    marks, shown = last_line(in_shell(code))
    assert marks == ["after_7", "unnamed"]
    assert "fold_7" in shown
    assert f"wrote {tmp_path}/page_7.html" in shown
    assert (tmp_path / "page_7.html").exists()


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("%thag_task load", True),
        ("thag_task load", True),
        ("%%thag_task load", True),
        ("%%thag_task load --quiet\n\n# and now", True),
        ("x = 1\n%thag_task load", True),
        ("%thag_system", True),
        ("%%thag_task load\nx = 1", False),
        ("%thag_task load\n%time 1", False),
        ("for k in (1, 2):\n    x = 1\n    %thag_task load", False),
    ],
)
def test_a_magic_that_nothing_follows_says_so(cell, told):
    shown = in_shell(f"run({cell!r})")
    assert ("Nothing follows %thag_" in shown) is told
    assert shown.count("put the code below it, or write `with thag_nb.") == told
    assert (" · peak " in shown) is not told


@pytest.mark.parametrize("cell", ["%thag_live", "%thag_live on", "%%thag_task load --live\n1;"])
def test_a_live_view_in_a_terminal_says_that_it_needs_a_notebook(cell):
    shown = in_shell(f"run({cell!r}); run('1;')")
    assert shown.count("A live view needs a notebook") == 1


def test_a_live_view_turned_off_needs_no_notebook():
    assert in_shell("run('%thag_live off')") == ""
