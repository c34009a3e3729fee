"""The machine and the versions that figures were measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe() -> str:
    """One line: processor, load, system, Python, numpy, pandas."""
    packages = ", ".join(f"{package} {_version(package)}" for package in ("numpy", "pandas"))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    load = f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f} at the start"
    return f"{_processor()}, {load}; {platform.system()} {platform.machine()}; {python}, {packages}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The model by name where the system tells it (Linux); else whatever `platform` knows."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
