import pytest

from thag_nb.palette import COLOURS, DASHES, GREY, OTHERS, Style, _contrast, styles


def test_a_name_keeps_its_style_when_others_come() -> None:
    before = styles(["load", "load", "parse"])
    later = styles(["load", "load", "parse", "train", "load"])
    assert {name: later[name] for name in before} == before
    assert len(later) == 3


def test_twenty_four_names_in_a_row_differ() -> None:
    names = [str(number) for number in range(len(COLOURS) * DASHES)]
    assert len(set(styles(names).values())) == 24
    assert styles([*names, "more"])["more"] == Style(COLOURS[0], 0)


@pytest.mark.parametrize("colour", [*COLOURS, GREY])
def test_lines_have_contrast_on_white_and_on_dark(colour: str) -> None:
    line = Style(colour, 0).line
    assert _contrast(line, "#FFFFFF") >= 3
    assert _contrast(line, "#111111") >= 3


@pytest.mark.parametrize("colour", [*COLOURS, GREY, OTHERS.colour])
def test_words_on_an_area_can_be_read(colour: str) -> None:
    assert _contrast(Style(colour, 0).ink, colour) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    assert _contrast("#000000", "#FFFFFF") == _contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert _contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)
