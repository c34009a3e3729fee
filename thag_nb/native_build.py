"""Whether the native core is there, and was built from the sources beside it."""

from __future__ import annotations

import os
import sys

from thag_nb.errors import NativeModuleError

_SOURCES = os.path.join(os.path.dirname(__file__), "native")


def check() -> None:
    """Raise `NativeModuleError` if the native core cannot be loaded; warn if it is older than its sources."""
    try:
        from thag_nb import _native
    except ImportError as error:
        # In a checkout, the sources shadow what is installed elsewhere.
        target = "-e ." if os.path.isdir(_SOURCES) else "thag_nb"
        raise NativeModuleError(
            f"the native module of thag_nb cannot be loaded by {sys.implementation.cache_tag}: {error}; "
            f"with a C compiler, run `python -m pip install {target}` with this Python"
        ) from None
    if os.path.isdir(_SOURCES) and _source_hash() != _native.SOURCE_HASH:
        import warnings

        warnings.warn(
            "thag_nb's native module was built from other sources than those beside it; "
            "rebuild it with `python setup.py build_ext --inplace`",
            RuntimeWarning,
            stacklevel=3,
        )


def _source_hash() -> str:
    """As in setup.py, which compiles it into the module."""
    import zlib  # only in a checkout

    digest = 0
    names = (os.path.join(room, name) for room, _, names in os.walk(_SOURCES) for name in names)
    for name in sorted(name for name in names if name.endswith((".c", ".h"))):
        with open(name, "rb") as source:
            digest = zlib.crc32(source.read(), digest)
    return f"{digest:08x}"
