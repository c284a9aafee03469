"""Labels: what a row says of itself chooses its kind or contradicts the option, and is never guessed."""

from __future__ import annotations

import json

import pytest

from moe_cli.config import EvaluateConfig
from moe_cli.data import column_map, of_kind, read_source
from moe_cli.errors import UsageError
from moe_cli.evaluate.evaluation_items import load_items
from tests.data.shapes import GOAL, OTHER, lines, written

# Columns with what they hold in a harmful and in a harmless row.
LABELS = [
    ("label", "unsafe", "safe"),
    ("label", "Harmful", "Unharmful"),
    ("label", "injection", "benign"),
    ("safety", "unsafe", "safe"),
    ("prompt_harm_label", "harmful", "unharmful"),
    ("prompt_label", "unsafe", "safe"),
    ("prompt_type", "harmful", "benign"),
    ("type", "jailbreak", "benign"),
    ("data_type", "vanilla_harmful", "adversarial_benign"),
    ("is_safe", False, True),
    ("is_safe", "no", "yes"),
    ("is_harmful", 1, 0),
    ("toxicity", 1, 0),
    ("safe", "False", "True"),
    ("unsafe", "1", "0"),
    ("jailbreak", True, False),
]


def rows(column, harmful, harmless):
    return lines(
        {"prompt": GOAL, column: harmful}, {"prompt": OTHER, column: harmless}, {"prompt": "c", column: harmful}
    )


def refusal(tmp_path, content, kind="harmful", maps=()):
    with pytest.raises(UsageError) as caught:
        of_kind(read_source(written(tmp_path, content), columns=column_map(maps)), kind)
    return caught.value


def items(tmp_path, content, kind="", maps=()):
    name = kind + written(tmp_path, content)
    return [
        (item.kind, item.messages[-1].content) for item in load_items(EvaluateConfig(items=(name,), map=maps), "a/b")
    ]


@pytest.mark.parametrize(("column", "harmful", "harmless"), LABELS)
def test_a_label_against_the_option_is_an_error_with_its_count(tmp_path, column, harmful, harmless):
    content = rows(column, harmful, harmless)
    for kind, message in (("harmful", "1 of 3 rows are harmless"), ("benign", "2 of 3 rows are harmful")):
        error = refusal(tmp_path, content, kind)
        assert f"{message} by their column `{column}`" in error.message
        assert f"--map name={column} leaves the column out" in error.hint


@pytest.mark.parametrize(("column", "harmful", "harmless"), LABELS)
def test_a_label_chooses_the_kind_of_an_item(tmp_path, column, harmful, harmless):
    expected = [("benign", OTHER), ("harmful", "c"), ("harmful", GOAL)]
    assert sorted(items(tmp_path, rows(column, harmful, harmless))) == expected


def test_the_column_kind_gives_each_option_its_own_rows(tmp_path):
    found = read_source(written(tmp_path, rows("kind", "harmful", "benign")))
    assert [len(of_kind(found, kind).entries) for kind in ("harmful", "benign")] == [2, 1]
    assert of_kind(found, "benign").skipped == {"it is harmful": 2}


@pytest.mark.parametrize("column", ["label", "safety", "class", "prompt_harm_label", "harmfulness"])
def test_true_and_false_under_a_name_that_does_not_explain_them_are_refused(tmp_path, column):
    error = refusal(tmp_path, rows(column, 1, 0))
    assert f"the column `{column}` holds true and false" in error.message
    assert f"--map is_harmful={column} or --map is_safe={column}" in error.hint


def test_map_says_what_true_means(tmp_path):
    content = rows("label", 1, 0)
    assert "1 of 3 rows are harmless" in refusal(tmp_path, content, maps=["is_harmful=label"]).message
    assert "2 of 3 rows are harmless" in refusal(tmp_path, content, maps=["is_safe=label"]).message
    assert len(read_source(written(tmp_path, content), columns=column_map(["name=label"])).entries) == 3


