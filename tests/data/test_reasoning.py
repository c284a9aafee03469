"""Reasoning is left out, and reasoning that never ended leaves nothing to judge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.data.reasoning import is_mark, opening_of, reasoning_spans, strip_reasoning, with_empty_reasoning


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("plain", "plain"),
        ("<think>hm</think>Yes", "Yes"),
        ("opened by the template</think>Yes", "Yes"),
        ("<think>a <think> b</think> c</think>Yes", "Yes"),
        ("<THINK>hm</THINK>Yes", "Yes"),
        ("Yes<think>hm</think>, really", "Yes, really"),
        ("<think>only thoughts</think>", ""),
        ("<think>never ended", None),
        ("Yes. <think>never ended", None),
        ("<think>a</think>b<think>never ended", None),
    ],
)
def test_only_what_was_said_aloud_is_left(answer, said):
    assert strip_reasoning(answer) == said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("analysisWe must refuse.assistantfinalI'm sorry", "I'm sorry"),
        ("analysisWe must", None),
        ("analysis<|message|>", None),
        ("analysis of the glim assistantfinalNo", "No"),
        ("analysis of the glim: none", "analysis of the glim: none"),
        ("finalI'm sorry", "I'm sorry"),
        ("finally", "finally"),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>No", "No"),
        ("<|channel|>analysis<|message|>hm<|end|>", None),
        ("<|channel|>commentary to=x<|message|>{}<|call|>", None),
        ("<|channel|>final<|message|>No<|return|>", "No"),
        ("[THINK]hm[/THINK]No", "No"),
        ("[THINK]hm", None),
        ("◁think▷hm◁/think▷No", "No"),
        ("◁think▷hm", None),
        ("<seed:think>hm</seed:think>No", "No"),
        ("<|START_THINKING|>hm<|END_THINKING|>No", "No"),
        ("<|channel>thought\nhm<channel|>No", "No"),
        ("<thinking>hm</thinking>No", "No"),
        ("<reasoning>hm", None),
    ],
)
def test_the_marks_of_other_families_are_known(answer, said):
    assert strip_reasoning(answer) == said


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [
        ("<assistant> <think>", "<think>"),
        ("<assistant> <think>\n", "<think>"),
        ("<assistant> <think>\n\n</think>\n\n", ""),
        ("<user> <think> <assistant>", ""),
        ("[THINK]", "[THINK]"),
    ],
)
def test_a_prompt_that_opens_reasoning_is_seen(prompt, mark):
    assert opening_of(prompt) == mark


def test_a_token_is_a_mark_only_as_a_whole():
    assert is_mark("<|channel|>") and is_mark("[/THINK]") and is_mark("</think>")
    assert not is_mark("think") and not is_mark("<end>") and not is_mark("<assistant>")


@pytest.mark.parametrize(
    "mark",
    ["<think>", "<seed:think>", "[THINK]", "◁think▷", "<|START_THINKING|>", "<|channel>", "<|begin_of_thought|>"],
)
def test_reasoning_that_a_prompt_opened_is_ended_by_the_mark_of_its_kind(mark):
    assert strip_reasoning(with_empty_reasoning(mark, "No")).strip() == "No"


@pytest.mark.parametrize(
    ("answer", "reasoning"),
    [
        ("plain", []),
        ("", []),
        ("<think>hm</think>Yes", ["<think>hm</think>"]),
        ("opened by the template</think>Yes", ["opened by the template</think>"]),
        ("Yes<think>hm</think>, really<|end|>", ["<think>hm</think>"]),
        ("Yes. <think>never ended<|end|>", ["<think>never ended<|end|>"]),
        ("<think>a</think>b<think>never ended", ["<think>a</think>", "<think>never ended"]),
        ("a</think>b</think>Yes", ["a</think>b</think>"]),
        (
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>No<|return|>",
            ["<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>"],
        ),
        ("<|channel|>analysis<|message|>hm<|end|>", ["<|channel|>analysis<|message|>hm<|end|>"]),
        ("analysisWe must refuse.assistantfinalI'm sorry", ["analysisWe must refuse.assistantfinal"]),
        ("analysisWe must", ["analysisWe must"]),
    ],
)
def test_the_spans_of_reasoning_are_what_is_cut_away_but_for_the_end_of_turn(answer, reasoning):
    assert [answer[start:end] for start, end in reasoning_spans(answer)] == reasoning


FRAGMENTS = ["<think>", "</think>", "[THINK]", "[/THINK]", "a ", "Yes", "\n", "<|end|>", "<reasoning>", "</reasoning>"]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join))
def test_what_is_left_beside_the_spans_is_what_the_judge_reads(answer):
    spans = reasoning_spans(answer)
    edges = [0, *(edge for span in spans for edge in span), len(answer)]
    assert edges == sorted(edges)
    left = "".join(answer[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
    judged = strip_reasoning(answer)
    if judged is not None:
        assert left == judged
    else:
        assert spans and spans[-1][1] == len(answer)
