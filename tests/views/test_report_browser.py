"""The report in a real browser: no console message, no request, no horizontal scrolling on a phone."""

import pytest

from moe_cli.views.report.page import report_page
from tests.views.chromium import chromium, opened
from tests.views.injections import INJECTIONS
from tests.views.report_records import comparison, report_data
from tests.views.test_report_injection import page as hostile_page

pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium here: apt-get install chromium")

WIDTH = "document.documentElement.scrollWidth"
STYLED = "getComputedStyle(document.body).marginTop"  # 8px without the style block


@pytest.fixture(scope="module")
def browser():
    with opened() as tab:
        yield tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1024, 360])
def test_a_report_opens_in_silence_and_fits_its_window(browser, tmp_path, width, scheme):
    found = comparison(num_layers=16)
    path = tmp_path / "report.html"
    path.write_text(report_page(found, report_data(found, num_experts=64)))
    browser.open(path, width=width, scheme=scheme)
    assert browser.said() == []
    assert browser.requested() == [path.as_uri()]
    assert browser.value(WIDTH) == width
    assert browser.value(STYLED) == "0px"
    dark = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")


def test_no_table_hides_a_column_where_the_window_has_room(browser, tmp_path):
    found = comparison(num_layers=16)
    path = tmp_path / "report.html"
    path.write_text(report_page(found, report_data(found, num_experts=64)))
    hidden = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    browser.open(path, width=1600)
    assert browser.value(hidden) == 0 and browser.value(WIDTH) == 1600
    browser.open(path, width=700)
    assert browser.value(hidden) > 0 and browser.value(WIDTH) == 700


def test_the_folds_are_closed_until_they_are_opened(browser, tmp_path):
    found = comparison()
    path = tmp_path / "report.html"
    path.write_text(report_page(found, report_data(found)))
    browser.open(path)
    seen = "[...document.querySelectorAll('.said')].filter(one => one.checkVisibility()).length"
    assert browser.value(seen) == 0
    browser.value("document.querySelector('details').open = true")
    assert browser.value(seen) > 0


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)
def test_hostile_text_does_nothing_in_a_browser(browser, tmp_path, text):
    path = tmp_path / "report.html"
    path.write_text(hostile_page(text))
    browser.open(path, width=360)
    assert browser.said() == []
    assert browser.requested() == [path.as_uri()]
    assert browser.value(WIDTH) == 360
    assert browser.value("document.scripts.length") == 0


def test_the_watch_sees_a_script_that_the_policy_stops_and_an_image_that_is_asked_for(browser, tmp_path):
    path = tmp_path / "report.html"
    found = comparison()
    document = report_page(found, report_data(found))
    path.write_text(document.replace("<main>", "<main><script>console.log(1)</script><img src='other.png'>"))
    browser.open(path)
    assert len(browser.said()) >= 2 and browser.value("document.scripts.length") == 1
    path.write_text("<img src='other.png'><script>console.log(1)</script>")
    browser.open(path)
    assert (tmp_path / "other.png").as_uri() in browser.requested() and browser.said()
