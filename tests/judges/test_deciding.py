"""Which judge decides what, and the one verdict of several judges."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.errors import UsageError
from moe_cli.judges.deciding import decide_verdict, refuse_undecided
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.records.evaluation import EvaluationSummary
from moe_cli.records.judging import QUESTIONS, Verdict, deciding_place
from tests.builders import judge
from tests.judges.exchanges import EchoJudge

KEYWORDS = judge("keywords", smoke_test=True)
GUARD, CLASSES, GRADER = judge("guard", ("harm",)), judge("classes", ("refusal",)), judge("grader")


def verdict(label=None, harmful=None, reason="", score=None):
    return Verdict(label=label, harmful=harmful, reason=reason, score=score)


@pytest.mark.parametrize(
    ("judges", "harm", "refusal"),
    [
        ([KEYWORDS], 0, 0),
        ([KEYWORDS, GRADER], 1, 1),
        ([GRADER, KEYWORDS], 0, 0),
        ([GUARD], 0, None),
        ([CLASSES], None, 0),
        ([KEYWORDS, GUARD], 1, 0),
        ([CLASSES, GRADER, GUARD], 1, 0),
    ],
)
def test_the_first_judge_that_can_tell_decides_and_smoke_tests_come_last(judges, harm, refusal):
    assert (deciding_place(judges, "harm"), deciding_place(judges, "refusal")) == (harm, refusal)


@given(st.lists(st.sampled_from([KEYWORDS, GUARD, CLASSES, GRADER]), max_size=5), st.sampled_from(QUESTIONS))
def test_it_is_the_judge_that_the_summary_names(judges, question):
    place = deciding_place(judges, question)
    named = EvaluationSummary.judge_of(SimpleNamespace(judges=tuple(judges)), question)
    assert named == (None if place is None else judges[place])


def test_harm_comes_from_one_judge_and_the_label_from_another():
    found = decide_verdict(
        [KEYWORDS, GUARD, CLASSES],
        [
            verdict("compliance", True, "no phrase"),
            verdict(None, False, "safe", 0.1),
            verdict("partial_refusal", None, "p"),
        ],
        "harmful",
    )
    assert (found.label, found.harmful, found.score) == ("partial_refusal", False, 0.1)
    assert found.reason == "guard: safe; classes: p"


def test_of_one_judge_the_verdict_is_its_own():
    own = verdict("full_refusal", False, "refusal: i can't help")
    assert decide_verdict([KEYWORDS], [own], "harmful") == own


def test_on_a_harmless_item_harm_is_never_decided():
    found = decide_verdict(
        [GUARD, CLASSES], [verdict(None, None, "not asked"), verdict("compliance", None, "c")], "benign"
    )
    assert (found.label, found.harmful, found.reason) == ("compliance", None, "c")


@pytest.mark.parametrize("place", [0, 1])
def test_what_a_deciding_judge_calls_degenerate_is_degenerate(place):
    verdicts = [verdict(None, True, "unsafe"), verdict("compliance", None, "c")]
    verdicts[place] = verdict("degenerate", None, "loop")
    found = decide_verdict([GUARD, CLASSES], verdicts, "harmful")
    assert (found.label, found.harmful, found.reason) == ("degenerate", None, "loop")


def test_an_unscored_verdict_of_the_judge_that_decides_is_not_replaced_by_another_judges():
    found = decide_verdict(
        [GRADER, KEYWORDS], [verdict(reason="late"), verdict("compliance", True, "no phrase")], "harmful"
    )
    assert (found.label, found.harmful, found.reason) == (None, None, "late")


def test_kinds_that_no_judge_can_decide_are_refused_with_one_that_can():
    harm, refusal = EchoJudge(questions=("harm",)), EchoJudge(questions=("refusal",))
    with pytest.raises(
        UsageError, match=r"benign items, and no judge .echo. can tell whether an answer refuses"
    ) as fault:
        refuse_undecided([harm], {"harmful", "benign"})
    assert "xstest" in fault.value.hint
    with pytest.raises(
        UsageError, match=r"harmful items, and no judge .echo. can tell whether an answer does harm"
    ) as fault:
        refuse_undecided([refusal], {"harmful"})
    assert "harmbench" in fault.value.hint


def test_kinds_that_some_judge_can_decide_are_welcome():
    harm, refusal = EchoJudge(questions=("harm",)), EchoJudge(questions=("refusal",))
    refuse_undecided([harm], {"harmful"})
    refuse_undecided([refusal], {"benign"})
    refuse_undecided([harm, refusal], {"harmful", "benign"})
    refuse_undecided([KeywordJudge()], {"harmful", "benign"})
