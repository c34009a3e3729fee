"""What is shown of costs below a cell: one line, a picture, a table, as text and HTML that survives saving."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from thag_nb.browser import assets
from thag_nb.costs.beside import NOTHING, Beside
from thag_nb.costs.rows import Cost, Costs, costs
from thag_nb.mimebundle import Bundle, Picture, html_table, text_table, with_picture
from thag_nb.plotting import pictures
from thag_nb.recordings.model import ContextRecord, Recording
from thag_nb.units import cut, format_bytes, format_count, format_duration

# What each column counts: everything started under a context as well, or the context alone.
_COSTS = (
    ("context", None),
    ("peak", "inclusive"),
    ("self peak", "self"),
    ("kept", None),
    ("live now", "inclusive"),
    ("self live", "self"),
    ("allocated", "inclusive"),
    ("self allocated", "self"),
    ("allocations", None),
    ("foreign frees", None),
    ("time", None),
)
_COLUMNS = tuple(column for column, _ in _COSTS)
_GROUPS = tuple(group for _, group in _COSTS)
_BRIEF = tuple(column for column, group in enumerate(_GROUPS) if group != "self")  # what a terminal has room for
_CAVEAT = "Live bytes are not RSS; kept is what was live when the context ended, not a leak."
NO_PEAKS: Mapping[int, str] = MappingProxyType({})  # of contexts whose lines are recorded
LINE_LETTERS = 60  # of the name in a line of figures
_PICTURED_BYTES = 1 << 20  # a peak below that is a few lines of Python, and a picture of it says nothing
_NAMED_AT_PEAK = 5  # contexts at most, of one name together, in the line of who made up the session's peak
_NAMED_SHARE = 0.01  # of it, at least
_OPENBLAS = "OpenBLAS, to work in"
_BESIDE = -1  # no id of a context: what is under it stands beside the root
_DETAILS = 40  # contexts whose own curve comes with the dashboard, those of highest peak


class _Live(NamedTuple):
    """A row of which nothing is known but what is live. Under a context's row, it is a part of that."""

    name: str
    live_bytes: int
    depth: int = 0
    parent_id: int = _BESIDE


_Line: TypeAlias = Cost | _Live


def summary_line(record: ContextRecord, peak_at: str = "") -> str:
    """``load · peak 812.4 MiB · kept 405.1 MiB · 1,204,332 allocations · 1.21 s · peak at line 7``.

    `peak_at` is the end of it, where the line of the peak is known.
    """
    parts = (
        cut(record.name, LINE_LETTERS),
        f"peak {format_bytes(record.peak_bytes)}",
        f"kept {format_bytes(_kept_bytes(record))}",
        f"{format_count(record.allocations)} allocations",
        format_duration(record.duration_ns),
        peak_at,
    )
    return " · ".join(filter(None, parts))


def is_worth_a_picture(recording: Recording, context_id: int) -> bool:
    """Whether a task is large enough to be shown over time, or has others below it. Raises `UnknownContextError`."""
    record = recording.find(context_id)
    return record.peak_bytes >= _PICTURED_BYTES or bool(recording.children(context_id))


def task_bundle(recording: Recording, context_id: int, *, figure: bool, peak_at: str = "") -> Bundle:
    """The line of one task and, with `figure`, its timeline as a picture with a table, in every MIME type."""
    record = recording.find(context_id)
    line = summary_line(record, peak_at)
    if not figure:
        return {"text/plain": line}
    picture = pictures.timeline(recording, context_id)
    table = html_table([_texts(row) for row in costs(recording, record).rows], _COLUMNS)
    return {"text/plain": "\n".join(filter(None, [line, picture.problem]))} | with_picture(
        f"<div>{html.escape(line)}</div>", picture, f"figures of {cut(record.name, LINE_LETTERS)}", table
    )


