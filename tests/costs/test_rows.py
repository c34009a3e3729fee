import re

from handmade import MIB, MS, SECOND, busy, context, marked, recording, root

from thag_nb.costs.beside import NOTHING, Beside
from thag_nb.costs.report import costs_bundle
from thag_nb.costs.rows import costs
from thag_nb.recordings.model import Recording, ResidentSize


def of(made: Recording, most: int = 200) -> list[tuple[int, str]]:
    return [(row.depth, row.name) for row in costs(made, made.contexts[0], most=most).rows]


def crowd(many: int) -> Recording:
    """A cell with many tasks called ``fetch``, each of 1 KiB and with a task ``parse`` under it, and one ``join``."""
    fetches = [
        context(
            10 + 2 * place, "fetch", parent_id=3, peak_bytes=1024 + place, live_bytes=10, total_bytes=2048,
            retained_bytes=7, allocations=3, started_ns=place * MS, duration_ns=2 * MS,
        )
        for place in range(many)
    ]  # fmt: skip
    parses = [context(record.context_id + 1, "parse", parent_id=record.context_id) for record in fetches]
    below = sorted(fetches + parses, key=lambda record: record.context_id)
    records = [root(), context(3, "In[1]", kind="cell", peak_bytes=MIB), *below]
    return recording(*((record, b"") for record in [*records, context(5000, "join", parent_id=3)]))


def test_each_row_stands_below_its_parent() -> None:
    assert of(busy()) == [(0, "root"), (1, "load"), (1, "load"), (2, "parse")]


def test_a_row_has_the_figures_of_its_context() -> None:
    row = costs(busy(), busy().contexts[0]).rows[2]
    assert (row.context_id, row.parent_id, row.contexts) == (4, 1, 1)
    assert (row.peak_bytes, row.kept_bytes, row.live_bytes) == (13 * MIB, 2 * MIB, 2 * MIB)
    assert row.duration_ns == SECOND


def test_what_is_open_has_not_kept_anything_yet() -> None:
    assert costs(busy(), busy().contexts[0]).rows[0].kept_bytes is None


def test_many_of_one_name_under_one_parent_are_one_row() -> None:
    assert of(crowd(4)) == [(0, "root"), (1, "In[1]"), *[(2, "fetch"), (3, "parse")] * 4, (2, "join")]
    folded = costs(crowd(500), crowd(500).contexts[0])
    names = [(row.depth, row.name) for row in folded.rows]
    assert names == [(0, "root"), (1, "In[1]"), (2, "fetch ×500"), (3, "parse ×500"), (2, "join")]
    assert folded.left_out == 0


def test_a_folded_row_adds_up_and_keeps_the_highest_peak() -> None:
    row = costs(crowd(500), crowd(500).contexts[0]).rows[2]
    assert (row.peak_bytes, row.live_bytes, row.kept_bytes) == (1024 + 499, 5000, 3500)
    assert (row.total_bytes, row.allocations, row.contexts) == (500 * 2048, 1500, 500)
    assert row.duration_ns == 501 * MS


def test_the_parent_of_a_row_is_a_row() -> None:
    last_only = recording(
        (root(), b""),
        *((context(3 + place, "w"), b"") for place in range(5)),
        (context(9, "child of the last w", parent_id=7), b""),
        (context(10, "z"), b""),
    )
    for made in (last_only, crowd(500), busy()):
        rows = costs(made, made.contexts[0]).rows
        above = {row.context_id: row for row in rows}
        assert all(above[row.parent_id].depth == row.depth - 1 for row in rows[1:])


def test_of_too_many_rows_the_outer_ones_stay_first_and_then_the_highest_peaks() -> None:
    made = recording(
        (root(peak_bytes=9), b""),
        (context(3, "low", peak_bytes=1), b""),
        (context(4, "outer", peak_bytes=5), b""),
        (context(5, "inner", parent_id=4, peak_bytes=4), b""),
        (context(6, "middle", peak_bytes=3), b""),
    )
    assert of(made, most=3) == [(0, "root"), (1, "outer"), (1, "middle")]
    assert costs(made, made.contexts[0], most=3).left_out == 2
    assert of(made._replace(contexts=made.contexts[:4]), most=3) == [(0, "root"), (1, "low"), (1, "outer")]
    assert of(made, most=5) == [(0, "root"), (1, "low"), (1, "outer"), (2, "inner"), (1, "middle")]


def test_a_chain_of_a_thousand_is_no_recursion() -> None:
    chain = [(context(number, f"c{number}", parent_id=number - 1), b"") for number in range(3, 1003)]
    made = recording((root(), b""), (chain[0][0]._replace(parent_id=1), b""), *chain[1:])
    assert costs(made, made.contexts[0], most=5000).rows[-1].depth == 1000


def test_what_is_its_own_ancestor_is_not_followed_for_ever() -> None:
    made = recording(
        (root(parent_id=1), b""),
        (context(3, "load"), b""),
        (context(4, "parse", parent_id=5), b""),
        (context(5, "parse", parent_id=4), b""),
    )
    assert of(made) == [(0, "root"), (1, "load")]
    assert [(row.depth, row.context_id) for row in costs(made, made.contexts[2]).rows] == [(0, 4), (1, 5)]


