"""The extension in real kernels."""

import re
import sys

import IPython
import kernels
import pytest
from processes import python

from thag_nb.mimebundle import NO_MATHJAX

LOAD = "%load_ext thag_nb\nimport thag_nb"
NAMES = """
import json
print(json.dumps([(record.kind, record.name, record.state, record.parent_id) for record in thag_nb.read().contexts]))
"""


@pytest.fixture(scope="module")
def session() -> dict[str, kernels.Cell]:
    """One kernel through the life of a notebook; cells by their source."""
    sources = [
        LOAD,
        "plain = [1] * 1000",
        "%%thag_task load\nkept = bytearray(100 << 20)\nlen(kept)",
        "%%thag_task awaiting\nimport asyncio\nblock = bytearray(200 << 20)\nawait asyncio.sleep(0.01)\n'awaited'",
        "%%thag_task strings\ntext = '''a\nb\n  c'''\ntext",
        "%%thag_task quiet_value\n12345;",
        "%%thag_task failing\n\n1/0",
        "%%time\n%%thag_task timed_above\nsum(range(10))",
        "%%thag_task timed_below\n%%time\nsum(range(10))",
        "%%capture captured\n%%thag_task captured_task\nprint('inside')",
        "%thag_task first\na = bytearray(30 << 20)\n%thag_task second\nb = bytearray(40 << 20)",
        "%%thag_task 'two words' --no-plot\npass",
        "%%thag_task silent --quiet\npass",
        "%%thag_system\nunseen = bytearray(5_000_000)",
        "",
        "def broken(:",
        "get_ipython().run_cell('nested = bytearray(600_000)');",
        "get_ipython().run_cell_magic('thag_task', 'by call', 'c = 5\\nc * 2')",
        "In[3]",
        "%thag",
        "%thag_status",
        "_ = thag_nb.read()",
        NAMES,
    ]
    cells = kernels.run(*sources)
    return dict(zip(sources, cells, strict=True))


def cell(session: dict[str, kernels.Cell], start: str) -> kernels.Cell:
    return next(found for source, found in session.items() if source.startswith(start))


def line(found: kernels.Cell) -> str:
    return found.displays[-1]["text/plain"]


def names(session: dict[str, kernels.Cell]) -> list[list[str]]:
    return kernels.value(session[NAMES])


def test_loading_and_plain_cells_are_silent(session):
    assert cell(session, "%load_ext") == cell(session, "plain") == kernels.Cell()


def test_a_task_cell_shows_its_value_then_one_line_and_a_picture(session):
    value, bundle = cell(session, "%%thag_task load").displays
    assert value["text/plain"] == str(100 << 20)
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"].startswith("load · peak 100.0 MiB")
    assert " · kept 100.0 MiB" in bundle["text/plain"]
    assert bundle["text/plain"].count(" · ") == 4
    assert '<img alt="Live bytes of load over ' in bundle["text/html"]
    assert "<table style" in bundle["text/html"]


def test_what_untrusted_notebooks_strip_is_not_used(session):
    for found in (cell(session, "%%thag_task load"), session["%thag"]):
        html = re.sub("<script>.*</script>", "", found.displays[-1]["text/html"], flags=re.DOTALL)
        html = html.replace(f'class="{NO_MATHJAX}"', "")  # which no look depends on
        assert "<img alt=" in html
        assert "<table style" in html
        assert not any(word in html for word in ("<style", "<svg", "<script", "class=", "var("))


def test_top_level_await_works(session):
    found = cell(session, "%%thag_task awaiting")
    assert found.error is None
    assert found.displays[0]["text/plain"] == "'awaited'"
    assert line(found).startswith("awaiting · peak 200.0 MiB · kept 200.0 MiB")


def test_multi_line_strings_are_untouched(session):
    assert cell(session, "%%thag_task strings").displays[0]["text/plain"] == r"'a\nb\n  c'"


def test_a_trailing_semicolon_hides_the_value(session):
    assert len(cell(session, "%%thag_task quiet_value").displays) == 1


