"""NumPy's data allocator."""

import sys
import threading

import numpy as np
import pytest
from blocks import SIZE
from figures import assert_sums_hold, of
from processes import python

import thag_nb

pytestmark = pytest.mark.usefixtures("dispatcher")


def array(size: int = SIZE) -> np.ndarray:
    return np.empty(size, dtype=np.uint8)


def test_array_data_is_charged_once():
    with thag_nb.task("array"):
        block = array()
    assert SIZE <= of("array").self_live_bytes < SIZE + 200
    del block
    assert of("array").self_live_bytes < 200


def test_small_arrays_are_seen_though_numpy_serves_them_from_its_cache():
    with thag_nb.task("small"):
        blocks = [array(100) for _ in range(50)]
    assert of("small").self_live_bytes >= 50 * 100
    del blocks
    assert_sums_hold()


def test_zeros_and_resized_arrays_are_charged():
    with thag_nb.task("zeros"):
        block = np.zeros(SIZE, dtype=np.uint8)
    with thag_nb.task("resized"):
        block.resize(2 * SIZE, refcheck=False)
    assert of("zeros").self_live_bytes < 200
    assert 2 * SIZE <= of("resized").self_live_bytes < 2 * SIZE + 200


def test_a_view_that_outlives_its_base_keeps_the_bytes_with_the_bases_owner():
    with thag_nb.task("base"):
        base = array()
    with thag_nb.task("view"):
        view = base[10:20]
    del base
    assert of("base").self_live_bytes >= SIZE
    assert of("view").self_live_bytes < 300
    del view
    assert of("base").self_live_bytes < 200


def test_arrays_of_every_thread_are_seen():
    keep = []
    before = of("root").self_live_bytes
    thread = threading.Thread(target=lambda: keep.append(array()))
    thread.start()
    thread.join()
    assert of("root").self_live_bytes - before >= SIZE


def test_arrays_outlive_the_hooks_in_both_directions():
    thag_nb.stop()
    before = array()
    thag_nb.start()
    with thag_nb.task("between"):
        inside = array()
        del before
    thag_nb.stop()
    del inside
    thag_nb.start()
    assert of("between").live_bytes == 0
    assert_sums_hold()


def test_numpy_imported_later_is_hooked_when_it_comes():
    code = """
        import sys, thag_nb
        finders = list(sys.meta_path)
        with thag_nb.task("import"):
            import numpy as np
            block = np.ones(1_000_000)
        assert sys.meta_path == finders
        print(thag_nb.status().hooks["numpy"], thag_nb.read().find("import").self_live_bytes > 8_000_000)
        thag_nb.stop()
        print(thag_nb.status().hooks["numpy"])
    """
    assert python(code) == "on top True\nabsent\n"


def test_stop_before_numpy_comes_leaves_the_import_system_as_it_was():
    code = """
        import sys, thag_nb
        finders = list(sys.meta_path)
        thag_nb.start()
        thag_nb.stop()
        assert sys.meta_path == finders
        import numpy
        print(thag_nb.status().hooks["numpy"])
    """
    assert python(code) == "absent\n"


def test_a_numpy_that_is_not_as_we_know_it_is_told(monkeypatch):
    thag_nb.stop()
    core = sys.modules["numpy._core._multiarray_umath"]
    monkeypatch.delattr(core, "_ARRAY_API")
    thag_nb.start()
    assert "NumPy's array data is not seen" in str(thag_nb.status())
