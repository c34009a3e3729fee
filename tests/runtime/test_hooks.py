"""NumPy's data allocator."""

import gc
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from blocks import SIZE
from figures import assert_sums_hold, of
from processes import python

import thag_nb
from thag_nb.runtime import numpy_hook

pytestmark = pytest.mark.usefixtures("dispatcher")


SMALL = 2_000  # what an array has beside its data, and what its task is made of
LARGE = 64 * SIZE  # beside what pandas imports when it is needed first


def array(size: int = SIZE) -> np.ndarray:
    return np.empty(size, dtype=np.uint8)


def test_array_data_is_charged_once():
    with thag_nb.task("array"):
        block = array()
    assert SIZE <= of("array").self_live_bytes < SIZE + SMALL
    del block
    assert of("array").self_live_bytes < SMALL


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
    assert of("zeros").self_live_bytes < SMALL
    assert 2 * SIZE <= of("resized").self_live_bytes < 2 * SIZE + SMALL


def test_a_view_that_outlives_its_base_keeps_the_bytes_with_the_bases_owner():
    with thag_nb.task("base"):
        base = array()
    with thag_nb.task("view"):
        view = base[10:20]
    del base
    assert of("base").self_live_bytes >= SIZE
    assert of("view").self_live_bytes < SMALL
    del view
    assert of("base").self_live_bytes < SMALL


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
        thag_nb.start(threads=False)
        with thag_nb.task("import"):
            import numpy as np
            block = np.ones(1_000_000)
        assert sys.meta_path == finders
        print(thag_nb.status().hooks["numpy"], thag_nb.read().find("import").self_live_bytes > 8_000_000)
        thag_nb.stop()
        print(thag_nb.status().hooks["numpy"])
    """
    assert python(code) == "on top True\nabsent\n"


def test_numpys_core_keeps_its_own_spec_and_loader():
    code = """
        import sys, thag_nb
        from importlib.machinery import ExtensionFileLoader, ModuleSpec
        from thag_nb.runtime import numpy_hook
        thag_nb.start()
        import numpy
        core = next(sys.modules[name] for name in numpy_hook._CORES if name in sys.modules)
        assert core.__loader__ is core.__spec__.loader
        print(type(core.__spec__) is ModuleSpec, type(core.__loader__) is ExtensionFileLoader)
    """
    assert python(code) == "True True\n"


def test_numpys_core_is_found_past_finders_of_before_python_3_4():
    code = """
        import sys, thag_nb
        class Old:
            find_module = staticmethod(lambda name, path: None)
        thag_nb.start()
        sys.meta_path.insert(1, Old)
        import numpy
        print(thag_nb.status().hooks["numpy"])
    """
    assert python(code) == "on top\n"


@pytest.mark.parametrize("name", ["core", "_core"])
def test_numpys_core_is_hooked_by_its_name_before_numpy_2_and_since(name, tmp_path):
    package = tmp_path / "numpy" / name
    package.mkdir(parents=True)
    (tmp_path / "numpy" / "__init__.py").write_text(f"from numpy.{name} import _multiarray_umath")
    (package / "__init__.py").touch()
    (package / "_multiarray_umath.py").write_text("_ARRAY_API = 'the API'")
    code = """
        import sys, thag_nb
        from thag_nb import _native
        attached = []
        _native.attach_numpy = attached.append
        finders = list(sys.meta_path)
        thag_nb.start(threads=False)
        import numpy
        assert sys.meta_path == finders
        thag_nb.start(threads=False)
        print(attached)
    """
    assert python(code, PYTHONPATH=f"{tmp_path}:{Path.cwd()}") == "['the API', 'the API']\n"


def test_the_stand_in_that_numpy_keeps_by_its_other_name_is_left_alone():
    code = """
        import io, sys, warnings, numpy as np
        from importlib import import_module
        from thag_nb import _native
        from thag_nb.runtime import numpy_hook
        warnings.simplefilter("ignore")
        for name in numpy_hook._CORES:
            import_module(name)
        import thag_nb
        sys.stderr = io.StringIO()
        with thag_nb.task("once"):
            block = np.ones(1_000_000)
        assert 0 <= thag_nb.read().find("once").self_live_bytes - block.nbytes < 1_000
        assert not sys.stderr.getvalue()
        (core,) = (core for core in map(sys.modules.get, numpy_hook._CORES) if "_ARRAY_API" in vars(core))
        print(_native.attach_numpy(core._ARRAY_API))
    """
    assert python(code) == "False\n"


def test_the_same_data_in_frames_that_share_it_is_the_first_owners_until_one_is_changed():
    pandas = pytest.importorskip("pandas")
    with pandas.option_context("mode.copy_on_write", True) if pandas.__version__ < "3" else nullcontext():
        with thag_nb.task("original"):
            frame = pandas.DataFrame({"number": np.arange(LARGE // 8, dtype=np.float64)})
        with thag_nb.task("shared"):
            shared = frame[:]
        assert of("shared").self_live_bytes < LARGE // 2
        with thag_nb.task("changed"):
            shared.iloc[0, 0] = 1.0
        assert of("changed").self_live_bytes >= LARGE // 8 * 8
        del frame
        gc.collect()
        assert of("original").self_live_bytes < LARGE // 2
        del shared
        assert_sums_hold()


FOREIGN_HANDLER = """
    import ctypes, numpy as np, thag_nb
    from thag_nb import _native
    from numpy._core import _multiarray_umath as core

    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    KINDS = (
        ctypes.CFUNCTYPE(pointer, pointer, size),
        ctypes.CFUNCTYPE(pointer, pointer, size, size),
        ctypes.CFUNCTYPE(pointer, pointer, pointer, size),
        ctypes.CFUNCTYPE(None, pointer, pointer, size),
    )

    class Handler(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("word", pointer),
                    *zip(("malloc", "calloc", "realloc", "free"), KINDS)]

    def handler(library, prefix):
        functions = [getattr(library, prefix + name) for name in names]
        for function, restype in zip(functions, (pointer, pointer, pointer, None)):
            function.restype = restype
        functions[0].argtypes, functions[1].argtypes = [size], [size, size]
        functions[2].argtypes, functions[3].argtypes = [pointer, size], [pointer]
        malloc, calloc, realloc, free = functions
        calls = (lambda _, n: malloc(n), lambda _, n, m: calloc(n, m),
                 lambda _, block, n: realloc(block, n), lambda _, block, n: free(block))
        return Handler(prefix.encode() or b"libc", 1, None, *(kind(call) for kind, call in zip(KINDS, calls)))

    capsule_new = ctypes.pythonapi.PyCapsule_New
    capsule_new.restype, capsule_new.argtypes = ctypes.py_object, [pointer, ctypes.c_char_p, pointer]
    capsule_get = ctypes.pythonapi.PyCapsule_GetPointer
    capsule_get.restype, capsule_get.argtypes = pointer, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(capsule_get(core._ARRAY_API, None), ctypes.POINTER(pointer))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[304])  # PyDataMem_SetHandler

    names = ("Malloc", "Calloc", "Realloc", "Free")
    raw = handler(ctypes.PyDLL(None), "PyMem_Raw")
    names = ("malloc", "calloc", "realloc", "free")
    libc = handler(ctypes.CDLL(None), "")
    with thag_nb.task("default"):
        ours = np.empty(1_000_000, dtype=np.uint8)
    for foreign, expected in ((raw, 1_000_000), (libc, 0)):
        name = foreign.name.decode()
        theirs = capsule_new(ctypes.addressof(foreign), b"mem_handler", None)
        default = set_handler(theirs)
        with thag_nb.task(name):
            array = np.empty(1_000_000, dtype=np.uint8)
            array.resize(900_000, refcheck=False)
            array.resize(1_000_000, refcheck=False)
        set_handler(default)
        live = thag_nb.read().find(name).self_live_bytes
        assert abs(live - expected) < 50_000, (name, live)
        del array  # by the handler that it was made with
    del ours
    assert thag_nb.read().find("default").self_live_bytes < 10_000
    assert all(counted == found for counted, found in _native.audit().values())
    thag_nb.stop()
    print(np.ones(1000).sum())
