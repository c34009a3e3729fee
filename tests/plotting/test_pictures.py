"""Pictures of reports: the same whatever a person has set, silent, and never what a report fails for."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from cycler import cycler
from handmade import EMPTY, busy
from matplotlib import style
from processes import python

from thag_nb.comparison import differences
from thag_nb.comparison.report import comparison_bundle
from thag_nb.costs.report import costs_bundle, task_bundle
from thag_nb.plotting import pictures
from thag_nb.plotting import timeline as timelines

STRANGE: dict[str, dict[str, Any]] = {
    "TeX that is not installed": {"text.usetex": True, "text.latex.preamble": r"\usepackage{nosuch}"},
    "a font that is not there": {"font.family": ["Nosuchfont"], "font.sans-serif": ["Nosuchfont"], "font.size": 40},
    "colours": {"axes.prop_cycle": cycler(color=["#ff0000"]), "axes.facecolor": "black", "figure.facecolor": "pink"},
    "sizes": {"figure.dpi": 300, "figure.figsize": (1, 1), "figure.autolayout": True, "lines.linewidth": 9},
    "ways to save": {
        "savefig.dpi": 400,
        "savefig.bbox": "tight",
        "savefig.format": "pdf",
        "savefig.transparent": False,
    },
    "a hand that draws": {"path.sketch": (1, 100, 2), "axes.grid": True, "axes.grid.axis": "both"},
    "ticks": {"axes.unicode_minus": False, "axes.formatter.use_locale": True, "xtick.minor.visible": True},
    "lines": {"lines.linestyle": "--", "lines.marker": "x", "path.simplify": False, "axes.xmargin": 0.5},
}


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    with mpl.rc_context(), np.errstate():
        yield


@pytest.mark.parametrize("settings", STRANGE)
def test_a_picture_is_the_same_under_every_setting(settings: str) -> None:
    before = pictures.timeline(busy(), "load"), pictures.stack(busy())
    mpl.rcParams.update(STRANGE[settings])
    kept = dict(mpl.rcParams)
    assert (pictures.timeline(busy(), "load"), pictures.stack(busy())) == before
    assert dict(mpl.rcParams) == kept
    assert all(picture.png and not picture.problem for picture in before)


@pytest.mark.parametrize("name", ["dark_background", "ggplot", "seaborn-v0_8-talk", "fast"])
def test_a_picture_is_the_same_under_every_style_sheet(name: str) -> None:
    before = pictures.timeline(busy(), "load")
    style.use(name)
    assert pictures.timeline(busy(), "load") == before


def test_warnings_and_floating_point_errors_that_somebody_raises_are_not_raised(recwarn: Any) -> None:
    before = pictures.stack(busy())
    np.seterr(all="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mpl.rcParams["font.family"] = "Nosuchfont"
        assert pictures.stack(busy()) == before
    assert recwarn.list == []


def test_nothing_is_written_to_a_log_but_what_others_say(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    mpl.rcParams["font.family"] = "Nosuchfont"
    with pictures._quietly():
        logging.getLogger("matplotlib.made_meanwhile").warning("unheard")
        logging.getLogger("theirs").warning("heard")
    pictures.timeline(busy(), "load")
    assert [record.getMessage() for record in caplog.records] == ["heard"]
    logging.getLogger("matplotlib.font_manager").debug("afterwards")
    assert [record.getMessage() for record in caplog.records] == ["heard", "afterwards"]


def test_the_first_picture_loads_what_it_needs_in_silence() -> None:
    code = """
        import logging, sys, warnings
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
        warnings.simplefilter("error")
        import thag_nb
        from thag_nb.plotting import pictures
        assert "matplotlib" not in sys.modules
        with thag_nb.task("load"):
            pass
        print(bool(pictures.timeline(thag_nb.read(), "load").png))
    """
    assert python(code) == "True\n"


def test_a_picture_that_cannot_be_drawn_says_why_and_the_figures_are_shown(monkeypatch: Any) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no ink\nat all")

    monkeypatch.setattr(timelines, "plot_timeline", fails)
    monkeypatch.setattr("thag_nb.plotting.stack.plot_stack", fails)
    sentence = "The picture could not be drawn: RuntimeError: no ink at all"
    aligned = differences.aligned(busy(), busy(), 3, 4)
    bundles = {
        "load · peak 13.0 MiB": task_bundle(busy(), 4, figure=True),
        "thag_nb itself": costs_bundle(busy(), figure=True),
        "peak 1.0 MiB -> 13.0 MiB": comparison_bundle(differences.compare(busy(), busy(), 3, 4), aligned),
    }
    for words, bundle in bundles.items():
        assert set(bundle) == {"text/plain", "text/html"}
        for shown in bundle.values():
            assert sentence in shown
        assert words in bundle["text/plain"]
        assert "<img" not in bundle["text/html"]
        assert "<table style" in bundle["text/html"]


def test_there_is_a_picture_of_nothing() -> None:
    assert pictures.stack(EMPTY).png
