"""One context for each executed cell, however cells begin and end."""

import textwrap
from typing import Any

import pytest
from shells import in_shell, last_line


def test_an_empty_cell_has_no_context_and_closes_none():
    code = """
        run("a = 1")
        run("")
        run("   ")
        print(json.dumps([cells(), current()]))
    """
    found, current = last_line(in_shell(code))
    assert [state for _, state, _ in found] == ["ended"]
    assert current == "root"


@pytest.mark.parametrize(
    "source", ["1/0", "def broken(:", "raise SystemExit", "raise KeyboardInterrupt", "%nosuchmagic"]
)
def test_a_cell_that_fails_in_any_way_is_one_ended_context(source):
    code = f"""
        import warnings; warnings.simplefilter("ignore")
        import io, contextlib
        with contextlib.redirect_stdout(io.StringIO()):
            run({source!r})
            run("after = 1")
        print(json.dumps([cells(), current()]))
    """
    found, current = last_line(in_shell(code))
    assert [state for _, state, _ in found] == ["ended", "ended"]
    assert [parent for *_, parent in found] == [1, 1]
    assert current == "root"


def test_a_missing_end_is_repaired_at_the_next_boundary():
    code = """
        lost = shell.events.callbacks["post_run_cell"][:]
        shell.events.callbacks["post_run_cell"].clear()
        run("%thag_task never_ended")
        shell.events.callbacks["post_run_cell"].extend(lost)
        run("next_cell = bytearray(100_000)")
        states = [(r.name, r.state, r.parent_id) for r in thag_nb.read().contexts if r.kind in ("cell", "task")]
        print(json.dumps([states, current()]))
    """
    states, current = last_line(in_shell(code))
    assert [state for _, state, _ in states] == ["ended"] * 3
    assert states[-1][2] == 1
    assert current == "root"


@pytest.mark.parametrize("error", ["ValueError", "KeyboardInterrupt"])
def test_a_cell_whose_output_cannot_be_sent_has_ended_all_the_same(error):
    code = f"""
        import contextlib, io
        class Stream(io.StringIO):
            _flush_pending = True
            def flush(self):
                raise {error}
        shell.user_ns["stream"] = stream = Stream()
        with contextlib.redirect_stdout(io.StringIO()):
            run("%thag_task shown\\nimport sys; sys.stdout = stream")
        print(json.dumps([cells(), current(), "shown" in stream.getvalue()]))
    """
    ((_, state, _),), current, is_shown = last_line(in_shell(code))
    assert (state, current, is_shown) == ("ended", "root", True)


def test_silent_requests_have_no_context():
    code = """
        run("a = 1", silent=True)
        print(cells())
    """
    assert in_shell(code) == "[]\n"


def test_nested_cells_and_run_are_under_the_cell_that_runs_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("block = bytearray(500_000)\n")
    code = f"""
        run("get_ipython().run_cell('inner = 1')")
        run("%run {script}")
        run("%%capture out\\nprint(1)")
        found = cells()
        names = {{r.context_id: r.name for r in thag_nb.read().contexts}}
        print(json.dumps([[names[parent] for _, _, parent in found], [s for _, s, _ in found], current()]))
    """
    parents, states, current = last_line(in_shell(code))
    assert parents.count("root") == 3
    assert len(parents) == 5
    assert set(states) == {"ended"}
    assert current == "root"


def test_guards_left_open_in_a_cell_end_at_its_boundary():
    code = """
        run("import thag_nb; g = thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, 'left open')")
        run("b = bytearray(100_000)")
        print(json.dumps([cells(), current()]))
    """
    found, _ = last_line(in_shell(code))
    assert [parent for *_, parent in found] == [1, 1]


NATIVE_THREAD = """
libc = ctypes.CDLL(None)
routine = ctypes.cast(libc.PyMem_RawMalloc, ctypes.c_void_p)
thread = ctypes.c_ulong()
assert libc.pthread_create(ctypes.byref(thread), None, routine, ctypes.c_void_p(3_000_000)) == 0
libc.pthread_join(thread, None)
"""


def test_native_threads_are_charged_to_the_cell_or_its_task():
    code = f"""
        import ctypes
        run("import ctypes")
        run("%thag_task native\\n" + {NATIVE_THREAD!r})
        run({NATIVE_THREAD!r})
        print(json.dumps({{r.name: r.live_bytes for r in thag_nb.read().contexts}}))
    """
    found = last_line(in_shell(code))
    assert found["native"] >= 3_000_000
    assert found["In[1]"] >= 3_000_000