"""


def test_arrays_of_a_foreign_handler_are_seen_as_far_as_it_asks_cpython():
    assert python(FOREIGN_HANDLER) == "1000.0\n"


def test_the_work_buffers_of_a_matrix_product_are_not_charged():
    code = """
        import numpy as np, thag_nb
        a = np.ones((400, 400))
        with thag_nb.task("product"):
            product = a @ a
        record = thag_nb.read().find("product")
        assert product.nbytes <= record.peak_bytes < product.nbytes + 50_000, record
    """
    assert python(code) == ""


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


def test_a_numpy_whose_core_is_elsewhere_is_told_while_recording(monkeypatch):
    thag_nb.stop()
    monkeypatch.setattr(numpy_hook, "_CORES", ("numpy.elsewhere",))
    thag_nb.start()
    sentence = "NumPy's array data is not seen: its core was not found where it is known to be"
    assert sentence in thag_nb.status().notes
    thag_nb.stop()
    assert sentence not in thag_nb.status().notes


def test_a_numpy_that_is_not_as_we_know_it_is_told_until_it_is_hooked(monkeypatch):
    thag_nb.stop()
    core = next(sys.modules[name] for name in numpy_hook._CORES if name in sys.modules)
    with monkeypatch.context() as changed:
        changed.setattr(core, "_ARRAY_API", object())
        thag_nb.start()
        assert "NumPy's array data is not seen: " in str(thag_nb.status())
        assert " of Python is seen; NumPy's arrays, Arrow, " in thag_nb.status().seen
    thag_nb.start()
    assert thag_nb.status().hooks["numpy"] == "on top"
    assert "NumPy's" not in str(thag_nb.status())
    assert " of Python and NumPy is seen; Arrow, " in thag_nb.status().seen


@pytest.mark.parametrize(
    "begin",
    [
        "thag_nb.start()",
        "thag_nb.task('load').__enter__()",
        "thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, 'load')",
        "thag_nb.with_task_allocator('load', int)",
    ],
)
def test_without_the_gil_nothing_is_begun_and_one_sentence_says_why(begin):
    code = f"""
        import sys, thag_nb
        from thag_nb import _native
        sys._is_gil_enabled = lambda: False
        try:
            {begin}
        except thag_nb.ThagError as error:
            print(error)
        print(set(_native.hooks().values()), _native.is_recording(), thag_nb.status().state, _native.context_ids())
    """
    said, state = python(code).splitlines()
    assert said.startswith("nothing can be recorded while the GIL is off; ")
    assert state == "{'absent'} False off [1, 2]"  # root and system
