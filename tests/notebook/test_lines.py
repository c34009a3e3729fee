"""Lines in a shell: what asks for them, which cell they are of, and what is shown of them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import told as support
from shells import in_shell, last_line

TOLD = """
    sys.path.append({folder!r})
    import told
    told.install()
    shell.user_ns |= {"allocate": told.allocate, "MIB": 1 << 20}
"""
LISTENING = """
    import contextlib, io
    def typed(source):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            run(source, store_history=True)
        return shown.getvalue()
    def rows(text):
        "The rows of the table, without those of what is small."
        table = text[text.index("line\\n") + 5 : text.index(" together")].splitlines()[:-1]
        return [" ".join(row.split()) for row in table if not row.endswith(("less than 1% each", "not known where"))]
    def said(value):
        print(json.dumps(value))
"""


def told(code: str) -> Any:
    """What `code` says beside a shell whose lines are told by ``allocate``."""
    return last_line(
        in_shell(
            textwrap.dedent(TOLD).replace("{folder!r}", repr(str(Path(support.__file__).parent)))
            + textwrap.dedent(LISTENING)
            + textwrap.dedent(code)
        )
    )


def test_a_task_with_lines_shows_its_cell_and_ends_its_summary_with_the_line_of_its_peak():
    code = """
        typed("def build(n):\\n    return allocate(n * MIB)")
        cell = "%%thag_task load --lines\\nkept = allocate(20 * MIB)\\n\\nleft = build(40)\\nsmall = allocate(1000)"
        text = typed(cell)
        said([text.splitlines()[0].rpartition(" · ")[2], rows(text)])
    """
    end, rows = told(code)
    assert end == "most at peak: line 2 of In[1]"
    assert rows == [
        "In[2]",
        "1 %%thag_task load --lines",
        "20.0 MiB 20.0 MiB 20.0 MiB 2 kept = allocate(20 * MIB)",
        "3",
        "4 left = build(40) → build",
        "5 small = allocate(1000)",
        "build, in In[1]",
        "1 def build(n):",
        "40.0 MiB 40.0 MiB 40.0 MiB 2 return allocate(n * MIB) ← most at peak",
    ]


def test_a_task_without_lines_shows_its_summary_alone():
    text = told("said(typed('%%thag_task load\\nkept = allocate(20 * MIB)'))")
    assert text.count("\n") == 1
    assert "peak at" not in text


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("%%thag_task load --lines\n%%time\nx = 1\nkept = allocate(MIB)", "4 kept = allocate(MIB) ← peak"),
        ("%%thag_task load --lines\n%%time\nallocate(MIB)", "3 allocate(MIB) ← peak"),
        ("%%thag_task load --lines\n\n%%time\n\n  \n# and\n\nallocate(MIB)", "8 allocate(MIB) ← peak"),
        ("%%thag_task load --lines\n%%timeit -n1 -r1\n\nallocate(MIB)", "4 allocate(MIB) ← peak"),
        ("%%thag_task load --lines\nx = 1\n%time kept = allocate(MIB)", "3 %time kept = allocate(MIB) ← peak"),
        ("%%thag_task load --lines\n%%timeit -n1 -r1\nx = 1\nallocate(MIB)", "4 allocate(MIB) ← peak"),
        ("%%thag_task load --lines\n%timeit -n1 -r1 allocate(MIB)", "2 %timeit -n1 -r1 allocate(MIB) ← peak"),
        (
            "%thag_task load --lines\nimport asyncio\nx = await asyncio.sleep(0, allocate(MIB))",
            "3 x = await asyncio.sle",
        ),
        ("\n\n%thag_task load --lines\nkept = allocate(MIB)\n\n", "2 kept = allocate(MIB) ← peak"),
    ],
)
def test_lines_are_those_of_the_cell_as_it_was_typed(cell, line):
    first, end, row = told(f"""
        text = typed({cell!r})
        summary = next(line for line in text.splitlines() if line.startswith("load · "))
        said([rows(text)[0], summary.rpartition(" · ")[2], next(row for row in rows(text) if "← peak" in row)])
    """)
    assert first == "In[1]"
    assert end == f"peak at line {line[0]}"
    assert line in row


def test_the_same_text_run_twice_is_of_the_cell_that_ran_it():
    code = """
        cell = "%%thag_task load --lines\\nkept = allocate(MIB)"
        typed(cell); typed("1"); typed(cell)
        from thag_nb.runtime import dispatcher
        said([[pair[1] for pair in one.cells] for one in dispatcher.read().lines])
    """
    assert told(code) == [["In[1]"], ["In[3]"]]


@pytest.mark.parametrize("lines", [False, True])
def test_what_a_cell_runs_in_turn_is_not_taken_for_another_cell(lines):
    code = f"""
        typed("%config ThagNb.lines = {lines}")
        typed("%%thag_task load --lines\\n%%capture caught\\nx = 1\\nkept = allocate(MIB)")
        said(rows(typed("%thag_lines load\\nother = 1\\nother = 2")))
    """
    rows = told(code)
    assert rows[0] == "In[2] nested"
    assert any(row.endswith("kept = allocate(MIB) ← peak") for row in rows)
    assert not any("other" in row for row in rows)


def test_a_function_from_what_a_cell_ran_in_turn_is_not_shown_with_the_source_of_another_cell():
    code = """
        typed("%%capture caught\\ndef build(n):\\n    return allocate(n)")
        typed("other = 1\\nother = 2\\nother = 3")
        said(rows(typed("%%thag_task load --lines\\nkept = build(MIB)")))
    """
    rows = told(code)
    assert rows[:3] == ["In[3]", "1 %%thag_task load --lines", "2 kept = build(MIB) → build"]
    assert "build, in In[1] nested" in rows
    assert any(row.endswith("return allocate(n) ← peak") for row in rows)
    assert not any("other" in row for row in rows)


def test_a_configured_size_is_asked_for_by_cells_and_their_tasks():
    code = """
        from thag_nb.runtime import dispatcher
        def least():
            recording = dispatcher.read()
            return [[recording.find(one.context_id).name, one.least_bytes] for one in recording.lines]
        found = []
        for value in ("True", "4096", "'4 KiB'", "False"):
            typed(f"%config ThagNb.lines = {value}")
            told._asked.clear()
            typed("%%thag_task load\\n1;")
            found.append(least())
        said(found)
    """
    assert told(code) == [
        [["In[2]", 0], ["load", 0]],
        [["In[4]", 4096], ["load", 4096]],
        [["In[6]", 4096], ["load", 4096]],
        [],
    ]


def test_an_option_takes_the_configured_size():
    code = """
        typed("%config ThagNb.lines = 4096")
        typed("%%thag_task load --lines\\n1;")
        said(list(told._asked.values()))
    """
    assert told(code) == [4096, 4096]


@pytest.mark.parametrize("value", ["-1", "'many'", "'4 KB'", "None", "1.5"])
def test_other_sizes_cannot_be_configured(value):
    code = f"""
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            typed("%config ThagNb.lines = {value}")
        typed("%%thag_task load\\n1;")
        said([str(shell.magics_manager.registry["ThagNb"].lines), list(told._asked), errors.getvalue()])
    """
    lines, asked, _ = told(code)
    assert (lines, asked) == ("False", [])


def test_the_lines_of_what_recorded_them_last_can_be_shown_again():
    code = """
        typed("%%thag_task load --lines\\nkept = allocate(MIB)")
        typed("%%thag_task other\\nmore = allocate(MIB)")
        typed("%config ThagNb.lines = True")
        typed("more = allocate(2 * MIB)")
        said([typed(f"%thag_lines {name}").split(" · ")[0] for name in ("", "load", "In[4]")])
    """
    assert told(code) == ["In[4]", "load", "In[4]"]


def test_lines_can_be_shown_while_the_cell_runs():
    code = """
        text = typed("%thag_task load --lines\\nkept = allocate(MIB)\\n%thag_lines load\\n\\nmore = allocate(8 * MIB)")
        said(rows(text))
    """
    assert told(code) == [
        "In[1]",
        "1 %thag_task load --lines",
        "1.0 MiB 1.0 MiB 1.0 MiB 2 kept = allocate(MIB) ← peak",
        "3 %thag_lines load",
        "4",
        "5 more = allocate(8 * MIB)",
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%thag_lines", "UsageError: %thag_lines: no lines have been recorded yet; ask for them with %%thag_task load"),
        ("%thag_lines plain", "NoLinesError: no lines of 'plain' were recorded"),
        ("%thag_lines nosuch", "UnknownContextError: no context is called 'nosuch'"),
    ],
)
def test_lines_that_nobody_recorded_are_asked_for_in_vain(line, words):
    code = f"""
        typed("%%thag_task -q plain\\n1;")
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            text = typed({line!r})
        said(text + errors.getvalue())
    """
    assert words in told(code)


def test_a_cell_is_called_so_after_a_reset_in_it():
    text = told("""said(typed("%%thag_task load --lines\\nkept = allocate(MIB)\\n%thag_reset"))""")
    assert "peak at line 2" in text


ROWS = """
    SIZE = 1 << 20
    def typed(source):
        import contextlib, io
        with contextlib.redirect_stdout(io.StringIO()):
            return run(source, store_history=True)
    def large(by="line", recording=None):
        "File and line of those rows that are of a large block."
        frame = thag_nb.lines("load", by, recording=recording)
        frame = frame[(frame.file != "") & (frame.total_bytes >= SIZE)]
        return list(zip(frame.file, map(int, frame.line)))
    def said(value):
        print(json.dumps(value))
    shell.user_ns["large"] = large
    BUILD = "SIZE = 1 << 20\\ndef build():\\n    return bytearray(SIZE)"
    typed(BUILD)
    LOAD = "%thag_task -q load --lines\\nis_none = build() is None"
