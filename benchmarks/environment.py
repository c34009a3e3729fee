"""Environments in which thag_nb is what users have: a wheel of this checkout, installed, with its bytecode.

The checkout itself is not measured. Where bytecode is never written, or not there yet, each of its processes compiles
the whole package again, which costs as much as all the rest of a start.

They stand beside this file, git ignores them, and they are kept: what is there already and current is not installed
again.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import site
import subprocess
import sys
import sysconfig
import tomllib
import zlib
from collections.abc import Callable, Generator, Iterable
from compileall import compile_dir
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

_ROOT = Path(__file__).parent.parent
_PROGRAM = Path(__file__).parent
_WORK = _PROGRAM / ".work"
_BESIDE_THE_PACKAGE = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
_FLAGS = ("CFLAGS", "THAG_CFLAGS", "THAG_LDFLAGS")
_SETUPTOOLS = 77  # as in pyproject.toml


class Environment(NamedTuple):
    """Where children run."""

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def program(self) -> Path:
        """The folder that they are started in: a copy of the benchmarks, compiled too, and no thag_nb."""
        return self.folder / "program"

    @property
    def packages(self) -> Path:
        """Where pip installs."""
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder)}))


def lent() -> Environment:
    """One that sees whatever this Python has installed, below its own thag_nb: nothing has to be downloaded."""
    with _alone():
        environment = _prepare("lent")
        folders = [*site.getsitepackages(), site.getusersitepackages()]
        # Paths of a .pth file, but not the .pth files in them: an editable thag_nb stays out of sight.
        (environment.packages / "lent.pth").write_text("\n".join(folders))
    return environment


def own(peers: Iterable[str]) -> Environment:
    """One with all that the workloads need, and those peers (as pip knows them) that install; a sentence about others.

    Exits with what pip said if thag_nb itself, or what the workloads need, cannot be installed.
    """
    with _alone():
        environment = _prepare("venv")
        project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
        _require(_install(environment, *project["dependencies"], *project["optional-dependencies"]["bench"]))
        for peer in dict.fromkeys(peers):
            tried = _install(environment, peer)
            if tried.returncode:
                _tell(f"Left out: {peer}, which does not install: {(tried.stdout.strip().splitlines() or ['?'])[-1]}")
    return environment


def children_variables() -> dict[str, str]:
    """Ours, without all that Python obeys: a path to a checkout, no bytecode, another allocator.

    But with hashes that do not differ between children.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONHASHSEED": "0"}


@contextmanager
def _alone() -> Generator[None]:
    """One at a time, as tests prepare in several processes."""
    _WORK.mkdir(exist_ok=True)
    with (_WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare(kind: str) -> Environment:
    """With thag_nb and the program as they are in the checkout."""
    environment = Environment(_WORK / f"{kind}-{platform.python_version()}{sys.abiflags}")
    if not Path(environment.python).exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment.folder)], check=True)
    program = sorted(_PROGRAM.glob("*.py"))
    _unless_made(environment.folder / "thag_nb.made", _package_sources(), lambda: _install_wheel(environment))
    _unless_made(environment.folder / "program.made", program, lambda: _copy_program(program, environment.program))
    return environment


def _unless_made(mark: Path, sources: Iterable[Path], make: Callable[[], None]) -> None:
    """Make it, unless the mark says that it was made of the same sources, with the same flags."""
    digest = zlib.crc32("\0".join(os.environ.get(flag, "") for flag in _FLAGS).encode())
    for source in sources:
        digest = zlib.crc32(str(source.relative_to(_ROOT)).encode() + source.read_bytes(), digest)
    made_of = f"{digest:08x}"
    if not mark.exists() or mark.read_text() != made_of:
        mark.unlink(missing_ok=True)
        make()
        mark.write_text(made_of)


def _package_sources() -> list[Path]:
    """What the wheel is made of."""
    inside = (path for path in (_ROOT / "thag_nb").rglob("*") if path.is_file())
    sources = [path for path in inside if path.suffix != ".so" and path.parent.name != "__pycache__"]
    return [*sorted(sources), *(_ROOT / name for name in _BESIDE_THE_PACKAGE)]


def _install_wheel(environment: Environment) -> None:
    _tell(f"Building thag_nb, and installing it into {environment.folder}.")
    with TemporaryDirectory() as name:
        source, wheels = Path(name, "source"), Path(name, "wheels")
        # Of a copy, as a build leaves things in its tree that get into later wheels.
        for path in _package_sources():
            target = source / path.relative_to(_ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        _require(_pip("wheel", "--no-deps", *_build_isolation(), "--wheel-dir", str(wheels), str(source)))
        _require(_install(environment, "--no-deps", "--force-reinstall", *map(str, wheels.glob("*.whl"))))


def _build_isolation() -> list[str]:
    """Nothing is downloaded for the build where the setuptools that it needs is here."""
    try:
        here = int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        return []
    return ["--no-build-isolation"] if here >= _SETUPTOOLS else []


def _copy_program(program: Iterable[Path], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    target = folder / _PROGRAM.name
    target.mkdir(parents=True)
    for path in program:
        shutil.copyfile(path, target / path.name)
    compile_dir(target, quiet=1)


def _install(environment: Environment, *what: str) -> subprocess.CompletedProcess[str]:
    return _pip("--python", environment.python, "install", "--compile", *what)


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _require(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        sys.exit(done.stdout)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
