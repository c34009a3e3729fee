"""What is shown of costs below a cell: one line, a picture, a table, as text and HTML that survives saving."""

from __future__ import annotations

import html
from collections import Counter
from typing import Any

from thag_nb.browser import assets
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
LINE_LETTERS = 60  # of the name in a line of figures
_PICTURED_BYTES = 1 << 20  # a peak below that is a few lines of Python, and a picture of it says nothing
_NAMED_AT_PEAK = 5  # contexts at most, of one name together, in the line of who made up the session's peak
_NAMED_SHARE = 0.01  # of it, at least
_DETAILS = 40  # contexts whose own curve comes with the dashboard, those of highest peak


def summary_line(record: ContextRecord) -> str:
    """``load · peak 812.4 MiB · kept 405.1 MiB · 1,204,332 allocations · 1.21 s``."""
    return " · ".join(
        (
            cut(record.name, LINE_LETTERS),
            f"peak {format_bytes(record.peak_bytes)}",
            f"kept {format_bytes(_kept_bytes(record))}",
            f"{format_count(record.allocations)} allocations",
            format_duration(record.duration_ns),
        )
    )


def is_worth_a_picture(recording: Recording, context_id: int) -> bool:
    """Whether a task is large enough to be shown over time, or has others below it. Raises `UnknownContextError`."""
    record = recording.find(context_id)
    return record.peak_bytes >= _PICTURED_BYTES or bool(recording.children(context_id))


def task_bundle(recording: Recording, context_id: int, *, figure: bool) -> Bundle:
    """The line of one task and, with `figure`, its timeline as a picture with a table, in every MIME type."""
    record = recording.find(context_id)
    line = summary_line(record)
    if not figure:
        return {"text/plain": line}
    picture = pictures.timeline(recording, context_id)
    table = html_table([_texts(row) for row in costs(recording, record).rows], _COLUMNS)
    return {"text/plain": "\n".join(filter(None, [line, picture.problem]))} | with_picture(
        f"<div>{html.escape(line)}</div>", picture, f"figures of {cut(record.name, LINE_LETTERS)}", table
    )


def costs_bundle(recording: Recording, *, figure: bool, seen: str = "") -> Bundle:
    """What each cell and task cost, nested, with the root and the bookkeeping; with `figure`, over time as well.

    `seen` is what the dispatcher says of whether everything is seen, if the recording is of now.
    The HTML is a picture and a table, for whoever opens the notebook later; where its script runs, it becomes a chart
    that can be zoomed and a table that can be sorted.
    """
    if not recording.contexts:
        return {"text/plain": "Nothing has been recorded yet."}
    session_costs, rows, notes = _session(recording, seen)
    brief = [[row[column] for column in _BRIEF] for row in rows]
    table = text_table(brief, [_COLUMNS[column] for column in _BRIEF])
    if not figure:
        return {"text/plain": "\n".join([table, *notes])}
    picture = pictures.stack(recording)
    script = assets.dashboard_script(_payload(recording, session_costs))
    text = "\n".join(filter(None, [table, *notes, picture.problem]))
    return {"text/plain": text} | _costs_view(picture, rows, notes, script)


def costs_view(recording: Recording, seen: str = "") -> tuple[str, str]:
    """The HTML of `costs_bundle` without its script, and the JSON that the script works with, if there is anything."""
    if not recording.contexts:
        return "<div>Nothing has been recorded yet.</div>", ""
    session_costs, rows, notes = _session(recording, seen)
    view = _costs_view(pictures.stack(recording), rows, notes, "")["text/html"]
    return view, assets.dashboard_json(_payload(recording, session_costs))


def _session(recording: Recording, seen: str) -> tuple[Costs, list[tuple[str, ...]], list[str]]:
    """What each cell and task cost: as figures, as the rows of the table, and what stands below it."""
    session_costs = costs(recording, recording.contexts[0])
    rows = [*map(_texts, session_costs.rows), _overhead_row(recording)]
    notes = [_shares(recording), *_at_the_peak(recording), *_left_out(session_costs), f"{seen} {_CAVEAT}".lstrip()]
    return session_costs, rows, notes


def _costs_view(picture: Picture, rows: list[tuple[str, ...]], notes: list[str], script: str) -> Bundle:
    table = f'<div style="overflow: auto; max-height: 480px">{html_table(rows, _COLUMNS)}</div>'
    below = "".join(f'<div style="font-size: 90%; opacity: 0.8">{html.escape(note)}</div>' for note in notes)
    return with_picture("", picture, None, table + below + script)


def _payload(recording: Recording, session_costs: Costs) -> dict[str, Any]:
    """What the script in `costs_bundle` works with: numbers for the rows of the table, and curves."""
    from thag_nb.browser.scene import detail_scene, packed, stack_scene

    scenes = [stack_scene(recording, recording.contexts[0])]
    start = scenes[0].values.size
    rows: list[dict[str, Any]] = []
    with_detail = {row.context_id for row in sorted(session_costs.rows, key=lambda row: -row.peak_bytes)[:_DETAILS]}
    for row in session_costs.rows:
        entry: dict[str, Any] = {"id": row.context_id, "parent": row.parent_id, "values": _values(row)}
        if row.contexts == 1 and row.context_id in with_detail:
            record = recording.find(row.context_id)
            detail = detail_scene(recording, record)
            entry |= {"words": summary_line(record), "detail": {"header": detail.header, "start": start}}
            scenes.append(detail)
            start += detail.values.size
        rows.append(entry)
    overhead = [None] * len(_COLUMNS)
    rows.append({"id": -1, "parent": -2, "values": overhead})
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


def _overhead_row(recording: Recording) -> tuple[str, ...]:
    """The bookkeeping itself: part of no context, and not of the root's figures."""
    row = dict.fromkeys(_COLUMNS, "")
    row |= {"context": "thag_nb itself", "live now": format_bytes(recording.overhead_bytes)}
    return tuple(row.values())


def _shares(recording: Recording) -> str:
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
        if others > 0:
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
    if not numpy and not native:
        return []
    sources = {"by native code": native, "for NumPy's arrays": numpy, "by Python": whole - numpy - native}
    return [f"Of that, {', '.join(f'{format_bytes(size)} {whose}' for whose, size in sources.items() if size)}"]


def _left_out(session_costs: Costs) -> list[str]:
    if not session_costs.left_out:
        return []
    return [f"... and {session_costs.left_out:,} contexts of lower peak; thag_nb.contexts() has them all"]
