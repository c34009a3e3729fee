"""Call sites for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import speedscope
from handmade import CELL, KIB, MIB, PANDAS, busy, charged, context, lined, recording, root

import thag_nb
from thag_nb.errors import ChoiceError, NoLinesError, RecordingFileError
from thag_nb.recordings.model import NO_FRAME
from thag_nb.sites import exports


def test_a_file_for_speedscope_has_a_profile_for_each_figure(tmp_path: Path) -> None:
    path = tmp_path / "load.speedscope.json"
    thag_nb.speedscope("load", path, recording=lined())
    content = json.loads(path.read_text())
    speedscope.check(content)
    assert content["name"] == "load"
    names = ["load: live at its peak", "load: still live", "load: allocated in all"]
    assert [profile["name"] for profile in content["profiles"]] == names
    record = lined().find("load")
    totals = [record.peak_bytes, record.live_bytes, record.total_bytes]
    assert [profile["endValue"] for profile in content["profiles"]] == totals
    assert {profile["unit"] for profile in content["profiles"]} == {"bytes"}


def test_samples_are_stacks_from_the_outermost_frame_on() -> None:
    content = exports.speedscope(lined(), "load")
    frames, peak = content["shared"]["frames"], content["profiles"][0]
    assert peak["weights"][:2] == [8 * MIB, 4 * MIB]
    assert [frames[place] for place in peak["samples"][0]] == [
        {"name": "<module> (In[3]:2)", "file": "In[3]", "line": 2},
        {"name": "read_csv (parsers.py:1026)", "file": PANDAS + "io/parsers.py", "line": 1026},
        {"name": "_read (parsers.py:620)", "file": PANDAS + "io/parsers.py", "line": 620},
    ]
    assert [frames[place] for place in peak["samples"][2]] == [{"name": "not known where"}]


def test_a_frame_is_listed_once_and_only_what_has_bytes_is_a_sample() -> None:
    content = exports.speedscope(lined(), "load")
    frames = [tuple(frame.items()) for frame in content["shared"]["frames"]]
    assert len(set(frames)) == len(frames)
    assert [len(profile["samples"]) for profile in content["profiles"]] == [4, 1, 2]


def test_a_line_that_is_not_known_is_left_out() -> None:
    source = charged(busy(), (4, ((CELL, 0, "f"),), MIB, {4: MIB}))
    content = exports.speedscope(source, "load")
    speedscope.check(content)
    assert {"name": "f (1234.py)", "file": CELL} in content["shared"]["frames"]


def test_a_context_without_any_bytes_is_a_file_of_empty_profiles() -> None:
    source = charged(recording((root(), b""), (context(3, "load"), b"")), (3, NO_FRAME, 0, {}))
    content = exports.speedscope(source, "load")
    speedscope.check(content)
    assert [profile["samples"] for profile in content["profiles"]] == [[], [], []]


def test_our_own_file_is_replaced_and_anything_else_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    for _ in range(2):
        thag_nb.speedscope("load", path, recording=lined())
    other = '{"$schema":"https://www.speedscope.app/file-format-schema.json","exporter":"py-spy"}'
    for content in (other, "{}", ""):
        path.write_text(content)
        with pytest.raises(RecordingFileError, match="exists and is no speedscope file of thag_nb; choose"):
            thag_nb.speedscope("load", path, recording=lined())
        assert path.read_text() == content
    thag_nb.speedscope("load", path, recording=lined(), overwrite=True)
    speedscope.check(json.loads(path.read_text()))
    assert [file.name for file in tmp_path.iterdir()] == ["load.json"]


def test_collapsed_stacks_are_lines_with_their_bytes() -> None:
    assert thag_nb.collapsed_stacks("load", recording=lined()).splitlines() == [
        f"<module> (In[3]:2);read_csv (parsers.py:1026);_read (parsers.py:620) {8 * MIB}",
        f"<module> (In[3]:9);parse (parse.py:6) {4 * MIB}",
        f"not known where {MIB - 300 * KIB}",
        f"smaller than 4.0 KiB {300 * KIB}",
    ]
    kept = thag_nb.collapsed_stacks("load", "kept", recording=lined())
    assert kept == f"<module> (In[3]:2);read_csv (parsers.py:1026);_read (parsers.py:620) {2 * MIB}\n"


def test_a_collapsed_stack_is_one_line_whatever_is_in_its_names() -> None:
    stack = (("/home/me/a;b\n.py", 3, "f;g"),)
    source = charged(busy(), (4, stack, MIB, {4: MIB}))
    assert f"f:g (a:b .py:3) {MIB}" in exports.collapsed(source, "load").splitlines()


def test_stacks_that_read_the_same_are_one_line() -> None:
    stacks = [((f"/home/{who}/load.py", 3, "f"),) for who in ("me", "you")]
    source = charged(busy(), *((4, stack, MIB, {4: MIB}) for stack in stacks))
    assert f"f (load.py:3) {2 * MIB}" in exports.collapsed(source, "load").splitlines()


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoLinesError):
        thag_nb.speedscope("load", tmp_path / "load.json", recording=busy())
    with pytest.raises(ChoiceError, match=r"^figure must be 'peak', 'kept' or 'total', not 'live'$"):
        thag_nb.collapsed_stacks("load", "live", recording=lined())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
