"""The alternative texts of pictures: whose memory, for how long, its peak and when that was, what is left."""

from __future__ import annotations

from thag_nb.recordings.model import (
    ContextRecord,
    Recording,
    SeveralWanted,
    Wanted,
    curve_in_words,
    descendants,
)
from thag_nb.recordings.resampling import peak_ns
from thag_nb.units import format_bytes, format_duration, short

NOTHING = "Nothing has been recorded yet."

_MOMENT_NS = 1 << 20  # the width of a timeline's first buckets: when within one something happened is not known
_LARGEST = 3


def describe_timeline(recording: Recording, wanted: SeveralWanted = None) -> str:
    """The alternative text of `plot_timeline`, a sentence for each context wanted. Raises `UnknownContextError`.

    Without `wanted`, the whole process is told of.
    """
    if wanted is None:
        return _sentence(recording, recording.contexts[0]) if recording.contexts else NOTHING
    return " ".join(_sentence(recording, record) for record in recording.choose(wanted))


def describe_stack(recording: Recording, wanted: Wanted | None = None) -> str:
    """The alternative text of `plot_stack`: as of a timeline, and whose shares are largest.

    Raises `UnknownContextError`.
    """
    if wanted is None and not recording.contexts:
        return NOTHING
    top = recording.contexts[0] if wanted is None else recording.find(wanted)
    below = sorted(descendants(recording, top.context_id), key=lambda record: -record.self_peak_bytes)
    shares = [f"{short(record.name)} up to {format_bytes(record.self_peak_bytes)}" for record in below[:_LARGEST]]
    more = f" Largest shares: {', '.join(shares)}." if shares else ""
    return _sentence(recording, top) + more


def _sentence(recording: Recording, record: ContextRecord) -> str:
    if record.state == "ended":
        left = f"{format_bytes(record.retained_bytes)} retained at its end"
    else:
        left = f"{format_bytes(record.live_bytes)} live now"
    return curve_in_words(record, short(record.name), left, when=_when(recording, record))


def _when(recording: Recording, record: ContextRecord) -> str:
    """When the peak was, as far as it is known."""
    after_ns = peak_ns(recording, record) - record.started_ns
    if record.duration_ns < _MOMENT_NS and after_ns < _MOMENT_NS:
        return ""
    return f" after {format_duration(after_ns)}" if after_ns >= _MOMENT_NS else " within the first milliseconds"
