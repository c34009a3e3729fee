"""Builds the native core; everything else about the project is in pyproject.toml."""

import os
import platform
import zlib
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("thag_nb/native")


def source_hash() -> str:
    """A hash of the C sources, which thag_nb compares on import from a checkout (see thag_nb/native_build.py)."""
    digest = 0
    for path in sorted(NATIVE.rglob("*.[ch]"), key=str):
        digest = zlib.crc32(path.read_bytes(), digest)
    return f"{digest:08x}"


compile_args = [
    "-std=c11",
    "-O3",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fvisibility=hidden",
    "-fno-plt",
    "-fno-tree-slp-vectorize",  # which would make one addition of two, by way of six moves
    f'-DTHAG_SOURCE_HASH="{source_hash()}"',
]
if platform.libc_ver()[0] == "glibc":
    # One instruction instead of a call for each thread-local; glibc has a reserve for modules this small, musl has not.
    compile_args.append("-ftls-model=initial-exec")
compile_args += os.environ.get("THAG_CFLAGS", "").split()

setup(
    ext_modules=[
        Extension(
            "thag_nb._native",
            sources=sorted(str(path) for path in NATIVE.rglob("*.c")),
            depends=sorted(str(path) for path in NATIVE.rglob("*.h")),
            include_dirs=[str(NATIVE / "core"), str(NATIVE / "heap")],
            extra_compile_args=compile_args,
            extra_link_args=os.environ.get("THAG_LDFLAGS", "").split(),
        )
    ]
)
