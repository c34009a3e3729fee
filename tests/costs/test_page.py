import html
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from handmade import EMPTY, busy

import thag_nb
from thag_nb.costs import page
from thag_nb.errors import NotARecordingError, RecordingFileError

pytestmark = pytest.mark.usefixtures("dispatcher")


class Outline(HTMLParser):
    """Which elements are open, and what they lead to outside of the page."""

    VOID = ("img", "meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_stands_by_itself() -> None:
    outline = Outline(page.page(busy()))
    assert outline.open == []
    assert [link.partition(",")[0] for link in outline.links] == ["data:image/png;base64"]


def test_a_page_of_now_also_says_who_holds_what_and_the_status() -> None:
    with thag_nb.task("<kept>"):
        block = bytearray(1 << 20)
    text = page.page()
    assert block
    assert re.findall("<h2>(.*?)</h2>", text) == [
        "What each cell and task cost",
        "Who still holds it",
        "What is seen, and what is not",
    ]
    assert "&lt;kept&gt;" in text
    assert "<kept>" not in text
    assert f"<p>{thag_nb.status().seen}</p>" in text
    assert "<p>Not seen are the pools of Arrow and Polars" in text
    assert "<p>state: recording; hooks: raw on top" in text


def test_a_page_says_where_what_is_held_was_allocated() -> None:
    names: dict[str, object] = {"thag_nb": thag_nb}
    exec(compile("with thag_nb.task('load', lines=True):\n    kept = bytearray(1 << 20)", "own.py", "exec"), names)
    text = page.page()
    assert names["kept"]
    assert ">allocated at</th>" in text
    assert ">own.py line 2</td>" in text


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_page_says_what_is_seen_of_native_memory() -> None:
    thag_nb.start(native=True)
    text = page.page()
    thag_nb.start(native=False)
    assert "what Arrow, Polars and DuckDB hand out" in text
    assert "Not seen are the pools" not in text
    assert "<p>Not seen are the pools of Arrow and Polars" in page.page()


def test_a_page_of_nothing_says_so() -> None:
    assert "Nothing was recorded." in page.page(EMPTY)


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "session.html"
    thag_nb.report(path, recording=busy())
    thag_nb.report(path, recording=EMPTY)
    assert "Nothing was recorded." in path.read_text()
    path.write_text("<!doctype html><p>mine")
    with pytest.raises(RecordingFileError, match=r"exists and is no report of thag_nb; choose another name"):
        thag_nb.report(path, recording=busy())
    assert path.read_text() == "<!doctype html><p>mine"
    thag_nb.report(path, recording=busy(), overwrite=True)
    assert "13.0 MiB" in path.read_text()


def test_a_report_is_of_a_recording_and_into_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotARecordingError):
        thag_nb.report(tmp_path / "a.html", recording="monday")
    with pytest.raises(RecordingFileError, match="is in no folder that exists"):
        thag_nb.report(tmp_path / "none" / "a.html", recording=busy())
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_charged_to_nobody(tmp_path: Path) -> None:
    thag_nb.report(tmp_path / "first.html")  # what is imported first
    with thag_nb.task("reports") as context:
        thag_nb.report(tmp_path / "second.html")
    assert thag_nb.read().find(context.id).self_total_bytes < 10_000


def test_a_name_that_cannot_be_encoded_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    with thag_nb.task("kept"):
        monkeypatch.setitem(sys.modules["__main__"].__dict__, name, bytearray(1 << 20))
    path = tmp_path / f"{name}.html"
    thag_nb.report(path)
    text = path.read_text("utf-8")
    assert r">caf\udce9</td>" in text
    assert html.escape(r"del globals()['caf\udce9']") in text
    with pytest.raises(RecordingFileError) as error:
        thag_nb.report(tmp_path / name / "page.html")
    assert str(error.value).encode()
