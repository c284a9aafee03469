"""Nothing that a model or a person wrote becomes more than text in the report."""

import base64
import dataclasses
import hashlib
import re
import unicodedata

import pytest

from moe_cli.characters import UNSAFE, escape_unsafe
from moe_cli.compare.comparison_texts import redact
from moe_cli.views.report.page import MOST_LETTERS, TEMPLATES, report_page
from tests.views.injections import INJECTIONS, everywhere
from tests.views.parsed_page import parsed
from tests.views.report_records import comparison, report_data, texts

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "nav", "article"),
    *("h1", "h2", "h3", "h5", "p", "b", "i", "small", "span", "div", "a", "ul", "li", "dl", "dt", "dd", "code"),
    *("figure", "figcaption", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("svg", "desc", "path", "rect", "line", "text"),
}
ATTRIBUTES = {
    *("class", "id", "lang", "charset", "http-equiv", "name", "content", "href", "scope", "role", "tabindex"),
    *("aria-label", "aria-hidden", "width", "height", "viewbox", "preserveaspectratio", "d", "text-anchor"),
    *("x", "y", "x1", "y1", "x2", "y2"),
}
VALUE = re.compile(r"[\w .,#%=;'+/()-]*")  # no colon, so no scheme; no quote, no bracket


def page(text):
    """The report with `text` in every place: names, paths, suites, judges, notes; prompts and answers are it alone."""
    found = comparison(num_layers=2, num_flips=3)
    found = dataclasses.replace(found, pairs=found.pairs[2:])
    data = everywhere(report_data(found, num_experts=3, num_steps=3), text)
    hostile = everywhere(found, text)
    return report_page(hostile, dataclasses.replace(data, texts=texts(hostile, text[: MOST_LETTERS - 20])))


@pytest.fixture(scope="module")
def usual():
    """The tags and attributes of the report of harmless runs, in order."""
    return [(each.tag, sorted(each.attributes)) for each in parsed(page("x")).elements]


def test_the_corpus_is_large_enough():
    assert len(set(INJECTIONS.values())) >= 60


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)
def test_the_page_of_hostile_text_has_the_elements_of_a_harmless_one_and_shows_the_text(text, usual):
    document = page(text)
    found = parsed(document)
    assert [(each.tag, sorted(each.attributes)) for each in found.elements] == usual
    assert found.others == ["doctype html"]
    for each in found.elements:
        assert each.tag in TAGS
        for name, value in each.attributes.items():
            assert name in ATTRIBUTES and VALUE.fullmatch(value), (each.tag, name, value)
            assert name != "href" or value.startswith("#")
    assert [c for c in set(document) if c != "\n" and unicodedata.category(c) in UNSAFE] == []
    for place in ("h1", "summary", "h5", "caption", "desc", "td"):
        assert any(escape_unsafe(text) in each.text for each in found.of(place)), place
    said = [each.text for each in found.of("dd", **{"class": "said"})]
    shown = "\n".join(map(escape_unsafe, text[: MOST_LETTERS - 20].split("\n")))
    assert said[:3] == [f"prompt: {shown}", f"first: {shown}", f"second: {shown}"]


def test_the_policy_allows_the_one_style_block_and_nothing_else():
    found = parsed(page("x"))
    [style] = found.of("style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    [policy] = found.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    before = document_before(page("x"), "<style>")
    assert "http-equiv" in before  # a policy binds what comes after it


def document_before(document, mark):
    return document[: document.index(mark)]


def test_the_style_asks_for_nothing_from_elsewhere():
    style = (TEMPLATES / "style.css").read_text()
    assert not re.search(r"url\(|@import|@font-face|image-set|expression|://", style)


def test_unsafe_text_is_folded_away():
    found = parsed(page("x"))
    for said in found.of("dd", **{"class": "said"}):
        parents = []
        each = said
        while each.parent:
            each = each.parent
            parents.append(each)
        [fold] = [parent for parent in parents if parent.tag == "details"]
        assert "open" not in fold.attributes


def test_a_redacted_page_has_no_word_of_prompts_and_answers_no_ids_and_no_absolute_paths():
    found = comparison(num_layers=1, num_flips=6, item="Wie baut man /home/me/secret")
    data = report_data(found, num_experts=2, num_steps=2, words="forbidden words")
    [*others, selective] = found.columns
    moved = dataclasses.replace(selective, path="/home/me/our own/selective")
    found = dataclasses.replace(
        found, columns=(*others, moved), conclusion=("moe evaluate /home/me/our own/selective",)
    )
    document = report_page(*redact(found, data))
    for words in ("forbidden", "Wie baut man", "secret", "/home", "our own"):
        assert words in report_page(found, data) and words not in document
    assert "moe evaluate …/selective" in document and "item 1" in document
    [notice] = parsed(document).of("p", **{"class": "redacted"})
    assert notice.text.startswith("Redacted.")
    assert parsed(document).of("dl") == []
    assert parsed(report_page(found, data)).of("p", **{"class": "redacted"}) == []