def test_a_failing_cell_shows_one_traceback_with_the_right_line_and_the_summary(session):
    found = cell(session, "%%thag_task failing")
    assert found.error == "division by zero"
    assert found.traceback.count("Traceback (most recent call last)") == 1
    assert "line 3" in found.traceback
    assert "thag_nb" not in found.traceback.replace("run_line_magic", "")
    assert line(found).startswith("failing · peak ")


def test_a_failing_cell_stops_run_all():
    cells = kernels.run(LOAD, "%%thag_task failing\n1/0", "print('reached')", allow_errors=False)
    assert (cells[1].error, cells[2].text) == ("division by zero", "")


def test_time_works_above_and_below(session):
    for start, name in (("%%time", "timed_above"), ("%%thag_task timed_below", "timed_below")):
        found = cell(session, start)
        assert "Wall time" in found.text
        assert found.displays[0]["text/plain"] == "45"
        assert line(found).startswith(f"{name} · peak ")


def test_capture_above_keeps_the_task(session):
    assert ["task", "captured_task", "ended"] in [name[:3] for name in names(session)]


def test_a_second_line_magic_ends_the_first_task(session):
    first, second = cell(session, "%thag_task first").displays
    assert first["text/plain"].startswith("first · peak 30.0 MiB")
    assert second["text/plain"].startswith("second · peak 40.0 MiB")


def test_options_choose_what_is_shown(session):
    assert set(cell(session, "%%thag_task 'two words'").displays[0]) == {"text/plain"}
    assert line(cell(session, "%%thag_task 'two words'")).startswith("two words · ")
    assert cell(session, "%%thag_task silent").displays == []


def test_callers_of_run_cell_magic_get_the_last_value(session):
    found = cell(session, "get_ipython().run_cell_magic")
    assert found.error is None
    assert found.displays[0]["text/plain"] == "10"
    assert line(found).startswith("by call · ")


def test_every_executed_cell_is_one_context_and_none_is_left_open(session):
    contexts = names(session)
    cells = [name for kind, name, *_ in contexts if kind == "cell"]
    opened = [name for kind, name, state, _ in contexts if kind != "root" and kind != "system" and state == "open"]
    assert opened == [cells[-1]]
    # The empty cell and the one that loaded us have none; %%capture and run_cell run one more inside.
    assert len(cells) == len(session) - 2 + 2


def test_cells_are_called_by_their_prompt_numbers():
    cells = kernels.run(LOAD, "a = 1", "%%thag_task x -q\npass", NAMES, "Out, In[2]")
    assert [name for kind, name, *_ in kernels.value(cells[3]) if kind == "cell"] == ["In[2]", "In[3]", "In[4]"]
    assert "a = 1" in cells[4].displays[0]["text/plain"]


def test_nested_cells_are_under_the_cell_that_ran_them(session):
    contexts = names(session)
    parents = [parent for kind, _, _, parent in contexts if kind == "cell"]
    assert sum(parent != 1 for parent in parents) == 2


def test_the_cost_table_nests_tasks_under_cells_and_shows_root_and_overhead(session):
    text = line(session["%thag"])
    assert text.splitlines()[0].split()[:4] == ["context", "peak", "kept", "live"]
    assert "\n    load " in text
    assert "\nroot " in text
    assert "\nkept by allocators, or from before " in text
    assert "\nthag_nb itself " in text
    assert "Live bytes are not RSS" in text


def test_status_says_that_it_records(session):
    seen, details = session["%thag_status"].text.splitlines()
    assert seen == (
        "Recording. Everything of Python and NumPy is seen, and of what other libraries ask the C library or the "
        "system for, Arrow, Polars and DuckDB among them; memory on a GPU, and what was there before, are not."
        if sys.platform == "linux"
        else "Recording. Everything of Python and NumPy is seen; Arrow, Polars and other native code are not."
    )
    assert details.startswith("state: recording; hooks: raw on top, mem on top")
    assert seen in line(session["%thag"])
    assert " in cells and tasks, " in line(session["%thag"])


