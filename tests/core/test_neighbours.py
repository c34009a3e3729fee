"""Living with others: sub-interpreters, other memory tools, greenlets."""

import pytest
from figures import assert_sums_hold, of
from processes import python

import thag_nb

SUBINTERPRETER = """
    import sys, thag_nb
    from thag_nb import _native
    try:
        import _interpreters as interpreters
        run = interpreters.exec
    except ImportError:
        import _xxsubinterpreters as interpreters
        run = interpreters.run_string
    with thag_nb.task("outer"):
        other = interpreters.create()
        run(other, "x = [bytearray(1000) for _ in range(5000)]")
    assert thag_nb.read().find("outer").self_live_bytes < 1_000_000, thag_nb.read().find("outer")
    assert thag_nb.read().find("root").self_live_bytes > 5_000_000, thag_nb.read().find("root")
    code = "import sys; sys.path = {path!r}\\ntry: import thag_nb\\nexcept ImportError: pass\\nelse: raise SystemError"
    failed = run(other, code.format(path=sys.path))
    assert failed is None, failed
    interpreters.destroy(other)
    assert all(counted == found for counted, found in _native.audit().values())
    print("alive")
"""


def test_another_interpreters_work_is_the_roots_and_importing_there_is_refused():
    assert python(SUBINTERPRETER) == "alive\n"


MEMRAY = """
    import os, tempfile, memray, thag_nb
    from thag_nb import _native
    os.chdir(tempfile.mkdtemp())
    with thag_nb.task("around"):
        with memray.Tracker("inside.bin", trace_python_allocators=True):
            block = bytearray(1_000_000)
    with memray.Tracker("around.bin", trace_python_allocators=True):
        with thag_nb.task("inside"):
            other = bytearray(1_000_000)
    for file in ("inside.bin", "around.bin"):
        with memray.FileReader(file) as reader:
            assert any(record.size >= 1_000_000 for record in reader.get_high_watermark_allocation_records())
    with thag_nb.task("after"):
        third = bytearray(1_000_000)
    for name in ("around", "inside", "after"):
        assert thag_nb.read().find(name).self_live_bytes >= 1_000_000, name
    thag_nb.stop()
    print(thag_nb.status().state)
"""


def test_memray_around_a_task_and_inside_one_both_report():
    pytest.importorskip("memray")
    assert python(MEMRAY) == "off\n"


def test_greenlets_have_contexts_of_their_own():
    greenlet = pytest.importorskip("greenlet")
    keep = []

    def work() -> None:
        with thag_nb.task("greenlet"):
            keep.append(bytearray(100_000))
            main.switch()
            keep.append(bytearray(100_000))

    def take_turns() -> None:
        other = greenlet.greenlet(work)
        with thag_nb.task("main"):
            other.switch()
            assert thag_nb.current_context().name == "main"
            keep.append(bytearray(300_000))
            other.switch()

    main = greenlet.getcurrent()
    take_turns()  # what Python keeps of the first time is not counted
    take_turns()
    assert 200_000 < of("greenlet").self_live_bytes < 210_000
    assert 300_000 < of("main").self_live_bytes < 310_000
    assert_sums_hold()
