import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import python
from scripted import Scripted, Watched, scripted_handler, watched_raw_domain

import thag_nb

SUPPORT = Path(__file__).parents[1] / "support"

PRELUDE = f"""
import contextvars, ctypes, os, sys, threading
sys.path.insert(0, {str(SUPPORT)!r})
import thag_nb
from blocks import RAW, RAW_WITHOUT_GIL
from figures import assert_sums_hold, of
from thag_nb import _native
from thag_nb.runtime.contexts import registry

library, library_without_gil = ctypes.PyDLL(None), ctypes.CDLL(None)
library.clock_set.argtypes = [ctypes.c_int64]
library.allocated_meanwhile.restype = library.late_block.restype = ctypes.c_void_p
library.late_begin.argtypes = [ctypes.c_size_t]
library.late_finish_within.argtypes = [ctypes.py_object]
library.late_finish_within.restype = ctypes.py_object
"""


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """Recording; blocks lie where the test says."""
    with scripted_handler() as handler:
        yield handler


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Recording; the raw domain's reallocs and frees are seen from below the hooks."""
    with watched_raw_domain() as allocator:
        yield allocator


@pytest.fixture
def native() -> Iterator[None]:
    """Recording, with the native domain; without it afterwards."""
    thag_nb.start(native=True)
    yield
    thag_nb.stop()
    thag_nb.start(native=False)
    thag_nb.stop()


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles a file of support/ to a library: the same for the same flags, or one of its own by another `name`."""
    folder = tmp_path_factory.mktemp("built")

    def built(source: str, *flags: str, name: str = "") -> Path:
        compiler = shutil.which("c++" if source.endswith(".cpp") else "cc")
        if compiler is None:
            pytest.skip(f"needs a compiler for {source}")
        path = folder / (name or f"{source}{''.join(flags).replace(',', '').replace('/', '')}.so")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            command = [compiler, "-shared", "-fPIC", "-O1", "-pthread", *flags, "-o", path, SUPPORT / source]
            subprocess.run(command, check=True)
        return path

    return built


@pytest.fixture(scope="session")
def interposed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs code in an interpreter of its own, on top of support/interposed.c."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs a C compiler, and a loader that preloads")
    library = tmp_path_factory.mktemp("interposed") / "interposed.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-pthread", "-o", library, SUPPORT / "interposed.c", "-ldl"], check=True
    )
    preload = f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()
    return lambda code, **env: python(PRELUDE + textwrap.dedent(code), LD_PRELOAD=preload, **env)