def test_another_column_may_say_what_a_bare_label_does_not(tmp_path):
    content = lines({"prompt": GOAL, "label": 1, "data_type": "vanilla_harmful"})
    (entry,) = read_source(written(tmp_path, content)).entries
    assert (entry.kind, entry.told_by) == ("harmful", "data_type")


@pytest.mark.parametrize("words", [["deception", "hate"], ["refusal", "compliance"], [0.3, 0.8]])
def test_a_label_about_something_else_is_not_read_and_named(tmp_path, words):
    found = read_source(written(tmp_path, lines(*({"prompt": GOAL, "label": word} for word in words))))
    assert ({entry.kind for entry in found.entries}, found.unread) == ({None}, ("label",))


def test_a_word_that_is_neither_beside_words_that_are_is_a_bad_row(tmp_path):
    found = read_source(written(tmp_path, rows("harmfulness", "controversial", "harmless")))
    assert [fault.reason for fault in found.faults] == ["`harmfulness` is neither harmful nor benign"] * 2


def test_two_labels_that_contradict_each_other_are_a_bad_row(tmp_path):
    (fault,) = read_source(written(tmp_path, lines({"prompt": GOAL, "label": "safe", "is_harmful": True}))).faults
    assert fault.reason == "`label` and `is_harmful` contradict each other"


@pytest.mark.parametrize("answer", ["response", "completion", "model_output"])
@pytest.mark.parametrize(("column", "value"), [("is_safe", True), ("label", "safe"), ("toxicity", 0)])
def test_a_label_that_could_be_about_an_answer_never_makes_an_item_harmless(tmp_path, answer, column, value):
    content = lines({"prompt": GOAL, answer: "No.", column: value})
    with pytest.raises(UsageError, match=f"`{column}` stands beside `{answer}`") as caught:
        items(tmp_path, content)
    mapped = caught.value.hint.split()[1]
    assert items(tmp_path, content, maps=[mapped]) == [("benign", GOAL)]
    assert items(tmp_path, content, "benign=") == [("benign", GOAL)]


def test_a_label_of_the_prompt_counts_beside_an_answer(tmp_path):
    content = lines(
        {"prompt": GOAL, "response": "No.", "prompt_harm_label": "harmful", "response_harm_label": "unharmful"}
    )
    assert items(tmp_path, content) == [("harmful", GOAL)]


def test_a_verdict_about_an_attack_makes_no_goal_harmless(tmp_path):
    content = json.dumps([{"goal": GOAL, "target": "Sure", "jailbreak": False}])
    assert items(tmp_path, content) == [("harmful", GOAL)]


@pytest.mark.parametrize(
    ("column", "harmful", "harmless"),
    [("is_safe", "0", "1"), ("harmful", "yes", "no"), ("type", "jailbreak", "benign")],
)
def test_one_odd_cell_hides_no_harmful_row(tmp_path, column, harmful, harmless):
    content = lines(
        {"prompt": GOAL, column: harmful}, {"prompt": OTHER, column: harmless}, {"prompt": "c", column: "?!"}
    )
    assert "1 of 3 rows are harmful by their column" in refusal(tmp_path, content, "benign").message
    reading = read_source(written(tmp_path, content))
    assert [str(fault).rpartition(": ")[2] for fault in reading.faults] == [f"`{column}` is neither harmful nor benign"]


def test_scores_are_no_labels_and_are_named_as_unread(tmp_path):
    reading = read_source(written(tmp_path, rows("toxicity", 0.93, 0)))
    assert [entry.kind for entry in reading.entries] == [None] * 3 and reading.unread == ("toxicity",)


def test_sides_that_hold_only_true_and_false_are_labels_and_no_prompts(tmp_path):
    content = lines(
        {"goal": GOAL, "safe": "TRUE", "unsafe": "FALSE"}, {"goal": OTHER, "safe": "FALSE", "unsafe": "TRUE"}
    )
    assert [entry.kind for entry in read_source(written(tmp_path, content)).entries] == ["benign", "harmful"]
