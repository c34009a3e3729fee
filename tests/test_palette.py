from recordings import busy, context, recording, root

from thag_nb.palette import COLOURS, DASHES, Style, styles, styles_of


def test_a_name_keeps_its_style_when_others_come() -> None:
    before = styles(busy())
    later = busy()
    later = later._replace(contexts=(*later.contexts, context(9, "train"), context(10, "load")))
    assert {name: styles(later)[name] for name in before} == before


def test_root_and_system_have_no_style() -> None:
    assert set(styles(recording((root(), b""), (context(2, "system", kind="system"), b"")))) == set()


def test_twenty_four_names_in_a_row_differ() -> None:
    names = [str(number) for number in range(len(COLOURS) * DASHES)]
    assert len(set(styles_of(names).values())) == 24
    assert styles_of([*names, "more"])["more"] == Style(COLOURS[0], 0)