def costs_bundle(
    recording: Recording, *, figure: bool, beside: Beside = NOTHING, peaks: Mapping[int, str] = NO_PEAKS
) -> Bundle:
    """What each cell and task cost, nested, with the root and the bookkeeping; with `figure`, over time as well.

    `beside` is what the process tells, if the recording is of now, and `peaks` are the lines of peaks, as in
    `summary_line`, by the ids of contexts.
    The HTML is a picture and a table, for whoever opens the notebook later; where its script runs, it becomes a chart
    that can be zoomed and a table that can be sorted.
    """
    if not recording.contexts:
        return {"text/plain": "Nothing has been recorded yet."}
    lines, rows, notes = _session(recording, beside)
    brief = [[row[column] for column in _BRIEF] for row in rows]
    table = text_table(brief, [_COLUMNS[column] for column in _BRIEF])
    if not figure:
        return {"text/plain": "\n".join([table, *notes])}
    picture = pictures.stack(recording)
    script = assets.dashboard_script(_payload(recording, lines, peaks))
    text = "\n".join(filter(None, [table, *notes, picture.problem]))
    return {"text/plain": text} | _costs_view(picture, rows, notes, script)


def costs_view(recording: Recording, beside: Beside = NOTHING, peaks: Mapping[int, str] = NO_PEAKS) -> tuple[str, str]:
    """The HTML of `costs_bundle` without its script, and the JSON that the script works with, if there is anything."""
    if not recording.contexts:
        return "<div>Nothing has been recorded yet.</div>", ""
    lines, rows, notes = _session(recording, beside)
    view = _costs_view(pictures.stack(recording), rows, notes, "")["text/html"]
    return view, assets.dashboard_json(_payload(recording, lines, peaks))


def _session(recording: Recording, beside: Beside) -> tuple[list[_Line], list[tuple[str, ...]], list[str]]:
    """What each cell and task cost: as figures, as the rows of the table, and what stands below it."""
    session_costs = costs(recording, recording.contexts[0])
    lines = _lines(recording, session_costs, beside)
    rows = [_texts(line) if isinstance(line, Cost) else _live_text(line) for line in lines]
    whole = f"{beside.seen} {_CAVEAT}".lstrip()
    return lines, rows, [_shares(recording, beside), *_at_the_peak(recording), *_left_out(session_costs), whole]


def _lines(recording: Recording, session_costs: Costs, beside: Beside) -> list[_Line]:
    """The rows of contexts, each with what OpenBLAS keeps of it, and below them what is of no context."""
    workspaces = Counter(dict(beside.workspaces))
    lines: list[_Line] = []
    for row in session_costs.rows:
        lines.append(row)
        if kept_bytes := workspaces.pop(row.context_id, 0):
            lines.append(_Live(_OPENBLAS, kept_bytes, row.depth + 1, row.context_id))
    if others := workspaces.total():  # of contexts without a row of their own
        lines.append(_Live(_OPENBLAS, others, 1, session_costs.rows[0].context_id))
    live_bytes, overhead_bytes = recording.contexts[0].live_bytes, recording.overhead_bytes
    unexplained_bytes = (beside.anonymous_bytes or 0) - live_bytes - overhead_bytes
    if unexplained_bytes > 0:
        lines.append(_Live("kept by allocators, or from before", unexplained_bytes))
    return [*lines, _Live("thag_nb itself", overhead_bytes)]


def _costs_view(picture: Picture, rows: list[tuple[str, ...]], notes: list[str], script: str) -> Bundle:
    table = f'<div style="overflow: auto; max-height: 480px">{html_table(rows, _COLUMNS)}</div>'
    below = "".join(f'<div style="font-size: 90%; opacity: 0.8">{html.escape(note)}</div>' for note in notes)
    return with_picture("", picture, None, table + below + script)


def _payload(recording: Recording, lines: list[_Line], peaks: Mapping[int, str]) -> dict[str, Any]:
    """What the script in `costs_bundle` works with: numbers for the rows of the table, and curves."""
    from thag_nb.browser.scene import detail_scene, packed, stack_scene

    scenes = [stack_scene(recording, recording.contexts[0])]
    start = scenes[0].values.size
    rows: list[dict[str, Any]] = []
    of_contexts = [row for row in lines if isinstance(row, Cost)]
    with_detail = {row.context_id for row in sorted(of_contexts, key=lambda row: -row.peak_bytes)[:_DETAILS]}
    for number, row in enumerate(lines):
        if isinstance(row, _Live):
            rows.append({"id": _BESIDE - 1 - number, "parent": row.parent_id, "values": _live_values(row)})
            continue
        entry: dict[str, Any] = {"id": row.context_id, "parent": row.parent_id, "values": _values(row)}
        if row.contexts == 1 and row.context_id in with_detail:
            record = recording.find(row.context_id)
            detail = detail_scene(recording, record)
            words = summary_line(record, peaks.get(row.context_id, ""))
            entry |= {"words": words, "detail": {"header": detail.header, "start": start}}
            scenes.append(detail)
            start += detail.values.size
        rows.append(entry)
    return {"scene": scenes[0].header, "buffer": packed(scenes), "groups": _GROUPS, "rows": rows}


