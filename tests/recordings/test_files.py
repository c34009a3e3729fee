"""Recordings in files: kept whole, read with care, and told in one sentence if they are something else."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import struct
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from figures import of
from handmade import CELL, EMPTY, MIB, MS, SECOND, busy, charged, context, lined, marked, pack, recording, root
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from processes import python

import thag_nb
from thag_nb import ContextRecord, Mark, Recording, ResidentSize
from thag_nb.errors import NotARecordingError, RecordingFileError
from thag_nb.recordings import files
from thag_nb.recordings.frames import contexts_frame, timeline_frame
from thag_nb.recordings.model import CellFile, LinesOf, Site, SiteFigures, SourceLine
from thag_nb.units import clean_name

LARGEST = 2**63 - 1
NAMES = ["run.json", "run.json.gz"]


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def content_of(source: Recording, path: Path) -> dict[str, Any]:
    source.save(path)
    return dict(json.loads(path.read_text()))


def told(path: Path) -> str:
    """What loading says is wrong: one sentence, with the name of the file."""
    with pytest.raises(RecordingFileError) as error:
        Recording.load(path)
    text = str(error.value)
    assert text.startswith(f"{str(path)!r} is ")
    assert "\n" not in text
    assert ". " not in text.replace(str(path), "")
    return text.removeprefix(f"{str(path)!r} ")


# Round trips


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", [busy(), marked(), lined(), EMPTY], ids=["busy", "marked", "lined", "empty"])
def test_a_loaded_recording_equals_the_saved_one(tmp_path: Path, source: Recording, name: str) -> None:
    source.save(tmp_path / name)
    loaded = Recording.load(tmp_path / name)
    assert loaded == source
    assert list(loaded.timelines) == list(source.timelines)
    assert isinstance(loaded, Recording)
    assert all(type(record) is ContextRecord for record in loaded.contexts)
    assert all(type(mark) is Mark for mark in loaded.marks)
    assert all(type(sample) is ResidentSize for sample in loaded.resident)


def test_a_loaded_recording_gives_the_same_frames(tmp_path: Path) -> None:
    busy().save(tmp_path / "run.json")
    loaded = Recording.load(tmp_path / "run.json")
    pd.testing.assert_frame_equal(contexts_frame(loaded), contexts_frame(busy()))
    pd.testing.assert_frame_equal(timeline_frame(loaded), timeline_frame(busy()))


@pytest.mark.usefixtures("dispatcher")
def test_what_was_really_recorded_comes_back(tmp_path: Path) -> None:
    with thag_nb.task("load"), thag_nb.task("数据 · 🧵"):
        kept = [bytearray(100_000) for _ in range(10)]
        thag_nb.mark("数据 · 🧵")
    taken = thag_nb.read()
    taken.save(tmp_path / "run.json.gz")
    assert Recording.load(tmp_path / "run.json.gz") == taken
    assert taken.find("数据 · 🧵").live_bytes >= 1_000_000
    assert [mark.name for mark in taken.marks] == ["数据 · 🧵"]
    del kept


integers = st.integers(-LARGEST - 1, LARGEST)
never_negative = st.integers(0, LARGEST)
texts = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates included
names = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20).filter(str.strip)
records = st.integers(1, LARGEST).flatmap(
    lambda context_id: st.builds(
        ContextRecord,
        st.just(context_id),
        names,
        st.sampled_from(["root", "cell", "task", "system"]),
        st.integers(0, context_id - 1),
        st.sampled_from(["task_aware", "system"]),
        st.sampled_from(["open", "ended"]),
        *[integers] * 12,
    )
)
timelines = st.lists(st.tuples(*[integers] * 5), max_size=3, unique_by=itemgetter(0)).map(
    lambda buckets: pack(*sorted(buckets))
)
marks = st.builds(Mark, integers, integers, names, st.sampled_from(["mark", "collection"]), never_negative)
figures_at = st.builds(
    SiteFigures,
    st.integers(9, LARGEST),
    st.integers(-3, -1),
    *[integers] * 4,
    st.dictionaries(st.integers(1, 9), integers, max_size=3).map(lambda at_peaks: tuple(at_peaks.items())),
)
cells = st.lists(st.tuples(texts, texts), max_size=2).map(tuple)
lines_of = st.builds(LinesOf, integers, never_negative, st.integers(-3, -1), st.booleans(), cells)


def _in_each_other(sites: list[Site]) -> tuple[Site, ...]:
    return tuple(site._replace(parent=place - 1) for place, site in enumerate(sites))


recordings = st.builds(
    lambda pairs, *rest: Recording(*recording(*sorted(pairs))[:2], *rest),
    st.lists(st.tuples(records, timelines), max_size=3, unique_by=lambda pair: pair[0].context_id),
    integers,
    integers,
    integers,
    st.lists(marks, max_size=3).map(sorted).map(tuple),
    st.lists(st.builds(ResidentSize, integers, never_negative), max_size=3).map(sorted).map(tuple),
    st.lists(st.builds(Site, st.just(-1), texts, never_negative, texts, st.booleans()), max_size=3).map(_in_each_other),
    st.lists(figures_at, max_size=3, unique_by=itemgetter(0, 1)).map(tuple),
    st.lists(lines_of, max_size=3, unique_by=itemgetter(0)).map(tuple),
    st.just(()),
    st.lists(st.builds(CellFile, texts, names.map(clean_name)), max_size=3, unique_by=itemgetter(0)).map(tuple),
)


@given(source=recordings, name=st.sampled_from(NAMES))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_recording_holds_comes_back(tmp_path: Path, source: Recording, name: str) -> None:
    source.save(tmp_path / name)
    assert Recording.load(tmp_path / name) == source


@given(name=texts)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(name="")
@example(name=" \u2003")
@example(name="\u2028")
@example(name="two\nlines")
@example(name="half \ud83d")
@example(name="👩\u200d🔬")
def test_a_name_comes_out_of_a_file_as_a_context_would_have_it(tmp_path: Path, name: str) -> None:
    content = content_of(busy(), tmp_path / "run.json")
    content["contexts"]["name"][-1] = name
    path = write(tmp_path / "named.json", content)
    loaded = Recording.load(path)
    assert loaded.contexts[-1].name == clean_name(name)
    loaded.save(path)
    assert Recording.load(path) == loaded


@pytest.mark.usefixtures("dispatcher")
def test_what_was_recorded_around_a_reset_comes_back(tmp_path: Path) -> None:
    kept = []

    def keep() -> None:
        while len(thag_nb.read().timeline("root")) < 3:
            kept.append(bytearray(50_000))
            thag_nb.mark("kept")
        taken = thag_nb.read()
        taken.save(tmp_path / "run.json")
        assert Recording.load(tmp_path / "run.json") == taken

    outer, middle, inner = (
        thag_nb.push_allocator_context(thag_nb.Allocator.TASK_AWARE, name) for name in ("outer", "middle", "inner")
    )
    keep()
    middle.close()
    thag_nb.reset()
    thag_nb.read().save(tmp_path / "run.json")
    loaded = Recording.load(tmp_path / "run.json")
    assert [record.name for record in loaded.contexts] == ["root", "system", "outer", "inner"]
    assert loaded.find("inner").parent_id == outer.context.id
    keep()
    inner.close()
    outer.close()


def test_a_name_that_is_a_kind_of_str_comes_back_as_one(tmp_path: Path) -> None:
    source = recording((context(3, np.str_("load")), pack()))
    source.save(tmp_path / "run.json")
    assert Recording.load(tmp_path / "run.json") == source


def test_a_recording_of_fewer_contexts_can_be_kept(tmp_path: Path) -> None:
    fewer = busy()._replace(contexts=busy().find_all("load"))
    fewer.save(tmp_path / "run.json")
    assert Recording.load(tmp_path / "run.json") == fewer


def test_paths_may_be_text_and_a_file_is_told_by_what_it_holds_not_by_its_name(tmp_path: Path) -> None:
    busy().save(str(tmp_path / "run.json.GZ"))
    assert (tmp_path / "run.json.GZ").read_bytes().startswith(b"\x1f\x8b")
    (tmp_path / "run.json.GZ").rename(tmp_path / "renamed")
    assert Recording.load(str(tmp_path / "renamed")) == busy()


# The format


def test_the_format_is_version_3_as_documented(tmp_path: Path) -> None:
    source = recording(
        (root(live_bytes=7), pack((1, 2, 3, 4, -5))),
        taken_ns=SECOND,
        marks=(Mark(5, 1, "joined", "mark", 0), Mark(6, 1, "gc 2", "collection", 9)),
        resident=(ResidentSize(8, 4096),),
    )
    content = content_of(source, tmp_path / "run.json")
    totals = ["taken_ns", "overhead_bytes", "dropped"]
    assert list(content) == ["format", "version", *totals, "contexts", "marks", "resident", "timelines"]
    assert (content["format"], content["version"], content["taken_ns"]) == ("thag_nb recording", 3, SECOND)
    columns = (
        "context_id, name, kind, parent_id, allocator, state, live_bytes, peak_bytes, total_bytes, self_live_bytes, "
        "self_peak_bytes, self_total_bytes, allocations, frees, foreign_frees, retained_bytes, started_ns, "
        "duration_ns, at_session_peak_bytes, at_parent_peak_bytes, self_live_numpy_bytes, self_live_native_bytes, "
        "at_session_peak_numpy_bytes, at_session_peak_native_bytes"
    )
    assert ", ".join(content["contexts"]) == columns  # a change of these is a new version
    assert (content["contexts"]["name"], content["contexts"]["live_bytes"]) == (["root"], [7])
    assert content["marks"] == {
        "time_ns": [5, 6],
        "context_id": [1, 1],
        "name": ["joined", "gc 2"],
        "kind": ["mark", "collection"],
        "duration_ns": [0, 9],
    }
    assert content["resident"] == {"time_ns": [8], "resident_bytes": [4096]}
    assert content["timelines"]["context_id"] == [1]
    assert base64.b64decode(content["timelines"]["buckets"][0]) == struct.pack("<5q", 1, 2, 3, 4, -5)


VERSION_1 = """{"format":"thag_nb recording","version":1,"taken_ns":1000000000,"overhead_bytes":4096,"dropped":2,
"contexts":
{"context_id":[1],"name":["root"],"kind":["root"],"parent_id":[0],"allocator":["task_aware"],"state":["open"],
"live_bytes":[7],"peak_bytes":[9],"total_bytes":[11],"self_live_bytes":[7],"self_peak_bytes":[9],"self_total_bytes":[11]
,"allocations":[3],"frees":[1],"foreign_frees":[0],"retained_bytes":[0],"started_ns":[0],"duration_ns":[1000000000]},
"timelines":{"context_id":[1],"buckets":["AQAAAAAAAAACAAAAAAAAAAMAAAAAAAAABAAAAAAAAAD7/////////w=="]}}"""


def test_a_file_of_version_1_is_a_recording_without_marks_and_samples(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(VERSION_1)
    figures = {"live_bytes": 7, "peak_bytes": 9, "total_bytes": 11}
    figures |= {f"self_{name}": value for name, value in figures.items()}
    record = root(allocations=3, frees=1, duration_ns=SECOND, **figures)
    assert Recording.load(tmp_path / "run.json") == Recording(
        (record,), {1: pack((1, 2, 3, 4, -5))}, SECOND, 4096, 2, (), ()
    )


def test_a_file_of_version_2_does_not_tell_what_peaks_and_bytes_were_made_up_of(tmp_path: Path) -> None:
    later = ContextRecord._fields[18:]
    source = recording((root(peak_bytes=9, **dict.fromkeys(later, 9)), b""))
    content = content_of(source, tmp_path / "run.json") | {"version": 2}
    path = write(tmp_path / "run.json", content)
    assert told(path).startswith("is a damaged recording: the columns of its contexts are not those of version 2;")
    for field in later:
        del content["contexts"][field]
    write(path, content)
    assert Recording.load(path).contexts == (root(peak_bytes=9),)


def test_a_file_of_version_1_becomes_one_of_version_3_when_it_is_saved(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(VERSION_1)
    loaded = Recording.load(tmp_path / "run.json")
    assert content_of(loaded, tmp_path / "run.json")["version"] == 3
    assert Recording.load(tmp_path / "run.json") == loaded


def test_a_damaged_file_of_version_1_is_told_as_such(tmp_path: Path) -> None:
    content = json.loads(VERSION_1)
    del content["contexts"]["frees"]
    path = write(tmp_path / "run.json", content)
    assert told(path).startswith("is a damaged recording: the columns of its contexts are not those of version 1;")


def test_call_sites_are_a_part_of_their_own_as_documented(tmp_path: Path) -> None:
    stack = ((CELL, 12, "<module>"), (CELL, 7, "load"))
    source = charged(busy(), (4, stack, 4096, {4: 4096, 1: 0}), cells=((CELL, "In[3]"),), peak_site=1)
    assert content_of(source, tmp_path / "run.json")["call_sites"] == {
        "texts": [CELL, "<module>", "load"],
        "sites": {"parent": [-1, 0], "file": [0, 0], "line": [12, 7], "function": [1, 2]},
        "site_figures": {
            "context_id": [4],
            "site": [1],
            "live_bytes": [4096],
            "total_bytes": [4096],
            "allocations": [1],
            "frees": [0],
            "at_peaks": [[[4, 4096], [1, 0]]],
        },
        "lines": {
            "context_id": [4],
            "least_bytes": [0],
            "peak_site": [1],
            "is_explained": [True],
            "cells": [[[CELL, "In[3]"]]],
        },
        "source_lines": {"file": [], "line": [], "text": []},
    }


def test_which_sites_are_hidden_is_told_where_any_is(tmp_path: Path) -> None:
    sites = lined().sites
    assert "is_hidden" not in content_of(lined(), tmp_path / "run.json")["call_sites"]["sites"]
    source = lined()._replace(sites=(sites[0], sites[1]._replace(is_hidden=True), *sites[2:]))
    hidden = content_of(source, tmp_path / "run.json")["call_sites"]["sites"]["is_hidden"]
    assert hidden == [False, True] + [False] * (len(sites) - 2)
    assert Recording.load(tmp_path / "run.json") == source


def test_files_of_cells_are_told_where_there_are_any(tmp_path: Path) -> None:
    source = lined()._replace(cell_files=(CellFile(CELL, "In[2]"), CellFile("/tmp/other.py", "In[1]")))
    section = content_of(source, tmp_path / "run.json")["call_sites"]
    assert section["cell_files"] == {"file": [0, len(section["texts"]) - 1], "name": ["In[2]", "In[1]"]}
    assert Recording.load(tmp_path / "run.json").cell_files == source.cell_files


def test_a_recording_without_lines_has_no_part_for_them(tmp_path: Path) -> None:
    assert "call_sites" not in content_of(marked(), tmp_path / "run.json")


def test_a_text_is_in_the_file_once_however_many_sites_have_it(tmp_path: Path) -> None:
    stacks = [((CELL, line, "some_function"),) for line in range(1, 1000)]
    charged(busy(), *((4, stack, 1, {}) for stack in stacks)).save(tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    assert (text.count(CELL), text.count("some_function")) == (1, 1)


def of_script(path: Path) -> Recording:
    """What lines 2 and 3 of a script allocated, one of them through a library."""
    path.write_text("import numpy as np\nx = np.zeros(9)  # mine\n\tsecond()  \n")
    library = (np.__file__, 3, "zeros")
    return charged(
        busy(),
        (4, ((str(path), 2, "<module>"), library), 9, {}),
        (4, ((str(path), 3, "<module>"),), 9, {}),
        (4, ((str(path), 99, "<module>"),), 9, {}),
    )


def test_the_text_of_lines_is_saved_only_if_it_is_asked_for(tmp_path: Path) -> None:
    source = of_script(tmp_path / "work.py")
    source.save(tmp_path / "without.json")
    assert "# mine" not in (tmp_path / "without.json").read_text()
    assert Recording.load(tmp_path / "without.json") == source
    source.save(tmp_path / "with.json", source=True)
    loaded = Recording.load(tmp_path / "with.json")
    lines = [(2, "x = np.zeros(9)  # mine"), (3, "\tsecond()")]
    assert loaded.source_lines == tuple(SourceLine(str(tmp_path / "work.py"), *line) for line in lines)
    assert loaded._replace(source_lines=()) == source


def test_the_text_that_came_with_a_recording_is_kept_but_not_against_anybodys_will(tmp_path: Path) -> None:
    of_script(tmp_path / "work.py").save(tmp_path / "with.json", source=True)
    (tmp_path / "work.py").write_text("# another text\n" * 9)
    loaded = Recording.load(tmp_path / "with.json")
    loaded.save(tmp_path / "again.json", source=True)
    assert Recording.load(tmp_path / "again.json") == loaded
    loaded.save(tmp_path / "without.json")
    assert Recording.load(tmp_path / "without.json").source_lines == ()


def test_one_recording_makes_one_file(tmp_path: Path) -> None:
    for name in ("one.gz", "other.gz"):
        busy().save(tmp_path / name)
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.gz").read_bytes()).isascii()


def test_a_machine_of_the_other_byte_order_writes_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy().save(tmp_path / "ours.json")
    swapped = {key: np.frombuffer(rows, np.int64).byteswap().tobytes() for key, rows in busy().timelines.items()}
    monkeypatch.setattr(files, "_SWAPS_BYTES", not files._SWAPS_BYTES)
    busy()._replace(timelines=swapped).save(tmp_path / "theirs.json")
    assert (tmp_path / "ours.json").read_bytes() == (tmp_path / "theirs.json").read_bytes()
    assert Recording.load(tmp_path / "ours.json").timelines == swapped


def test_spaces_and_lines_between_do_not_matter(tmp_path: Path) -> None:
    content = content_of(busy(), tmp_path / "run.json")
    (tmp_path / "run.json").write_text("\n" + json.dumps(content, indent=2) + "\n")
    assert Recording.load(tmp_path / "run.json") == busy()


# What is no recording


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_short_anywhere_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    lined().save(path)
    whole = path.read_bytes()
    for tenths in range(1, 10):
        path.write_bytes(whole[: len(whole) * tenths // 10])
        assert "or only the first bytes of one;" in told(path) or "is a damaged recording: " in told(path)
    path.write_bytes(whole[:-1])
    assert "cut short" in told(path)


def test_a_changed_byte_of_a_compressed_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.json.gz"
    marked().save(path)
    whole = path.read_bytes()
    for place in range(10, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        told(path)
    path.write_bytes(whole + b"more")
    assert told(path).startswith("is a damaged recording: its gzip data are cut short or something follows them;")


def test_a_newer_version_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "run.json", content_of(busy(), tmp_path / "run.json") | {"version": 4, "contexts": []})
    problem = "is a recording of version 4, and this thag_nb reads versions up to 3"
    assert told(path) == f"{problem}; upgrade thag_nb to read it"


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, None, True])
def test_a_version_that_never_was_is_told(tmp_path: Path, version: object) -> None:
    path = write(tmp_path / "run.json", content_of(busy(), tmp_path / "run.json") | {"version": version})
    assert told(path).startswith(f"is a damaged recording: its version is {version!r};")


OTHER_FILES = {
    "JSON of something else": b'{"format": "something else", "version": 1}',
    "a list": b"[1, 2, 3]",
    "the mark alone": b'"thag_nb recording"',
    "binary": bytes(range(256)) * 10,
    "a picture": b"\x89PNG\r\n\x1a\n\x00\x00",
    "gzip of something else": gzip.compress(b"hello"),
    "the beginning of gzip": b"\x1f\x8b",
    "no gzip": b"\x1f\x8bhello, this is none",
    "text": "Grüße".encode("latin-1"),
    "brackets": b"[" * 100_000,
}


@pytest.mark.parametrize("data", OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_file_of_something_else_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(data)
    assert told(path) == (
        "is no recording of thag_nb, or only the first bytes of one; give a file that Recording.save wrote"
    )


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    assert told(tmp_path / "run.json") == "is empty; give a file that Recording.save wrote"


def test_a_directory_and_a_pipe_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for save_or_load in (lambda path: busy().save(path, overwrite=True), Recording.load):
        with pytest.raises(RecordingFileError, match=r"' is a directory; give the name of a file in it$"):
            save_or_load(tmp_path)
        with pytest.raises(RecordingFileError, match=r"' is no regular file; give the name of one$"):
            save_or_load(tmp_path / "pipe")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        Recording.load(tmp_path / "none.json")


@pytest.mark.parametrize("path", [3, None, 1.5])
def test_what_is_no_path_is_told(path: Any) -> None:
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not"):
        busy().save(path)
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not"):
        Recording.load(path)


def change(place: str, value: object) -> Any:
    """A change of the one value at a place such as ``contexts.name.0``; None takes it away."""

    def changed(content: Any) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in place.split(".")]
        for step in steps:
            content = content[step]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return changed


def exchange(*places: str) -> Any:
    """A change of the order of the first two values in the lists at these places."""

    def changed(content: Any) -> None:
        for place in places:
            table, column = place.split(".")
            values = content[table][column]
            values[:2] = values[1::-1]

    return changed


def encoded(*buckets: tuple[int, int, int, int, int]) -> str:
    return base64.b64encode(b"".join(struct.pack("<5q", *bucket) for bucket in buckets)).decode()


FLAWS = {
    "total missing": (change("dropped", None), "its dropped is None"),
    "total of text": (change("taken_ns", "soon"), "its taken_ns is 'soon'"),
    "contexts missing": (change("contexts", None), "the columns of its contexts are not those of version 3"),
    "contexts in rows": (change("contexts", [[1, "root"]]), "the columns of its contexts are not those of version 3"),
    "column missing": (change("contexts.frees", None), "the columns of its contexts are not those of version 3"),
    "column unknown": (change("contexts.colour", ["red"]), "the columns of its contexts are not those of version 3"),
    "column no list": (change("contexts.frees", 5), "frees in its contexts is 5"),
    "column short": (change("contexts.frees.0", None), "the columns of its contexts are not of one length"),
    "figure broken": (change("contexts.frees.1", 1.5), "a value of frees in its contexts is 1.5"),
    "figure true": (change("contexts.frees.1", True), "a value of frees in its contexts is True"),
    "figure too large": (change("contexts.frees.1", 2**63), "a value of frees in its contexts is 9223372036854775808"),
    "name a number": (change("contexts.name.0", 5), "a value of name in its contexts is 5"),
    "kind unknown": (change("contexts.kind.0", "cellar"), "a value of kind in its contexts is 'cellar'"),
    "kind a list": (change("contexts.kind.0", []), "a value of kind in its contexts is []"),
    "id twice": (change("contexts.context_id.1", 1), "an id occurs twice"),
    "timeline missing": (change("timelines.context_id.1", 99), "context 3 has no timeline"),
    "timelines missing": (change("timelines", None), "the columns of its timelines are not those of version 3"),
    "no base64": (change("timelines.buckets.0", "{}"), "a value of buckets in its timelines is '{}'"),
    "no text": (change("timelines.buckets.0", 5), "a value of buckets in its timelines is 5"),
    "marks missing": (change("marks", None), "the columns of its marks are not those of version 3"),
    "marks a list": (change("marks", []), "the columns of its marks are not those of version 3"),
    "mark column missing": (change("marks.kind", None), "the columns of its marks are not those of version 3"),
    "mark column unknown": (change("marks.colour", ["red"]), "the columns of its marks are not those of version 3"),
    "mark column no list": (change("marks.name", "joined"), "name in its marks is 'joined'"),
    "mark column short": (change("marks.name.0", None), "the columns of its marks are not of one length"),
    "mark name a number": (change("marks.name.0", 5), "a value of name in its marks is 5"),
    "mark time broken": (change("marks.time_ns.1", 1.5), "a value of time_ns in its marks is 1.5"),
    "mark time too large": (change("marks.time_ns.1", 2**63), "a value of time_ns in its marks is 9223372036854775808"),
    "mark kind of a context": (change("marks.kind.0", "cell"), "a value of kind in its marks is 'cell'"),
    "kind of a mark": (change("contexts.kind.0", "mark"), "a value of kind in its contexts is 'mark'"),
    "samples missing": (change("resident", None), "the columns of its resident are not those of version 3"),
    "sample column short": (change("resident.time_ns.0", None), "the columns of its resident are not of one length"),
    "sample true": (change("resident.resident_bytes.0", True), "a value of resident_bytes in its resident is True"),
    "ids not in order": (
        exchange("contexts.context_id", "timelines.context_id"),
        "context_id in its contexts is not ascending",
    ),
    "a context in itself": (
        change("contexts.parent_id.0", 1),
        "parent_id of context 1 is 1, and not the id of an older one",
    ),
    "a parent listed later": (
        change("contexts.parent_id.1", 4),
        "parent_id of context 3 is 4, and not the id of an older one",
    ),
    "a parent below 0": (
        change("contexts.parent_id.2", -1),
        "parent_id of context 4 is -1, and not the id of an older one",
    ),
    "mark duration below 0": (change("marks.duration_ns.1", -1), "a value of duration_ns in its marks is -1"),
    "marks not in order": (exchange("marks.time_ns"), "time_ns in its marks is not ascending"),
    "sample below 0": (change("resident.resident_bytes.0", -1), "a value of resident_bytes in its resident is -1"),
    "samples not in order": (exchange("resident.time_ns"), "time_ns in its resident is not ascending"),
    "buckets not in order": (
        change("timelines.buckets.1", encoded((5, 0, 1, 1, 1), (4, 0, 1, 1, 1))),
        "start_ns in the timeline of context 3 is not ascending",
    ),
    "buckets of one moment": (
        change("timelines.buckets.1", encoded((5, 0, 1, 1, 1), (5, 0, 1, 1, 1))),
        "start_ns in the timeline of context 3 is not ascending",
    ),
    "half a bucket": (change("timelines.buckets.0", "AAAA"), "a value of buckets in its timelines is 'AAAA'"),
}


SITES = "call_sites"
FLAWS_OF_SITES = {
    "of another kind": (change(SITES, []), "what its call_sites have is not what those of version 3 have"),
    "null": (
        lambda content: content.update({SITES: None}),
        "what its call_sites have is not what those of version 3 have",
    ),
    "a table missing": (change(f"{SITES}.lines", None), "what its call_sites have is not what those of version 3 have"),
    "texts of numbers": (change(f"{SITES}.texts.0", 5), "the texts of its call_sites are not all text"),
    "texts no list": (change(f"{SITES}.texts", "abc"), "the texts of its call_sites are not all text"),
    "column missing": (change(f"{SITES}.sites.line", None), "the columns of its sites are not those of version 3"),
    "column short": (change(f"{SITES}.sites.line.0", None), "the columns of its sites are not of one length"),
    "column no list": (change(f"{SITES}.lines.cells", 5), "cells in its lines is 5"),
    "no such text": (change(f"{SITES}.sites.file.0", 7), "a value of file in its sites is 7"),
    "a text below 0": (change(f"{SITES}.sites.function.1", -1), "a value of function in its sites is -1"),
    "line below 0": (change(f"{SITES}.sites.line.1", -1), "a value of line in its sites is -1"),
    "line broken": (change(f"{SITES}.sites.line.1", 1.5), "a value of line in its sites is 1.5"),
    "figure true": (change(f"{SITES}.site_figures.frees.1", True), "a value of frees in its site_figures is True"),
    "figure too large": (
        change(f"{SITES}.site_figures.live_bytes.0", 2**63),
        "a value of live_bytes in its site_figures is 9223372036854775808",
    ),
    "peaks no list": (change(f"{SITES}.site_figures.at_peaks.0", 5), "a value of at_peaks in its site_figures is 5"),
    "peaks of one": (
        change(f"{SITES}.site_figures.at_peaks.0", [[4]]),
        "a value of at_peaks in its site_figures is [[4]]",
    ),
    "peaks of text": (
        change(f"{SITES}.site_figures.at_peaks.0", [[4, "much"]]),
        "a value of at_peaks in its site_figures is [[4, 'much']]",
    ),
    "cells of numbers": (change(f"{SITES}.lines.cells.0", [["x", 3]]), "a value of cells in its lines is [['x', 3]]"),
    "explained by 1": (change(f"{SITES}.lines.is_explained.0", 1), "a value of is_explained in its lines is 1"),
    "least below 0": (change(f"{SITES}.lines.least_bytes.0", -1), "a value of least_bytes in its lines is -1"),
    "text a number": (
        change(f"{SITES}.source_lines", {"file": [0], "line": [1], "text": [5]}),
        "a value of text in its source_lines is 5",
    ),
    "a site in itself": (
        change(f"{SITES}.sites.parent.1", 1),
        "parent of site 1 is 1, and not the place of one before it",
    ),
    "a parent below -1": (
        change(f"{SITES}.sites.parent.0", -2),
        "parent of site 0 is -2, and not the place of one before it",
    ),
    "no such site": (change(f"{SITES}.site_figures.site.0", 5), "site in its site_figures is 5, and it has 5 sites"),
    "no such word": (change(f"{SITES}.site_figures.site.0", -4), "site in its site_figures is -4, and it has 5 sites"),
    "no such peak": (change(f"{SITES}.lines.peak_site.0", 5), "peak_site in its lines is 5, and it has 5 sites"),
    "the peak of a later one": (
        change(f"{SITES}.site_figures.at_peaks.0", [[5, 1]]),
        "at_peaks of context 4 are not those of itself and of older ones, each once",
    ),
    "a peak twice": (
        change(f"{SITES}.site_figures.at_peaks.0", [[4, 1], [4, 2]]),
        "at_peaks of context 4 are not those of itself and of older ones, each once",
    ),
    "lines twice": (change(f"{SITES}.lines.context_id.1", 4), "lines of context 4 occur 2 times"),
    "hidden by 1": (change(f"{SITES}.sites.is_hidden", [1] * 5), "a value of is_hidden in its sites is 1"),
    "a cell a number": (
        change(f"{SITES}.cell_files", {"file": [0], "name": [5]}),
        "a value of name in its cell_files is 5",
    ),
    "a cell in no file": (
        change(f"{SITES}.cell_files", {"file": [9], "name": ["In[1]"]}),
        "a value of file in its cell_files is 9",
    ),
    "a cell's file twice": (
        change(f"{SITES}.cell_files", {"file": [0, 0], "name": ["In[1]", "In[2]"]}),
        f"the file {CELL!r} occurs 2 times in its cell_files",
    ),
    "figures twice": (change(f"{SITES}.site_figures.site.1", 2), "figures of context 4 at site 2 occur 2 times"),
}


@pytest.mark.parametrize(("change", "flaw"), FLAWS_OF_SITES.values(), ids=FLAWS_OF_SITES)
def test_call_sites_that_are_none_are_told(tmp_path: Path, change: Any, flaw: str) -> None:
    content = content_of(lined(), tmp_path / "run.json")
    change(content)
    path = write(tmp_path / "run.json", content)
    assert told(path) == f"is a damaged recording: {flaw}; save it again, or take another copy"


@pytest.mark.parametrize(("change", "flaw"), FLAWS.values(), ids=FLAWS)
def test_content_that_is_no_recording_is_told(tmp_path: Path, change: Any, flaw: str) -> None:
    content = content_of(marked(), tmp_path / "run.json")
    change(content)
    path = write(tmp_path / "run.json", content)
    assert told(path) == f"is a damaged recording: {flaw}; save it again, or take another copy"


def test_json_that_goes_on_or_is_too_deep_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for rest in ("]", "{}", '"contexts": ' + "[" * 100_000, '"taken_ns": ' + "1" * 10_000 + "}"):
        path.write_text('{"format":"thag_nb recording",' + rest)
        assert told(path).startswith("is a damaged recording: it is cut short or changed;")


# Saving


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_replaced_by_another(tmp_path: Path, name: str) -> None:
    EMPTY.save(tmp_path / name)
    busy().save(tmp_path / name)
    assert Recording.load(tmp_path / name) == busy()


def test_a_damaged_recording_and_one_of_a_newer_version_are_replaced_as_well(tmp_path: Path) -> None:
    for text in ('{"format":"thag_nb recording","vers', '{"format":"thag_nb recording","version":9}'):
        (tmp_path / "run.json").write_text(text)
        busy().save(tmp_path / "run.json")
        assert Recording.load(tmp_path / "run.json") == busy()


@pytest.mark.parametrize("data", [*OTHER_FILES.values(), b""], ids=[*OTHER_FILES, "empty"])
def test_anything_else_is_replaced_only_when_asked(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "flights.csv"
    path.write_bytes(data)
    with pytest.raises(RecordingFileError) as error:
        busy().save(path)
    assert str(error.value) == (
        f"{str(path)!r} exists and is no recording of thag_nb; choose another name, or replace it with overwrite=True"
    )
    assert path.read_bytes() == data
    busy().save(path, overwrite=True)
    assert Recording.load(path) == busy()


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_saving_that_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    busy().save(tmp_path / "run.json")

    def fail(*_: object) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        raise failure

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(failure)) as error:
        EMPTY.save(tmp_path / "run.json")
    monkeypatch.undo()
    if isinstance(failure, OSError):
        assert str(error.value) == f"[Errno 28] No space left on device: {str(tmp_path / 'run.json')!r}"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert Recording.load(tmp_path / "run.json") == busy()


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    folder = str(tmp_path / "none")
    with pytest.raises(RecordingFileError, match=re.escape(f"is in no folder that exists; make {folder!r} first")):
        busy().save(tmp_path / "none" / "run.json")


def test_what_a_link_leads_to_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "run.json")
    for source in (EMPTY, busy()):
        source.save(tmp_path / "link.json")
        assert (tmp_path / "link.json").is_symlink()
        assert Recording.load(tmp_path / "run.json") == source


def test_a_file_has_the_permissions_of_a_new_file_or_of_the_one_it_replaces(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    busy().save(tmp_path / "run.json")
    assert (tmp_path / "run.json").stat().st_mode == (tmp_path / "other").stat().st_mode
    (tmp_path / "run.json").chmod(0o640)
    busy().save(tmp_path / "run.json")
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o640


def test_a_name_as_long_as_names_can_be_is_saved(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    busy().save(path)
    assert Recording.load(path) == busy()


def test_a_recording_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    wrong = recording((context(3, "load", frees=np.int64(5)), pack()))
    with pytest.raises(RecordingFileError) as error:
        wrong.save(path)
    assert str(error.value).startswith(
        f"{str(path)!r} cannot hold this recording: a value of frees in its contexts is "
    )
    nameless = marked()._replace(marks=(Mark(700 * MS, 4, None, "mark", 0),))  # type: ignore[arg-type]
    with pytest.raises(RecordingFileError, match="this recording: a value of name in its marks is None; save it as"):
        nameless.save(path)
    in_itself = recording((root(parent_id=1), pack()))
    with pytest.raises(RecordingFileError, match="this recording: parent_id of context 1 is 1, and not the id of an "):
        in_itself.save(path)
    reversed_in_time = marked()._replace(resident=marked().resident[::-1])
    with pytest.raises(RecordingFileError, match="this recording: time_ns in its resident is not ascending; save it"):
        reversed_in_time.save(path)
    no_text = lined()._replace(sites=(Site(-1, CELL, 1, None), *lined().sites[1:]))  # type: ignore[arg-type]
    with pytest.raises(
        RecordingFileError, match="this recording: a value of function in its sites is None; save it as"
    ):
        no_text.save(path)
    with pytest.raises(RecordingFileError, match="this recording: context 1 has no timeline; save it as"):
        busy()._replace(timelines={}).save(path)
    assert list(tmp_path.iterdir()) == []


# Beside the rest


@pytest.mark.usefixtures("dispatcher")
def test_saving_and_loading_are_charged_to_nobody(tmp_path: Path) -> None:
    many = recording(*((context(number, "x" * 200), pack()) for number in range(2, 5000)))
    with thag_nb.task("work"):
        many.save(tmp_path / "run.json")
        loaded = Recording.load(tmp_path / "run.json")
    assert loaded == many
    assert of("work").peak_bytes < MIB / 4 < len((tmp_path / "run.json").read_bytes())


def test_saving_and_loading_need_neither_pandas_nor_numpy_nor_a_hook(tmp_path: Path) -> None:
    code = f"""
        import sys, thag_nb
        from thag_nb import _native
        assert "thag_nb.recordings.files" not in sys.modules and "json" not in sys.modules
        taken = thag_nb.read()
        taken.save({str(tmp_path / "run.json.gz")!r})
        assert thag_nb.Recording.load({str(tmp_path / "run.json.gz")!r}) == taken
        assert set(_native.hooks().values()) == {{"absent"}}
        print(sorted({{"IPython", "pandas", "matplotlib", "numpy"}} & set(sys.modules)))
    """
    assert python(code) == "[]\n"


def test_a_kept_recording_can_be_shown(tmp_path: Path) -> None:
    busy().save(tmp_path / "run.json")
    kept = Recording.load(tmp_path / "run.json")
    pd.testing.assert_frame_equal(thag_nb.contexts(recording=kept), contexts_frame(busy()))
    pd.testing.assert_frame_equal(thag_nb.timeline(recording=kept), timeline_frame(busy()))
    every = thag_nb.timeline("load", all=True, recording=kept)
    pd.testing.assert_frame_equal(every, timeline_frame(busy(), "load", all=True))
    assert thag_nb.plot_timeline("parse", recording=kept).get_lines()


@pytest.mark.parametrize("wrong", ["run.json", 3, (), busy().contexts], ids=["path", "number", "tuple", "contexts"])
def test_what_is_no_recording_cannot_be_shown(wrong: Any) -> None:
    for show in (thag_nb.contexts, thag_nb.timeline, thag_nb.plot_timeline):
        with pytest.raises(NotARecordingError, match=r"^recording must be a Recording, not .*Recording\.load\(path\)$"):
            show(recording=wrong)
