"""The line of a task, wherever it is shown."""

from __future__ import annotations

import json

from handmade import busy

from thag_nb.costs.report import costs_view, summary_line, task_bundle

LOAD = 4


def test_the_summary_ends_with_the_line_of_the_peak_where_it_is_known() -> None:
    record = busy().find(LOAD)
    assert summary_line(record) == "load · peak 13.0 MiB · kept 2.0 MiB · 0 allocations · 1.00 s"
    assert summary_line(record, "peak at line 7") == f"{summary_line(record)} · peak at line 7"


def test_so_does_the_report_of_a_task() -> None:
    bundle = task_bundle(busy(), LOAD, figure=True, peak_at="peak at line 7")
    assert bundle["text/plain"].endswith(" · peak at line 7")
    assert " · peak at line 7</div>" in bundle["text/html"]


def test_so_does_the_detail_of_a_context_in_the_chart() -> None:
    _, payload = costs_view(busy(), peaks={LOAD: "peak at line 7"})
    words = {row["id"]: row["words"] for row in json.loads(payload)["rows"] if "words" in row}
    assert words[LOAD].endswith(" · peak at line 7")
    assert not any("peak at" in line for context_id, line in words.items() if context_id != LOAD)