def test_native_threads_are_nobodys_in_the_part_of_a_cell_that_is_not_recorded_and_the_next_cells_afterwards():
    code = f"""
        import ctypes
        run("import ctypes")
        run("%thag_task before -q\\n%thag_system\\n" + {NATIVE_THREAD!r})
        run("%thag_task between -q\\n%thag_system\\n%thag_task after -q\\n" + {NATIVE_THREAD!r})
        run({NATIVE_THREAD!r})
        print(json.dumps([r.name for r in thag_nb.read().contexts if r.self_live_bytes >= 3_000_000]))
    """
    assert last_line(in_shell(code)) == ["after", "In[1]"]  # and none of the two before


def test_native_threads_of_a_cell_stay_its_own_when_another_that_ran_at_the_same_time_ends():
    code = f"""
        import ctypes, threading
        started, go = threading.Event(), threading.Event()
        shell.user_ns.update(ctypes=ctypes, started=started, go=go)
        long = "started.set(); go.wait()\\n" + {NATIVE_THREAD!r}
        other = threading.Thread(target=lambda: shell.run_cell(long, store_history=True))
        other.start()
        started.wait()
        run("y = 1")
        go.set()
        other.join()
        print(json.dumps([[r.kind, r.self_live_bytes >= 3_000_000] for r in thag_nb.read().contexts]))
    """
    assert last_line(in_shell(code)) == [["root", False], ["system", False], ["cell", True], ["cell", False]]


def test_an_interrupt_in_a_cell_leaves_the_next_cell_clean():
    code = """
        import io, contextlib
        run("import time, os, signal, threading")
        with contextlib.redirect_stdout(io.StringIO()):
            interrupt = "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()"
            run("%thag_task interrupted -q\\n" + interrupt + "\\ntime.sleep(10)")
        run("b = bytearray(100_000)")
        print(json.dumps([cells(), current()]))
    """
    found, current = last_line(in_shell(code))
    assert [parent for *_, parent in found] == [1] * len(found)
    assert current == "root"


def test_a_cell_run_inside_a_task_is_under_it_and_leaves_it_current():
    code = """
        keep = []
        with thag_nb.task("outer") as outer:
            run("x = 1")
            keep.append(bytearray(1_000_000))
            inside = current()
        cell = thag_nb.read().contexts[-1]
        print(json.dumps([inside, current(), cell.parent_id == outer.id, thag_nb.read().find("outer").self_live_bytes]))
    """
    inside, after, nested, live_bytes = last_line(in_shell(code))
    assert (inside, after, nested) == ("outer", "root", True)
    assert live_bytes > 1_000_000


def test_a_cell_run_in_a_thread_of_a_cell_leaves_the_threads_context():
    code = """
        run("import threading, thag_nb; names = []; shell = get_ipython()")
        run("def work():\\n    shell.run_cell('y = 2')\\n    names.append(thag_nb.current_context().name)")
        run("thread = threading.Thread(target=work); thread.start(); thread.join()")
        print(json.dumps([shell.user_ns["names"], [name for name, _, _ in cells()]]))
    """
    (name,), names = last_line(in_shell(code))
    assert name in names


def test_a_task_for_the_rest_of_a_cell_is_refused_in_a_thread_that_runs_none():
    code = """
        import threading
        from thag_nb.errors import NoCellError
        told = []
        def work():
            try:
                shell.run_line_magic("thag_task", "lost")
            except NoCellError as error:
                told.append(str(error))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print(json.dumps(told))
    """
    (told,) = last_line(in_shell(code))
    assert told.startswith("this thread runs no cell")
    assert told.count(". ") == 0


def test_nothing_is_kept_of_threads_that_are_through_with_their_cells_nor_of_tasks_that_are_not_shown():
    code = """
        import threading
        from thag_nb.notebook import extension
        magics = extension._loaded[id(shell)].magics
        def in_thread(work):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        for _ in range(3):
            run("%thag_task -q quiet\\nx = 1")
            run("%thag_task --no-plot shown\\nx = 1")
            in_thread(lambda: run("y = 1"))
            in_thread(magics.cells.report_running)
        print(json.dumps([len(magics._plots), len(magics.cells._running)]))
    """
    assert last_line(in_shell(code)) == [0, 0]


RUNS = """
    from thag_nb.notebook import extension
    known = extension._loaded[id(shell)].magics.cells
    def names(pair):
        found = {r.context_id: r.name for r in thag_nb.read().contexts}
        return pair and [found[context_id] for context_id in pair]
    def last_rerun():
        return names(known.last_rerun(thag_nb.read()))
    def before(name):
        run = known.run_before(thag_nb.read(), thag_nb.read().find(name).context_id)
        return run and names([run])[0]
    def run(source, cell_id=None):
        shell.run_cell(source, store_history=True, cell_id=cell_id)
"""


