"""The allocators that libraries bring along: Arrow's, Polars' and DuckDB's.

The native core finds Arrow's and DuckDB's by itself. Polars shows its own in a capsule, once it has been imported.
"""

from __future__ import annotations

import sys

from thag_nb import _native
from thag_nb.light_typing import TYPE_CHECKING
from thag_nb.runtime import imports

if TYPE_CHECKING:
    from types import ModuleType

# By whatever name it is imported: by the size of its index, for old processors, and before there were several.
_POLARS = (
    "_polars_runtime_32._polars_runtime",
    "_polars_runtime_64._polars_runtime",
    "_polars_runtime_compat._polars_runtime",
    "polars.polars",
)
_POLARS_ITSELF = "polars"


def attach() -> None:
    """Have Polars' allocator followed as soon as it is there."""
    imports.wait_for(_POLARS, _show_polars)


def stop_waiting() -> None:
    """Wait for Polars no longer. The native core takes its hooks out itself."""
    imports.stop_waiting_for(_POLARS)


def unseen() -> list[str]:
    """The names of those whose memory is not seen though they are loaded."""
    states = _native.pools()
    if states["Polars"] == "absent" and _POLARS_ITSELF in sys.modules:
        states["Polars"] = "unfit"
    return [name for name, state in states.items() if state == "unfit"]


def _show_polars(_name: str, module: ModuleType) -> None:
    imports.stop_waiting_for(_POLARS)
    try:
        _native.show_polars(vars(module).get("_allocator"))
    except ValueError:  # something else by that name
        _native.show_polars(None)
