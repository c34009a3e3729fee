"""Figures of the newest context of a name, and the sums that must hold."""

import gc

import thag_nb
from thag_nb import ContextRecord, _native


def of(name: str) -> ContextRecord:
    return thag_nb.read().find(name)


def assert_sums_hold() -> None:
    """Self live bytes of all contexts are those of the owner table, context by context."""
    gc.disable()  # between the two readings nothing may be freed
    try:
        table = _native.owner_bytes()
        contexts = thag_nb.read().contexts
    finally:
        gc.enable()
    by_context = {record.context_id: record.self_live_bytes for record in contexts if record.self_live_bytes}
    assert by_context == table
    assert contexts[0].live_bytes == sum(table.values())