def runs(code: str) -> Any:
    return last_line(in_shell(textwrap.dedent(RUNS) + textwrap.dedent(code)))


def test_runs_of_one_cell_of_the_notebook_are_known_though_it_was_edited():
    code = """
        run("a = 1", "one")
        run("b = 1", "two")
        run("a = 2", "one")
        run("b = 2", "two")
        run("a = 3", "one")
        run("c = 1", "three")
        print(json.dumps([last_rerun(), before("In[5]"), before("In[4]"), before("In[3]"), before("In[2]")]))
    """
    assert runs(code) == [["In[3]", "In[5]"], "In[3]", "In[2]", "In[1]", None]


def test_cells_without_ids_are_never_the_same():
    code = """
        run("a = 1")
        run("a = 1")
        print(json.dumps([last_rerun(), before("In[2]")]))
    """
    assert runs(code) == [None, None]


@pytest.mark.parametrize("failing", ["def broken(:", "1/0"])
def test_a_run_that_failed_is_not_compared(failing):
    code = f"""
        import contextlib, io
        run("a = 1", "one")
        with contextlib.redirect_stdout(io.StringIO()):
            run({failing!r}, "one")
        run("a = 3", "one")
        print(json.dumps([last_rerun(), before("In[2]")]))
    """
    assert runs(code) == [["In[1]", "In[3]"], None]


def test_the_cell_that_runs_now_is_not_the_one_run_again_last():
    code = """
        run("a = 1", "one")
        run("a = 2", "one")
        shell.user_ns["last_rerun"] = last_rerun
        run("found = last_rerun()", "looking")
        run("found = last_rerun()", "looking")
        run("found = last_rerun()", "looking")
        print(json.dumps(shell.user_ns["found"]))
    """
    assert runs(code) == ["In[1]", "In[2]"]


def test_runs_that_a_reset_forgot_are_not_compared():
    code = """
        run("a = 1", "one")
        run("a = 2", "one")
        thag_nb.reset()
        run("a = 3", "one")
        forgotten = last_rerun()
        run("a = 4", "one")
        print(json.dumps([forgotten, last_rerun()]))
    """
    assert runs(code) == [None, ["In[3]", "In[4]"]]


def test_runs_that_are_remembered_are_bounded():
    code = """
        from thag_nb.notebook import cells as module
        module._RUNS = 3  # 4096 take long to run
        shell.run_line_magic("reload_ext", "thag_nb")
        known = extension._loaded[id(shell)].magics.cells
        for number in range(1, 4):
            run("a = 1", "one")
            run("b = 1", "two")
        print(json.dumps([before("In[6]"), before("In[5]"), before("In[4]"), before("In[3]")]))
    """
    assert runs(code) == ["In[4]", None, None, None]


@pytest.mark.parametrize("source", ["%%thag_task load\nkept = 1", "for _ in (1,):\n    %thag_task load\n    kept = 1"])
def test_what_a_cell_has_cost_is_shown_below_it_though_ipython_itself_fails(source):
    code = f"""
        import contextlib, io
        def fail(*_, **__):
            raise RuntimeError("a disk is full")
        shell.run_ast_nodes, whole = fail, shell.run_ast_nodes
        shell.events.register("pre_run_cell", lambda info: shell.run_line_magic("thag_task", "opened"))
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            run({source!r})
        shell.run_ast_nodes = whole
        print(json.dumps([shown.getvalue(), cells(), current()]))
    """
    shown, found, current = last_line(in_shell(code))
    assert "a disk is full" in shown
    assert "opened · peak " in shown
    assert [state for _, state, _ in found] == ["ended"]
    assert current == "root"


def test_a_nested_cell_in_which_ipython_fails_ends_alone():
    code = """
        import contextlib, io
        shell.user_ns["states"] = lambda: [(r.name, r.state) for r in thag_nb.read().contexts if r.kind == "cell"]
        def inner():
            def fail(*_, **__):
                raise RuntimeError("a disk is full")
            shell.run_ast_nodes, whole = fail, shell.run_ast_nodes
            shell.run_cell("kept = 1")
            shell.run_ast_nodes = whole
        shell.user_ns["inner"] = inner
        with contextlib.redirect_stdout(io.StringIO()):
            run("inner(); found = states()")
        print(json.dumps(shell.user_ns["found"]))
    """
    outer, nested = last_line(in_shell(code))
    assert outer[1] == "open"
    assert nested[1] == "ended"