def _kept_bytes(record: ContextRecord) -> int:
    return record.retained_bytes if record.state == "ended" else record.live_bytes


def _values(cost: Cost) -> tuple[Any, ...]:
    """A row's name and numbers, in the order of `_COLUMNS`."""
    return cost[-len(_COLUMNS) :]


def _texts(cost: Cost) -> tuple[str, ...]:
    name, *sizes, allocations, foreign_frees, duration_ns = _values(cost)
    return (
        "  " * cost.depth + name,
        *("" if size is None else format_bytes(size) for size in sizes),
        format_count(allocations),
        format_count(foreign_frees),
        format_duration(duration_ns),
    )


def _live_values(live: _Live) -> tuple[Any, ...]:
    """The same, None where nothing is known."""
    row: dict[str, Any] = dict.fromkeys(_COLUMNS) | {"context": live.name, "live now": live.live_bytes}
    return tuple(row.values())


def _live_text(live: _Live) -> tuple[str, ...]:
    name, *sizes = _live_values(live)
    return ("  " * live.depth + name, *("" if size is None else format_bytes(size) for size in sizes))


def _shares(recording: Recording, beside: Beside) -> str:
    """Who has what is live now, what the bookkeeping takes beside it, and how large the process is."""
    root = recording.contexts[0]
    parts = [f"Now {format_bytes(root.live_bytes - root.self_live_bytes)} in cells and tasks"]
    if root.self_live_bytes:
        parts[0] += f", {format_bytes(root.self_live_bytes)} outside of them"
    parts.append(f"thag_nb itself {format_bytes(recording.overhead_bytes)}")
    if recording.resident:
        resident_bytes = recording.resident[-1].resident_bytes
        others = resident_bytes - root.live_bytes - recording.overhead_bytes
        parts.append(f"RSS {format_bytes(resident_bytes)}")
        files = resident_bytes - (beside.anonymous_bytes or resident_bytes)
        if files > 0:  # what remains has a row
            parts[-1] += f", {format_bytes(files)} of it in files and shared"
        elif others > 0:
            parts[-1] += f", {format_bytes(others)} of it in files, kept by allocators, or from before the recording"
    return " · ".join(parts)


def _at_the_peak(recording: Recording) -> list[str]:
    """Who made up the session's peak, the largest first; nothing of a recording from before that was kept."""
    root, *others = recording.contexts
    shares: Counter[str] = Counter()
    for record in others:
        shares[record.name] += record.at_session_peak_bytes
    whole = root.at_session_peak_bytes + shares.total()
    if whole <= 0:
        return []
    named = [(name, size) for name, size in shares.most_common(_NAMED_AT_PEAK) if size >= whole * _NAMED_SHARE]
    parts = [f"{cut(name, LINE_LETTERS)} {format_bytes(size)}" for name, size in named]
    rest = shares.total() - sum(size for _, size in named)
    if rest:
        parts.append(f"others {format_bytes(rest)}")
    if root.at_session_peak_bytes:
        parts.append(f"outside of cells and tasks {format_bytes(root.at_session_peak_bytes)}")
    return [
        f"At the session's peak, {format_bytes(whole)}: {', '.join(parts)}",
        *_sources_at_the_peak(recording, whole),
    ]


def _sources_at_the_peak(recording: Recording, whole: int) -> list[str]:
    """Where these bytes were asked for, as far as that is not Python alone."""
    numpy = sum(record.at_session_peak_numpy_bytes for record in recording.contexts)
    native = sum(record.at_session_peak_native_bytes for record in recording.contexts)
    if min(numpy, native, whole - numpy - native) < 0 or (not numpy and not native):
        return []
    asked = {"native code asked for": native, "NumPy for": numpy, "Python for": whole - numpy - native}
    return [f"Of that, {', '.join(f'{who} {format_bytes(size)}' for who, size in asked.items() if size)}"]


def _left_out(session_costs: Costs) -> list[str]:
    if not session_costs.left_out:
        return []
    return [f"... and {session_costs.left_out:,} contexts of lower peak; thag_nb.contexts() has them all"]
