"""A session as a page that can be opened anywhere, without a kernel and without a network."""

from __future__ import annotations

import html
import os
import platform
from datetime import datetime

from thag_nb.costs import beside
from thag_nb.costs.report import costs_bundle
from thag_nb.holders import walk
from thag_nb.holders.report import retained_bundle
from thag_nb.mimebundle import NO_MATHJAX
from thag_nb.recordings import files
from thag_nb.recordings.model import Recording
from thag_nb.runtime import dispatcher
from thag_nb.sites.held import AllocatedAt
from thag_nb.sites.peak import peak_lines

_MARK = "<!doctype html>\n<!-- thag_nb report -->\n"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
  background: Canvas; color: CanvasText; }
table { border-collapse: collapse; font-size: 14px; } tr { background: Canvas; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
"""

_SEEN = (
    "Seen is every allocation of Python's objects and of NumPy's arrays while the recording was on: each one, none "
    "sampled."
)
_SEEN_WITH_NATIVE = (
    "Seen is every allocation of Python's objects and of NumPy's arrays, what libraries ask the C library and the "
    "system for, and what Arrow, Polars and DuckDB hand out, while the recording was on: each one, none sampled. What "
    "was asked for may be more than was ever touched."
)
_NOT_SEEN = (
    "Not seen are the pools of Arrow and Polars, in which pandas keeps text where pyarrow is installed; what libraries "
    "ask of C by themselves, of mmap or of a GPU; small objects that Python hands out again without allocating; and "
    "what was there before the recording began. So live bytes are not the RSS of the process."
)
_NOT_SEEN_WITH_NATIVE = (
    "Not seen are the memory of a GPU; what allocators hold back or keep for later; small objects that Python hands "
    "out again without allocating; and what was there before the recording began. So live bytes are not the RSS of the "
    "process."
)


def write(
    path: str | os.PathLike[str],
    *,
    recording: Recording | None,
    overwrite: bool,
    progress: walk.Progress | None = None,
) -> None:
    """Write the page of a recording, or of this process as of now. See `thag_nb.report`."""
    # Names of variables, types and files are not ours, and may be of what cannot be encoded.
    data = page(recording, progress).encode("utf-8", "backslashreplace")
    files.write(os.fsdecode(path), data, what="report", is_one=_is_page, overwrite=overwrite)


def page(recording: Recording | None = None, progress: walk.Progress | None = None) -> str:
    """The HTML of a recording, or of this process as of now: then with who still holds what, and the status."""
    source = dispatcher.read() if recording is None else recording
    shown = beside.as_of_now() if recording is None else beside.NOTHING
    bundle = costs_bundle(source, figure=True, beside=shown, peaks=peak_lines(source))
    view = bundle.get("text/html", "<p>Nothing was recorded.</p>")
    sections = [("What each cell and task cost", view)]
    if recording is None:
        sections += [("Who still holds it", _holders(progress)), ("What is seen, and what is not", _status())]
    body = "\n".join(f"<h2>{title}</h2>\n{content}" for title, content in sections)
    imprint = f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}, Python {platform.python_version()}"
    return (
        f'{_MARK}<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Memory of a session</title><style>{_STYLE}</style></head>\n"
        f'<body class="{NO_MATHJAX}"><h1>Memory of a session</h1><p>{html.escape(imprint)}</p>\n'
        f"{body}\n</body></html>\n"
    )


def _is_page(head: bytes) -> bool:
    return head.startswith(_MARK.encode())


def _holders(progress: walk.Progress | None) -> str:
    bundle = retained_bundle(walk.find(progress=progress, where=AllocatedAt))
    return bundle.get("text/html") or f"<p>{html.escape(bundle['text/plain'])}</p>"


def _status() -> str:
    status = dispatcher.status()
    has_native = status.hooks["native"] != "absent"
    explained = (_SEEN_WITH_NATIVE, _NOT_SEEN_WITH_NATIVE) if has_native else (_SEEN, _NOT_SEEN)
    seen, *details = str(status).splitlines()
    return "".join(f"<p>{html.escape(line)}</p>" for line in (seen, *explained, *details))
