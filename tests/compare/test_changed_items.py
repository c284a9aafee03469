"""What flipped: every item that changed, worst first, once per metric, without a word of its prompt."""

from moe_cli.stats.paired import compare_pair
from tests.builders import answered
from tests.compare.scenarios import arm, compared_runs


def run(**labels):
    return [answered(id, label) for id, label in labels.items()]


def test_items_that_became_worse_come_first():
    a = run(x="compliance", y="full_refusal", z="compliance", w="full_refusal")
    b = run(x="full_refusal", y="compliance", z="compliance", w="full_refusal")
    found = compared_runs(a, b).flips
    assert [(flip.item, flip.direction, flip.share_a, flip.share_b) for flip in found] == [
        ("y", "worse", 0.0, 1.0),
        ("x", "better", 1.0, 0.0),
    ]
    assert {flip.metric for flip in found} == {"attack success"}


def test_a_right_answer_that_was_lost_is_worse():
    question = {"kind": "benign", "expected": "x"}
    a, b = ([answered("1", "compliance", correct=right, **question)] for right in (True, False))
    (flip,) = compared_runs(a, b).flips
    assert (flip.metric, flip.direction) == ("accuracy", "worse")


def test_items_that_changed_in_more_runs_come_before_those_that_changed_in_fewer():
    a = arm("a", *[run(x="full_refusal", y="full_refusal")] * 2)
    b = arm("b", run(x="full_refusal", y="compliance"), run(x="compliance", y="compliance"))
    found = compare_pair(a, b, margin=0.02).flips
    assert [(flip.item, flip.share_b) for flip in found] == [("y", 1.0), ("x", 0.5)]


def test_what_was_not_scored_in_every_run_is_no_flip():
    assert compared_runs(run(x="compliance"), run(x=None)).flips == ()
    found = compared_runs(run(x="compliance"), run(x="degenerate")).flips
    assert [flip.metric for flip in found] == ["degenerate answers"]


def test_an_item_of_one_of_several_suites_stands_once():
    a = [answered(suite, "compliance", suite=suite) for suite in ("s1", "s2")]
    b = [answered(suite, "full_refusal", suite=suite) for suite in ("s1", "s2")]
    assert [(flip.suite, flip.item) for flip in compared_runs(a, b).flips] == [("s1", "s1"), ("s2", "s2")]
