"""One context for each executed cell, however cells begin and end."""

import json
import textwrap
from typing import Any

import kernels
import pytest
from processes import python
from shells import in_shell, last_line


def test_the_same_figures_whether_or_not_the_cell_awaits():
    measure = "{a}blocks_{n} = [bytearray(1000) for _ in range(10_000)]; small_{n} = bytearray(3_000_000)"
    sources = ["%load_ext thag_nb\nimport thag_nb, asyncio, json", "_ = bytearray(1)", "await asyncio.sleep(0)"]
    sources += [measure.format(a="", n=1), measure.format(a="await asyncio.sleep(0); ", n=2)]
    sources += [
        "contexts = thag_nb.contexts()\n"
        "cells = contexts[contexts.kind == 'cell'].iloc[-3:-1]\n"
        "print(cells[['live_bytes', 'retained_bytes']].to_json(orient='values'))"
    ]
    (sync_live, sync_kept), (awaiting_live, awaiting_kept) = kernels.value(kernels.run(*sources)[-1])
    assert 13_000_000 < sync_live < 14_000_000
    assert abs(sync_live - awaiting_live) < 10_000
    assert abs(sync_kept - awaiting_kept) < 20_000


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
assert libc.pthread_create(ctypes.byref(thread), None, routine, ctypes.c_void_p(300_000)) == 0
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
    assert found["native"] >= 300_000
    assert found["In[1]"] >= 300_000


SUBSHELLS = """
    import json, sys, time
    sys.path.insert(0, "tests/support")
    from kernels import ThisPython
    from jupyter_client.manager import KernelManager
    manager = KernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    def ask(kind, channel, content, subshell=None):
        message = client.session.msg(kind, content)
        message["header"]["subshell_id"] = subshell
        channel.send(message)
        return message["header"]["msg_id"]
    def reply(channel, message_id):
        while True:
            message = channel.get_msg(timeout=60)
            if message["parent_header"].get("msg_id") == message_id:
                return message["content"]
    def cell(code, subshell=None):
        content = dict(code=code, silent=False, store_history=True, user_expressions={}, allow_stdin=False)
        return ask("execute_request", client.shell_channel, content, subshell)
    support = client.kernel_info(reply=True, timeout=60)["content"].get("supported_features", [])
    if "kernel subshells" not in support:
        print("null")
    else:
        assert reply(client.shell_channel, cell("%load_ext thag_nb\\nimport thag_nb, time, json"))["status"] == "ok"
        made = ask("create_subshell_request", client.control_channel, {})
        subshell = reply(client.control_channel, made)["subshell_id"]
        work = ("%thag_task {name} -q\\nkeep_{name} = []\\nfor _ in range(20):\\n"
                "    keep_{name}.append(bytearray({size})); time.sleep(0.02)")
        first = cell(work.format(name="main", size=10_000))
        second = cell(work.format(name="sub", size=300_000), subshell)
        waiting = {first, second}
        while waiting:
            message = client.shell_channel.get_msg(timeout=60)
            waiting.discard(message["parent_header"].get("msg_id"))
        rows = "(r.kind, r.name, r.state, r.self_live_bytes, r.parent_id) for r in thag_nb.read().contexts"
        content = dict(code="1", silent=False, store_history=True, allow_stdin=False)
        content["user_expressions"] = {"x": f"json.dumps([{rows}])"}
        asked = ask("execute_request", client.shell_channel, content)
        print(eval(reply(client.shell_channel, asked)["user_expressions"]["x"]["data"]["text/plain"]))
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


def test_two_subshells_that_run_cells_in_parallel_do_not_mix():
    found = json.loads(python(SUBSHELLS).splitlines()[-1])
    if found is None:
        pytest.skip("this ipykernel has no subshells")
    live = {name: size for kind, name, _, size, _ in found if kind == "task"}
    assert 20 * 10_000 <= live["main"] < 20 * 10_000 + 50_000
    assert 20 * 300_000 <= live["sub"] < 20 * 300_000 + 50_000
    assert all(parent == 1 for kind, _, _, _, parent in found if kind == "cell")
    assert all(state == "ended" for kind, _, state, *_ in found[:-1] if kind in ("cell", "task"))


def test_a_displaced_hook_is_attached_again_at_the_next_cell():
    cells = kernels.run(
        "import tracemalloc\ntracemalloc.start()",
        "%load_ext thag_nb\nimport thag_nb",
        "tracemalloc.stop()",
        "%%thag_task after -q\nblock = bytearray(5_000_000)",
        "print(thag_nb.read().find('after').self_live_bytes)",
        "%thag_status",
    )
    assert int(cells[4].text) >= 5_000_000
    assert "3 domains were hooked again" in cells[5].text
    assert "the gap was not seen" in cells[5].text


def test_tracemalloc_started_and_stopped_within_cells_loses_nothing():
    cells = kernels.run(
        "%load_ext thag_nb\nimport thag_nb, tracemalloc",
        "tracemalloc.start()",
        "%%thag_task traced -q\nblock = bytearray(5_000_000)",
        "tracemalloc.stop()",
        "%%thag_task later -q\nother = bytearray(5_000_000)",
        "print([thag_nb.read().find(name).self_live_bytes >= 5_000_000 for name in ('traced', 'later')])",
        "%unload_ext thag_nb",
        "print(thag_nb.status().state)",
    )
    assert cells[5].text == "[True, True]\n"
    assert cells[7].text == "off\n"


def test_fifty_reloads_with_objects_and_threads_alive_leave_one_layer():
    cells = kernels.run(
        "import threading, time\nfrom thag_nb import _native\nbefore = _native.allocators()\n"
        "stop = threading.Event()\n"
        "def work():\n    while not stop.is_set():\n        [bytearray(1000) for _ in range(100)]; time.sleep(0.001)\n"
        "threads = [threading.Thread(target=work) for _ in range(2)]\n[thread.start() for thread in threads]",
        "keep = []\nfor number in range(50):\n    %reload_ext thag_nb\n    keep.append(bytearray(100_000))",
        "%unload_ext thag_nb",
        "print(_native.allocators() == before, all(thread.is_alive() for thread in threads))\nstop.set()",
    )
    assert [cell.error for cell in cells] == [None] * 4
    assert cells[3].text == "True True\n"


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


def test_a_cell_that_another_asyncio_task_runs_does_not_end_the_one_that_awaits():
    cells = kernels.run(
        "%load_ext thag_nb\nimport asyncio",
        "async def beside():\n    await asyncio.sleep(0.2)\n    get_ipython().run_cell('z = 1')\n"
        "running = asyncio.create_task(beside())",
        "%%thag_task slow\nkeep = bytearray(1_000_000)\nawait asyncio.sleep(1)\nmore = bytearray(4_000_000)",
        "import thag_nb\nslow = thag_nb.read().find('slow')\nprint(slow.state, slow.self_live_bytes > 5_000_000)",
    )
    assert any("slow" in display["text/plain"] for display in cells[2].displays)
    assert cells[3].text == "ended True\n"


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


def test_reloading_inside_a_task_reports_it():
    cells = kernels.run("%load_ext thag_nb", "%%thag_task reloaded\nkeep = bytearray(1_000_000)\n%reload_ext thag_nb")
    assert any("reloaded" in display["text/plain"] for display in cells[1].displays)


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
        from thag_nb.notebook.cells import _RUNS
        for number in range(_RUNS + 10):
            known._runs.append((number, "one"))
        print(json.dumps(len(known._runs) == _RUNS))
    """
    assert runs(code) is True
