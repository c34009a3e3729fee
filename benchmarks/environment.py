"""An environment for the comparison alone: thag_nb, what the workloads need, and the peers.

It stands beside this file, git ignores it, and it is kept: what is there already and current is not installed again.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_FOLDER = Path(__file__).with_name(".work") / f"venv-{platform.python_version()}"


def prepare(peers: Iterable[str]) -> str:
    """The environment's Python, with those peers (as pip knows them) that can be installed; a sentence about others.

    Exits with what pip said if thag_nb itself, or what the workloads need, cannot be installed.
    """
    python = _FOLDER / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_FOLDER)], check=True)
    _tell(f"Installing thag_nb and the peers into {_FOLDER}.")
    # Not isolated, so that without a network this still builds what changed.
    for required in (("setuptools>=77",), ("--no-build-isolation", "-e", f"{_ROOT}[bench]")):
        installed = _install(python, *required)
        if installed.returncode:
            sys.exit(installed.stdout)
    for peer in dict.fromkeys(peers):
        tried = _install(python, peer)
        if tried.returncode:
            _tell(f"Left out: {peer}, which does not install: {(tried.stdout.strip().splitlines() or ['?'])[-1]}")
    return str(python)


def _install(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