def test_a_comment_behind_a_magic_is_not_part_of_the_name():
    found = kernels.run(LOAD, "%thag_task load  # the big one\n1;")[1]
    assert found.displays[0]["text/plain"].startswith("load · ")


def test_many_tasks_in_one_cell_are_reported_briefly():
    found = kernels.run(
        LOAD, "for number in range(30):\n    get_ipython().run_line_magic('thag_task', f'step {number}')"
    )[1]
    assert [set(bundle) for bundle in found.displays] == [{"text/plain"}] * 10
    assert found.displays[-1]["text/plain"].startswith("step 29 · ")
    assert found.text == "... and 20 tasks before these; %thag and thag_nb.contexts() have them all\n"


BAD = {
    "%thag_task 'open": "%thag_task: No closing quotation; see %thag_task?",
    "%%thag_task\npass": "%thag_task needs a name for the task: %thag_task load",
    "%%thag_task x --nosuch\npass": "%thag_task: unrecognized arguments: --nosuch; see %thag_task?",
    "%thag_mark": "%thag_mark takes the name of the moment, as in: %thag_mark after the join",
    "%thag_mark x --nosuch": "%thag_mark: unrecognized arguments: --nosuch; see %thag_mark?",
    "thag_nb.mark(3)": "mark name must be a str, not 3",
    "%thag all": "%thag takes no arguments, not 'all'",
    "thag_nb.timeline('nosuch')": "no context is called 'nosuch'; known: ",
    "thag_nb.task(3)": "context name must be a str, not 3",
}


def test_bad_input_gets_one_sentence_and_loses_nothing():
    cells = kernels.run(LOAD, "%%thag_task kept -q\nblock = bytearray(1_000_000)", *BAD, "thag_nb.read().find('kept')")
    for found, sentence in zip(cells[2:-1], BAD.values(), strict=True):
        shown = found.text or found.traceback
        assert sentence in shown
        assert shown.strip().count("\n") == 0
        assert "Traceback" not in shown
    assert cells[-1].error is None


WORK = "table = bytearray({size})\ndel table"


@pytest.fixture(scope="module")
def compared() -> dict[str, kernels.Cell]:
    """A notebook in which a cell was edited and run again; magics that compare, by their source."""
    magics = [
        "%thag_compare",
        "%thag_compare In[5]",
        "%thag_compare In[2]",
        "%thag_compare In[3]",
        "%thag_compare nosuch",
        "%thag_compare load 'the fast one'",
        "%thag_compare load",
        '%thag_compare "the fast one"',
        "%thag_compare load --with monday.json.gz  # and now",
        "%thag_compare --with 'monday.json.gz'  # all of it",
        "%thag_compare --with nosuch.json",
        "%thag_compare a b c",
        "%thag_compare nosuch --with monday.json.gz",
        "%thag_compare 'open",
    ]
    cells = kernels.run(
        LOAD + "\nimport os, tempfile\nos.chdir(tempfile.mkdtemp())",
        ("edited", WORK.format(size=80 << 20)),
        ("other", "a = 1"),
        ("looking", "%thag_compare"),
        ("edited", WORK.format(size=20 << 20)),
        "thag_nb.read().save('monday.json.gz')",
        *[f"%%thag_task load -q\nkept_{size} = bytearray({size} << 20)" for size in (30, 90)],
        "%%thag_task 'the fast one' -q\npass",
        "thag_nb.read().save('monday.json.gz')",
        "%%thag_task load -q\nkept = bytearray(10 << 20)",
        *[("looking", magic) for magic in magics],
    )
    return {"first": cells[3], **dict(zip(magics, cells[-len(magics) :], strict=True))}


def test_comparing_without_names_shows_the_last_two_runs_of_an_edited_cell(compared):
    (bundle,) = compared["%thag_compare"].displays
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"].startswith("In[2] -> In[5]: peak 80.")
    assert " MiB, 4.0 times less (better); " in bundle["text/plain"]
    assert '<img alt="Live bytes of In[2] and In[5], both from their start. ' in bundle["text/html"]


def test_comparing_a_cell_compares_it_with_its_run_before(compared):
    assert line(compared["%thag_compare In[5]"]).startswith("In[2] -> In[5]: peak 80.")


