"""Figures of the newest context of a name, and the sums that must hold."""

import thag_nb
from thag_nb import ContextRecord, _native


def of(name: str) -> ContextRecord:
    return thag_nb.read().find(name)


def assert_sums_hold() -> None:
    """Self live bytes of all contexts are those of the owner table, context by context, and the root has their sum."""
    audit = _native.audit()
    assert {context_id: counts for context_id, counts in audit.items() if counts[0] != counts[1]} == {}
    contexts = thag_nb.read().contexts
    assert contexts[0].live_bytes == sum(record.self_live_bytes for record in contexts)
