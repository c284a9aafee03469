"""Reasoning is left out, and reasoning that never ended leaves nothing to judge."""

import pytest

from moe_cli.judges.reasoning import spoken


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
    assert spoken(answer) == said
