"""Figures of the newest context of a name, and the sums that must hold."""

import thag_nb
from thag_nb import ContextRecord, _native


def of(name: str) -> ContextRecord:
    return thag_nb.read().find(name)


def assert_sums_hold() -> None:
    """What all contexts hold of their own is what the owner table has; the root has the sum of it, and of its peak."""
    uneven = {key: (counted, found) for key, (counted, found) in _native.audit().items() if counted != found}
    assert uneven == {}
    contexts = thag_nb.read().contexts
    assert contexts[0].live_bytes == sum(record.self_live_bytes for record in contexts)
    assert contexts[0].peak_bytes == sum(record.at_session_peak_bytes for record in contexts)
