"""The machine and the versions that figures were measured with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ASK = """
import json, platform, sys
from importlib.metadata import distributions
found = {}
for one in distributions():  # as they would be imported: what comes first counts
    found.setdefault(one.metadata["Name"].lower(), one.version)
found[""] = f"{platform.python_implementation()} {platform.python_version()}"
print(json.dumps(found))
"""


def versions(python: str = sys.executable) -> dict[str, str]:
    """What is installed for an interpreter, by name; its own version is that of the empty name."""
    asked = subprocess.run([python, "-I", "-c", _ASK], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(asked.stdout)
    return found


def describe(python: str = sys.executable, packages: Sequence[str] = ()) -> str:
    """One line: processor, load, system, Python, numpy, pandas, thag_nb, and whatever else was compared."""
    found = versions(python)
    named = ", ".join(
        f"{package} {found.get(package, 'not installed')}"
        for package in dict.fromkeys(("numpy", "pandas", "thag_nb", *packages))
    )
    load = f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f} at the start"
    return f"{_processor()}, {load}; {platform.system()} {platform.machine()}; {found['']}, {named}"


def _processor() -> str:
    """The model by name where the system tells it (Linux); else whatever `platform` knows."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