def test_comparing_names_compares_the_newest(compared):
    assert line(compared["%thag_compare load 'the fast one'"]).startswith("load -> the fast one: peak 10.0 MiB -> ")
    assert line(compared["%thag_compare load"]).startswith("load: peak 90.0 MiB -> 10.0 MiB, 9.0 times less (better); ")


def test_comparing_with_a_file_compares_what_was_saved_with_now(compared):
    found = line(compared["%thag_compare load --with monday.json.gz  # and now"])
    assert found.startswith("load: peak 90.0 MiB -> 10.0 MiB, 9.0 times less (better); ")
    everything = line(compared["%thag_compare --with 'monday.json.gz'  # all of it"])
    assert everything.startswith("load: peak 90.0 MiB -> 10.0 MiB, 9.0 times less (better); ")
    assert "\nIn[11]: only after, peak 10." in everything
    assert "\nthe same in everything: " in everything


CANNOT_BE_COMPARED = {
    "first": "no cell is known to have run twice; name two, as in %thag_compare In[3] In[7]",
    "%thag_compare In[2]": "no earlier run of the cell of 'In[2]' is known; name two, as in %thag_compare In[3] In[7]",
    "%thag_compare In[3]": "no earlier run of the cell of 'In[3]' is known; name two, as in %thag_compare In[3] In[7]",
    "%thag_compare nosuch": "no context is called 'nosuch'; known: load, the fast one, In[",
    '%thag_compare "the fast one"': "only one 'the fast one' has been recorded; run it again, or name what to compare",
    "%thag_compare --with nosuch.json": "%thag_compare cannot read 'nosuch.json': No such file or directory",
    "%thag_compare a b c": "%thag_compare takes at most two names, not 3; put one with blanks in quotes",
    "%thag_compare nosuch --with monday.json.gz": "no context in the recording before is called 'nosuch'; known: ",
    "%thag_compare 'open": "%thag_compare: No closing quotation; see %thag_compare?",
}


@pytest.mark.parametrize("source", CANNOT_BE_COMPARED)
def test_what_cannot_be_compared_is_one_sentence(compared, source):
    found = compared[source]
    shown = found.text or found.traceback
    assert CANNOT_BE_COMPARED[source] in shown
    assert shown.strip().count("\n") == 0
    assert found.displays == []


def test_a_missing_native_module_is_one_sentence_in_a_kernel():
    hide = "import sys; sys.modules['thag_nb._native'] = None"
    found = kernels.run(hide, "%load_ext thag_nb")[1]
    assert "the native module of thag_nb cannot be loaded" in found.traceback
    assert "run `python -m pip install -e .`" in found.traceback
    assert "Traceback" not in found.traceback


def test_unloading_leaves_the_shell_as_it_was_found():
    look = """
ip = get_ipython()
state = lambda: (
    sorted(ip.magics_manager.magics["line"]), sorted(ip.magics_manager.magics["cell"]),
    sorted(ip.magics_manager.registry), len(ip.configurables), list(ip.input_transformers_cleanup),
    {name: [str(c) for c in found] for name, found in ip.events.callbacks.items()},
    sorted(map(str, ip.strdispatchers["complete_command"].strs)),
)
"""
    cells = kernels.run(
        "%unload_ext nosuch",  # IPython registers its own extension magics at their first use
        look + "import thag_nb\nfrom thag_nb import _native\nbefore, hooks = state(), _native.allocators()",
        "%load_ext thag_nb",
        "%reload_ext thag_nb",
        "%%thag_task alive --quiet\nblock = bytearray(1000)",
        "%unload_ext thag_nb",
        "assert state() == before, (state(), before)\nassert _native.allocators() == hooks",
        "%thag",
        "%load_ext thag_nb",
        "%%thag_task again --quiet\nblock = bytearray(1000)",
        "for _ in range(20):\n    %reload_ext thag_nb",
        "%unload_ext thag_nb",
        "assert state() == before\nassert _native.allocators() == hooks",
    )
    assert [found.error for found in cells] == [None] * len(cells)
    assert "not found" in cells[7].text


