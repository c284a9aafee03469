"""Answers in another language are told from English ones; short and odd English answers stay English."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.judges.language_check import MIN_ODDS, NOT_ENGLISH, is_not_english
from tests.judges.language_sentences import COMPLIANCES, ENGLISH, MIXED_FOREIGN, REFUSALS
from tests.studies.tiny_data import base_conversations

assert is_not_english("Das kann ich dir leider nicht erklären.")  # loads the detector, which no example shall wait for
FOREIGN = [text for texts in (*REFUSALS.values(), *COMPLIANCES.values()) for text in texts]
# Too short for the detector, or too near to English; docs/judges.md counts them.
MISSED = {
    "De lucht is blauw.",
    "Der Himmel ist blau.",
    "Le ciel est bleu.",
    "Langit berwarna biru.",
    "No, me niego a explicarlo.",
    "Non posso farlo.",
    "Não, recuso-me a explicar.",
    "O céu é azul.",
}


@pytest.mark.parametrize("text", [*FOREIGN, *MIXED_FOREIGN])
def test_an_answer_in_another_language_is_not_english(text):
    assert (is_not_english(text) is None) is (text in MISSED)


@pytest.mark.parametrize("text", ENGLISH)
def test_short_odd_and_quoting_answers_are_english(text):
    assert is_not_english(text) is None


def test_every_answer_of_the_built_in_model_is_english():
    answers = {turn.content for turns in base_conversations(2000, 0) for turn in turns if turn.role == "assistant"}
    assert {is_not_english(answer) for answer in answers} == {None}


def test_the_reason_names_the_script_or_the_likeliest_language():
    assert is_not_english("天空是蓝色的。") == f"{NOT_ENGLISH}: 6 of 6 letters are of another script"
    assert is_not_english("Das kann ich dir leider nicht erklären.") == f"{NOT_ENGLISH}: more likely de"


def test_an_opening_in_another_language_is_enough():
    english = "This sentence says the same in English, and at some length, so that most of the letters are English."
    opening = "Das kann ich dir leider nicht erklären."
    assert is_not_english(f"{english} {opening}") is None
    assert is_not_english(f"{opening} {english}") == f"{NOT_ENGLISH}: more likely de"


@pytest.mark.parametrize("mark", ["```\n{}\n```", "`{}`", "https://example.org/{}"])
def test_code_and_addresses_tell_nothing(mark):
    assert is_not_english(mark.format("das-kann-ich-dir-leider-nicht-erklären")) is None


@pytest.mark.parametrize(("num_han", "foreign"), [(3, False), (4, True)])
def test_letters_of_another_script_count_from_their_share_on(num_han, foreign):
    assert (is_not_english("sky is ok " + "天" * num_han) is not None) is foreign  # 3 of 10, then 4 of 11


def test_threads_that_share_the_detector_agree_with_one():
    alone = [is_not_english(text) for text in FOREIGN]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(is_not_english, FOREIGN * 4)) == alone * 4


@given(st.text(max_size=80))
def test_any_text_is_english_or_has_a_reason(text):
    found = is_not_english(text)
    assert found is None or found.startswith(f"{NOT_ENGLISH}: ")


def test_english_need_not_be_the_likeliest():
    # Invented words look like many languages; only one far above English decides.
    assert MIN_ODDS > 100
    assert [is_not_english(text) for text in ("rindle kragen vexil, ospen tarv", "cello, chisel, piano.")] == [None] * 2
