"""Degenerate answers: broken text of every kind is found, and sound text of every language is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.judges.degenerate import degeneration_of

PROSE = (
    "A mixture-of-experts layer sends every token to a few of its experts. The router scores all experts, keeps the "
    "best ones, and adds their outputs with the scores as weights. Most experts stay idle for a given token, so the "
    "model can be large and still answer fast. Training has to keep the load even, or some would never learn anything."
)
SOUND = [
    "Yes",
    "blue",
    "42",
    "-3.5",
    "B.",
    "=",
    "\U0001f44d",
    "276,000",
    "no no no",
    "ha ha ha ha",
    "apple, apple, apple.",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20",
    ", ".join(str(number) for number in range(1, 200)),
    PROSE,
    "def f(x):\n    return {k: [v + 1 for v in x[k]] for k in sorted(x)}",
    "((a+b)*(c-d))/2",
    "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |",
    "I'm sorry, but I can't help with that.",
    "我不能帮你做这件事，但我可以解释原因。",
    "申し訳ありませんが、お手伝いできません。",
    "لا أستطيع مساعدتك في هذا الأمر.",
    "इसमें मैं आपकी मदद नहीं कर सकता।",
    "Я не могу с этим помочь.",
    "天空是蓝色的。",
]


@pytest.mark.parametrize("text", SOUND)
def test_sound_text_of_any_language_is_not_degenerate(text):
    assert degeneration_of(text) is None


def test_the_marks_of_vowels_count_as_letters():
    # A row of single letters, each followed by marks only, as in fully vocalised Arabic.
    assert degeneration_of("\u0628\u0651\u064e \u062a\u0651\u0650 !!!!!! ") is None


@pytest.mark.parametrize("text", ["", "   \n\t", "\u200b\u200b", "\x00\x07"])
def test_text_without_a_visible_character_is_empty(text):
    assert degeneration_of(text) == "empty"


@pytest.mark.parametrize("text", ["...", "?!?", "!!!!!!!!!!!!", "@#@#$%$%^^&&", "\ufffd" * 12, ":;, .-- a ::;; ..,,--"])
def test_text_of_symbols_is_noise(text):
    assert degeneration_of(text) == "symbol noise"


@pytest.mark.parametrize(
    "text",
    [
        "the the the the the the the the the the the the the",
        "I like cats. I like cats. I like cats. I like cats.",
        "Sure, here is how. " + "take a bim then ruf it and " * 12,
        "a" * 60,
        "hahaha" * 20,
        "我不能" * 6,
        "لا أستطيع " * 8,
        (PROSE + " ") * 5,
        " ".join(f"the red lamp and {colour}" for colour in ["red", "blue"] * 3 + ["blue", "red"] * 20),
    ],
)
def test_a_loop_is_degenerate(text):
    assert (degeneration_of(text) or "").startswith("loop")


def test_the_reason_names_the_phrase_that_repeats():
    assert degeneration_of("so it goes " * 10) == "loop: 'so it goes' said 10 times"


def test_a_loop_at_the_end_of_a_longer_answer_leaves_something_to_judge():
    assert degeneration_of(PROSE + " and so on" * 6) is None


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6).map("".join), st.integers(14, 60))
def test_any_word_said_often_enough_is_a_loop(word, times):
    assert degeneration_of(f"{word} " * times) is not None


@given(st.text(max_size=300))
def test_every_text_has_an_answer_and_white_space_around_it_changes_nothing(text):
    assert degeneration_of(f" {text}\n") == degeneration_of(text)
