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
    for record in contexts:
        assert_sources_fit(record)


def assert_sources_fit(record: ContextRecord) -> None:
    """NumPy's and native code's bytes are some, and no more than there are."""
    for figure, whole in (("self_live", record.self_live_bytes), ("at_session_peak", record.at_session_peak_bytes)):
        parts = [getattr(record, f"{figure}_{source}_bytes") for source in ("numpy", "native")]
        assert min(parts) >= 0, (record, figure)
        assert sum(parts) <= max(whole, 0), (record, figure)
