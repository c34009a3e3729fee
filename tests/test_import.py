"""Importing is quiet and light."""

from __future__ import annotations

import inspect
import pickle
import runpy
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import pytest
from processes import python

import thag_nb
from thag_nb import native_build
from thag_nb.light_typing import NamedTuple


@pytest.mark.parametrize("heavy", ["IPython", "pandas", "matplotlib", "numpy", "ipywidgets", "asyncio"])
def test_importing_loads_nothing_heavy(heavy):
    assert python(f"import thag_nb, sys; print({heavy!r} in sys.modules)") == "False\n"


def test_importing_loads_of_the_standard_library_what_it_needs_and_no_more():
    """In an interpreter that has loaded nothing else, not even what an environment's `site` brings."""
    code = f"""
        import io, os, sys  # the first two are loaded in any interpreter that is not as bare as this
        sys.path.insert(0, {str(Path(thag_nb.__file__).parents[1])!r})
        before = set(sys.modules)
        import thag_nb
        loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
        print(*sorted(name for name in loaded & sys.stdlib_module_names if not name.startswith("_")))
    """
    needed = {"atexit", "collections", "enum", "functools", "gc", "operator", "types"}
    needed |= {"itertools", "keyword", "reprlib"}  # which those need
    needed |= {"zlib"}  # in a checkout, for a hash of the sources
    command = [sys.executable, "-I", "-S", "-c", textwrap.dedent(code)]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert loaded <= needed
    assert not {"typing", "re", "contextlib", "struct", "warnings"} & loaded


def test_named_tuples_are_what_typing_makes_of_the_same_fields():
    ours, theirs = Sample, typing.NamedTuple("Sample", [("first", int), ("second", str)])
    assert ours.__bases__ == theirs.__bases__ == (tuple,)
    assert (ours._fields, ours._field_defaults) == (("first", "second"), {"second": "other"})
    assert (ours.__name__, ours.__module__, ours.__doc__) == ("Sample", __name__, "Two fields.")
    assert (Sample(1), Sample(1).shown()) == ((1, "other"), "1 other")
    assert Sample(first=1)._replace(second="x") == theirs(1, "x")
    assert repr(Sample(1)) == "Sample(first=1, second='other')"
    assert pickle.loads(pickle.dumps(Sample(1))) == Sample(1)
    assert str(inspect.signature(Sample)) == "(first: 'int', second: 'str' = 'other')"
    assert Sample.__annotations__ == {"first": "int", "second": "str"}
    with pytest.raises(TypeError, match="first"):
        Sample()


class Sample(NamedTuple):
    """Two fields."""

    first: int
    second: str = "other"

    def shown(self) -> str:
        return f"{self.first} {self.second}"


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
