"""What loading does to a shell: what a cell below the magic on its first line is."""

import textwrap

import pytest
from processes import python
from shells import in_shell, last_line

BELOW = """
    import contextlib, io, re, warnings
    warnings.simplefilter("ignore")  # IPython's are shown once, so not with the second cell
    shell.run_cell("import os; ready = [3, 1, 2]", store_history=True)
    def seen(source):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            result = run(source, store_history=True)
        text = re.sub(r"Out\\[\\d+\\]", "Out", shown.getvalue())
        return [repr(result.result), result.success, next(filter(None, text.splitlines()), "")]
"""


@pytest.mark.parametrize(
    "rest",
    [
        "pwd",
        "ls {0}",
        "cd -q {0}",
        "!echo shouted",
        "?len",
        "len?",
        "%time 1 + 1",
        "%%time\n1 + 1",
        "sorted ready",
        "/sorted ready",
        "ready",
        "ready;",
        "import asyncio\nawait asyncio.sleep(0, 'awaited')",
        "\n\npwd",
        "'%ls'",
        "# nothing but this",
        "ready.nosuch",
    ],
)
def test_a_cell_below_the_magic_does_what_it_does_without_it(rest, tmp_path):
    rest = rest.format(tmp_path)
    (tmp_path / "file").touch()
    code = f"""
        shell.run_line_magic("autocall", "1")
        alone = seen({rest!r})
        below = [seen("%%thag_task -q work\\n" + {rest!r}), seen("%%thag_system\\n" + {rest!r})]
        print(json.dumps([alone, *below]))
    """
    alone, task, system = last_line(in_shell(textwrap.dedent(BELOW) + textwrap.dedent(code)))
    if rest.startswith(("%time", "%%time")):  # how long it took is never the same
        alone[2] = task[2] = system[2] = None
    if rest.startswith("#"):
        assert "Nothing follows %thag_task" in task[2]
        task[2] = system[2] = alone[2]
    assert alone == task == system


def test_what_a_file_that_ipython_runs_has_cost_is_told_at_its_end(tmp_path):
    script = tmp_path / "script.ipy"
    script.write_text("%load_ext thag_nb\n%thag_task first\na = bytearray(3 << 20)\n%thag_task second\nb = a[:]\n")
    code = f"""
        import os
        os.environ["IPYTHONDIR"] = {str(tmp_path)!r}
        from IPython import start_ipython
        start_ipython(["--no-banner", {str(script)!r}])
    """
    first, second = python(code).splitlines()
    assert first.startswith("first · peak 3.0 MiB")
    assert second.startswith("second · peak 3.0 MiB")


def test_a_file_that_unloads_tells_once(tmp_path):
    script = tmp_path / "script.ipy"
    script.write_text("%load_ext thag_nb\n%thag_task first\na = 1\n%unload_ext thag_nb\n")
    code = f"""
        import os
        os.environ["IPYTHONDIR"] = {str(tmp_path)!r}
        from IPython import start_ipython
        start_ipython(["--no-banner", {str(script)!r}])
    """
    (line,) = python(code).splitlines()
    assert line.startswith("first · ")