def test_a_mark_is_put_on_the_timeline_of_its_cell_or_task_silently():
    code = "print(json.dumps([[mark.name, taken.find(mark.context_id).name] for mark in taken.marks]))"
    cells = kernels.run(
        LOAD,
        "%thag_mark loaded",
        "%thag_task join -q\n%thag_mark 'half  done'  # of it\nthag_nb.mark('by call')",
        f"import json; taken = thag_nb.read(); {code}",
    )
    assert cells[1] == cells[2] == kernels.Cell()
    assert kernels.value(cells[3]) == [["loaded", "In[2]"], ["half  done", "join"], ["by call", "join"]]


def test_unloading_turns_off_what_marks_collections():
    cells = kernels.run(
        "import gc; found = list(gc.callbacks)",
        LOAD,
        "from thag_nb.runtime import marks; marks.show_collections(True); gc.collect()",
        "assert thag_nb.read().marks[-1].kind == 'collection'",
        "%unload_ext thag_nb",
        "assert gc.callbacks == found",
    )
    assert [found.error for found in cells] == [None] * len(cells)


def test_what_libraries_ask_for_is_recorded_unless_it_is_configured_otherwise():
    cells = kernels.run(
        "import sqlite3\nrows = [(i, 'x' * 50) for i in range(20_000)]\n"
        "def fill():\n    base = sqlite3.connect(':memory:')\n    base.execute('create table t(a, b)')\n"
        "    base.executemany('insert into t values(?, ?)', rows)\n    return base",
        LOAD,
        "%%thag_task before -q\nbefore = fill()",
        "%config ThagNb.native = False",
        "%%thag_task during -q\nduring = fill()",
        "%config ThagNb.native = True",
        "%thag_status",
        "%%thag_task after -q\nafter = fill()",
        "kept = [thag_nb.read().find(name).self_live_bytes for name in ('before', 'during', 'after')]\n"
        "assert min(kept[0], kept[2]) > 1_000_000 > 10 * kept[1], kept",
        "%unload_ext thag_nb",
    )
    assert [found.error for found in cells] == [None] * len(cells)
    assert "of what other libraries ask the C library" in cells[6].text


def test_what_libraries_ask_for_is_not_recorded_where_the_environment_forbids_it():
    cells = kernels.run(
        "import os; os.environ['THAG_NB_NATIVE'] = '0'",
        LOAD,
        "assert thag_nb.status().hooks['native'] == 'absent'",
        "%config ThagNb.native = True",
        "assert thag_nb.status().hooks['native'] == 'absent'",
    )
    assert [found.error for found in cells] == [None] * len(cells)


def test_reset_forgets_earlier_cells():
    cells = kernels.run(LOAD, "%%thag_task old -q\npass", "%thag_reset", NAMES)
    assert [name for _, name, *_ in kernels.value(cells[-1])] == ["root", "system", "In[3]", "In[4]"]


def test_names_and_options_are_completed():
    code = """
from IPython.core.completer import provisionalcompleter
ip = get_ipython()
print(ip.complete("--no", "%%thag_task --no")[1], ip.complete("lo", "%%thag_task lo")[1])
print(ip.complete("", "%thag_compare ")[1])
"""
    cells = kernels.run(LOAD, "%%thag_task load -q\npass", "%%thag_task two words -q\npass", code)
    assert """['"two words"', 'In[2]', 'In[3]', 'In[4]', 'load', '--with']""" in cells[-1].text
    assert "--no-plot" in cells[-1].text
    assert "load" in cells[-1].text


def test_help_tells_usage_and_options():
    cells = kernels.run(LOAD, "print(get_ipython().find_magic('thag_task').__doc__)")
    assert "--no-plot" in cells[-1].text
    assert "below the cell" in cells[-1].text.lower()


def test_loading_does_not_load_pandas_or_matplotlib():
    code = "import sys; print(sorted({'pandas', 'matplotlib', 'numpy'} & set(sys.modules)))"
    cells = kernels.run(code, LOAD, "x = 1", code)
    assert cells[-1].text == cells[0].text


