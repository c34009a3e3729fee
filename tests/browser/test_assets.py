import json
import re

from thag_nb.browser import assets

NASTY = {"name": "</script><!-- <script> \u2028 'quoted' \"twice\" \\ ü"}


def test_nothing_in_a_payload_ends_the_script_element() -> None:
    made = assets.dashboard_script(NASTY)
    assert made.startswith("<script>")
    assert made.endswith("</script>")
    assert len(re.findall("</script", made, re.IGNORECASE)) == 1
    assert "<!--" not in made


def test_what_an_output_saves_of_the_code_is_less_than_half_of_it() -> None:
    code = len(assets.dashboard_module())
    assert 10_000 < len(assets.dashboard_script({})) < code / 2


def test_a_payload_says_in_the_page_what_it_said_here() -> None:
    assert json.loads(assets.dashboard_json(NASTY)) == NASTY


def test_no_source_loads_anything() -> None:
    for module in (assets.live_module(), assets.dashboard_module()):
        assert not re.search(r"\bimport\b|https?:|fetch\(|XMLHttpRequest", module)


def test_a_module_exports_what_anywidget_calls() -> None:
    assert "export default { render: renderLive };" in assets.live_module()
    assert "export default { render: renderDashboard };" in assets.dashboard_module()