def test_system_contexts_have_no_row() -> None:
    made = recording((root(), b""), (context(2, "system", kind="system"), b""))
    assert of(made) == [(0, "root")]


def test_below_the_table_stands_what_the_process_is_made_of() -> None:
    def last_line(made: Recording) -> str:
        return costs_bundle(made, figure=False)["text/plain"].splitlines()[-2]

    of_the_process = "RSS 90.0 MiB, 85.0 MiB of it in files, kept by allocators, or from before the recording"
    assert last_line(marked()._replace(overhead_bytes=3 * MIB)).endswith(
        f" · thag_nb itself 3.0 MiB · {of_the_process}"
    )
    files = Beside(anonymous_bytes=60 * MIB)
    lines = costs_bundle(marked(), figure=False, beside=files)["text/plain"].splitlines()
    assert next(line for line in lines if line.startswith("Now ")).endswith(
        "RSS 90.0 MiB, 30.0 MiB of it in files and shared"
    )
    asked_for_more = marked()._replace(resident=(ResidentSize(0, MIB),))
    assert last_line(asked_for_more).endswith(" · RSS 1.0 MiB")
    assert last_line(busy()).endswith(" · thag_nb itself 0 B")


def test_what_the_process_tells_has_rows_beside_those_of_contexts() -> None:
    def told(shown: Beside) -> list[tuple[str, str]]:
        """The names of the rows, and what is live."""
        lines = costs_bundle(made, figure=False, beside=shown)["text/plain"].splitlines()
        start, end = lines[0].index("kept") + len("kept"), lines[0].index("live now") + len("live now")
        last = next(number for number, line in enumerate(lines) if line.startswith("thag_nb itself"))
        return [(re.split(r"\b  +", line)[0], line[start:end].strip()) for line in lines[1 : last + 1]]

    made = recording(
        (root(live_bytes=40 * MIB, peak_bytes=40 * MIB), b""), (context(3, "load", live_bytes=35 * MIB), b"")
    )._replace(overhead_bytes=2 * MIB)
    beside = Beside(workspaces=((3, 32 * MIB), (99, 4 * MIB)), anonymous_bytes=100 * MIB)
    assert told(beside) == [
        ("root", "40.0 MiB"),
        ("  load", "35.0 MiB"),
        ("    OpenBLAS, to work in", "32.0 MiB"),
        ("  OpenBLAS, to work in", "4.0 MiB"),  # of a context without a row
        ("kept by allocators, or from before", "58.0 MiB"),
        ("thag_nb itself", "2.0 MiB"),
    ]
    assert told(Beside(anonymous_bytes=42 * MIB)) == [told(NOTHING)[0], ("  load", "35.0 MiB"), told(NOTHING)[-1]]


def test_who_made_up_the_session_s_peak_is_told_and_adds_up() -> None:
    def peak_line(**shares: int) -> str | None:
        contexts = (
            context(number, name.strip("_"), at_session_peak_bytes=size)
            for number, (name, size) in enumerate(shares.items(), 3)
        )
        made = recording((root(at_session_peak_bytes=2 * MIB), b""), *((record, b"") for record in contexts))
        lines = costs_bundle(made, figure=False)["text/plain"].splitlines()
        return next((line for line in lines if line.startswith("At the session's peak")), None)

    assert peak_line(load=90 * MIB, merge=300 * MIB, load_=10 * MIB, tiny=MIB) == (
        "At the session's peak, 403.0 MiB: merge 300.0 MiB, load 100.0 MiB, others 1.0 MiB, "
        "outside of cells and tasks 2.0 MiB"
    )
    many = {letter: (30 - number) * MIB for number, letter in enumerate("abcdefg")}
    assert peak_line(**many) == (
        "At the session's peak, 191.0 MiB: a 30.0 MiB, b 29.0 MiB, c 28.0 MiB, d 27.0 MiB, e 26.0 MiB, "
        "others 49.0 MiB, outside of cells and tasks 2.0 MiB"
    )


def test_where_the_bytes_of_the_peak_were_asked_for_is_told() -> None:
    def told(**sources: int) -> list[str]:
        source_figures = {f"at_session_peak_{source}_bytes": size for source, size in sources.items()}
        task = context(3, "load", at_session_peak_bytes=9 * MIB, **source_figures)
        made = recording((root(at_session_peak_bytes=MIB, at_session_peak_native_bytes=0), b""), (task, b""))
        lines = costs_bundle(made, figure=False)["text/plain"].splitlines()
        return [line for line in lines if line.startswith("Of that, ")]

    assert told(native=5 * MIB, numpy=3 * MIB) == [
        "Of that, native code asked for 5.0 MiB, NumPy for 3.0 MiB, Python for 2.0 MiB"
    ]
    assert told(native=9 * MIB) == ["Of that, native code asked for 9.0 MiB, Python for 1.0 MiB"]
    assert told() == []


def test_a_recording_from_before_peaks_were_explained_says_nothing_of_it() -> None:
    assert "session's peak" not in costs_bundle(busy(), figure=False)["text/plain"]