"""


def recorded(code: str) -> Any:
    """What `code` says beside a shell in which In[1] has a function that allocates, and no lines are recorded yet."""
    return last_line(in_shell(textwrap.dedent(ROWS) + textwrap.dedent(code)))


def test_a_function_of_a_cell_that_recorded_no_lines_is_of_that_cell_wherever_it_is_shown(tmp_path):
    path = tmp_path / "run.json"
    found = recorded(f"""
        from thag_nb.recordings.model import Recording
        from thag_nb.sites.peak import peak_lines
        typed(LOAD)
        recording = thag_nb.read()
        recording.save({str(path)!r})
        stack = thag_nb.lines("load", "stack")["stack"].iloc[0]
        said([
            large(), large("function"), large("file"), large("cell"), large(recording=Recording.load({str(path)!r})),
            [place[:2] for place in stack],
            "In[1] line 3" in thag_nb.flame("load").alt,
            "build (In[1]:3)" in thag_nb.collapsed_stacks("load"),
            list(peak_lines(recording).values()),
        ])
    """)
    inside, called = [["In[1]", 3]], [["In[2]", 2]]
    whole = [["In[1]", 0]]
    assert found == [inside, whole, whole, called, inside, called + inside, True, True, ["peak at line 3 of In[1]"]]


def test_a_function_of_what_a_cell_ran_in_turn_is_called_so_until_a_cell_has_that_text():
    code = """
        shell.compile.get_code_name = lambda raw, _code, _number: f"/tmp/ipykernel_5/{sum(map(ord, raw))}.py"
        names = []
        for cell in ("%%capture caught\\n" + BUILD.replace("build", "made"), BUILD.replace("build", "made")):
            typed(cell)
            typed(LOAD.replace("build", "made"))
            names.append(large()[0])
        said(names)
    """
    assert recorded(code) == [["In[2] nested", 3], ["In[4]", 3]]


def test_the_cell_that_runs_is_called_so_in_it():
    assert recorded("""
        typed(LOAD + "\\nlines, cells = large(), large('cell')")
        said([("In[1]", 3) in shell.user_ns["lines"], ("In[2]", 2) in shell.user_ns["cells"]])
    """) == [True, True]


@pytest.mark.parametrize(
    ("get_code_name", "after_it_ran_again"),
    [
        ("shell.compile.get_code_name", "In[2]"),  # each run has a file of its own
        ("lambda raw, _code, _number: f'/tmp/ipykernel_5/{sum(map(ord, raw))}.py'", "In[6]"),
    ],
    ids=["terminal", "kernel"],
)
def test_a_function_is_called_by_the_newest_cell_that_made_it_and_still_so_when_all_has_ended(
    get_code_name, after_it_ran_again
):
    code = f"""
        shell.compile.get_code_name = {get_code_name}
        typed(BUILD)
        typed("1")
        typed(LOAD)
        names = []
        for cell in ("1", BUILD, LOAD, "%reset -f", "%unload_ext thag_nb"):
            typed(cell)
            names.append(large()[0][0])
        said(names)
    """
    assert recorded(code) == ["In[2]", after_it_ran_again, "In[6]", "In[6]", "In[6]"]


def test_a_function_that_was_deleted_is_gone_when_the_next_cell_ends():
    assert recorded("""
        import weakref
        typed(LOAD)
        around = []
        code = weakref.ref(shell.user_ns["build"].__code__, lambda _: around.append(current()))
        typed("2")
        kept = code() is not None
        typed("del build")
        typed("3")
        said([kept, code() is None, "system" in around, len(around)])
    """) == [True, True, False, 1]


def test_nothing_is_left_behind():
    code = """
        typed("%%thag_task load --lines\\nkept = allocate(MIB)")
        run("%unload_ext thag_nb")
        said([name for name in shell.magics_manager.magics["line"] if name.startswith("thag")])
    """
    assert told(code) == []


def test_what_is_held_is_told_with_where_it_was_allocated():
    code = """
        typed("MIB = 1 << 20\\ndef build(n):\\n    return bytearray(n * MIB)")
        run("%config ThagNb.lines = True")
        text = typed("%%thag_task load\\nkept = bytearray(20 * MIB)\\nleft = build(40)\\n%thag_retained load")
        again = typed("%thag_retained load")
        table = thag_nb.retained("load", namespace=shell.user_ns).set_index("holder").allocated_at
        rows = [[" ".join(row.split()) for row in shown.splitlines() if " del " in row] for shown in (text, again)]
        said([rows, again.splitlines()[0].split("  "), [table["kept"], table["left"]]])
    """
    (during, after), head, table = last_line(in_shell(textwrap.dedent(LISTENING) + textwrap.dedent(code)))
    assert during == after
    assert after == [
        "left 40.0 MiB 67% In[1] line 3 del left",
        "kept 20.0 MiB 33% In[2] line 2 del kept",
    ]
    assert "allocated at" in head
    assert table[0] == "In[2] line 2"
    assert table[1].endswith(" line 3")


def compared(*cells: str) -> list[str]:
    """The sentences about lines of what is said when ``slow`` and ``fast`` are compared."""
    code = textwrap.dedent(LISTENING) + textwrap.dedent(f"""
        for cell in {cells!r}:
            typed(cell)
        said([row for row in typed("%thag_compare slow fast").splitlines() if " line" in row])
    """)
    said: list[str] = last_line(in_shell(code))
    return said


MIBS = "\n".join(f"x{number} = bytearray({{}} << {20 + number})" for number in range(7))


def test_a_comparison_tells_in_which_lines_it_became_better():
    slow, fast = (
        "%%thag_task slow --lines\n" + MIBS.format(*[2] * 7),
        "%%thag_task fast --lines\n" + MIBS.format(*[1] * 7),
    )
    assert compared(slow, fast) == [
        "In[2] line 8 fell from 128.0 MiB to 64.0 MiB",
        "In[2] line 7 fell from 64.0 MiB to 32.0 MiB",
        "In[2] line 6 fell from 32.0 MiB to 16.0 MiB",
        "In[2] line 5 fell from 16.0 MiB to 8.0 MiB",
        "In[2] line 4 fell from 8.0 MiB to 4.0 MiB",
        "... and 2 lines more",
    ]


def test_a_comparison_with_what_has_no_lines_tells_of_none():
    assert (
        compared("%%thag_task slow\nx = bytearray(2 << 20)", "%%thag_task fast --lines\nx = bytearray(1 << 20)") == []
    )
    one = "%%thag_task {} --lines\nx = bytearray({} << 20)"
    assert compared(one.format("slow", 1), one.format("fast", 3)) == ["In[2] line 2 rose from 1.0 MiB to 3.0 MiB"]


def test_without_a_name_the_newest_is_shown_that_has_its_lines_and_not_the_cell_that_asks() -> None:
    shown = in_shell(
        textwrap.dedent(LISTENING)
        + textwrap.dedent("""
            typed("%config ThagNb.lines = True")
            typed("x = bytearray(2 << 20)")
            first = typed("%thag_lines")
            typed("%%thag_task load\\ny = bytearray(2 << 20)")
            second = typed("%thag_lines")
            typed("z = bytearray(3 << 20)")
            third = typed("%thag_lines")
            said([text.splitlines()[0].split(" · ")[0] for text in (first, second, third)])
        """)
    )
    assert last_line(shown) == ["In[2]", "load", "In[6]"]


@pytest.mark.parametrize("more", ["", "b = [1] * 1000\n", "del a\na = 1\n"])
def test_the_front_end_s_own_work_is_not_the_line_of_the_peak(more: str) -> None:
    cell = f"%thag_task load --lines\na = bytearray(8 << 20)\n{more}"
    code = f"""
        text = typed({cell!r})
        said(text.splitlines()[0].rpartition(" · ")[2])
    """
    told_as = last_line(in_shell(textwrap.dedent(LISTENING) + textwrap.dedent(code)))
    assert told_as in ("peak at line 2", "most at peak: line 2")
