"""Importing is quiet and light."""

import runpy
from pathlib import Path

import pytest
from processes import python

from thag_nb import native_build


@pytest.mark.parametrize("heavy", ["IPython", "pandas", "matplotlib", "numpy", "ipywidgets", "asyncio"])
def test_importing_loads_nothing_heavy(heavy):
    assert python(f"import thag_nb, sys; print({heavy!r} in sys.modules)") == "False\n"


def test_importing_installs_no_hook_and_prints_nothing():
    code = """
        from importlib.machinery import PathFinder, ExtensionFileLoader
        from importlib.util import module_from_spec, spec_from_file_location
        import sys
        finders = list(sys.meta_path)
        import thag_nb
        from thag_nb import _native
        assert set(_native.hooks().values()) == {"absent"}
        assert not _native.is_recording()
        assert sys.meta_path == finders
    """
    assert python(code) == ""


def test_using_a_task_loads_nothing_heavy():
    code = """
        import sys, thag_nb
        with thag_nb.task("t"): pass
        thag_nb.read(); thag_nb.status()
        print(sorted({"IPython", "pandas", "matplotlib", "numpy"} & set(sys.modules)))
    """
    assert python(code) == "[]\n"


def test_a_missing_native_module_is_told_in_one_sentence():
    code = """
        import sys
        sys.modules["thag_nb._native"] = None
        try:
            import thag_nb
        except ImportError as error:
            print(type(error).__name__, str(error).count(". "), str(error))
            print(error._render_traceback_())
    """
    text = python(code)
    assert text.startswith("NativeModuleError 0 the native module of thag_nb cannot be loaded by cpython-3")
    assert "run `python -m pip install -e .`" in text


def test_a_stale_native_module_is_told_at_import():
    code = """
        import sys, types, warnings
        import thag_nb
        from thag_nb import native_build
        native_build._source_hash = lambda: "00000000"
        native_build.os.path.isdir = lambda path: True
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            native_build.check()
        print([str(w.message) for w in caught])
    """
    assert "rebuild it with" in python(code)


def test_a_build_hashes_its_sources_in_the_order_in_which_the_import_does(tmp_path, monkeypatch):
    setuptools = pytest.importorskip("setuptools")
    for name in ("core.c", "core/a.c", "core-old/b.h"):  # in this order by path, in another by text
        source = tmp_path / "thag_nb" / "native" / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.setattr(native_build, "_SOURCES", str(tmp_path / "thag_nb" / "native"))
    built = runpy.run_path(str(Path(__file__).parent.parent / "setup.py"))
    assert built["source_hash"]() == native_build._source_hash()
