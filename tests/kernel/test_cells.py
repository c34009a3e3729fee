"""Cells in real kernels: awaiting, in subshells, under another tool's hooks, and while the extension is reloaded."""

import json
import sys

import kernels
import pytest
from processes import python


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
    header = sys.getsizeof(bytearray(1000)) - 1000
    blocks = 10_000 * (1000 + header) + 3_000_000
    assert blocks < sync_live < blocks + 500_000
    assert abs(sync_live - awaiting_live) < 10_000
    assert abs(sync_kept - awaiting_kept) < 20_000


def test_a_cell_keeps_nothing_of_what_the_kernel_sends_for_it():
    """Large messages are not copied, and live until the front end has taken them."""
    sources = [
        "%load_ext thag_nb",
        "12345",
        "x = 1",
        "from IPython.display import HTML, display\ndisplay(HTML('x' * 3_000_000))",
        "display(HTML('x' * 30_000))",
        "12345",
        "%thag_task task\ndisplay(HTML('x' * 3_000_000))",
        "import thag_nb\n"
        "ended = [r for r in thag_nb.read().contexts if r.kind in ('cell', 'task') and r.state == 'ended']\n"
        "print([r.retained_bytes for r in ended])",
    ]
    kept = kernels.value(kernels.run(*sources)[-1])
    assert len(kept) == 7
    assert max(kept) < 10_000, kept


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


def test_reloading_inside_a_task_reports_it():
    cells = kernels.run("%load_ext thag_nb", "%%thag_task reloaded\nkeep = bytearray(1_000_000)\n%reload_ext thag_nb")
    assert any("reloaded" in display["text/plain"] for display in cells[1].displays)