def test_a_terminal_gets_text_and_loads_no_matplotlib():
    code = """
        import sys
        from IPython.terminal.interactiveshell import TerminalInteractiveShell
        shell = TerminalInteractiveShell.instance(simple_prompt=True, colors="nocolor")
        task = "%%thag_task load\\nx = bytearray(100 << 20)\\nawait __import__('asyncio').sleep(0)"
        for cell in ("%load_ext thag_nb", task, "%thag", task, "%thag_compare load", "%thag_compare"):
            shell.run_cell(cell, store_history=True)
        print("matplotlib" in sys.modules)
    """
    text = python(code)
    assert "\nload: " in text
    assert "no cell is known to have run twice" in text
    assert "load · peak 100.0 MiB · kept 100.0 MiB" in text
    assert "thag_nb itself" in text
    assert text.endswith("False\n")


def test_cells_are_called_as_in_the_notebook_whatever_they_say_or_run():
    cells = kernels.run(
        LOAD,
        "copy = 'paste'  # IPython keeps such a cell with a magic out of its history\n%thag_status",
        "%%capture\nblock = bytearray(1000)",
        "get_ipython().run_cell('get_ipython().run_cell(\"1\")');",
        "",
        "def broken(:",
        "last = 5",
        NAMES,
    )
    names = [name for kind, name, *_ in kernels.value(cells[-1]) if kind == "cell"]
    # IPython 8 gives the number of a cell that it does not keep to the next one again.
    third = 3 if IPython.version_info >= (9,) else 2
    assert names == [
        "In[2]",
        f"In[{third}]",
        f"In[{third}] nested",
        f"In[{third + 1}]",
        f"In[{third + 1}] nested",
        f"In[{third + 1}] nested",
        *(f"In[{third + further}]" for further in (2, 3, 4)),
    ]


def test_quotes_inside_a_name_stay():
    cells = kernels.run(
        LOAD,
        '%%thag_task -q say "hi"\npass',
        '%%thag_task -q "it\'s"\npass',
        "%%thag_task -q 'two  words'\npass",
        NAMES,
    )
    names = [name for kind, name, *_ in kernels.value(cells[-1]) if kind == "task"]
    assert names == ["say hi", "it's", "two  words"]


def test_the_rest_of_the_session_is_written_as_a_page_and_marked(tmp_path):
    page = tmp_path / "session.html"
    cells = kernels.run(
        LOAD,
        "import gc; before = list(gc.callbacks)\n%thag_mark the start",
        "%config ThagNb.collections = True",
        "gc.collect();",
        f"%thag_report '{page}'",
        f"%thag_report {tmp_path / 'none' / 'x.html'}",
        "%thag_report",
        "[mark.name for mark in thag_nb.read().marks][:2]",
        "%unload_ext thag_nb\ngc.callbacks == before",
    )
    assert line(cells[4]) == f"wrote {page}"
    assert page.read_text().startswith("<!doctype html>")
    assert "is in no folder that exists; make " in cells[5].text
    assert "%thag_report: " in cells[6].text + cells[6].traceback
    assert cells[7].displays[0]["text/plain"] == "['the start', 'gc 2']"
    assert cells[8].displays[0]["text/plain"] == "True"


def test_a_foreign_file_and_a_wrong_configuration_are_told_and_nothing_breaks(tmp_path):
    page = tmp_path / "mine.html"
    page.write_text("mine")
    cells = kernels.run(
        LOAD,
        f"%thag_report {page}",
        f"%thag_report --overwrite {page}",
        "%config ThagNb.plots = 'yes'",
        "%reload_ext thag_nb",
        "%thag_status",
        "%%thag_task goes_on\npass",
    )
    assert "or replace it with --overwrite" in cells[1].text + cells[1].traceback
    assert line(cells[2]) == f"wrote {page}"
    assert "The configuration of ThagNb is left out." in cells[4].text
    assert cells[5].text.startswith("Recording. ")
    assert line(cells[6]).startswith("goes_on · ")
